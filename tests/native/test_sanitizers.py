"""The engine's tests once more, against an engine built with AddressSanitizer and UBSan."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.native, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS = "address,undefined"
#: what the build reads, and the tests that are run again
INPUTS = ("isboot", "cdefs", "bpf", "tests/engine", "setup.py", "pyproject.toml", "README.md", "LICENSE")
TIMEOUT_S = 600


def library(name: str) -> str:
    """Give the path of a sanitizer's runtime: Python itself is not built with it, so it is preloaded."""
    done = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = done.stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"needs {name}, which comes with gcc")
    return path


def test_the_engine_touches_no_memory_it_does_not_own(tmp_path: Path) -> None:
    preload = " ".join(map(library, ("libasan.so", "libubsan.so")))
    for name in INPUTS:
        source, copy = REPOSITORY / name, tmp_path / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.so", "_engine.c", "__pycache__"))
        else:
            shutil.copy(source, copy)
    build = subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tmp_path, env=os.environ | {"ISBOOT_SANITIZE": KINDS},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert build.returncode == 0, build.stderr
    environment = os.environ | {
        "LD_PRELOAD": preload,
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",  # Python leaks on purpose at its end
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider", "tests/engine"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert run.returncode == 0, (run.stdout + run.stderr)[-20000:]
