"""A network manager itself, started beside our drop-ins in namespaces of its own: what it does to the NIC."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NETWORKD = Path("/usr/lib/systemd/systemd-networkd")
MAC = "52:54:00:12:34:56"

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root"),
    pytest.mark.skipif(not NETWORKD.exists(), reason="needs systemd-networkd: apt install systemd"),
]

# v0 is the boot NIC, v5 another.  networkd has a configuration for both; when v5 has it, v0's turn is over.
# A read-only /sys tells it that there is no udev to wait for.
SCRIPT = r"""
set -e
mount --make-rprivate /
mount -t sysfs -o ro sysfs /sys
mkdir "$1"/tree  # the repository may lie under the /run that goes
mount --bind . "$1"/tree
mount -t tmpfs run /run
cd "$1"/tree
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp /run/etc/systemd/network
cp /etc/passwd /etc/group /run/etc
grep -q ^systemd-network: /etc/group || echo systemd-network:x:998: >> /run/etc/group
grep -q ^systemd-network: /etc/passwd || echo systemd-network:x:998:998::/:/bin/false >> /run/etc/passwd
printf '[Match]\nName=v*\n\n[Network]\nAddress=203.0.113.77/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' \
    > /run/etc/systemd/network/10-all.network
mount --bind /run/etc /etc
chown -R systemd-network:systemd-network /run/systemd/netif
ip link add v0 address 52:54:00:12:34:56 type veth peer name w0
ip link add v5 type veth peer name w5
ip link set w0 up
ip link set w5 up
"$2" -c "$3"
(ip -br address show v0; ip route show dev v0) > "$1"/before
mkfifo /run/log
exec 3<> /run/log
SYSTEMD_LOG_TARGET=console SYSTEMD_LOG_LEVEL=debug /usr/lib/systemd/systemd-networkd 2> /run/log &
grep -m 1 'v5: State changed: configuring -> configured' <&3
(ip -br address show v0; ip route show dev v0) > "$1"/after
"""

CONFIGURE = f"""
from ipaddress import ip_address, ip_interface
from pathlib import Path
from isboot.network.bringup import configure
from isboot.values import NicConfig, Portal
address, gateway = ip_interface("192.0.2.15/24"), ip_address("192.0.2.1")
nic = NicConfig(0, {MAC!r}, None, address, gateway, (), 0, "", "manual")
portals = [Portal("192.0.2.9"), Portal("198.51.100.9")]
configure(nic, portals, carrier_timeout_s=10, dropins_root=DROPINS)
"""


def run_networkd(tmp_path: Path, dropins: str) -> tuple[str, str]:
    """Give addresses and routes of v0 before networkd started and after it had configured v5."""
    code = CONFIGURE.replace("DROPINS", dropins)
    # The shell is process 1 of a pid namespace: whatever it started ends with it.
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    subprocess.run(
        [*command, "sh", "-c", SCRIPT, "sh", str(tmp_path), sys.executable, code],
        check=True,
        timeout=60,  # a bound, not a measure: emulated it takes 8
        cwd=Path(__file__).parents[2],
    )
    return (tmp_path / "before").read_text(), (tmp_path / "after").read_text()


def test_networkd_leaves_the_boot_nic_alone(tmp_path: Path) -> None:
    before, after = run_networkd(tmp_path, 'Path("/run")')
    assert "192.0.2.15/24" in before
    assert "198.51.100.9 via 192.0.2.1" in before
    assert without_link_local(after) == without_link_local(before)


def test_networkd_would_take_it_without_the_dropins(tmp_path: Path) -> None:
    _, after = run_networkd(tmp_path, "None")
    assert "203.0.113.77/24" in after


def without_link_local(text: str) -> str:
    """The kernel's own IPv6 address comes when duplicate detection ends, a second after the carrier."""
    return " ".join(word for word in text.split() if not word.startswith("fe80::"))
