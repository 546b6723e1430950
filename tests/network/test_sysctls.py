"""What a boot NIC needs of the kernel's behaviour, in a /proc/sys/net made of files."""

from ipaddress import ip_interface
from pathlib import Path

import pytest

from isboot.network import sysctls
from isboot.network.rtnetlink import Address
from tests.network.kernels import make_link

V4, V6 = ip_interface("192.0.2.15/24"), ip_interface("2001:db8::15/64")


def make_sysctls(root: Path, **values: int) -> Path:
    for row in sysctls.ROWS:
        for name in ("eth0", "eth1"):
            path = root / row.path.format(name=name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{values.get(path.name, 0)}\n")
    return root


def test_a_nic_alone_gets_what_its_family_needs(tmp_path: Path) -> None:
    make_sysctls(tmp_path, autoconf=1, disable_ipv6=1)
    assert list(sysctls.put(tmp_path, "eth0", V4, [], [])) == [
        "eth0: rp_filter=2", "eth0: promote_secondaries=1",
    ]  # fmt: skip
    assert list(sysctls.put(tmp_path, "eth0", V6, [], [])) == [
        "eth0: disable_ipv6=0", "eth0: autoconf=0", "eth0: keep_addr_on_down=1",
    ]  # fmt: skip
    assert list(sysctls.put(tmp_path, "eth0", V6, [], [])) == []


def test_nics_of_one_network_answer_for_themselves_only(tmp_path: Path) -> None:
    make_sysctls(tmp_path, rp_filter=2, promote_secondaries=1)
    assert list(sysctls.put(tmp_path, "eth0", V4, ["shared"], ["eth1"])) == [
        "eth0: arp_ignore=1", "eth0: arp_announce=2", "eth1: arp_ignore=1",
        "eth1: arp_announce=2",
    ]  # fmt: skip
    assert (tmp_path / "ipv4/conf/eth1/rp_filter").read_text() == "2\n"


def test_stricter_settings_stay(tmp_path: Path) -> None:
    make_sysctls(tmp_path, rp_filter=2, promote_secondaries=1, arp_ignore=2, arp_announce=2)
    assert list(sysctls.put(tmp_path, "eth0", V4, ["shared"], [])) == []


@pytest.mark.parametrize(("situation", "now", "then"), [("gateway", 1, 0), ("router", 1, 2)])
def test_router_advertisements_are_heard_where_they_are_needed(
    tmp_path: Path, situation: str, now: int, then: int
) -> None:
    make_sysctls(tmp_path, accept_ra=now)
    assert f"eth0: accept_ra={then}" in list(sysctls.put(tmp_path, "eth0", V6, [situation], []))


def test_kernel_without_ipv6_has_nothing_to_set(tmp_path: Path) -> None:
    assert list(sysctls.put(tmp_path, "eth0", V6, [], [])) == []


def test_neighbours_are_other_nics_on_the_same_ipv4_network() -> None:
    links = [make_link(2, "eth0"), make_link(3, "eth1"), make_link(4, "eth2")]
    addresses = [
        Address(2, V4, 0),
        Address(3, ip_interface("192.0.2.77/24"), 0),
        Address(4, ip_interface("203.0.113.5/24"), 0),
    ]
    assert sysctls.neighbours(links, addresses, links[0], V4) == ["eth1"]
    assert sysctls.neighbours(links, addresses, links[0], V6) == []


def test_every_row_says_where_it_is_documented() -> None:
    assert all(row.source for row in sysctls.ROWS)
