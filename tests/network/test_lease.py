"""What udhcpc tells of a lease, and what a server may make of it."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import ExitStatus, NetworkError
from isboot.network import lease
from isboot.values import NicConfig
from tests.firmware.tables import PROPERTY

NIC = NicConfig(0, "52:54:00:12:34:56", None, None, None, (), 0, "", "dhcp")
#: what busybox 1.35 gave for dnsmasq 2.90
WORDS = {
    "ip": "192.0.2.50", "mask": "24", "subnet": "255.255.255.0", "router": "192.0.2.1 192.0.2.2",
    "dns": "192.0.2.53 192.0.2.54", "hostname": "diskless", "lease": "120", "serverid": "192.0.2.1",
    "rootpath": "iscsi:192.0.2.9::::iqn.2009-06.dracut:target0", "mtu": "1400", "interface": "eth0",
}  # fmt: skip


def read(**changes: str) -> lease.Lease:
    found = lease.read_lease(NIC, "eth0", WORDS | changes)
    assert found is not None
    return found


def test_a_lease_is_read() -> None:
    found = read()
    assert (found.address, found.gateway) == (IPv4Interface("192.0.2.50/24"), IPv4Address("192.0.2.1"))
    assert found.dns == (IPv4Address("192.0.2.53"), IPv4Address("192.0.2.54"))
    assert (found.hostname, found.mtu_bytes, found.root_path) == ("diskless", 1400, WORDS["rootpath"])
    assert found.configured.address == found.address
    assert found.configured.origin == "dhcp"


def test_what_the_command_line_says_stays() -> None:
    own = NicConfig(0, NIC.mac, None, None, None, (IPv4Address("198.51.100.1"),), 0, "mine", "dhcp")
    found = lease.read_lease(own, "eth0", WORDS)
    assert found is not None
    assert (found.configured.dns, found.configured.hostname) == (own.dns, "mine")


@pytest.mark.parametrize(
    ("routes", "gateway"),
    [
        ("", "192.0.2.1"),
        ("0.0.0.0/0 192.0.2.3", "192.0.2.3"),
        ("198.51.100.0/24 192.0.2.3", None),
        ("198.51.100.0/24 192.0.2.3 0.0.0.0/0 192.0.2.4", "192.0.2.4"),
        ("0.0.0.0/0", None),
        ("0.0.0.0/0 nowhere", None),
    ],
)
def test_classless_routes_go_before_the_router(routes: str, gateway: str | None) -> None:
    assert read(staticroutes=routes).gateway == (IPv4Address(gateway) if gateway else None)


@pytest.mark.parametrize("mtu", ["", "0", "575", "65536", "-1400", "x", "1400 "])
def test_an_mtu_no_network_has_is_not_taken(mtu: str) -> None:
    assert read(mtu=mtu).mtu_bytes == 0


@pytest.mark.parametrize("changes", [{"ip": ""}, {"ip": "x"}, {"mask": "33"}, {"mask": "x"}])
def test_what_is_no_lease_is_no_answer(changes: dict[str, str]) -> None:
    assert lease.read_lease(NIC, "eth0", WORDS | changes) is None


@PROPERTY
@given(st.binary(max_size=200))
def test_any_output_gives_a_lease_or_none(output: bytes) -> None:
    for whole in (output, b"ip=192.0.2.50\0" + output, b"ip=192.0.2.50\0staticroutes=" + output):
        found = lease.read_lease(NIC, "eth0", lease._environment(whole))
        assert found is None or found.address.ip in found.address.network


def test_without_busybox_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != lease.BUSYBOX)
    with pytest.raises(NetworkError, match="by DHCP: there is no /usr/bin/busybox") as caught:
        lease.obtain(NIC, needs_root_path=False, timeout_s=1, carrier_timeout_s=1, say=lambda _: None)
    assert caught.value.exit_status == ExitStatus.UNAVAILABLE
    assert "install busybox" in caught.value.hint


def test_no_word_of_the_server_is_a_word_of_the_shell() -> None:
    for script in (lease.TELL, lease.KEEP):
        assert "`" not in script
        assert "eval" not in script
