"""
Outages: from the loss of a connection, or of the worker that served the device, until I/O went on.

A worker killed with -9 says nothing: its end is seen by the kernel.  The lanes of the worker that takes over
begin with that end, so an outage reaches from one process into the next.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isboot.errors import ExitStatus
from isboot.trace.clock import Clock
from isboot.trace.events import (
    ConnectionLost,
    ConnectionResumed,
    Event,
    IoResumed,
    LaneStarted,
    ReconnectAttempt,
    WorkerEnded,
)
from isboot.trace.report import count_of

#: enum isboot_cause of cdefs/engine.h: its name for programs, and for people
CAUSES = {
    0: ("none", "no reason given"),
    1: ("closed", "the target closed it"),
    2: ("socket", "an error of the socket"),
    3: ("nop-timeout", "a NOP-Out was not answered"),
    4: ("command-timeout", "a command was not answered"),
    5: ("header-digest", "wrong header digest"),
    6: ("data-digest", "wrong data digest"),
    7: ("protocol", "a PDU that breaks the standard"),
    8: ("async-logout", "the target asked for a Logout"),
    9: ("async-drop", "the target said it would drop the connection"),
    10: ("reject", "the target rejected a PDU"),
    11: ("lun-changed", "the LUN changed, its identity is to be checked"),
}
WORKER = "worker"

#: what an attempt that ended with that exit status met
REFUSALS = {
    ExitStatus.FAILED: "failed",
    ExitStatus.MALFORMED: "malformed answer",
    ExitStatus.NOTHING_THERE: "target or LUN not there",
    ExitStatus.UNAVAILABLE: "the target lacks what is needed",
    ExitStatus.TRY_AGAIN: "no connection, to be tried again",
    ExitStatus.NOT_PERMITTED: "not permitted",
}


@dataclass(slots=True)
class Outage:
    """
    :param cause: a name of CAUSES, or "worker"
    :param code: negative errno of the socket, or 0
    :param old_pid: served the device when it was lost
    """

    device: int
    lane: int
    lost_ns: int
    cause: str
    found: str
    code: int
    in_flight: int | None
    old_pid: int
    steps: list[Event] = field(default_factory=list)
    new_pid: int = 0
    stood_ns: int | None = None
    resumed_ns: int | None = None

    @property
    def attempts(self) -> list[ReconnectAttempt]:
        return [step for step in self.steps if isinstance(step, ReconnectAttempt)]


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a worker; the lanes whose outage has heard of it."""

    event: WorkerEnded
    lanes: set[int] = field(default_factory=set)


class Reconnects:
    """The report of `isboot trace reconnects`. :param clock: to say when"""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._duration_s = 0.0
        self._dropped = 0
        self._open: dict[tuple[int, int], Outage] = {}
        self._deaths: list[Death] = []
        self.outages: list[Outage] = []  #: all, in the order they began
        self._printed = 0

    def take(self, event: Event) -> str:
        """Take a record; the text of the outage it ends, or ""."""
        if isinstance(event, WorkerEnded):
            death = Death(event)
            self._deaths.append(death)
            for (device, lane), outage in self._open.items():
                if device == event.device:
                    outage.steps.append(event)
                    death.lanes.add(lane)
            return ""
        key = (event.device, getattr(event, "lane", 0))
        if isinstance(event, ConnectionLost):
            ended = self._open.pop(key, None)
            cause, found = CAUSES.get(event.cause, (f"cause-{event.cause}", f"cause {event.cause}"))
            self._begin(key, event.ns, cause, found, event.code, event.in_flight, event.pid)
            return self._print(ended) if ended else ""
        found_open = self._open.get(key) or self._begin_by_death(key, event)
        # None: the first session of a device, or an outage that began before we looked
        return self._go_on(key, found_open, event) if found_open else ""

    def _begin_by_death(self, key: tuple[int, int], event: Event) -> Outage | None:
        """The first that is heard of a lane after the end of the device's worker."""
        device, lane = key
        death = next((one for one in reversed(self._deaths) if one.event.device == device), None)
        if death is None or lane in death.lanes or event.pid == death.event.pid:
            return None
        death.lanes.add(lane)
        pid = death.event.pid
        return self._begin(key, death.event.ns, WORKER, f"worker {pid} ended", 0, None, pid)

    def _begin(
        self,
        key: tuple[int, int],
        lost_ns: int,
        cause: str,
        found: str,
        code: int,
        in_flight: int | None,
        pid: int,
    ) -> Outage:
        outage = Outage(*key, lost_ns, cause, found, code, in_flight, pid)
        self._open[key] = outage
        self.outages.append(outage)
        return outage

    def _go_on(self, key: tuple[int, int], outage: Outage, event: Event) -> str:
        outage.steps.append(event)
        if event.pid != outage.old_pid:
            outage.new_pid = event.pid
        if isinstance(event, ConnectionResumed):
            outage.stood_ns = event.ns
        elif isinstance(event, IoResumed):
            outage.resumed_ns = event.ns
            del self._open[key]
            return self._print(outage)
        return ""

    def finish(self, tables: Mapping[str, Sequence[tuple[Any, Any]]], duration_s: float) -> None:
        self._duration_s = duration_s
        self._dropped = sum(value.value for _, value in tables.get("dropped", ()))

    def _print(self, outage: Outage) -> str:
        self._printed += 1
        separator = "\n" if self._printed > 1 else ""
        return separator + describe(outage, self._clock)

    def text(self) -> str:
        """Give what has not been printed yet: outages that last, and the sum."""
        lines = [self._print(outage) for outage in self._open.values()]
        for end in self._last_ends():
            lines.append(
                f"{self._clock.local(end.ns)}  ublkb{end.device}: worker {end.pid} ended, none followed"
            )
        if self.outages:
            lines.append(f"\n{count_of(len(self.outages), 'outage')} in {self._duration_s:.1f} s")
        elif not lines:
            lines.append(f"no connection and no worker was lost in {self._duration_s:.1f} s")
        if self._dropped:
            lines.append(f"{count_of(self._dropped, 'record')} did not fit the buffer: the list has gaps")
        return "\n".join(lines)

    def _last_ends(self) -> list[WorkerEnded]:
        return [death.event for death in self._deaths if not death.lanes]

    def document(self) -> dict[str, Any]:
        return {
            "duration_s": round(self._duration_s, 3),
            "dropped_records": self._dropped,
            "outages": [_document(outage, self._clock) for outage in self.outages],
            "ended_workers": [
                {"device": f"ublkb{end.device}", "pid": end.pid, "at": self._clock.iso(end.ns)}
                for end in self._last_ends()
            ],
        }


def describe(outage: Outage, clock: Clock) -> str:
    """Give an outage as people read it: a line for what happened, a line a step, a line for the sum."""
    head = f"{clock.local(outage.lost_ns)}  ublkb{outage.device} lane {outage.lane}: "
    if outage.cause == WORKER:
        lines = [f"{head}lost, {outage.found}"]
    else:
        code = f" ({_error(outage.code)})" if outage.code else ""
        waiting = f"; {count_of(outage.in_flight or 0, 'command')} in flight"
        lines = [f"{head}connection lost: {outage.found}{code}{waiting}"]
    lines += [f"{_after(outage, step.ns)}  {_say(step)}" for step in outage.steps]
    if outage.resumed_ns is not None:
        lines.append(f"        I/O stood for {_seconds(outage, outage.resumed_ns)}")
    elif outage.stood_ns is not None:
        lines.append("        no I/O has been done since")
    else:
        lines.append("        no session since")
    return "\n".join(lines)


def _say(step: Event) -> str:
    if isinstance(step, LaneStarted):
        return f"worker {step.pid} serves, generation {step.worker_generation}"
    if isinstance(step, ReconnectAttempt):
        return f"attempt {step.attempt}: {'logged in' if step.code == 0 else _refusal(step.code)}"
    if isinstance(step, ConnectionResumed):
        return f"session stands, {count_of(step.reissued, 'command')} issued again"
    if isinstance(step, IoResumed):
        return "first I/O done"
    return f"worker {step.pid} ended"


def _refusal(code: int) -> str:
    try:
        status = ExitStatus(-code)
    except ValueError:
        return f"failed ({code})"
    return f"{REFUSALS.get(status, 'failed')} ({int(status)})"


def _error(code: int) -> str:
    name = errno.errorcode.get(-code, str(code))
    return f"{name}, {os.strerror(-code)}" if -code in errno.errorcode else name


def _after(outage: Outage, ns: int) -> str:
    return f"{(ns - outage.lost_ns) / 1e9:>+13.6f} s"


def _seconds(outage: Outage, ns: int) -> str:
    return f"{(ns - outage.lost_ns) / 1e9:.3f} s"


def _document(outage: Outage, clock: Clock) -> dict[str, Any]:
    def after(ns: int | None) -> float | None:
        return None if ns is None else round((ns - outage.lost_ns) / 1e9, 6)

    return {
        "device": f"ublkb{outage.device}",
        "lane": outage.lane,
        "lost_at": clock.iso(outage.lost_ns),
        "cause": outage.cause,
        "errno": errno.errorcode.get(-outage.code) if outage.code else None,
        "in_flight": outage.in_flight,
        "old_pid": outage.old_pid,
        "new_pid": outage.new_pid or outage.old_pid,
        "attempts": [
            {"attempt": one.attempt, "after_s": after(one.ns), "exit_status": -one.code}
            for one in outage.attempts
        ],
        "session_after_s": after(outage.stood_ns),
        "reissued": next(
            (step.reissued for step in outage.steps if isinstance(step, ConnectionResumed)), None
        ),
        "io_after_s": after(outage.resumed_ns),
    }
