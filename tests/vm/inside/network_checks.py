"""
Run by pytest inside a quick guest: what needs modules that the machine of the native tests has not.

VLANs (8021q), a bond, NICs with a PCI address and a range of MTUs of their driver's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest

from isboot.network.bringup import configure
from isboot.network.connect import connect
from isboot.network.find import find_nic, read_hardware
from isboot.network.kernel import Wanted
from isboot.network.rtnetlink import Rtnetlink
from isboot.network.watch import Watch
from isboot.values import NicConfig, Portal
from tests.native.namespaces import MAC, Namespace, ip, two_machines
from tests.native.test_network import listening

NIC = NicConfig(0, MAC, None, ip_interface("203.0.113.15/24"), None, (), 5, "", "manual")
PORTAL = "203.0.113.9"
#: of QEMU's e1000 and of its virtio NIC, on PCI
E1000_MAC, VIRTIO_MAC = "52:54:00:99:00:aa", "52:54:00:99:00:00"


@pytest.fixture
def other_machine() -> Iterator[Namespace]:
    """The other machine with the portal in VLAN 5."""
    with two_machines() as other:
        with other.entered():
            ip("link", "add", "link", "v1", "name", "v1.5", "type", "vlan", "id", "5")
            ip("address", "add", f"{PORTAL}/24", "dev", "v1.5")
            ip("link", "set", "v1.5", "up")
        yield other


def run(nic: NicConfig, root: Path | None = None, mtu_bytes: int = 0) -> int:
    state = configure(nic, [Portal(PORTAL)], carrier_timeout_s=10, mtu_bytes=mtu_bytes, dropins_root=root)
    assert state.name == "v0.5"
    return state.changes


def mtus() -> dict[str, int]:
    return {link["ifname"]: link["mtu"] for link in ip("-j", "link", "show")}


def test_vlan_is_made_and_the_portal_reached(other_machine: Namespace, tmp_path: Path) -> None:
    assert run(NIC, tmp_path) > 5
    with listening(other_machine, PORTAL), connect(Portal(PORTAL), interface="v0.5", timeout_s=5):
        pass
    assert run(NIC, tmp_path) == 0
    addresses = {link["ifname"]: link["addr_info"] for link in ip("-j", "-4", "address")}
    assert not addresses.get("v0")
    assert (tmp_path / "network/ifstate.v0.5").exists()


def test_vlan_and_nic_have_the_mtu(other_machine: Namespace) -> None:
    run(NIC)
    assert (mtus()["v0"], mtus()["v0.5"]) == (1500, 1500)
    run(NIC, mtu_bytes=9000)
    assert (mtus()["v0"], mtus()["v0.5"]) == (9000, 9000)
    run(NIC, mtu_bytes=1400)
    assert (mtus()["v0"], mtus()["v0.5"]) == (1400, 1400)


def test_name_that_is_taken_is_not_fought_for(other_machine: Namespace) -> None:
    ip("link", "add", "v0.5", "type", "dummy")
    state = configure(NIC, [Portal(PORTAL)], carrier_timeout_s=10, dropins_root=None)
    assert state.name == "isboot.5"


def test_vlan_that_is_deleted_comes_back(other_machine: Namespace) -> None:
    run(NIC)
    said: list[str] = []
    watch = Watch([Wanted(NIC, [Portal(PORTAL)])], {0: "v0.5"}, lambda _, line: said.append(line))
    watch.turn(is_event=False)
    ip("link", "del", "v0.5")
    watch.due_at = 0.0
    watch.turn(is_event=False)
    watch.close()
    assert "put back VLAN 5, " in "".join(said)
    with listening(other_machine, PORTAL), connect(Portal(PORTAL), interface="v0.5", timeout_s=5):
        pass


def test_bond_that_takes_the_nic_loses_it_again(other_machine: Namespace) -> None:
    nic = replace(NIC, vlan=0)
    configure(nic, [], carrier_timeout_s=10, dropins_root=None)
    ip("link", "add", "bond0", "type", "bond")
    ip("link", "set", "v0", "down")
    ip("link", "set", "v0", "master", "bond0")
    state = configure(nic, [], carrier_timeout_s=10, dropins_root=None)
    assert state.name == "v0"
    (link,) = ip("-j", "link", "show", "v0")
    assert "master" not in link


def test_pci_address_tells_nics_with_one_mac_apart() -> None:
    sysfs = Path("/sys/class/net")
    (intel,) = [link for link in ip("-j", "link") if link["address"] == E1000_MAC]
    (virtio,) = [link for link in ip("-j", "link") if link["address"] == VIRTIO_MAC]
    ip("link", "set", intel["ifname"], "address", VIRTIO_MAC)
    try:
        with Rtnetlink() as kernel:
            for link in (intel, virtio):
                pci = read_hardware(link["ifname"], sysfs).pci.removeprefix("0000:")
                assert pci
                found = find_nic(kernel.links(), replace(NIC, mac=VIRTIO_MAC, pci=pci), sysfs)
                assert found is not None
                assert found.name == link["ifname"]
    finally:
        ip("link", "set", intel["ifname"], "address", E1000_MAC)


def test_mtu_is_refused_with_the_drivers_own_range() -> None:
    said: list[str] = []
    nic = replace(NIC, mac=E1000_MAC, vlan=0, address=None)
    configure(nic, [], carrier_timeout_s=10, mtu_bytes=20000, dropins_root=None, say=said.append)
    (line,) = said
    assert "it takes 46 to 16110 bytes; it stays at 1500" in line
