"""What a launcher says of its device: the document of `isboot status --json`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from isboot._engine import lib

from isboot.daemon.channel import Channel, Connected, Live, wait_readable
from isboot.daemon.child import Child
from isboot.daemon.launcher import Launcher
from isboot.daemon.log import Log
from isboot.daemon.shared import Shared
from isboot.values import BootConfig, PathConfig, Policy, Portal
from tests.block.test_parameters import LUN

CONFIG = BootConfig(
    "URL",
    "iqn.2001-04.com.example:host",
    (),
    (PathConfig(0, None, Portal("192.0.2.9", 3260), "iqn.2001-04.com.example:disk", LUN.lun, None),),
    Policy(),
    is_boot=False,
)
KEYS = {
    "device", "boot", "target", "lun", "state", "size_bytes", "block_size_bytes", "mode", "profile",
    "header_digest", "data_digest", "serial", "designators", "standby_pid", "worker_pid",
    "worker_replacements", "lanes",
}  # fmt: skip
LANE_KEYS = {
    "index", "ublk_queues", "portal", "nic", "isid", "state", "reconnects", "in_flight", "reads", "writes",
    "read_bytes", "written_bytes", "latency_us",
}  # fmt: skip


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    """One whose device is served by a worker of pid 811, without a standby so far."""
    made = Launcher(CONFIG, {}, Log(to_kernel=False), lambda device: None, 0.0, is_armed=False)
    ours, theirs = Channel.pair()
    made._shared = Shared.make(depth=1, max_io_bytes=4096)
    made._live = Live(3, 1, 128, LUN)
    made._connected[0] = Connected(0, "192.0.2.9:3260", "eth0", "800000000000", True, False)
    made._worker = Child("worker", 811, -1, ours, 0.0)
    made._shared.lane_counters(0).state = lib.ISBOOT_LANE_LIVE
    yield made
    ours.close()
    theirs.close()
    os.close(made._shared.fd)


def test_no_key_is_ever_missing(launcher: Launcher) -> None:
    [row] = launcher.status()["devices"]
    assert set(row) == KEYS
    assert set(row["lanes"][0]) == LANE_KEYS
    assert (row["device"], row["state"], row["worker_pid"], row["standby_pid"]) == ("ublkb3", "live", 811, 0)
    assert (row["header_digest"], row["data_digest"]) == (True, False)
    assert row["size_bytes"] == LUN.capacity_blocks * LUN.block_size_bytes
    assert row["lanes"][0]["latency_us"] == {"p50": None, "p99": None, "p999": None}


@pytest.mark.parametrize(
    ("is_boot", "is_companion", "is_marked"),
    [(True, False, True), (True, True, False), (False, False, False)],
)
def test_the_boot_lun_alone_is_marked(
    launcher: Launcher, is_boot: bool, is_companion: bool, is_marked: bool
) -> None:
    launcher.config = replace(CONFIG, is_boot=is_boot, is_companion=is_companion)
    assert launcher.status()["devices"][0]["boot"] is is_marked


def test_before_there_is_a_device_there_is_none(launcher: Launcher) -> None:
    launcher._live = None
    assert launcher.status()["devices"] == []


@pytest.mark.parametrize(
    ("lane_state", "worker_is_dead", "state"),
    [
        (lib.ISBOOT_LANE_LIVE, False, "live"),
        (lib.ISBOOT_LANE_RECONNECTING, False, "reconnecting"),
        (lib.ISBOOT_LANE_LIVE, True, "recovering"),
    ],
)
def test_the_worst_of_its_parts_is_a_devices_state(
    launcher: Launcher, lane_state: int, worker_is_dead: bool, state: str
) -> None:
    assert launcher._worker is not None
    launcher._shared.lane_counters(0).state = lane_state
    launcher._worker.is_dead = worker_is_dead
    [row] = launcher.status()["devices"]
    assert row["state"] == state
    assert (row["worker_pid"] == 0) is worker_is_dead


@pytest.mark.parametrize(("status", "is_over"), [(0, True), (1, False)])
def test_a_standby_that_finds_no_device_ends_the_launcher(
    launcher: Launcher, status: int, is_over: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launcher._worker is not None
    launcher._worker.is_dead = True
    ours, theirs = Channel.pair()
    pid = os.fork()
    if pid == 0:
        os._exit(status)
    standby = Child("standby", pid, os.pidfd_open(pid), ours, 0.0)
    launcher._standby = standby
    assert wait_readable([standby.pidfd], 10)
    launcher._bury(standby)
    theirs.close()
    assert launcher._is_over is is_over
    # one that failed is made again, for ever
    assert (launcher._respawn_at is None) is is_over
    said = "the device went with its worker" if is_over else f"standby {pid} ended (exit status 1): another"
    assert said in capsys.readouterr().err
