"""
Messages that no damage of a table, a network or a target brings about: a kernel that refuses, a limit that is
reached, a caller in the wrong order.  Each is made to happen here, or where its stage is tested.
"""

from __future__ import annotations

import math
import os
import resource
import socket
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv6Interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from isboot._engine import ffi, lib

from isboot import boot as story
from isboot.block import device, udev
from isboot.commands import boot
from isboot.config import cmdline
from isboot.daemon import first_connection, log, timeline, worker
from isboot.daemon.channel import Channel
from isboot.daemon.launcher import Child, Launcher
from isboot.daemon.log import Log
from isboot.daemon.shared import Shared
from isboot.engine.lane import Lane, make_error
from isboot.errors import (
    BlockError,
    DaemonError,
    EngineError,
    ExitStatus,
    IsbootError,
    NetworkError,
    SessionError,
)
from isboot.network import address, connect, lease, vlan
from isboot.network.kernel import Done, NotYetError
from isboot.session import commands, lun, status
from isboot.session.connection import Connection, ConnectionLost, Deadline
from isboot.session.control import Control
from isboot.session.pdu import LogoutResponse, NopOut, ProtocolError, decode, encode
from isboot.values import BootConfig, NicConfig, Policy, Portal
from tests.block.test_parameters import LUN
from tests.engine.harness import session

CONFIG = BootConfig("test", "iqn.2001-04.com.example:host", (), (), Policy(), is_boot=True)


# --- engine ---


def make_lane(**changes: Any) -> Lane:
    """Give a lane with buffers for ublk, not started."""
    depth, io_bytes = 2, 4096
    shared = lib.isboot_shared_map(ffi.sizeof("struct isboot_shared"), make_error())
    buffers = lib.isboot_shared_map(depth * io_bytes, make_error())
    values = {
        "index": 0, "device_id": 0, "depth": depth, "max_io_bytes": io_bytes, "block_size_bytes": 512,
        "command_timeout_ms": 1000, "nop_interval_ms": 1000, "nop_timeout_ms": 1000, "has_fua": True,
        "buffers": buffers, "shared": ffi.cast("struct isboot_shared *", shared),
    }  # fmt: skip
    return Lane(**(values | changes))


@pytest.fixture
def lane() -> Iterator[Lane]:
    made = make_lane()
    yield made
    made.close()


def test_a_lane_out_of_range_is_refused() -> None:
    with pytest.raises(
        EngineError, match="making a lane: depth, index, block size or shared memory: Invalid"
    ):
        make_lane(depth=0)


def test_a_lane_is_started_once(lane: Lane) -> None:
    lane.start()
    with pytest.raises(EngineError, match="starting a lane: it is started: Device or resource busy"):
        lane.start()


def test_a_session_needs_a_lane_that_is_started_has_none_and_is_within_limits(lane: Lane) -> None:
    with pytest.raises(EngineError, match="attaching a session: the lane is not started"):
        lane.attach(session())
    lane.start()
    with pytest.raises(EngineError, match="attaching a session: a limit is out of range"):
        lane.attach(session(max_burst_length_bytes=0))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        lane.attach(session(fd=ours.fileno()))
        with pytest.raises(EngineError, match="attaching a session: the lane has one"):
            lane.attach(session(fd=ours.fileno()))


def test_a_file_that_is_no_ublk_device_is_refused(lane: Lane) -> None:
    with open("/dev/null", "rb") as null, open("/dev/zero", "rb") as zero:
        with pytest.raises(
            EngineError, match="opening a ublk front end: no ring, no buffers, or one is open"
        ):
            lane.open_ublk(null.fileno(), 0, 1, 2)
        lane.start()
        with pytest.raises(EngineError, match="queues times depth is not the lane's depth"):
            lane.open_ublk(null.fileno(), 0, 2, 2)
        with pytest.raises(EngineError, match="mapping the descriptors of a ublk queue"):
            lane.open_ublk(null.fileno(), 0, 1, 2)
        with pytest.raises(EngineError, match="fetching the tags of a ublk queue"):
            lane.open_ublk(zero.fileno(), 0, 1, 2)


@contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no further file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_lane_without_a_file_to_spare_says_what_it_was_about(lane: Lane) -> None:
    with no_more_files(), pytest.raises(EngineError, match="making a lane: Too many open files"):
        make_lane()
    with no_more_files(), pytest.raises(EngineError, match="making the ring of a lane: Too many open files"):
        lane.start()


# --- block ---


class Kernel:
    """In place of the ublk driver: answers commands from a table, and writes back what it is told to."""

    def __init__(self, code: int = 0, write: Callable[[str, Any], None] = lambda name, buffer: None) -> None:
        self.code = code
        self.write = write

    def try_run(self, name: str, _device_id: int, *, buffer: Any = None, **_rest: int) -> int:
        self.write(name, buffer)
        return self.code if name != "DEL_DEV" else 0

    def run(self, name: str, device_id: int, **options: Any) -> None:
        device.Control.run(self, name, device_id, **options)  # type: ignore[arg-type]


def ublk(kernel: Kernel) -> device.Device:
    return device.Device(kernel, 99, 1, 128)  # type: ignore[arg-type]


def test_a_driver_that_refuses_is_named_with_the_command() -> None:
    with pytest.raises(BlockError, match="START_DEV of ublkb99: Invalid argument"):
        ublk(Kernel(-22)).start()
    with pytest.raises(BlockError, match="START_USER_RECOVERY of ublkb99: No such device"):
        ublk(Kernel(-19)).start_recovery()


def test_a_driver_that_drops_a_feature_we_need_is_too_old() -> None:
    def drop(name: str, info: Any) -> None:
        if name == "ADD_DEV":
            info.flags = 0

    with pytest.raises(BlockError, match=r"ADD_DEV: the kernel's ublk driver lacks .*Linux") as caught:
        device.Device.add(Kernel(write=drop), queues=1, depth=2, max_io_bytes=4096)  # type: ignore[arg-type]
    assert caught.value.exit_status is ExitStatus.UNAVAILABLE


def test_parameters_the_driver_did_not_keep_are_an_error() -> None:
    from isboot.block import parameters

    wanted = parameters.from_lun(LUN, 262144)
    with pytest.raises(BlockError, match="SET_PARAMS of ublkb99: the kernel kept 0 sectors"):
        ublk(Kernel()).set_parameters(wanted)


def test_a_device_that_cannot_be_opened_is_named() -> None:
    with pytest.raises(BlockError, match="opening /dev/ublkc99: No such file or directory"):
        ublk(Kernel()).open()


def test_properties_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(BlockError, match=r"writing .* for udev: Not a directory"):
        udev.write("ublkb99", {"ID_SERIAL": "x"}, tmp_path / "file" / "below")


# --- daemon ---


def launcher() -> Launcher:
    return Launcher(CONFIG, {}, Log(to_kernel=False), lambda device: None, 0.0, is_armed=False)


def test_a_worker_that_dies_before_there_is_a_device_ends_the_boot() -> None:
    made = launcher()
    if (pid := os.fork()) == 0:
        os.kill(os.getpid(), 9)
    ours, theirs = Channel.pair()
    made._worker = Child("worker", pid, os.pidfd_open(pid), ours, 0.0)
    made._bury(made._worker)
    theirs.close()
    assert made._failure is not None
    assert made._failure.as_error().message == f"making the device: worker {pid} ended (signal 9)"


def test_a_root_that_does_not_come_is_told_with_every_step(capsys: pytest.CaptureFixture[str]) -> None:
    made = launcher()
    for step in ("table", "nic", "carrier", "address", "connect", "login", "lun", "device"):
        made.timeline.reach(step)
    made._root_late_at = 0.0
    watch: Any = SimpleNamespace(look=lambda: "", close=lambda: None)
    made._watch_root(watch, SimpleNamespace(device_id=0))  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert "boot waits at block: waiting for the root file system on ublkb0: none after 60 s" in said
    assert "isboot:   root     FAILED" in said
    assert made._root_late_at == math.inf


def test_a_boot_by_another_user_than_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = cmdline.parse
    words = (
        "netroot=iscsi:192.0.2.1:::1:iqn.2001-04.com.example:d rd.iscsi.initiator=iqn.2001-04.com.example:h"
    )
    monkeypatch.setattr(cmdline, "parse", lambda _: parse(words))
    monkeypatch.setattr(story, "find_table", lambda _: [])
    monkeypatch.setattr(timeline.Timeline, "of_boot", timeline.Timeline)
    monkeypatch.setattr(log, "_open_kmsg", lambda: -1)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(IsbootError, match="booting: not permitted") as caught:
        boot.run(Namespace(dry_run=False, adopt=False))
    assert (caught.value.exit_status, caught.value.hint) == (ExitStatus.NOT_PERMITTED, "run it as root")


def test_a_boot_without_a_path_ends() -> None:
    config = replace(CONFIG, policy=Policy(login_jitter_ms=0))
    ours, theirs = Channel.pair()
    shared = Shared.make(1, 4096)
    task = worker.Task(config, {}, shared, Log(to_kernel=False), ours, False, 0.0)
    with pytest.raises(DaemonError, match="attaching: no path to try"):
        first_connection.connect(task)
    ours.close()
    theirs.close()


def test_memory_that_cannot_be_mapped_is_an_error(tmp_path: Path) -> None:
    with open(tmp_path / "write-only", "wb") as file:
        file.truncate(16 << 20)
        with pytest.raises(DaemonError, match=r"mapping \d+ bytes of shared memory: Permission denied"):
            Shared.open(file.fileno(), 1, 4096)


# --- network ---

LINK: Any = SimpleNamespace(name="eth0", ifindex=2, mac="52:54:00:00:00:01")
WANTED = IPv6Interface("2001:db8::2/64")


def kernel(*addresses: Any) -> Any:
    """Give a kernel that takes every change, and shows these addresses and no links."""
    return SimpleNamespace(
        addresses=lambda ifindex: list(addresses), put_address=lambda *_: None, add_vlan=lambda *_: None,
        links=list,
    )  # fmt: skip


def test_an_address_that_somebody_removes_is_waited_for() -> None:
    with pytest.raises(NotYetError) as caught:
        address.put(kernel(), LINK, WANTED, Done())
    assert caught.value.after(5.0).message == "setting 2001:db8::2/64 on eth0: it is gone again after 5 s"


def test_a_link_local_address_that_stays_tentative_is_waited_for() -> None:
    own = SimpleNamespace(interface=address.link_local(LINK.mac), is_tentative=True, is_duplicate=False)
    with pytest.raises(NotYetError) as caught:
        address.put_link_local(kernel(own), LINK, [Portal("fe80::9", 3260)], Done())
    said = caught.value.after(5.0).message
    assert said == "waiting for the link-local address of eth0: still tentative after 5 s"


def test_a_vlan_the_kernel_does_not_make_is_an_error() -> None:
    with pytest.raises(NetworkError, match="adding VLAN 5 to eth0: the kernel made no such link"):
        vlan.add(kernel(), LINK, 5)


def test_dhcp_needs_busybox(monkeypatch: pytest.MonkeyPatch) -> None:
    nic = NicConfig(0, "52:54:00:00:00:01", None, None, None, (), 0, "", "dhcp")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(NetworkError, match="asking for an address by DHCP: there is no /usr/bin/busybox"):
        lease.obtain(nic, needs_root_path=False, timeout_s=0, carrier_timeout_s=0, say=lambda line: None)
    client = SimpleNamespace(communicate=lambda: (b"", b"udhcpc: applet not found\n"), returncode=127)
    monkeypatch.setattr(lease, "_udhcpc", lambda *_, **__: client)
    with pytest.raises(NetworkError, match="asking for an address by DHCP on eth0: udhcpc: applet not found"):
        lease._ask(nic, "eth0", 6)


# --- session ---


@pytest.fixture
def peer() -> Iterator[tuple[socket.socket, Control]]:
    """Give a session whose window is shut, and the other end of its connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield theirs, Control(ours, session(fd=ours.fileno(), cmd_sn=5, max_cmd_sn=4), timeout_ms=2000)


def test_an_answer_nobody_waits_for_breaks_the_standard(peer: tuple[socket.socket, Control]) -> None:
    theirs, control = peer
    theirs.sendall(encode(LogoutResponse(stat_sn=100, exp_cmd_sn=5, max_cmd_sn=4)))
    with pytest.raises(SessionError, match="a Logout Response while nothing was asked"):
        control.execute(bytes(16), 0)


def test_an_answer_to_another_task_breaks_the_standard(peer: tuple[socket.socket, Control]) -> None:
    theirs, control = peer
    theirs.sendall(encode(LogoutResponse(initiator_task_tag=77, stat_sn=100, exp_cmd_sn=5, max_cmd_sn=9)))
    with pytest.raises(SessionError, match="a Logout Response to a task that is not ours"):
        control.logout()


def test_a_capacity_cut_short_is_refused() -> None:
    short = SimpleNamespace(
        doing="session with a at b", session=session(), say=lambda line: None,
        execute=lambda *_, **__: commands.Answer(commands.GOOD, b"\0\0\0"),
    )  # fmt: skip
    with pytest.raises(SessionError, match=r"READ CAPACITY\(10\) gives 3 bytes"):
        lun._read_capacity_10(short, may_start=True)  # type: ignore[arg-type]


def test_a_link_local_portal_needs_a_nic_that_exists() -> None:
    with pytest.raises(NetworkError, match="no such NIC"):
        connect.find_endpoints(Portal("fe80::1", 3260), interface="nosuch0")


@pytest.mark.parametrize("row", status.STATUSES, ids=lambda row: f"{row.status_class}-{row.detail}")
def test_every_login_status_is_told_by_its_row(row: status.Status) -> None:
    with pytest.raises(status.LoginRefused, match=f"login to a at b refused: {row.text}") as caught:
        status.raise_for_status(row.status_class, row.detail, {}, "login to a at b")
    assert (caught.value.exit_status, caught.value.hint) == (row.exit_status, row.hint)


def test_a_command_that_is_not_good_is_named() -> None:
    with pytest.raises(IsbootError, match=r"SYNCHRONIZE CACHE\(16\): the target answers "):
        commands.expect_good(commands.Answer(commands.CHECK_CONDITION, b"", b""), "SYNCHRONIZE CACHE(16)")


def test_a_pdu_of_another_length_than_its_header_says_is_refused() -> None:
    header = bytes([0x20, 0x80, 0, 0, 0, 0, 0, 8]) + bytes(40)
    with pytest.raises(ProtocolError, match="a PDU of 50 bytes whose header says 56"):
        decode(header + bytes(2))


def test_a_peer_that_is_gone_breaks_what_is_sent() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(ConnectionLost, match="login to a at b: the connection broke: Broken pipe"):
        Connection(ours, "login to a at b").send(NopOut(), Deadline.within(1000))
