"""What a worker makes of what happens to its device."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from isboot.daemon.channel import Channel, Done, Live
from isboot.daemon.log import Log
from isboot.daemon.worker import Task, Worker
from isboot.errors import DaemonError
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
