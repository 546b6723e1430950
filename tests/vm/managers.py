"""Network managers for a diskless machine: Debian's packages as a layer, copied onto one test's disk."""

from __future__ import annotations

from pathlib import Path

from tests.vm import cache, rootfs
from tests.vm.disk import Disk

PACKAGES = ("network-manager", "ifupdown", "systemd-resolved")

#: every NIC is wanted by systemd-networkd, which starts by itself; NetworkManager needs no word for that
CATCH_ALL = """
[Match]
Type=ether

[Network]
DHCP=yes
"""
INSTALL = """
apt-get -qy install /rig/archives/*.deb
umount /rig/archives
systemctl -q disable NetworkManager NetworkManager-wait-online networking
systemctl -q enable systemd-networkd systemd-resolved
"""


def layer() -> Path:
    """What installing the managers adds to the guest tree."""
    base = rootfs.tree(rootfs.GUEST)
    archives = rootfs.archives(rootfs.GUEST, PACKAGES)

    def make(path: Path) -> None:
        rootfs.run_inside([base], INSTALL, upper=path, binds=[(archives, "/rig/archives")])

    return cache.obtain("managers", cache.fingerprint(base.name, archives.name, INSTALL), make)


def install(disk: Disk) -> None:
    """Put them onto a disk; dpkg does not hear of it."""
    made = layer()
    disk.edit(
        f"for part in etc usr; do cp -a {made}/$part/. $ROOT/$part/; done\n"
        f"cat > $ROOT/etc/systemd/network/10-all.network <<'END'\n{CATCH_ALL}\nEND\n"
        "ln -sf /run/systemd/resolve/stub-resolv.conf $ROOT/etc/resolv.conf"
    )
