"""
The network stage against the running kernel: a NIC of ours, v0, wired to another machine, both in network
namespaces of their own.  v0 is a veth; the other machine is v1 with a gateway's and a target's addresses.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest
from pyroute2 import IPRoute  # here as the judge of our own netlink

from isboot.errors import ExitStatus, NetworkError
from isboot.network import bringup
from isboot.network.bringup import bring_up, configure
from isboot.network.connect import connect
from isboot.network.kernel import Places, Wanted, unmarked
from isboot.network.rtnetlink import Rtnetlink
from isboot.values import NicConfig, NicState, Portal
from tests.native.namespaces import MAC, Namespace, ip, two_machines

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root"),
]

PORT = 3260


@pytest.fixture
def other_machine() -> Iterator[Namespace]:
    with two_machines() as other:
        yield other


def make_nic(address: str = "192.0.2.15/24", gateway: str | None = "192.0.2.1", mac: str = MAC) -> NicConfig:
    return NicConfig(
        index=0,
        mac=mac,
        pci=None,
        address=ip_interface(address),
        gateway=ip_address(gateway) if gateway else None,
        dns=(),
        vlan=0,
        hostname="",
        origin="manual",
    )


IPV6_NIC = make_nic("2001:db8::15/64", "2001:db8::1")


def run(nic: NicConfig, *hosts: str, root: Path | None = None) -> NicState:
    portals = [Portal(host) for host in hosts]
    return configure(nic, portals, carrier_timeout_s=10, nic_timeout_s=10, dropins_root=root)


def wait_with(
    kernel: Rtnetlink, *nics: NicConfig, said: list[str] | None = None, timeout_s: float = 10
) -> tuple[dict[int, NicState], list[NetworkError]]:
    told: list[str] = [] if said is None else said
    wanted = [Wanted(nic) for nic in nics]
    return bring_up(kernel, wanted, timeout_s, timeout_s, told.append, unmarked, Places(run=None))


@contextmanager
def listening(machine: Namespace, host: str, port: int = PORT) -> Iterator[socket.socket]:
    with machine.entered():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host, port), family=family)
    with server:
        yield server


class Stirred(Rtnetlink):
    """The kernel; what is given happens, in another thread, once somebody waits for events."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__()
        self.thread: threading.Thread | None = threading.Thread(target=happens)

    def wait(self, deadline: float) -> bool:
        thread, self.thread = self.thread, None
        if thread is None:
            return super().wait(deadline)
        thread.start()
        try:
            return super().wait(deadline)
        finally:
            thread.join()


# --- bringing it up


@pytest.mark.parametrize(
    ("nic", "near", "far"),
    [(make_nic(), "192.0.2.1", "198.51.100.9"), (IPV6_NIC, "2001:db8::1", "2001:db8:1::9")],
    ids=["IPv4", "IPv6"],
)
def test_portals_near_and_behind_the_gateway_are_reached(
    other_machine: Namespace, nic: NicConfig, near: str, far: str
) -> None:
    state = run(nic, near, far)
    assert (state.name, state.mac, state.driver) == ("v0", MAC, "veth")
    for host in (near, far):
        with (
            listening(other_machine, host),
            connect(Portal(host, PORT), interface=state.name, timeout_s=5) as connection,
        ):
            assert nic.address is not None
            assert connection.getsockname()[0] == str(nic.address.ip)
            assert connection.getpeername()[:2] == (host, PORT)


@pytest.mark.parametrize("nic", [make_nic(), IPV6_NIC], ids=["IPv4", "IPv6"])
def test_second_run_makes_no_change(other_machine: Namespace, nic: NicConfig, tmp_path: Path) -> None:
    hosts = ["192.0.2.1", "198.51.100.9", "2001:db8::1", "2001:db8:1::9"]
    first = run(nic, *hosts, root=tmp_path)
    addresses, routes = ip("-j", "address"), ip("-j", "route") + ip("-j", "-6", "route")
    second = run(nic, *hosts, root=tmp_path)
    assert first.changes > 5
    assert second.changes == 0
    assert [each["addr_info"] for each in ip("-j", "address")] == [each["addr_info"] for each in addresses]
    assert ip("-j", "route") + ip("-j", "-6", "route") == routes


def test_routes_are_those_of_the_plan(other_machine: Namespace) -> None:
    run(make_nic(), "192.0.2.1", "192.0.2.9", "198.51.100.9")
    seen = [
        (route["dst"], route.get("gateway"), route["prefsrc"], route.get("metric", 0))
        for route in ip("-j", "route")
        if route["protocol"] != "kernel"
    ]
    assert sorted(seen) == [
        ("192.0.2.1", None, "192.0.2.15", 0),
        ("192.0.2.9", None, "192.0.2.15", 0),
        ("198.51.100.9", "192.0.2.1", "192.0.2.15", 0),
        ("default", "192.0.2.1", "192.0.2.15", 10000),
    ]


@pytest.mark.parametrize("gateway", ["192.0.2.1", "203.0.113.1"], ids=["neighbour", "of another network"])
def test_gateway_outside_the_prefix_is_accepted(other_machine: Namespace, gateway: str) -> None:
    run(make_nic("192.0.2.15/32", gateway), "198.51.100.9")
    (route,) = ip("-j", "route", "show", "198.51.100.9")
    assert (route["gateway"], route["flags"]) == (gateway, ["onlink"])


def test_gateway_that_can_be_none_is_told(other_machine: Namespace) -> None:
    with pytest.raises(NetworkError) as caught:
        run(make_nic(gateway="192.0.2.255"), "198.51.100.9")  # the network's broadcast address
    assert caught.value.message.startswith(
        "adding the route to 198.51.100.9/32 via 192.0.2.255 on v0: Invalid argument"
    )
    assert "do address, prefix and gateway of the NIC fit together" in caught.value.hint


def test_default_route_of_a_manager_stays_first(other_machine: Namespace) -> None:
    ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    ip("link", "set", "lan0", "up")
    ip("link", "set", "lan1", "up")
    ip("address", "add", "203.0.113.5/24", "dev", "lan0")
    ip("route", "add", "default", "via", "203.0.113.1", "metric", "1024")
    run(make_nic(), "198.51.100.9")
    (internet,) = ip("-j", "route", "get", "8.8.8.8")
    (target,) = ip("-j", "route", "get", "198.51.100.9")
    assert (internet["dev"], target["dev"]) == ("lan0", "v0")


def test_ipv6_address_is_usable_at_once(other_machine: Namespace) -> None:
    run(IPV6_NIC)
    (link,) = ip("-j", "address", "show", "v0")
    (address,) = [each for each in link["addr_info"] if each["local"] == "2001:db8::15"]
    assert address["nodad"]  # else the first second of every boot waits for duplicates
    assert "tentative" not in address


def test_route_of_another_table_does_not_count(other_machine: Namespace) -> None:
    run(make_nic())
    ip("route", "add", "198.51.100.9", "via", "192.0.2.1", "src", "192.0.2.15", "dev", "v0", "table", "99")
    assert run(make_nic(), "198.51.100.9").changes == 1


def test_stale_host_route_is_replaced(other_machine: Namespace) -> None:
    run(make_nic())
    ip("route", "add", "198.51.100.9", "dev", "v0")
    assert run(make_nic(), "198.51.100.9").changes == 1
    (route,) = ip("-j", "route", "show", "198.51.100.9")
    assert route["gateway"] == "192.0.2.1"


def test_leased_address_stays_for_ever(other_machine: Namespace) -> None:
    ip("link", "set", "v0", "up")
    ip("address", "add", "192.0.2.15/24", "dev", "v0", "valid_lft", "600", "preferred_lft", "600")
    run(make_nic())
    (link,) = ip("-j", "-4", "address", "show", "v0")
    (address,) = link["addr_info"]
    assert address["valid_life_time"] == 2**32 - 1


@pytest.mark.parametrize(
    ("nic", "wrong", "right"),
    [(make_nic(), "192.0.2.15/16", "192.0.2.15/24"), (IPV6_NIC, "2001:db8::15/128", "2001:db8::15/64")],
    ids=["IPv4", "IPv6"],
)
def test_wrong_prefix_is_mended_and_the_portal_reached(
    other_machine: Namespace, nic: NicConfig, wrong: str, right: str
) -> None:
    ip("link", "set", "v0", "up")
    ip("address", "add", wrong, "dev", "v0", *(["nodad"] if ":" in wrong else []))
    host = str(nic.gateway)
    run(nic, host)
    (link,) = ip("-j", "address", "show", "v0")
    present = [
        f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"] if each["scope"] == "global"
    ]
    assert present == [right]
    with listening(other_machine, host), connect(Portal(host, PORT), interface="v0", timeout_s=5):
        pass
    assert run(nic, host).changes == 0


def test_address_of_others_stays(other_machine: Namespace) -> None:
    ip("address", "add", "203.0.113.5/24", "dev", "v0")
    run(make_nic())
    (link,) = ip("-j", "-4", "address", "show", "v0")
    assert [each["local"] for each in link["addr_info"]] == ["203.0.113.5", "192.0.2.15"]


# --- waiting


def test_nic_that_appears_while_waiting_is_taken(other_machine: Namespace) -> None:
    ip("link", "set", "v0", "address", "52:54:00:00:00:01")
    with Stirred(lambda: ip("link", "set", "v0", "address", MAC)) as kernel:
        states, _ = wait_with(kernel, make_nic())
    assert states[0].name == "v0"


def test_carrier_that_comes_while_waiting_is_noticed(other_machine: Namespace) -> None:
    def plug() -> None:
        with other_machine.entered():
            ip("link", "set", "v1", "up")

    with other_machine.entered():
        ip("link", "set", "v1", "down")
    with Stirred(plug) as kernel:
        wait_with(kernel, make_nic())
    (link,) = ip("-j", "link", "show", "v0")
    assert "LOWER_UP" in link["flags"]


def test_no_carrier_exits_75(other_machine: Namespace) -> None:
    with other_machine.entered():
        ip("link", "set", "v1", "down")
    with pytest.raises(NetworkError) as caught:
        configure(make_nic(), [], carrier_timeout_s=0.05, dropins_root=None)
    assert caught.value.message == f"waiting for the carrier of v0 ({MAC}): none after 0.05 s"
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_missing_nic_exits_66_and_names_those_present(other_machine: Namespace) -> None:
    with pytest.raises(NetworkError) as caught:
        configure(make_nic(mac="52:54:00:00:00:ff"), [], carrier_timeout_s=5, nic_timeout_s=0.05)
    assert caught.value.message == (
        f"looking for the NIC with MAC 52:54:00:00:00:ff: none after 0.05 s; present: v0 {MAC} (veth)"
    )
    assert caught.value.exit_status is ExitStatus.NOTHING_THERE


def test_without_the_right_to_configure_exits_77(other_machine: Namespace) -> None:
    code = (
        "from ipaddress import ip_interface\nimport os\n"
        "from isboot.network.bringup import configure\nfrom isboot.values import NicConfig\n"
        "os.setuid(65534)\n"
        f"nic = NicConfig(0, {MAC!r}, None, ip_interface('192.0.2.15/24'), None, (), 0, '', 'manual')\n"
        "try:\n    configure(nic, [], carrier_timeout_s=1, dropins_root=None)\n"
        "except Exception as error:\n    print(error, '|', error.hint, '|', int(error.exit_status))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    message, hint, status = done.stdout.strip().split(" | ")
    assert message == f"configuring the NIC with MAC {MAC}: Operation not permitted"
    assert hint.startswith("run as root")
    assert status == "77"


def test_nic_with_a_cable_does_not_wait_for_one_without(
    other_machine: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringup, "GRACE_S", 0.05)
    ip("link", "add", "u0", "address", "52:54:00:12:34:57", "type", "veth", "peer", "name", "u1")
    second = replace(make_nic("203.0.113.15/24", None, "52:54:00:12:34:57"), index=1)
    with Rtnetlink() as kernel:
        states, (fault,) = wait_with(kernel, second, make_nic())
    assert list(states) == [0]
    assert fault.message.startswith("waiting for the carrier of u0 (52:54:00:12:34:57): none after ")


# --- MTU


def test_mtu_is_set(other_machine: Namespace) -> None:
    configure(make_nic(), [], carrier_timeout_s=10, mtu_bytes=9000, dropins_root=None)
    (link,) = ip("-j", "link", "show", "v0")
    assert link["mtu"] == 9000


@pytest.mark.parametrize(
    ("nic", "mtu_bytes", "least"), [(make_nic(), 60, 68), (IPV6_NIC, 1000, 1280)], ids=["IPv4", "IPv6"]
)
def test_mtu_beyond_the_range_is_refused_and_the_boot_goes_on(
    other_machine: Namespace, nic: NicConfig, mtu_bytes: int, least: int
) -> None:
    said: list[str] = []
    configure(nic, [], carrier_timeout_s=10, mtu_bytes=mtu_bytes, dropins_root=None, say=said.append)
    assert said == [
        f"setting the MTU of v0 to {mtu_bytes}: it takes {least} to 65535 bytes; it stays at 1500"
    ]


def test_vlan_without_a_free_name_is_told(other_machine: Namespace) -> None:
    for taken in ("v0.5", "isboot.5"):
        ip("link", "add", taken, "type", "bridge")
    with pytest.raises(NetworkError) as caught:
        run(replace(make_nic(), vlan=5))
    assert caught.value.message == "adding VLAN 5 to v0: the kernel made no such link"
    assert "taken by another link" in caught.value.hint


def test_kernel_without_vlans_exits_69(other_machine: Namespace) -> None:
    try:
        ip("link", "add", "link", "v0", "name", "v0.7", "type", "vlan", "id", "7")
    except subprocess.CalledProcessError:
        pass
    else:
        return  # this kernel has VLANs; tests/vm/test_network.py uses them
    with pytest.raises(NetworkError, match="adding VLAN 5 to v0: Operation not supported") as caught:
        run(replace(make_nic(), vlan=5))
    assert caught.value.exit_status is ExitStatus.UNAVAILABLE


# --- connecting


def test_nic_without_a_cable_is_not_connected_through(other_machine: Namespace) -> None:
    run(make_nic())
    bringup.need_carrier("v0", make_nic(), Portal("192.0.2.1"))
    with other_machine.entered():
        ip("link", "set", "v1", "down")
    with pytest.raises(NetworkError) as caught:
        bringup.need_carrier("v0", make_nic(), Portal("192.0.2.1"))
    assert caught.value.message == "connecting to 192.0.2.1:3260 through v0: no carrier"
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


@pytest.mark.parametrize("nic", [make_nic(), IPV6_NIC], ids=["IPv4", "IPv6"])
def test_nic_without_its_address_is_not_connected_through(other_machine: Namespace, nic: NicConfig) -> None:
    portal = Portal(str(nic.gateway))
    run(nic)
    bringup.need_carrier("v0", nic, portal)
    ip("address", "flush", "dev", "v0")
    with pytest.raises(NetworkError) as caught:
        bringup.need_carrier("v0", nic, portal)
    assert nic.address is not None
    assert caught.value.message == (
        f"connecting to {portal} through v0: {nic.address.ip}: Cannot assign requested address"
    )
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_nic_is_located_by_what_the_table_says(other_machine: Namespace) -> None:
    assert bringup.locate(make_nic(), Portal("192.0.2.1")) == "v0"
    with pytest.raises(NetworkError) as caught:
        bringup.locate(make_nic(mac="52:54:00:00:00:ff"), Portal("192.0.2.1"))
    assert caught.value.message == (
        "connecting to 192.0.2.1:3260: the NIC with MAC 52:54:00:00:00:ff is not there"
    )
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_socket_is_bound_to_the_nic(other_machine: Namespace) -> None:
    run(make_nic(), "192.0.2.1")
    with listening(other_machine, "192.0.2.1"):
        with connect(Portal("192.0.2.1", PORT), interface="v0", timeout_s=5) as connection:
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16) == b"v0\0"
        # bound to the wrong one the same portal is out of reach
        with pytest.raises(NetworkError, match="through lo: "):
            connect(Portal("192.0.2.1", PORT), interface="lo", timeout_s=0.05)


def test_refused_names_portal_and_nic(other_machine: Namespace) -> None:
    run(make_nic(), "192.0.2.1")
    with pytest.raises(NetworkError) as caught:
        connect(Portal("192.0.2.1", PORT), interface="v0", timeout_s=5)
    assert caught.value.message == "connecting to 192.0.2.1:3260 through v0: connection refused"
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (None, "network unreachable"),
        ("unreachable", "no route to host"),
        ("prohibit", "forbidden by a route or a firewall of this machine"),
    ],
)
def test_host_without_a_way_is_told(other_machine: Namespace, route: str | None, text: str) -> None:
    if route:
        ip("route", "add", route, "203.0.113.9")
    with pytest.raises(NetworkError, match=rf"^connecting to 203\.0\.113\.9:3260: {text}$"):
        connect(Portal("203.0.113.9", PORT), timeout_s=5)


def test_silent_host_ends_at_the_deadline(other_machine: Namespace) -> None:
    run(make_nic(), "192.0.2.77")
    with pytest.raises(NetworkError) as caught:
        connect(Portal("192.0.2.77", PORT), interface="v0", timeout_s=0.05)
    assert caught.value.message == "connecting to 192.0.2.77:3260 through v0: no answer within 0.05 s"
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_link_local_portal_is_reached(other_machine: Namespace) -> None:
    run(IPV6_NIC)
    ip("address", "add", "fe80::15/64", "dev", "v0", "nodad")
    with other_machine.entered():
        ip("address", "add", "fe80::9/64", "dev", "v1", "nodad")
        zone = socket.if_nametoindex("v1")
        server = socket.socket(socket.AF_INET6)
        server.bind(("fe80::9", PORT, 0, zone))
        server.listen()
    with server, connect(Portal("fe80::9", PORT), interface="v0", timeout_s=5) as connection:
        assert connection.getpeername()[0].startswith("fe80::9")


# --- our netlink beside pyroute2's


def test_links_addresses_and_routes_are_what_pyroute2_sees(other_machine: Namespace) -> None:
    run(make_nic(), "192.0.2.1", "198.51.100.9")
    run(IPV6_NIC, "2001:db8:1::9")
    with Rtnetlink() as ours, IPRoute() as theirs:
        links = {link.ifindex: link for link in ours.links()}
        for seen in theirs.get_links():
            link = links.pop(seen["index"])
            assert link.name == seen.get_attr("IFLA_IFNAME")
            assert link.mac == seen.get_attr("IFLA_ADDRESS")
            assert link.flags == seen["flags"]
            assert link.hardware_type == seen["ifi_type"]
            assert link.mtu == seen.get_attr("IFLA_MTU")
            assert (link.min_mtu, link.max_mtu) == (
                seen.get_attr("IFLA_MIN_MTU"),
                seen.get_attr("IFLA_MAX_MTU"),
            )
        assert not links

        (index,) = theirs.link_lookup(ifname="v0")
        assert sorted(str(address.interface) for address in ours.addresses(index)) == sorted(
            f"{seen.get_attr('IFA_ADDRESS')}/{seen['prefixlen']}" for seen in theirs.get_addr(index=index)
        )
        for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            expected = [
                (
                    seen.get_attr("RTA_DST"),
                    seen["dst_len"],
                    seen.get_attr("RTA_OIF"),
                    seen.get_attr("RTA_GATEWAY"),
                    seen.get_attr("RTA_PREFSRC"),
                    seen.get_attr("RTA_PRIORITY") or 0,
                )
                for seen in theirs.get_routes(family=family, table=254, type=1)
                if seen.get_attr("RTA_OIF") == index
            ]
            found = [
                (
                    str(route.destination.network_address) if route.destination.prefixlen else None,
                    route.destination.prefixlen,
                    route.ifindex,
                    str(route.gateway) if route.gateway else None,
                    str(route.source) if route.source else None,
                    route.metric,
                )
                for route in ours.routes(version, index)
            ]
            assert len(found) >= 4
            assert sorted(found, key=repr) == sorted(expected, key=repr)
