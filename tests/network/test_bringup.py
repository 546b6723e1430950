"""Waiting at boot: for several NICs together, with a word now and then, and not longer than it helps."""

import contextlib
import errno
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from isboot.errors import ExitStatus, NetworkError
from isboot.network import bringup, watch
from isboot.network.kernel import Wanted
from isboot.network.rtnetlink import IFF_RUNNING, IFF_UP, Link
from isboot.values import NicConfig, Portal
from tests.network.kernels import CARRIER, FakeKernel, make_link, make_nic, places, run_all
from tests.network.test_drivers import make_e1000

OTHER_MAC = "52:54:00:12:34:57"


def second_nic() -> NicConfig:
    nic = make_nic("198.51.100.15/24")
    return NicConfig(1, OTHER_MAC, None, nic.address, None, (), 0, "", "manual")


def test_a_late_carrier_is_waited_for_with_a_word_every_few_seconds() -> None:
    kernel = FakeKernel(make_link(2, "eth0", flags=IFF_UP))
    began = kernel.now
    said: list[str] = []
    wait = kernel.wait

    def plug_after_22_s(deadline: float) -> bool:
        if kernel.now >= began + 22:
            kernel.present[2] = make_link(2, "eth0")
        return wait(min(deadline, kernel.now + 1))

    kernel.wait = plug_after_22_s  # type: ignore[method-assign]
    states, faults = run_all(kernel, Wanted(make_nic()), said=said)
    assert (list(states), faults) == ([0], [])
    waiting = "waiting for the carrier of eth0 (52:54:00:12:34:56): {} s of 30 s are over"
    assert said == [waiting.format(seconds) for seconds in (5, 10, 15, 20)]


def test_nic_and_carrier_have_a_clock_each() -> None:
    kernel = FakeKernel()
    began = kernel.now
    wait = kernel.wait

    def appear(deadline: float) -> bool:
        if kernel.now >= began + 9 and not kernel.present:
            kernel.present[2] = make_link(2, "eth0", flags=IFF_UP)
        if kernel.now >= began + 36:
            kernel.present[2] = make_link(2, "eth0")
        return wait(min(deadline, kernel.now + 1))

    kernel.wait = appear  # type: ignore[method-assign]
    states, _ = run_all(kernel, Wanted(make_nic()))  # 10 s for the NIC, 30 s for its carrier
    assert list(states) == [0]


def test_once_one_nic_is_up_the_other_gets_a_moment_only() -> None:
    kernel = FakeKernel(make_link(2, "eth0", flags=IFF_UP), make_link(3, "eth1", OTHER_MAC))
    began = kernel.now
    states, (fault,) = run_all(kernel, Wanted(make_nic()), Wanted(second_nic()))
    assert list(states) == [1]
    assert kernel.now == began + 3
    assert fault.message == "waiting for the carrier of eth0 (52:54:00:12:34:56): none after 3 s"
    assert fault.exit_status is ExitStatus.TRY_AGAIN


def test_the_other_nic_is_taken_within_that_moment() -> None:
    def plug(kernel: FakeKernel) -> None:
        kernel.present[2] = make_link(2, "eth0", flags=IFF_UP | CARRIER)

    links = (make_link(2, "eth0", flags=IFF_UP), make_link(3, "eth1", OTHER_MAC))
    states, faults = run_all(FakeKernel(*links, events=[plug]), Wanted(make_nic()), Wanted(second_nic()))
    assert (sorted(states), faults) == ([0, 1], [])


def test_what_waiting_does_not_mend_is_given_at_once() -> None:
    kernel = FakeKernel(make_link(2, "eth0"), make_link(3, "eth1", OTHER_MAC))
    kernel.refuses["put 192.0.2.15/24"] = PermissionError(1, "Operation not permitted")
    states, (fault,) = run_all(kernel, Wanted(make_nic()), Wanted(second_nic()))
    assert (list(states), kernel.now) == ([1], 100.0)
    assert fault.exit_status is ExitStatus.NOT_PERMITTED


def test_no_nic_at_all_brings_nothing_up() -> None:
    assert run_all(FakeKernel()) == ({}, [])


def test_entries_of_one_mac_share_a_nic_with_an_address_each() -> None:
    # EDK2 writes a NIC structure for every attempt, also where all attempts go through one NIC
    first = make_nic()
    second = NicConfig(1, first.mac, None, second_nic().address, None, (), 0, "", "manual")
    kernel = FakeKernel(make_link(2, "eth0"))
    states, faults = run_all(kernel, Wanted(first), Wanted(second))
    assert ({state.ifindex for state in states.values()}, faults) == ({2}, [])
    assert [str(one.interface) for one in kernel.addresses_present] == ["192.0.2.15/24", "198.51.100.15/24"]


def test_managers_hear_of_a_nic_that_does_not_come_at_boot(tmp_path: Path) -> None:
    kernel = FakeKernel(make_link(3, "eth1", OTHER_MAC))
    states, _ = run_all(kernel, Wanted(make_nic()), Wanted(second_nic()), where=places(tmp_path))
    assert list(states) == [1]
    assert (tmp_path / "systemd/network/00-isboot-525400123456.network").exists()
    assert not (tmp_path / "network/ifstate.eth0").exists()


# --- after a loss, where a target sends a login elsewhere


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeKernel:
    """Give the kernel of a machine whose root stands still: a NIC without a driver, no file may be read."""
    kernel = FakeKernel(make_link(2, "eth0"))
    monkeypatch.setattr(bringup, "Rtnetlink", lambda: contextlib.nullcontext(kernel))
    monkeypatch.setattr(socket, "if_nametoindex", lambda name: 2)
    make_e1000(tmp_path)
    nowhere = {"sysfs_net": tmp_path, "sysfs_bus": tmp_path / "bus", "sysctls": tmp_path}
    monkeypatch.setattr(watch, "PLACES", watch.PLACES._replace(**nowhere))
    read_text = Path.read_text

    def read(path: Path, encoding: str) -> str:
        assert path.is_relative_to(tmp_path), f"{path} may be on the root"
        return read_text(path, encoding)

    monkeypatch.setattr(Path, "read_text", read)
    return kernel


def test_a_route_that_is_missing_after_a_loss_is_made_and_then_left_alone(
    lost: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bringup.reroute("eth0", make_nic(), [Portal("203.0.113.9")])
    assert "route 203.0.113.9/32" in lost.log
    made = list(lost.log)

    def list_links() -> list[Link]:
        raise AssertionError("RTNL may be held by a driver that waits for the root")

    monkeypatch.setattr(lost, "links", list_links)
    bringup.reroute("eth0", make_nic(), [Portal("203.0.113.9")])
    assert (lost.log, lost.now) == (made, 100.0)


@pytest.mark.parametrize("what", ["nic", "carrier", "router"])
def test_nothing_is_waited_for_nor_read_of_the_root_after_a_loss(lost: FakeKernel, what: str) -> None:
    nic, portal = make_nic(), Portal("203.0.113.9")
    if what == "nic":
        lost.present.clear()
    elif what == "carrier":
        lost.present[2] = make_link(2, "eth0", flags=IFF_UP)
    else:
        nic, portal = replace(make_nic("2001:db8::15/64"), gateway=None), Portal("2001:db8:9::9")
    with pytest.raises(NetworkError) as caught:
        bringup.reroute("eth0", nic, [portal])
    assert lost.now == 100.0
    assert caught.value.exit_status is (ExitStatus.NOTHING_THERE if what == "nic" else ExitStatus.TRY_AGAIN)
    assert ("without a driver: pci 0000:00:03.0" in caught.value.message) == (what == "nic")


@pytest.mark.parametrize("code", [errno.EADDRINUSE, errno.EPERM, errno.ENOBUFS, errno.EADDRNOTAVAIL])
def test_only_an_address_that_is_gone_keeps_from_connecting(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket, "socket", Refusing)
    monkeypatch.setattr(bringup.fcntl, "ioctl", lambda *_: bringup.IFREQ.pack(b"eth0", IFF_RUNNING))
    expected = (
        pytest.raises(NetworkError, match=r"192\.0\.2\.15: Cannot assign requested address")
        if code == errno.EADDRNOTAVAIL
        else contextlib.nullcontext()
    )
    with expected:
        bringup.need_carrier("eth0", make_nic(), Portal("192.0.2.9"))
