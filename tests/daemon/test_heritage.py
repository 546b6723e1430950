"""What a worker leaves for a launcher that comes later, device by device."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from isboot.daemon import companions, heritage
from isboot.daemon.channel import Done, Live
from isboot.daemon.heritage import Heritage
from isboot.errors import DaemonError, ExitStatus
from tests.block.test_parameters import LUN
from tests.daemon.test_launcher_status import CONFIG

BOOT = replace(CONFIG, is_boot=True, luns="all")
LUN_7 = bytes([0, 7]) + bytes(6)


@pytest.fixture(autouse=True)
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(heritage, "WORLD", tmp_path)
    monkeypatch.setattr(heritage, "PID_FILE", tmp_path / "worker")
    return tmp_path


def left_by(device_id: int, *, lun: bytes | None = None, began: int | None = None) -> Heritage:
    pid = os.getpid()
    config = BOOT if lun is None else companions.of_lun(BOOT, lun)
    live = Live(device_id, 1, 128, LUN)
    made = Heritage(config, {}, live, pid, heritage.start_time(pid) if began is None else began, 5)
    heritage.leave(made)
    return made


def test_each_lun_finds_what_its_own_worker_left(world: Path) -> None:
    boot = left_by(0)
    other = left_by(1, lun=LUN_7)
    assert heritage.find() == boot
    assert heritage.find(LUN_7) == other
    assert (world / "worker").read_text() == f"{os.getpid()}\n"


def test_a_companion_is_never_taken_for_the_boot_lun(world: Path) -> None:
    left_by(1, lun=LUN_7)
    with pytest.raises(DaemonError, match="nothing was left") as caught:
        heritage.find()
    assert caught.value.exit_status is ExitStatus.NOTHING_THERE
    assert not (world / "worker").exists()


def test_who_is_dead_is_not_adopted() -> None:
    left_by(0, began=1)
    with pytest.raises(DaemonError, match="it is dead"):
        heritage.find()


def test_the_door_is_each_devices_own() -> None:
    with pytest.raises(DaemonError, match="adopting a worker"):
        heritage.knock(3)
    with heritage.open_door(3) as door:
        with pytest.raises(DaemonError):
            heritage.knock(4)
        knocked = heritage.knock(3)
        answering, _ = door.accept()
        knocked.send(Done("claim"))
        assert answering.recv(100)
        answering.close()
        knocked.close()


def test_a_standby_that_serves_by_now_is_not_ended() -> None:
    heritage.note_standby(2, os.getpid())
    assert heritage.end_standby(2, os.getpid()) == set()
    assert heritage.end_standby(3, 1) == set()  # of another device: nothing is noted


def test_a_standby_that_is_ended_may_have_served_and_is_named() -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    heritage.note_standby(2, pid)
    assert heritage.end_standby(2, 1) == {pid}
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert heritage.end_standby(2, 1) == {pid}  # dead before the adoption: known all the same
