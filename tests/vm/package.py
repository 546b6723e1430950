"""isboot_*.deb for Debian 13, built in the tools tree from the working tree of now."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.vm import cache, rootfs
from tests.vm.cache import REPOSITORY
from tests.vm.progress import RigError

#: what the package is made of: everything in these that git does not ignore
INPUTS = (
    "isboot", "bpf", "cdefs", "tools/boot", "tools/debian", "tools/dracut", "tools/systemd", "docs", "setup.py",
    "pyproject.toml", "README.md", "LICENSE",
)  # fmt: skip


def sources() -> list[str]:
    """The package's files, by their names in the repository."""
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z", "-co", "--exclude-standard", "--", *INPUTS],
        capture_output=True,
        check=True,
    ).stdout.decode()
    return sorted(name for name in set(listed.split("\0")) if name and (REPOSITORY / name).is_file())


def package() -> Path:
    """
    The .deb, built when its sources have changed.

    :raises RigError: the build failed
    """
    tree = rootfs.tree(rootfs.TOOLS)
    names = sources()
    key = cache.fingerprint(tree.name, *(part for name in names for part in (name, REPOSITORY / name)))

    def make(path: Path) -> None:
        path.mkdir()
        script = """
        mkdir -p /build/isboot
        cd /source
        tar -c -f - -T /names | tar -x -f - -C /build/isboot
        cd /build/isboot
        cp -r tools/debian debian
        dpkg-buildpackage -b -us -uc -ui 2>&1
        cp ../isboot_*.deb /result
        """
        listing = path / "sources"
        listing.write_text("".join(f"{name}\n" for name in names))
        binds = ((REPOSITORY, "/source"), (path, "/result"), (listing, "/names"))
        rootfs.run_inside([tree], script, binds=binds)

    found = list(cache.obtain("package", key, make).glob("isboot_*.deb"))
    if len(found) != 1:
        raise RigError(f"the build left {len(found)} packages, not one")
    return found[0]
