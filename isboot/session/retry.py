"""
When a login is tried again: a row for each kind of failure, and a schedule over the paths of a disk.

At boot what cannot succeed unless somebody acts is final: a wrong secret is not sent for ever.  On the
recovery road nothing is, because a root must not die: there it is tried again slowly, and loudly.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from isboot.errors import ExitStatus, IdentityError, IsbootError
from isboot.session.status import LoginRefused


@dataclass(frozen=True, slots=True)
class Pace:
    """
    How often one kind of failure is tried again.

    :param pauses_s: before attempt 1, 2, ... after such a failure; the last goes on
    :param is_final: at boot no attempt follows
    """

    what: str
    pauses_s: tuple[float, ...]
    is_final: bool


# fmt: off
LOST = Pace("nobody there, or the connection broke", (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0), is_final=False)
# A session of the same machine that still stands, the firmware's for example, ends when the target misses it.
BUSY = Pace("no room for another session now", (0.5, 1.0, 2.0, 5.0, 10.0), is_final=False)
# A target that has just been started may know its portal before its targets, and them before their accounts:
# so the first pauses are short.
ABSENT = Pace("not there, or not as it was configured", (0.2, 0.5, 1.0, 2.0, 5.0), is_final=True)
# Twice a minute: targets lock accounts after some wrong answers.
REFUSED = Pace("not let in", (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0), is_final=True)
ANOTHER_DISK = Pace("another disk", (5.0,), is_final=True)
# fmt: on
_TOO_MANY_CONNECTIONS = (2, 6)
NO_WAITS: Mapping[int, float] = {}
#: of a target's Time2Wait that is kept: a broken target says 65535, 18 hours for the root to stand still
MAX_TIME2WAIT_S = 60.0
#: a session that lived shorter is a failed attempt: it breaks as soon as it is used
SHORT_LIVED_S = 10.0
SPREAD_FROM_S = 0.5  #: pauses from here on are spread: shorter ones are over before a storm has gathered


def pace_of(error: IsbootError) -> Pace:
    """Give the row of a failure."""
    if isinstance(error, IdentityError):
        return ANOTHER_DISK
    if isinstance(error, LoginRefused):
        code = (error.status.status_class, error.status.detail)
        if code == _TOO_MANY_CONNECTIONS or code[0] == 3:
            return BUSY
    if error.exit_status == ExitStatus.NOT_PERMITTED:
        return REFUSED
    return LOST if error.exit_status == ExitStatus.TRY_AGAIN else ABSENT


def _chance() -> float:
    return int.from_bytes(os.urandom(4), "big") / (1 << 32)


def spread_s(pause_s: float, jitter_ms: int, chance: Callable[[], float] = _chance) -> float:
    """
    Give a pause that differs from machine to machine, so that they do not all log in at one moment.

    :param pause_s: it may become shorter by as much as the jitter; it becomes longer only where the jitter is
    :param chance: 0 <= number < 1
    """
    if pause_s < SPREAD_FROM_S:
        return pause_s
    jitter_s = jitter_ms / 1000
    low, high = max(0.0, pause_s - jitter_s), max(pause_s, jitter_s)
    return low + (high - low) * chance()


def first_pause_s(jitter_ms: int, chance: Callable[[], float] = _chance) -> float:
    """Give the pause before the first login of a boot: power comes back to many machines at one moment."""
    return jitter_ms / 1000 * chance()


@dataclass(slots=True)
class _Turn:
    """What is known of one path."""

    due_at: float
    pace: Pace = LOST
    failures: int = 0  #: in a row, of this pace
    is_over: bool = False


@dataclass(slots=True)
class ShortLived:
    """Paths whose sessions break right after they stood: the pace of logins goes on over such sessions."""

    _in_a_row: dict[int, int] = field(default_factory=dict)

    def note(self, index: int, lived_s: float) -> None:
        """Note that a session over this path ended; one that lived makes all of them good again."""
        if lived_s >= SHORT_LIVED_S:
            self._in_a_row.clear()
        else:
            self._in_a_row[index] = self._in_a_row.get(index, 0) + 1

    def is_one(self, index: int) -> bool:
        """Say whether it happened more than once: anything may break once at a bad moment."""
        return self._in_a_row.get(index, 0) > 1

    def waits_s(self) -> dict[int, float]:
        """Give the seconds before the next login over each path that had such a session: as after LOST."""
        last = len(LOST.pauses_s) - 1
        return {index: LOST.pauses_s[min(count - 1, last)] for index, count in self._in_a_row.items()}


class Schedule:
    """
    Which path is tried next, and when.  A path that is refused does not hold up the others.

    :param is_boot: what is final is not tried again
    :param waits_s: before the first attempt of a path, by its index; the others are tried at once
    """

    def __init__(
        self, paths: int, jitter_ms: int, *, is_boot: bool, waits_s: Mapping[int, float] = NO_WAITS,
        clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = _chance,
    ) -> None:  # fmt: skip
        self._jitter_ms = jitter_ms
        self._is_boot = is_boot
        self._clock = clock
        self._chance = chance
        self._turns = [_Turn(clock() + waits_s.get(index, 0.0)) for index in range(paths)]
        self._last = paths - 1

    @property
    def is_over(self) -> bool:
        """Say whether no path is left to try."""
        return all(turn.is_over for turn in self._turns)

    def next(self) -> tuple[int, float]:
        """
        Give the path to be tried next, and the seconds until then.

        Of several that are due the one after the last tried.  Not to be called once it is over.
        """
        count = len(self._turns)
        now = self._clock()
        candidates = [
            (max(now, self._turns[index].due_at), index)
            for index in ((self._last + 1 + step) % count for step in range(count))
            if not self._turns[index].is_over
        ]
        due_at, self._last = min(candidates, key=lambda pair: pair[0])
        return self._last, due_at - now

    def failed(self, index: int, error: IsbootError) -> Pace:
        """Note that the path failed; give the pace it is tried at from now on."""
        turn = self._turns[index]
        pace = pace_of(error)
        turn.failures = turn.failures + 1 if pace is turn.pace else 1
        turn.pace = pace
        turn.is_over = self._is_boot and pace.is_final
        # LOST begins with a pause of 0 for the attempt that no failure preceded.
        step = turn.failures if pace is LOST else turn.failures - 1
        pause_s = pace.pauses_s[min(step, len(pace.pauses_s) - 1)]
        turn.due_at = self._clock() + spread_s(pause_s, self._jitter_ms, self._chance)
        return pace
