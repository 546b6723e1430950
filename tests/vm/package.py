"""isboot_*.deb for Debian 13, built in the tools tree from the working tree of now."""

from __future__ import annotations

from pathlib import Path

from tests.vm import cache, rootfs, source
from tests.vm.progress import RigError

#: what the package is made of
INPUTS = (
    "isboot", "bpf", "cdefs", "docs", "tools/boot", "tools/debian", "tools/dracut", "tools/initramfs",
    "tools/initramfs-tools", "tools/systemd", "setup.py", "pyproject.toml", "README.md", "LICENSE",
)  # fmt: skip


def package() -> Path:
    """
    The .deb, built when its sources have changed.

    :raises RigError: the build failed
    """
    tree = rootfs.tree(rootfs.TOOLS)
    chosen = source.files(*INPUTS)
    key = cache.fingerprint(tree.name, source.fingerprint(chosen))

    def make(path: Path) -> None:
        source.write(chosen, path / "source")
        script = """
        mkdir /build
        cp -r /result/source /build/isboot
        cd /build/isboot
        cp -r tools/debian debian
        dpkg-buildpackage -b -us -uc -ui 2>&1
        cp ../isboot_*.deb /result
        """
        rootfs.run_inside([tree], script, binds=((path, "/result"),))

    found = list(cache.obtain("package", key, make).glob("isboot_*.deb"))
    if len(found) != 1:
        raise RigError(f"the build left {len(found)} packages, not one")
    return found[0]
