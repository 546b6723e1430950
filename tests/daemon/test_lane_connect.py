"""How a lane finds its disk again after a loss: the paths' turns, what ends the search."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from isboot import boot
from isboot.daemon.lanes import LaneThread
from isboot.daemon.log import Log
from isboot.engine.lane import Cause, Loss, Reason
from isboot.errors import ExitStatus, IdentityError
from isboot.session import redirect, retry
from isboot.session.pdu import ScsiCommand
from isboot.values import BootConfig, Credentials, LunFacts, PathConfig, Policy, Secret
from tests.fakes.disk import Disk
from tests.fakes.login import Account
from tests.fakes.target import FakeTarget, status
from tests.session.sessions import INITIATOR, path_to

ALICE = Credentials("alice", Secret(b"alice-has-a-secret"))
ELSE = Account("alice", b"something-else-entirely")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def facts_of(path: PathConfig) -> LunFacts:
    config = BootConfig("test", INITIATOR, (), (path,), Policy(login_jitter_ms=0), is_boot=False)
    attached = boot.connect(config, path, {}, 0, lambda line: None, expected=None)
    attached.sock.close()
    return attached.facts


def lane_of(facts: LunFacts, *paths: PathConfig, give_up_ms: int = 5000) -> Any:
    """A lane's thread without its ring: what `_connect` needs."""
    lane = object.__new__(LaneThread)
    policy = Policy(login_timeout_ms=2000, login_jitter_ms=0, give_up_ms=give_up_ms)
    lane.index = 0
    lane._config = BootConfig("test", INITIATOR, (), paths, policy, is_boot=False)
    lane._nics = {}
    lane._facts = facts
    lane._portals = redirect.Memory()
    lane._log = Log(to_kernel=False)
    lane.lane = SimpleNamespace(probe_attempt=lambda attempt, status: None)  # type: ignore[assignment]
    lane._is_stopping = threading.Event()
    lane._shutdown_at = lane._end_give_up_at = math.inf
    lane._has_tried_late = False
    lane._short_lived = retry.ShortLived()
    return lane


def reconnect(lane: Any, wait_s: float = 0.0) -> boot.Attached | None:
    attached: boot.Attached | None = lane._connect(time.monotonic(), {0: wait_s})
    if attached is not None:
        attached.sock.close()
    return attached


def test_a_refused_path_does_not_keep_the_other_one_waiting(stack: ExitStack) -> None:
    here = stack.enter_context(FakeTarget(disk=Disk(serial="one")))
    facts = facts_of(path_to(here))
    refusing = stack.enter_context(FakeTarget(account=ELSE, disk=Disk(serial="one")))
    here.stop()
    threading.Timer(0.15, here.start).start()
    lane = lane_of(facts, path_to(refusing, credentials=ALICE), replace(path_to(here), index=1))
    attached = reconnect(lane)
    assert attached is not None
    assert attached.session.portal == path_to(here).portal
    assert len(refusing.connections) <= 4  # the list and MD5 alone, twice: at once and after 0.2 s
    lines = [line for line in lane._log.ring if line.endswith("trying again, up to 30 s apart")]
    assert len(lines) == 1
    assert "authentication failure" in lines[0]


def test_another_disk_is_never_taken(stack: ExitStack) -> None:
    target = stack.enter_context(FakeTarget(disk=Disk(serial="one")))
    facts = facts_of(path_to(target))
    target.disk.serial = "another"
    lane = lane_of(facts, path_to(target), give_up_ms=50)
    assert reconnect(lane) is None
    assert "I/O waits, nothing is written to it" in lane._log.ring[-1]
    assert IdentityError("").exit_status is ExitStatus.FAILED


def test_a_target_that_moved_for_good_is_found_after_a_loss(stack: ExitStack) -> None:
    there = stack.enter_context(FakeTarget(disk=Disk(serial="one")))
    here = stack.enter_context(FakeTarget(redirect=(f"127.0.0.1:{there.port}", True)))
    path = path_to(here)
    lane = lane_of(facts_of(path), path)
    for _ in range(2):
        attached = reconnect(lane)
        assert attached is not None
        assert attached.session.portal == path_to(there).portal
        here.stop()  # after the first time nobody is left at the old place


def test_what_a_target_does_against_the_standard_is_told_after_a_loss_as_well(stack: ExitStack) -> None:
    target = stack.enter_context(FakeTarget())
    path = path_to(target, credentials=ALICE)
    facts = facts_of(path_to(target))
    lane = lane_of(facts, path)
    lane._config = replace(lane._config, policy=replace(lane._config.policy, auth_required=False))
    assert reconnect(lane) is not None
    assert any("NOT AUTHENTICATED" in line for line in lane._log.ring)


@pytest.mark.parametrize("how", ["stop", "give-up", "shutdown", "end"])
def test_the_search_ends(stack: ExitStack, how: str) -> None:
    target = stack.enter_context(FakeTarget())
    facts = facts_of(path_to(target))
    target.stop()
    lane = lane_of(facts, path_to(target), give_up_ms=10 if how == "give-up" else 60_000)
    if how == "stop":
        threading.Timer(0.05, lane._is_stopping.set).start()
    if how == "shutdown":
        lane._config = replace(lane._config, policy=replace(lane._config.policy, shutdown_give_up_ms=50))
        lane.expect_shutdown(is_near=True)
    if how == "end":
        lane.expect_end(0.05)
    began = time.monotonic()
    assert reconnect(lane) is None
    assert time.monotonic() - began < 2


def test_a_loss_long_after_a_shutdown_began_is_no_end(stack: ExitStack) -> None:
    target = stack.enter_context(FakeTarget())
    facts = facts_of(path_to(target))
    target.stop()
    threading.Timer(0.05, target.start).start()
    lane = lane_of(facts, path_to(target))
    lane._shutdown_at = time.monotonic() - 61
    assert reconnect(lane) is not None


def test_a_shutdown_that_begins_long_after_a_loss_allows_its_own_time(stack: ExitStack) -> None:
    lane = lane_of(facts_of(path_to(stack.enter_context(FakeTarget()))))
    lost_at = time.monotonic() - 1
    lane.expect_shutdown(is_near=True)
    lane._config = replace(lane._config, policy=replace(lane._config.policy, give_up_ms=86_400_000))
    assert lane._give_up_at(lost_at) == lane._shutdown_at + lane._config.policy.shutdown_give_up_ms / 1000
    lane.expect_shutdown(is_near=False)
    assert lane._give_up_at(lost_at) == lost_at + 86_400


@pytest.mark.parametrize("wait_s", [0.0, 60.0], ids=["at once", "after a pause"])
def test_the_end_is_not_given_up_before_one_attempt(stack: ExitStack, wait_s: float) -> None:
    target = stack.enter_context(FakeTarget())
    lane = lane_of(facts_of(path_to(target)), path_to(target))
    lane.expect_end(-1)
    assert reconnect(lane, wait_s) is not None
    assert reconnect(lane) is None  # sessions that break again do not go on for ever


def lost(time2wait_s: int = 0) -> Loss:
    return Loss(Cause.ASYNC_DROP, 0, time2wait_s, 3, 0, "")


def test_what_a_target_asks_to_wait_holds_for_its_path_and_has_a_bound(stack: ExitStack) -> None:
    target = stack.enter_context(FakeTarget())
    facts = facts_of(path_to(target))
    lane = lane_of(facts, replace(path_to(target), index=0), replace(path_to(target), index=1))
    attached = SimpleNamespace(path=lane._config.paths[0], session=SimpleNamespace(portal="there"))
    assert lane._waits_after(lost(7), attached) == {0: 7.0}
    assert not lane._log.ring
    for _ in range(2):
        waits_s = lane._waits_after(lost(65535), attached)
    assert waits_s == {0: 60.0}
    assert list(lane._log.ring) == [
        "there asks for 65535 s without a login (Time2Wait): not more than 60 s are kept"
    ]
    began = time.monotonic()
    again = lane._connect(began, waits_s)
    assert time.monotonic() - began < 5
    assert again.path.index == 1
    again.sock.close()


def test_sessions_that_break_at_once_are_made_at_a_pace_and_told_once(stack: ExitStack) -> None:
    target = stack.enter_context(FakeTarget())
    facts = facts_of(path_to(target))
    lane = lane_of(facts, path_to(target, credentials=ALICE))
    lane._config = replace(lane._config, policy=replace(lane._config.policy, auth_required=False))
    runs = iter(range(5))

    def run() -> tuple[Reason, Loss]:  # another number of commands waits each time
        for number in runs:
            return Reason.LOST, replace(lost(), in_flight=number)
        return Reason.STOPPED, lost()

    lane.lane = SimpleNamespace(probe_attempt=lambda *_: None, attach=lambda _: None, run=run)
    lane._counters = SimpleNamespace(state=0)
    lane._report = lambda message: None
    lane.attached = None
    began = time.monotonic()
    lane._serve()
    assert time.monotonic() - began >= 0.02 + 0.05 + 0.1 + 0.2
    lines = list(lane._log.ring)
    assert sum("NOT AUTHENTICATED" in line for line in lines) == 1
    assert sum(" lost: " in line for line in lines) == 2  # the first, and that it goes on like that
    assert sum(line.startswith("connected to ") for line in lines) == 3
    assert lines[-1].endswith("again: sessions there do not last")


@pytest.mark.parametrize(
    ("how", "is_found"), [("stop", False), ("end", True)], ids=["let go of", "past the time of an end"]
)
def test_older_commands_are_waited_for_until_the_lane_is_let_go_of(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, how: str, is_found: bool
) -> None:
    monkeypatch.setattr(boot, "FENCE_WAIT_S", 0.1 if is_found else 60.0)
    target = stack.enter_context(FakeTarget(answers_tmf=5))
    lane = lane_of(facts_of(path_to(target)), path_to(target))
    if how == "stop":
        threading.Timer(0.1, lane._is_stopping.set).start()
    else:
        lane.expect_end(0.05)
    began = time.monotonic()
    assert (reconnect(lane) is not None) is is_found
    assert time.monotonic() - began < 2


def test_a_disk_that_stays_busy_does_not_outlast_a_shutdown(stack: ExitStack) -> None:
    target = stack.enter_context(FakeTarget())
    lane = lane_of(facts_of(path_to(target)), path_to(target))
    target.on(ScsiCommand, status(0x08), times=None)
    lane._config = replace(lane._config, policy=replace(lane._config.policy, shutdown_give_up_ms=50))
    lane.expect_shutdown(is_near=True)
    began = time.monotonic()
    assert reconnect(lane) is None
    assert time.monotonic() - began < 2
    assert "given up while waiting" in lane._log.ring[-1]
