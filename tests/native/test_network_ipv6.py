"""
What the kernel does by itself with IPv6 on a boot NIC, and what becomes of the table's address meanwhile.

Router advertisements are made here, byte by byte: RFC 4861 §4.2, prefix information §4.6.2.
"""

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from pathlib import Path

import pytest

from isboot.errors import ExitStatus, NetworkError
from isboot.network import bringup
from isboot.network.bringup import bring_up, configure
from isboot.network.connect import connect
from isboot.network.kernel import Places, Wanted, unmarked
from isboot.network.rtnetlink import Rtnetlink
from isboot.network.watch import Watch
from isboot.values import NicConfig, Portal
from tests.native.namespaces import MAC, Namespace, ip, two_machines

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root"),
]

ALL_NODES = "ff02::1"
ROUTER = "fe80::1"
FAR = "2001:db8:1::9"
SLAAC = IPv6Interface("2001:db8::5054:ff:fe12:3456/64")  # what the kernel would make of the MAC
LIFETIME_S = 7200  # the shortest that is believed of an unauthenticated router, RFC 4862 §5.5.3 e
NIC = NicConfig(0, MAC, None, SLAAC, None, (), 0, "", "ra")
FOR_EVER = 2**32 - 1


@pytest.fixture
def router() -> Iterator[Namespace]:
    """The other machine, with the link-local address of a router."""
    with two_machines() as other:
        with other.entered():
            ip("address", "add", f"{ROUTER}/64", "dev", "v1", "nodad")
        yield other


def advertise(router: Namespace) -> None:
    """Send one router advertisement with the prefix 2001:db8::/64, as a router does every few minutes."""
    header = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, LIFETIME_S, LIFETIME_S, 0, SLAAC.network[0].packed)
    with router.entered():
        zone = socket.if_nametoindex("v1")
        one = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with one:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)  # else it is not believed
        one.bind((ROUTER, 0, 0, zone))
        before = received()
        one.sendto(header + prefix, (ALL_NODES, 0, 0, zone))
        deadline = time.monotonic() + 5
        while received() == before and time.monotonic() < deadline:
            os.sched_yield()  # on a busy machine it is taken in a moment later


def received() -> int:
    """Give how many router advertisements v0 has taken in."""
    rows = Path("/proc/thread-self/net/dev_snmp6/v0").read_text().splitlines()
    return sum(int(row.split()[1]) for row in rows if row.startswith("Icmp6InRouterAdvertisements"))


class Advertised(Rtnetlink):
    """The kernel; a router advertises itself once somebody waits for events."""

    def __init__(self, router: Namespace) -> None:
        super().__init__()
        self.router = router

    def wait(self, deadline: float) -> bool:
        thread = threading.Thread(target=advertise, args=(self.router,))
        thread.start()
        try:
            return super().wait(deadline)
        finally:
            thread.join()


def bring_up_with(kernel: Rtnetlink, nic: NicConfig, *hosts: str) -> list[NetworkError]:
    wanted = Wanted(nic, [Portal(host) for host in hosts])
    return bring_up(kernel, [wanted], 10, 10, lambda line: None, unmarked, Places(run=None))[1]


def addresses() -> dict[str, int]:
    """Give v0's global addresses with the seconds they have to live."""
    # with a filter ip prints empty objects for what it leaves out
    rows = [row for link in ip("-j", "-6", "address", "show", "dev", "v0") for row in link["addr_info"]]
    return {row["local"]: row["valid_life_time"] for row in rows if row.get("scope") == "global"}


def autoconfigure(router: Namespace) -> None:
    """Let the kernel make an address by itself."""
    ip("link", "set", "v0", "up")
    deadline = time.monotonic() + 10
    with Advertised(router) as kernel:
        while not addresses() and time.monotonic() < deadline:
            kernel.wait(time.monotonic() + 0.5)


def has_default_route() -> bool:
    return any(route.get("gateway") == ROUTER for route in ip("-j", "-6", "route", "show", "default"))


def reaches(other: Namespace, host: str) -> bool:
    with other.entered():
        zone = socket.if_nametoindex("v1")
        server = socket.socket(socket.AF_INET6)
        server.bind((host, 3260, 0, zone if host.startswith("fe80") else 0))
        server.listen()
    with server, connect(Portal(host), interface="v0", timeout_s=5):
        return True


def test_kernel_lets_an_address_expire_that_it_made_by_itself(router: Namespace) -> None:
    """Without isboot, so that the next test is known to be able to fail."""
    autoconfigure(router)
    assert 0 < addresses()[str(SLAAC.ip)] <= LIFETIME_S


def test_router_advertisement_gives_the_tables_address_no_end(router: Namespace) -> None:
    # the table names no gateway: advertisements are heard, for the router, but not for addresses
    with Advertised(router) as kernel:
        assert bring_up_with(kernel, NIC, FAR) == []
    advertise(router)
    assert addresses() == {str(SLAAC.ip): FOR_EVER}
    assert reaches(router, FAR)


def test_address_that_the_kernel_made_becomes_permanent(router: Namespace) -> None:
    autoconfigure(router)
    configure(NIC, [], carrier_timeout_s=10, dropins_root=None)
    assert addresses() == {str(SLAAC.ip): FOR_EVER}


def test_with_a_gateway_in_the_table_no_advertisement_is_heard(router: Namespace) -> None:
    nic = replace(NIC, gateway=ip_address("2001:db8::1"))
    configure(nic, [Portal(FAR)], carrier_timeout_s=10, dropins_root=None)
    advertise(router)
    assert addresses() == {str(SLAAC.ip): FOR_EVER}
    assert not has_default_route()
    assert reaches(router, FAR)


def test_portal_behind_no_router_is_told(router: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringup, "ROUTER_S", 0.05)
    with pytest.raises(NetworkError) as caught:
        configure(NIC, [Portal(FAR)], carrier_timeout_s=10, dropins_root=None)
    assert caught.value.message == f"waiting for a router on v0 ({MAC}): no advertisement after 0.05 s"
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    # what is on the link needs none
    configure(NIC, [Portal("2001:db8::1")], carrier_timeout_s=10, dropins_root=None)


def test_address_of_another_machine_is_told(router: Namespace) -> None:
    with router.entered():
        ip("address", "add", str(SLAAC), "dev", "v1", "nodad")
    ip("link", "set", "v0", "up")
    ip("address", "add", str(SLAAC), "dev", "v0")  # somebody else's, with duplicate detection
    with pytest.raises(NetworkError) as caught:
        configure(NIC, [], carrier_timeout_s=10, dropins_root=None)
    assert caught.value.message == f"setting {SLAAC} on v0: another machine has it"
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_ipv6_that_is_off_on_the_nic_is_switched_on(router: Namespace) -> None:
    switch = Path("/proc/sys/net/ipv6/conf/v0/disable_ipv6")
    switch.write_text("1")
    configure(NIC, [Portal("2001:db8::1")], carrier_timeout_s=10, dropins_root=None)
    assert switch.read_text() == "0\n"
    assert reaches(router, "2001:db8::1")


@pytest.mark.parametrize("mode", ["eui64", "none"])
def test_link_local_portal_is_reached_whether_the_kernel_makes_an_address_or_not(
    router: Namespace, mode: str
) -> None:
    ip("link", "set", "v0", "addrgenmode", mode)
    configure(NIC, [Portal(ROUTER)], carrier_timeout_s=10, dropins_root=None)
    assert reaches(router, ROUTER)


def test_link_local_portal_without_a_nic_is_refused(router: Namespace) -> None:
    with pytest.raises(NetworkError) as caught:
        connect(Portal(ROUTER), timeout_s=5)
    assert caught.value.message == f"connecting to [{ROUTER}]:3260: not an address to connect to"
    assert "fe80::1%eth0" in caught.value.hint
    assert caught.value.exit_status is ExitStatus.USAGE


def test_router_that_was_used_is_used_again_after_a_flush(router: Namespace) -> None:
    with Advertised(router) as kernel:
        assert bring_up_with(kernel, NIC, FAR) == []
    said: list[str] = []
    watch = Watch([Wanted(NIC, [Portal(FAR)])], {0: "v0"}, lambda _, line: said.append(line))
    watch.turn(is_event=False)
    assert said == []
    ip("-6", "route", "flush", "dev", "v0")  # the next advertisement may be half an hour away
    watch.due_at = 0.0
    watch.turn(is_event=False)
    watch.close()
    assert f"put back route to 2001:db8::/64, route to fe80::/64, route to {FAR}/128 via {ROUTER}" in said[0]
    assert reaches(router, FAR)


def test_router_in_the_place_of_another_is_taken(router: Namespace) -> None:
    with Advertised(router) as kernel:
        assert bring_up_with(kernel, NIC, FAR) == []
    ip("-6", "route", "del", "default", "via", ROUTER, "proto", "ra")  # as at the end of its lifetime
    ip("-6", "route", "add", "default", "via", "fe80::2", "dev", "v0", "proto", "ra")
    configure(NIC, [Portal(FAR)], carrier_timeout_s=10, dropins_root=None)
    (route,) = ip("-j", "-6", "route", "show", FAR)
    assert route["gateway"] == "fe80::2"


def slow_detection(name: str = "v0") -> None:
    """Let duplicate detection take half a minute."""
    Path(f"/proc/sys/net/ipv6/conf/{name}/dad_transmits").write_text("30")


def test_address_that_stays_tentative_is_told(router: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringup, "DUPLICATE_DETECTION_S", 0.05)
    slow_detection()
    ip("link", "set", "v0", "up")
    ip("address", "add", str(SLAAC), "dev", "v0")
    with pytest.raises(NetworkError) as caught:
        configure(NIC, [], carrier_timeout_s=10, dropins_root=None)
    assert caught.value.message == (
        f"setting {SLAAC} on v0: it stays tentative for 0.05 s, another machine may use it"
    )
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


class Thief(Rtnetlink):
    """The kernel, and a program that removes every address at once."""

    def put_address(self, ifindex: int, interface: IPv6Interface | IPv4Interface) -> None:
        super().put_address(ifindex, interface)
        self.remove_address(ifindex, interface)


def test_address_that_somebody_removes_at_once_is_told(
    router: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringup, "DUPLICATE_DETECTION_S", 0.05)
    with Thief() as kernel:
        (fault,) = bring_up_with(kernel, NIC)
    assert fault.message == f"setting {SLAAC} on v0: it is gone again after 0.05 s"


def test_link_local_address_that_stays_tentative_is_told(
    router: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringup, "DUPLICATE_DETECTION_S", 0.05)
    slow_detection()
    with pytest.raises(NetworkError) as caught:
        configure(NIC, [Portal(ROUTER)], carrier_timeout_s=10, dropins_root=None)
    assert caught.value.message == ("waiting for the link-local address of v0: still tentative after 0.05 s")


def test_link_local_address_of_another_machine_is_told(router: Namespace) -> None:
    own = "fe80::5054:ff:fe12:3456"
    with router.entered():
        ip("address", "add", f"{own}/64", "dev", "v1", "nodad")
    with pytest.raises(NetworkError) as caught:
        configure(NIC, [Portal(ROUTER)], carrier_timeout_s=10, dropins_root=None)
    assert caught.value.message == (f"waiting for the link-local address of v0: another machine has {own}")
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
