"""
Builds isboot._engine: cffi in API mode over the C files of isboot/engine.

The headers in cdefs/ are read twice, by cffi and by the compiler, so they cannot disagree.
`ISBOOT_SANITIZE=address,undefined` or `=thread` in the environment makes such a build.
"""

from __future__ import annotations

import os
from pathlib import Path

from cffi import FFI

TOP = Path(__file__).resolve().parent.parent
HEADERS = ("engine.h", "ublk.h")
SOURCES = sorted(str(path.relative_to(TOP)) for path in (TOP / "isboot" / "engine").glob("*.c"))
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]


def read_for_cffi(name: str) -> str:
    """Give a header without the lines cffi's parser refuses."""
    lines = (TOP / "cdefs" / name).read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith(("#pragma", "#include")))


def make_builder() -> FFI:
    builder = FFI()
    for name in HEADERS:
        builder.cdef(read_for_cffi(name))
    kinds = os.environ.get("ISBOOT_SANITIZE", "")
    sanitize = [f"-fsanitize={kinds}"] if kinds else []
    builder.set_source(
        "isboot._engine",
        "#include <stdbool.h>\n#include <stdint.h>\n" + "".join(f'#include "{name}"\n' for name in HEADERS),
        sources=SOURCES,
        include_dirs=[str(TOP / "cdefs"), str(TOP / "isboot" / "engine")],
        libraries=["uring", "isal"],
        extra_compile_args=["-std=gnu11", "-O2", "-g", "-fno-omit-frame-pointer", *WARNINGS, *sanitize],
        extra_link_args=sanitize,
        py_limited_api=False,
    )
    return builder


ffibuilder = make_builder()

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(TOP), verbose=True)
