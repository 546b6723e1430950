"""
Two NICs on one network: v0, the boot NIC, and u0, wired to one bridge of the other machine.

What Linux does by itself there: it answers ARP for every address on every NIC, sends through the first route,
and, where rp_filter is strict, drops what comes back through the second.
"""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from isboot.network.bringup import configure
from isboot.network.connect import connect
from isboot.values import NicConfig, Portal
from tests.native.namespaces import MAC, Namespace, ip, make_veth

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root"),
]

OTHER_MAC = "52:54:00:12:34:57"
PORTAL = Portal("192.0.2.9", 3260)
NIC = NicConfig(0, MAC, None, ip_interface("192.0.2.15/24"), None, (), 0, "", "manual")
SECOND = replace(NIC, index=1, mac=OTHER_MAC, address=ip_interface("192.0.2.16/24"))


@pytest.fixture
def target() -> Iterator[Namespace]:
    ours, other = Namespace(), Namespace()
    try:
        with ours.entered():
            make_veth(other, "u0", "u1", OTHER_MAC)  # the first of the two, so its routes come first
            make_veth(other, "v0", "v1", MAC)
            with other.entered():
                ip("link", "add", "br0", "type", "bridge")
                for port in ("u1", "v1"):
                    ip("link", "set", port, "master", "br0", "up")
                ip("address", "add", "192.0.2.9/24", "dev", "br0")
                ip("link", "set", "br0", "up")
            yield other
    finally:
        os.close(ours.fd)
        os.close(other.fd)


def set_all(name: str, value: int) -> None:
    Path(f"/proc/sys/net/ipv4/conf/all/{name}").write_text(str(value))


def reach(target: Namespace, interface: str) -> str:
    """Connect through a NIC; the MAC by which the target knows the address that it sees."""
    with target.entered():
        ip("neigh", "flush", "dev", "br0")
        server = socket.create_server(("192.0.2.9", 3260))
    with server, connect(PORTAL, interface=interface, timeout_s=5) as connection:
        source = connection.getsockname()[0]
        with target.entered():
            (neighbour,) = ip("-j", "neigh", "show", source)
    return f"{source} {neighbour['lladdr']}"


def test_host_route_wins_over_the_other_nics_network(target: Namespace) -> None:
    ip("address", "add", "192.0.2.77/24", "dev", "u0")
    ip("link", "set", "u0", "up")
    configure(NIC, [PORTAL], carrier_timeout_s=10, dropins_root=None)
    (route,) = ip("-j", "route", "get", "192.0.2.9")
    assert (route["dev"], route["prefsrc"]) == ("v0", "192.0.2.15")
    assert reach(target, "v0") == f"192.0.2.15 {MAC}"


def test_other_nic_does_not_answer_for_the_boot_nics_address(target: Namespace) -> None:
    ip("address", "add", "192.0.2.77/24", "dev", "u0")
    ip("link", "set", "u0", "up")
    configure(NIC, [PORTAL], carrier_timeout_s=10, dropins_root=None)
    with target.entered():
        for _ in range(8):  # without arp_ignore either NIC's answer may come first
            ip("neigh", "flush", "dev", "br0")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.sendto(b"", ("192.0.2.15", 9))
            ip("neigh", "get", "192.0.2.15", "dev", "br0")
        answers = [row["lladdr"] for row in ip("-j", "neigh", "show", "192.0.2.15") if "lladdr" in row]
    assert set(answers) <= {MAC}
    assert Path("/proc/sys/net/ipv4/conf/u0/arp_ignore").read_text() == "1\n"


def test_both_nics_reach_one_portal_though_rp_filter_is_strict(target: Namespace) -> None:
    set_all("rp_filter", 1)
    for nic in (SECOND, NIC):
        configure(nic, [PORTAL], carrier_timeout_s=10, dropins_root=None)
    assert reach(target, "v0") == f"192.0.2.15 {MAC}"
    assert reach(target, "u0") == f"192.0.2.16 {OTHER_MAC}"
    for nic in (SECOND, NIC):
        assert configure(nic, [PORTAL], carrier_timeout_s=10, dropins_root=None).changes == 0


def test_nic_alone_on_its_network_leaves_arp_as_it_is(target: Namespace) -> None:
    configure(NIC, [PORTAL], carrier_timeout_s=10, dropins_root=None)
    assert Path("/proc/sys/net/ipv4/conf/v0/arp_ignore").read_text() == "0\n"
