"""When a login is tried again: the rows, the spread, the schedule over several paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import ExitStatus, IdentityError, IsbootError, NetworkError, SessionError
from isboot.session import retry, status
from isboot.session.connection import ConnectionLost
from isboot.session.pdu import ProtocolError
from isboot.session.retry import ABSENT, ANOTHER_DISK, BUSY, LOST, REFUSED, Pace, Schedule
from isboot.session.status import LoginRefused

DOWN = NetworkError("down", exit_status=ExitStatus.TRY_AGAIN)


def refused(status_class: int, detail: int) -> LoginRefused:
    with pytest.raises(LoginRefused) as caught:
        status.raise_for_status(status_class, detail, {}, "login")
    return caught.value


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("error", "pace"),
    [
        (DOWN, LOST),
        (ConnectionLost("closed"), LOST),
        (refused(2, 6), BUSY),
        (refused(3, 0), BUSY),
        (refused(3, 2), BUSY),
        (refused(2, 1), REFUSED),
        (refused(2, 2), REFUSED),
        (SessionError("no proof", exit_status=ExitStatus.NOT_PERMITTED), REFUSED),
        (refused(2, 3), ABSENT),
        (refused(2, 0), ABSENT),
        (ProtocolError("nonsense"), ABSENT),
        (IsbootError("a fault of ours"), ABSENT),
        (IdentityError("another disk"), ANOTHER_DISK),
    ],
    ids=lambda value: value.what if isinstance(value, Pace) else str(value),
)
def test_each_failure_has_its_pace(error: IsbootError, pace: Pace) -> None:
    assert retry.pace_of(error) is pace


def test_the_manual_names_every_pause() -> None:
    manual = Path("docs/isboot.8").read_text(encoding="utf-8").partition(".SH LOGIN")[2]
    paces = (LOST, BUSY, ABSENT, REFUSED, ANOTHER_DISK)
    assert [int(pause) for pause in re.findall(r"up to ([0-9]+) s apart", manual)] == [
        pace.pauses_s[-1] for pace in paces
    ]


def test_only_what_may_pass_by_itself_is_not_final() -> None:
    assert [pace.is_final for pace in (LOST, BUSY, ABSENT, REFUSED, ANOTHER_DISK)] == [
        False, False, True, True, True,
    ]  # fmt: skip


@given(st.floats(0, 60), st.integers(0, 60_000), st.floats(0, 1, exclude_max=True))
def test_a_spread_pause_stays_within_its_bounds(pause_s: float, jitter_ms: int, chance: float) -> None:
    spread = retry.spread_s(pause_s, jitter_ms, lambda: chance)
    jitter_s = jitter_ms / 1000
    if pause_s < retry.SPREAD_FROM_S:
        assert spread == pause_s
    else:
        assert max(0.0, pause_s - jitter_s) <= spread <= max(pause_s, jitter_s)


def test_machines_that_lost_a_target_together_come_back_apart() -> None:
    # A hundred machines in the same second, half a second of jitter: no 50 ms of it see a quarter of them.
    chances = iter([number / 100 for number in range(100)])
    moments = [retry.spread_s(1.0, 500, lambda: next(chances)) for _ in range(100)]
    assert max(sum(start <= moment < start + 0.05 for moment in moments) for start in moments) <= 11


def test_the_first_login_of_a_boot_is_spread_over_the_jitter() -> None:
    assert retry.first_pause_s(500, lambda: 0.5) == 0.25
    assert retry.first_pause_s(0) == 0


def test_chance_is_a_number_below_one_and_not_always_the_same() -> None:
    numbers = {retry.spread_s(1.0, 1000) for _ in range(10)}
    assert len(numbers) > 1
    assert all(0 <= number < 1 for number in numbers)


def rounds(schedule: Schedule, clock: Clock, error: IsbootError, count: int) -> list[tuple[int, float]]:
    """Let attempts fail with this error; give which path each tried and after how many seconds."""
    tried = []
    for _ in range(count):
        index, pause_s = schedule.next()
        clock.now += pause_s
        tried.append((index, round(pause_s, 3)))
        schedule.failed(index, error)
    return tried


def schedule_of(paths: int, clock: Clock, **more: object) -> Schedule:
    return Schedule(paths, 0, **({"is_boot": False, "clock": clock} | more))  # type: ignore[arg-type]


def test_a_lost_path_is_tried_at_once_and_then_less_and_less_often() -> None:
    clock = Clock()
    tried = rounds(schedule_of(1, clock), clock, DOWN, 9)
    assert [pause_s for _, pause_s in tried] == [0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 1.0]


def test_time2wait_comes_before_the_first_attempt_alone() -> None:
    clock = Clock()
    tried = rounds(schedule_of(1, clock, waits_s={0: 2.0}), clock, DOWN, 2)
    assert tried == [(0, 2.0), (0, 0.02)]


def test_sessions_that_break_at_once_are_tried_as_a_path_that_is_lost() -> None:
    sessions = retry.ShortLived()
    pauses = []
    for _ in range(9):
        sessions.note(1, lived_s=0.1)
        pauses.append(sessions.waits_s()[1])
    assert pauses == [0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.0, 1.0]
    sessions.note(0, lived_s=9.9)
    assert sessions.waits_s() == {0: 0.0, 1: 1.0}  # the other path is tried first
    assert [sessions.is_one(index) for index in (0, 1)] == [False, True]
    sessions.note(0, lived_s=10.0)
    assert sessions.waits_s() == {}
    assert not sessions.is_one(1)


def test_a_wrong_secret_is_sent_twice_a_minute_at_most() -> None:
    clock = Clock()
    tried = rounds(schedule_of(1, clock), clock, refused(2, 1), 10)
    assert [pause_s for _, pause_s in tried] == [0, 0.2, 0.5, 1, 2, 5, 10, 30, 30, 30]


def test_a_failure_of_another_kind_begins_a_pace_of_its_own() -> None:
    # A target that is restarted: first nobody is there, then the target is not known yet.
    clock = Clock()
    schedule = schedule_of(1, clock)
    rounds(schedule, clock, DOWN, 20)
    assert rounds(schedule, clock, refused(2, 3), 3) == [(0, 1.0), (0, 0.2), (0, 0.5)]


def test_a_path_that_is_refused_does_not_hold_up_the_others() -> None:
    clock = Clock()
    schedule = schedule_of(2, clock)
    for _ in range(8):  # the first path is refused again and again, the other one is down
        index, pause_s = schedule.next()
        clock.now += pause_s
        schedule.failed(index, refused(2, 1) if index == 0 else DOWN)
    counts = [0, 0]
    end = clock.now + 60
    while clock.now < end:
        index, pause_s = schedule.next()
        clock.now += pause_s
        counts[index] += 1
        schedule.failed(index, refused(2, 1) if index == 0 else DOWN)
    assert counts[1] > 50
    assert counts[0] < 10


def test_paths_take_turns() -> None:
    clock = Clock()
    tried = rounds(schedule_of(3, clock), clock, DOWN, 9)
    assert [index for index, _ in tried] == [0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_at_boot_a_refused_path_is_given_up_and_the_others_go_on() -> None:
    clock = Clock()
    schedule = schedule_of(2, clock, is_boot=True)
    schedule.failed(schedule.next()[0], refused(2, 1))
    assert not schedule.is_over
    assert {index for index, _ in rounds(schedule, clock, DOWN, 10)} == {1}
    schedule.failed(schedule.next()[0], ProtocolError("nonsense"))
    assert schedule.is_over


def test_a_disk_without_a_path_is_over_at_once() -> None:
    assert schedule_of(0, Clock()).is_over
