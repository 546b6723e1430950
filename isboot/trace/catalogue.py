"""
The traces there are, a row each.

A trace is a program in bpf/NAME.c (its real output is explained in bpf/NAME.txt), the probes and the records
it uses, and a report that makes something readable of them.  A new trace is a new row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from isboot.trace import events, latency, reconnects
from isboot.trace.clock import Clock
from isboot.trace.events import Event

#: the rows of a table in the kernel: (key, value), both with the members of their structs
Rows = Sequence[tuple[Any, Any]]


class Report(Protocol):
    """What a trace makes of what it sees. Times it prints count from the start of the trace."""

    def take(self, event: Event) -> str:
        """Take a record; gives what is to be printed at once, or ""."""
        ...

    def finish(self, tables: Mapping[str, Rows], duration_s: float) -> None:
        """Take the tables at the end."""
        ...

    def text(self) -> str:
        """Give what is to be printed at the end, for people."""
        ...

    def document(self) -> dict[str, Any]:
        """Give the JSON document."""
        ...


@dataclass(frozen=True, slots=True)
class Trace:
    """
    :param probes: of the engine; the function for probe NAME is on_NAME
    :param tables: read at the end
    :param records: types of the records the program writes to its ring buffer "events"
    :param workers_table: the program wants to know which process serves which device
    :param report: makes the report
    """

    name: str
    help: str
    probes: tuple[str, ...]
    report: Callable[[Clock], Report]
    tables: tuple[str, ...] = ()
    records: tuple[type[Event], ...] = ()
    workers_table: str = ""
    defines: Mapping[str, str] = field(default_factory=dict)


TRACES: tuple[Trace, ...] = (
    Trace(
        "latency",
        "where the time of an I/O goes: in -> sent -> answered -> committed",
        probes=("io_done",),
        tables=("totals", "buckets"),
        report=lambda clock: latency.Latency(),
    ),
    Trace(
        "reconnects",
        "every loss of a connection or a worker: found by what, attempts, when I/O went on",
        probes=(
            "lane_started",
            "connection_lost",
            "reconnect_attempt",
            "connection_resumed",
            "io_resumed",
        ),
        records=(
            events.LaneStarted,
            events.ConnectionLost,
            events.ReconnectAttempt,
            events.ConnectionResumed,
            events.IoResumed,
            events.WorkerEnded,
        ),
        workers_table="workers",
        report=lambda clock: reconnects.Reconnects(clock),
    ),
)
