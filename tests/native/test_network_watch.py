"""What others take from a boot NIC comes back: the watch beside the running kernel."""

import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from isboot.network.bringup import configure
from isboot.network.connect import connect
from isboot.network.kernel import Wanted
from isboot.network.watch import Watch
from isboot.values import NicConfig, Portal
from tests.native.namespaces import MAC, Namespace, ip, make_veth, two_machines

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root"),
]

GOAL_S = 2.0  #: for an address that was flushed to be back
NIC = NicConfig(0, MAC, None, ip_interface("192.0.2.15/24"), ip_address("192.0.2.1"), (), 0, "", "manual")
IPV6_NIC = NicConfig(
    0, MAC, None, ip_interface("2001:db8::15/64"), ip_address("2001:db8::1"), (), 0, "", "manual"
)
NEAR, FAR = "192.0.2.1", "198.51.100.9"


@pytest.fixture
def other_machine() -> Iterator[Namespace]:
    with two_machines() as other:
        yield other


class Scene:
    """A NIC that was brought up and is watched, as the launcher does it."""

    def __init__(self, nic: NicConfig = NIC, *hosts: str, is_up: bool = True) -> None:
        self.portals = [Portal(host) for host in hosts or (NEAR, FAR)]
        if is_up:
            configure(nic, self.portals, carrier_timeout_s=10, dropins_root=None)
        self.said: list[str] = []
        up = {0: "v0"} if is_up else {}
        self.watch = Watch([Wanted(nic, self.portals)], up, lambda _, line: self.said.append(line))
        self.before = state() if is_up else []
        self.turn_until(lambda: self.watch.due_at > time.monotonic() + 1)

    def turn_until(self, is_done: Callable[[], bool]) -> float:
        """Turn as the launcher does; seconds it took. It ends at the goal's time."""
        began = time.monotonic()
        while not is_done() and time.monotonic() < began + GOAL_S:
            now = time.monotonic()
            ready: list[object] = []
            wait_s = min(self.watch.due_at, began + GOAL_S) - now
            if self.watch.due_at > now:
                poll = select.poll()
                if self.watch.due_at == float("inf"):
                    poll.register(self.watch, select.POLLIN)
                ready = poll.poll(max(0.0, wait_s * 1000))
            self.watch.turn(is_event=bool(ready))
        return time.monotonic() - began

    def assert_healed(self) -> None:
        took_s = self.turn_until(lambda: state() == self.before)
        assert state() == self.before, "\n".join(self.said)
        assert took_s < GOAL_S


Watched = Callable[..., Scene]


@pytest.fixture
def watched(other_machine: Namespace) -> Iterator[Watched]:
    scenes: list[Scene] = []

    def make(*arguments: Any, **options: Any) -> Scene:
        scenes.append(Scene(*arguments, **options))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.watch.close()


def state() -> list[str]:
    """Addresses and routes of v0, without what the kernel does by itself in IPv6."""
    rows = []
    for link in ip("-j", "address", "show"):
        if link["ifname"] == "v0":
            rows += [f"{one['local']}/{one['prefixlen']}" for one in link["addr_info"]]
            rows += [flag for flag in link["flags"] if flag == "UP"]
    for family in ("-4", "-6"):
        routes = ip("-j", family, "route", "show")
        rows += [
            f"{one['dst']} {one.get('gateway')} {one.get('metric')}" for one in routes if one["dev"] == "v0"
        ]
    return sorted(row for row in rows if not row.startswith(("fe80", "ff00")))


def connects(other: Namespace, host: str) -> bool:
    with other.entered():
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host, 3260), family=family)
    with server, connect(Portal(host), interface="v0", timeout_s=5):
        return True


@pytest.mark.parametrize(
    "loss",
    [
        "address flush dev v0",
        "link set v0 down",
        "route flush dev v0",
        "address del 192.0.2.15/24 dev v0",
        "route del 198.51.100.9/32",
        "route replace 198.51.100.9/32 via 192.0.2.77",
    ],
)
def test_what_a_hand_takes_is_put_back(other_machine: Namespace, watched: Watched, loss: str) -> None:
    scene = watched()
    ip(*loss.split())
    assert state() != scene.before
    scene.assert_healed()
    assert "put back " in "".join(scene.said)
    assert connects(other_machine, FAR)


@pytest.mark.parametrize("loss", ["-6 address flush dev v0", "link set v0 down"])
def test_what_a_hand_takes_of_ipv6_is_put_back(other_machine: Namespace, watched: Watched, loss: str) -> None:
    scene = watched(IPV6_NIC, "2001:db8::1", "2001:db8:1::9")
    ip(*loss.split())
    scene.assert_healed()
    assert connects(other_machine, "2001:db8:1::9")


def test_ipv6_that_is_switched_off_for_the_whole_machine_comes_back(
    other_machine: Namespace, watched: Watched
) -> None:
    scene = watched(IPV6_NIC, "2001:db8::1", "2001:db8:1::9")
    Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")  # a line of many a sysctl.conf
    assert not [row for row in state() if ":" in row]
    scene.assert_healed()
    assert connects(other_machine, "2001:db8:1::9")


def test_bridge_that_takes_the_nic_loses_it_again(other_machine: Namespace, watched: Watched) -> None:
    scene = watched()
    ip("link", "add", "br0", "type", "bridge")
    ip("link", "set", "v0", "master", "br0")
    scene.turn_until(lambda: "master" not in ip("-j", "link", "show", "v0")[0])
    assert "taken out of br0" in scene.said[-1]
    assert connects(other_machine, NEAR)


def test_nic_made_anew_is_brought_up_again(other_machine: Namespace, watched: Watched) -> None:
    scene = watched()
    ip("link", "del", "v0")
    scene.turn_until(lambda: bool(scene.said))
    assert "looking for the NIC" in scene.said[-1]
    make_veth(other_machine, "v0", "v1", MAC)
    with other_machine.entered():
        ip("address", "add", "192.0.2.1/24", "dev", "v1")
        ip("link", "set", "v1", "up")
    scene.assert_healed()
    assert scene.said[-1].startswith(f"NIC: v0 {MAC} is up (")
    assert connects(other_machine, FAR)


def test_nic_that_had_no_cable_at_boot_comes_up_with_it(other_machine: Namespace, watched: Watched) -> None:
    with other_machine.entered():
        ip("link", "set", "v1", "down")
    scene = watched(is_up=False)
    with other_machine.entered():
        ip("link", "set", "v1", "up")
    scene.turn_until(lambda: any("is up" in line for line in scene.said))
    assert connects(other_machine, FAR)


def test_other_nic_that_joins_the_network_later_keeps_quiet(
    other_machine: Namespace, watched: Watched
) -> None:
    scene = watched()
    ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    ip("link", "set", "lan0", "up")
    ip("address", "add", "192.0.2.77/24", "dev", "lan0")
    scene.turn_until(lambda: any("lan0: arp_ignore=1" in line for line in scene.said))
    assert "lan0: arp_ignore=1" in scene.said[-1]


def test_stream_of_others_routes_costs_few_looks(other_machine: Namespace, watched: Watched) -> None:
    scene = watched()
    looks = 0
    step = scene.watch._keep

    def count(one: object) -> bool:
        nonlocal looks
        looks += 1
        return step(one)  # type: ignore[arg-type]

    scene.watch._keep = count  # type: ignore[method-assign, assignment]
    ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    ip("link", "set", "lan0", "up")
    for number in range(100):
        ip("route", "add", f"203.0.{number}.0/24", "dev", "lan0")
        scene.turn_until(lambda: True)
    scene.turn_until(lambda: scene.watch.due_at == float("inf") and looks > 0)
    assert 0 < looks < 50
    assert scene.said == []
