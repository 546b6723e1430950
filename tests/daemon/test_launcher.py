"""What a launcher remembers for the children it makes later."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from isboot.daemon import launcher as module
from isboot.daemon.channel import Channel, Done, Live, Refused, Request
from isboot.daemon.child import Child
from isboot.daemon.launcher import Launcher
from isboot.daemon.worker import Task
from tests.block.test_parameters import LUN
from tests.daemon.test_launcher_status import launcher as served

launcher = served  # the fixture


class Standby:
    """Tells, in the child, whose device it would take over."""

    is_live = False

    def __init__(self, task: Task) -> None:
        self._task = task

    def take_over(self, live: Live, dead_pid: int, pidfd: int, *, spent: set[int], is_last: bool) -> None:
        self._task.channel.send(Done(f"{dead_pid} {sorted(spent)} {is_last}"))


@pytest.fixture(autouse=True)
def standbys(monkeypatch: pytest.MonkeyPatch, launcher: Launcher) -> None:
    monkeypatch.setattr(module.worker, "Worker", Standby)
    server: Any = SimpleNamespace(close_in_child=lambda: None)
    launcher._server = server


def add_standby(launcher: Launcher) -> Child:
    """Fork one that does nothing."""
    ours, theirs = Channel.pair()
    pid = os.fork()
    if pid == 0:
        signal.pause()
    theirs.close()
    launcher._standby = Child("standby", pid, os.pidfd_open(pid), ours, 0.0)
    return launcher._standby


def task_of_next(launcher: Launcher) -> str:
    child = launcher._fork("standby")
    said = child.channel.receive()
    os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
    launcher._close(child)
    assert isinstance(said, Done)
    return said.word


def test_a_standby_that_died_is_named_to_the_next_for_it_may_have_taken_over(launcher: Launcher) -> None:
    standby = add_standby(launcher)
    assert launcher._worker is not None
    launcher._worker.is_dead = True
    os.kill(standby.pid, signal.SIGKILL)
    launcher._bury(standby)
    assert task_of_next(launcher) == f"811 [{standby.pid}] False"


def test_a_standby_that_is_dismissed_is_named_to_whoever_ends_the_disk(launcher: Launcher) -> None:
    standby = add_standby(launcher)
    launcher._dismiss_standby()
    assert task_of_next(launcher) == f"811 [{standby.pid}] True"


def test_once_a_standby_serves_those_before_it_are_nobodys(launcher: Launcher) -> None:
    launcher._spent.add(812)
    standby = add_standby(launcher)
    os.kill(standby.pid, signal.SIGKILL)
    worker, end = Channel.pair()
    launcher._worker = Child("worker", 811, os.eventfd(0), worker, 0.0)
    launcher._promote(standby, Live(3, 1, 128, LUN))
    os.waitid(os.P_PIDFD, standby.pidfd, os.WEXITED)
    assert task_of_next(launcher) == f"{standby.pid} [] False"
    launcher._close(standby)
    end.close()


@pytest.mark.parametrize("knows", [False, True])
def test_a_worker_made_during_a_shutdown_is_told_of_it(launcher: Launcher, knows: bool) -> None:
    assert launcher._worker is not None
    launcher._is_finishing = True  # no standby is needed here
    launcher._is_shutdown_near = True
    ours, theirs = Channel.pair()
    launcher._hear(Child("worker", 811, -1, ours, 0.0), Live(3, 1, 128, LUN, is_shutdown_near=knows))
    told = [] if knows else [Request("shutdown")]
    assert [theirs.receive() for _ in told] == told
    assert theirs.receive() == Request("finish")
    ours.close()
    theirs.close()


def test_a_launcher_hears_from_the_worker_it_adopts_that_a_shutdown_is_near(launcher: Launcher) -> None:
    launcher._is_finishing = True
    assert launcher._worker is not None
    launcher._hear(launcher._worker, Live(3, 1, 128, LUN, is_shutdown_near=True))
    assert launcher._is_shutdown_near


@pytest.mark.parametrize(("word", "is_near"), [("arm", True), ("disarm", False)])
def test_what_was_last_said_of_a_shutdown_is_kept(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch, word: str, is_near: bool
) -> None:
    launcher._is_shutdown_near = not is_near
    launcher._worker = None  # it just died
    monkeypatch.setattr(module.os, "kill", lambda pid, number: None)
    client: Any = SimpleNamespace(word=word, answer=lambda **_: None)
    launcher._answer(client)
    assert launcher._is_shutdown_near is is_near


def test_a_late_answer_to_what_was_asked_before_is_not_the_answer(launcher: Launcher) -> None:
    refused: list[str] = []
    client: Any = SimpleNamespace(refuse=lambda message, hint, exit_status: refused.append(message))
    launcher._waiting, launcher._asked = client, "finish"
    launcher._settle(Refused("flush", "connection lost", "", 75))
    launcher._settle(Done("flush"))
    assert launcher._waiting is client
    launcher._settle(Refused("finish", "no flush reached the target", "", 1))
    assert (launcher._waiting, refused) == (None, ["no flush reached the target"])
