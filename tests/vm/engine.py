"""The C engine, built for the guest's Python in the tools tree."""

from __future__ import annotations

from pathlib import Path

from tests.vm import cache, rootfs
from tests.vm.cache import REPOSITORY

#: what the build reads
INPUTS = ("cdefs", "isboot/engine", "setup.py", "pyproject.toml")


def extension() -> Path | None:
    """Directory with `isboot/_engine*.so` for Debian 13; None while the repository has no cdefs/build.py."""
    if not (REPOSITORY / "cdefs/build.py").exists():
        return None
    inputs = [REPOSITORY / name for name in INPUTS]

    def make(path: Path) -> None:
        path.mkdir()
        script = """
        mkdir /tmp/source
        cp -r /source/cdefs /source/isboot /source/setup.py /source/pyproject.toml /tmp/source
        if test -d /source/bpf; then cp -r /source/bpf /tmp/source; fi
        cd /tmp/source
        rm -f isboot/_engine*.so
        python3 setup.py -q build_ext --build-lib /result
        """
        binds = ((REPOSITORY, "/source"), (path, "/result"))
        rootfs.run_inside([rootfs.tree(rootfs.TOOLS)], script, binds=binds)

    return cache.obtain("engine", cache.fingerprint(rootfs.SUITE, *inputs), make)
