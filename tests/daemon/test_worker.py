"""What a worker makes of what happens to its device."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from isboot._engine import lib

from isboot.block.device import NOBODY, Info
from isboot.daemon import worker as module
from isboot.daemon.channel import Channel, Done, Live, Refused, Request
from isboot.daemon.log import Log
from isboot.daemon.worker import Task, Worker
from isboot.errors import DaemonError, ExitStatus
from tests.block.test_parameters import LUN
from tests.daemon.test_launcher_status import CONFIG


@pytest.fixture
def launcher() -> Iterator[tuple[Worker, Channel]]:
    """A worker, and the launcher's end of its channel."""
    ours, theirs = Channel.pair()
    shared: Any = None
    yield Worker(Task(CONFIG, {}, shared, Log(to_kernel=False), theirs, is_armed=False, retry_s=0.0)), ours
    ours.close()
    theirs.close()


def test_a_device_that_was_stopped_from_outside_is_told(launcher: tuple[Worker, Channel]) -> None:
    worker, end = launcher
    lane: Any = SimpleNamespace(is_abandoned=True, error=None, announce=lambda: None)
    worker._lanes = [lane]
    worker._on_end(lane)
    with pytest.raises(DaemonError, match="serving ublkb3: somebody stopped the device from outside"):
        worker._attend(Live(3, 1, 128, LUN))
    assert isinstance(end.receive(), Live)
    assert end.receive() == Done("gone")


def test_who_was_told_of_a_shutdown_tells_the_launcher_that_comes_later(
    launcher: tuple[Worker, Channel],
) -> None:
    worker, end = launcher
    worker._live = Live(3, 1, 128, LUN)
    worker._obey(Request("shutdown"))
    worker._greet()
    assert end.receive() == Done("shutdown")
    assert end.receive() == Live(3, 1, 128, LUN, is_shutdown_near=True)


def test_a_refusal_names_what_was_asked(
    launcher: tuple[Worker, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise DaemonError("no answer", "ask again", ExitStatus.TRY_AGAIN)

    worker, end = launcher
    monkeypatch.setattr(worker, "_flush", fail)
    assert not worker._obey(Request("flush"))
    assert end.receive() == Refused("flush", "no answer", "ask again", 75)


class Kernel:
    """What the driver says of the device, in place of the device."""

    def __init__(self, info: Info | None) -> None:
        self.name = "ublkb3"
        self._info = info
        self.recovered: list[str] = []

    def info(self) -> Info | None:
        return self._info

    def start_recovery(self) -> int:
        self.recovered.append("start")
        return 0

    def end_recovery(self) -> None:
        self.recovered.append("end")


LIVE, DEAD = int(lib.ISBOOT_UBLK_S_DEV_LIVE), int(lib.ISBOOT_UBLK_S_DEV_DEAD)


@pytest.mark.parametrize(
    ("info", "is_ours"),
    [
        (Info(LIVE, 811), True),
        (Info(LIVE, NOBODY), True),  # Linux 7.2: the server is dead
        (Info(LIVE, 813), True),  # Linux 6.12: a standby took over and died, too
        (Info(LIVE, 900), False),
        (Info(DEAD, 811), False),
        (None, False),
    ],
    ids=["worker's", "nobody's", "standby's", "another's", "stopped", "gone"],
)
def test_a_standby_takes_over_what_its_own_served_and_nothing_else(
    launcher: tuple[Worker, Channel], monkeypatch: pytest.MonkeyPatch, info: Info | None, is_ours: bool
) -> None:
    worker, _ = launcher
    kernel = Kernel(info)
    attended: list[Live] = []
    object.__setattr__(worker._task, "shared", SimpleNamespace(counters=SimpleNamespace(worker_generation=0)))
    monkeypatch.setattr(module, "Control", lambda: None)
    monkeypatch.setattr(module, "Device", lambda *_: kernel)
    monkeypatch.setattr(module.armour, "put_on", lambda log, is_armed: None)
    for step in ("_make_lanes", "_open"):
        monkeypatch.setattr(worker, step, lambda *_: None)
    monkeypatch.setattr(worker, "_wait_for_death", lambda pidfd: True)
    monkeypatch.setattr(worker, "_attend", attended.append)
    worker.take_over(Live(3, 1, 128, LUN), 811, -1, spent={812, 813})
    assert kernel.recovered == (["start", "end"] if is_ours else [])
    assert len(attended) == is_ours
