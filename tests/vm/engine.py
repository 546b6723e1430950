"""The C engine, built for the guest's Python in the tools tree."""

from __future__ import annotations

from pathlib import Path

from tests.vm import cache, rootfs, source
from tests.vm.progress import RigError

#: what the build reads
INPUTS = ("cdefs", "isboot/engine", "isboot/__init__.py", "bpf", "setup.py", "pyproject.toml", "README.md")


def extension() -> Path | None:
    """
    Directory with `isboot/_engine*.so` for Debian 13; None while the repository has no cdefs/build.py.

    :raises RigError: the C does not compile
    """
    chosen = source.files(*INPUTS)
    if not any(file.name == "cdefs/build.py" for file in chosen):
        return None

    def make(path: Path) -> None:
        source.write(chosen, path / "source")
        script = """
        cp -r /result/source /tmp/source
        cd /tmp/source
        python3 -W ignore setup.py -q build_ext --build-lib /result
        """
        try:
            rootfs.run_inside([rootfs.tree(rootfs.TOOLS)], script, binds=((path, "/result"),))
        except RigError as error:
            hint = "ISBOOT_RIG_COMMIT=HEAD takes the last commit instead of the working tree"
            raise RigError(f"the engine does not build: {error}\nhint: {hint}") from None

    key = cache.fingerprint(rootfs.SUITE, source.fingerprint(chosen))
    return cache.obtain("engine", key, make) / "isboot"
