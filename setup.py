"""The one thing pyproject.toml cannot say: the C engine is built by cffi in API mode."""

from setuptools import setup

setup(cffi_modules=["cdefs/build.py:ffibuilder"])
