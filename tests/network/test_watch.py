"""Keeping NICs up, against a kernel made of lists and its clock."""

import math
from collections.abc import Callable

from isboot.network.kernel import Wanted
from isboot.network.rtnetlink import IFF_UP, Link
from isboot.network.watch import Watch, of
from isboot.values import BootConfig, PathConfig, Policy, Portal
from tests.network.kernels import FakeKernel, make_link, make_nic, places, run


class Scene:
    def __init__(self, *, is_up: bool = True) -> None:
        self.kernel = FakeKernel(make_link(2, "eth0"))
        self.nic = make_nic()
        if is_up:
            run(self.kernel, self.nic, "192.0.2.9")
        self.said: list[str] = []
        wanted = [Wanted(self.nic, [Portal("192.0.2.9")])]
        self.watch = Watch(
            wanted,
            {0: "eth0"} if is_up else {},
            lambda _, line: self.said.append(line),
            self.kernel,
            places(),
            clock=lambda: self.kernel.now,
        )
        if is_up:
            self.watch.turn(is_event=False)

    def happens(self, what: Callable[[FakeKernel], None]) -> float:
        """Something happens, and the watch has its turn when it is due; seconds until then."""
        what(self.kernel)
        began = self.kernel.now
        self.watch.turn(is_event=True)
        self.kernel.now = self.watch.due_at
        seconds = self.kernel.now - began
        self.watch.turn(is_event=False)
        return seconds


def flush(kernel: FakeKernel) -> None:
    kernel.addresses_present.clear()
    kernel.routes_present.clear()


def test_nothing_is_done_while_nothing_is_missing() -> None:
    scene = Scene()
    scene.happens(lambda kernel: None)
    assert scene.said == []
    assert scene.watch.due_at == math.inf


def test_flushed_address_and_routes_come_back() -> None:
    scene = Scene()
    assert scene.happens(flush) < 2
    assert len(scene.kernel.addresses_present) == 1
    assert scene.said == [
        "NIC: eth0 52:54:00:12:34:56: put back address 192.0.2.15/24, route to 192.0.2.9/32, "
        "route to 0.0.0.0/0 via 192.0.2.1"
    ]


def test_somebody_who_undoes_every_repair_is_met_ever_more_slowly() -> None:
    scene = Scene()
    pauses = [round(scene.happens(flush), 3) for _ in range(7)]
    assert pauses == [0.1, 0.1, 0.2, 0.5, 1.0, 1.0, 1.0]
    scene.kernel.now += 120
    scene.happens(lambda kernel: None)
    assert round(scene.happens(flush), 3) == 0.1


def test_looks_that_take_long_are_made_less_often() -> None:
    scene = Scene()
    links = scene.kernel.links

    def slow() -> list[Link]:  # a machine with thousands of containers
        scene.kernel.now += 0.05
        return links()

    scene.kernel.links = slow  # type: ignore[method-assign]
    assert round(scene.happens(lambda kernel: None), 3) == 0.1
    assert round(scene.happens(lambda kernel: None), 3) == 0.5
    scene.watch._cost_s = 1.0
    assert round(scene.happens(flush), 3) == 1.0


def test_events_before_the_look_do_not_put_it_off() -> None:
    scene = Scene()
    scene.watch.turn(is_event=True)
    due_at = scene.watch.due_at
    scene.kernel.now += 0.05
    scene.watch.turn(is_event=True)
    assert scene.watch.due_at == due_at


def test_lost_carrier_is_told_once_and_its_return_too() -> None:
    scene = Scene()

    def unplug(kernel: FakeKernel) -> None:
        kernel.present[2] = make_link(2, "eth0", flags=IFF_UP)

    def plug(kernel: FakeKernel) -> None:
        kernel.present[2] = make_link(2, "eth0")

    for what in (unplug, unplug, plug, plug):
        scene.happens(what)
    assert scene.said == [
        "NIC: waiting for the carrier of eth0 (52:54:00:12:34:56): none; it is taken up when it comes",
        "NIC: eth0 52:54:00:12:34:56 is up",
    ]


def test_nic_that_was_left_out_at_boot_is_taken_up() -> None:
    scene = Scene(is_up=False)
    scene.kernel.present.clear()
    scene.watch.turn(is_event=False)
    scene.happens(lambda kernel: kernel.present.update({5: make_link(5, "eth3")}))
    assert scene.said[0].startswith("NIC: looking for the NIC with MAC 52:54:00:12:34:56: none;")
    assert scene.said[1].startswith("NIC: eth3 52:54:00:12:34:56 is up (address 192.0.2.15/24,")


def test_what_the_kernel_refuses_is_tried_again() -> None:
    scene = Scene()
    scene.kernel.refuses["put 192.0.2.15/24"] = OSError(105, "No buffer space available")
    scene.happens(flush)
    assert scene.said == [
        "NIC: configuring the NIC with MAC 52:54:00:12:34:56: No buffer space available; "
        "it is taken up when it comes"
    ]
    scene.kernel.refuses.clear()
    scene.kernel.now = scene.watch.due_at
    scene.watch.turn(is_event=False)
    assert scene.said[1].startswith("NIC: eth0 52:54:00:12:34:56 is up (address")


def test_fault_of_our_own_does_not_end_the_launcher() -> None:
    scene = Scene()
    scene.kernel.links = lambda: 1 / 0  # type: ignore[assignment, return-value]
    scene.happens(lambda kernel: None)
    assert "ZeroDivisionError" in scene.said[0]


def test_nics_of_paths_are_watched_with_their_portals() -> None:
    used, idle = make_nic(), make_nic("203.0.113.5/24")
    paths = tuple(
        PathConfig(index, used, Portal(host), "iqn.2001-04.com.example:d", bytes(8), None)
        for index, host in enumerate(("192.0.2.9", "192.0.2.10"))
    )
    policy = Policy(mtu_bytes=9000)
    config = BootConfig("test", "iqn.2001-04.com.example:h", (used, idle), paths, policy, is_boot=True)
    assert of(config) == [Wanted(used, (Portal("192.0.2.9"), Portal("192.0.2.10")), 9000)]
