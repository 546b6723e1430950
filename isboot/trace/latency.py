"""
Where the time of an I/O goes.  The engine keeps four times of each; bpf/latency.c counts what lies between.

    in          the request was taken up by the lane
    sent        its last byte was handed to the socket; where the target asks for data, the last of that
    answered    its SCSI status was received
    committed   it was given back to the kernel
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isboot.trace.events import Event
from isboot.trace.histogram import Histogram, lower_ns
from isboot.trace.report import QUANTILES, count_of, side_by_side
from isboot.units import format_bytes

OPERATIONS = ("read", "write", "flush", "discard", "write zeroes")  #: by enum isboot_operation


@dataclass(frozen=True, slots=True)
class Phase:
    """A span of an I/O; the order of PHASES is that of the enum in bpf/latency.c."""

    name: str
    begins: str
    ends: str

    @property
    def title(self) -> str:
        return self.name if self.name == "whole" else f"{self.begins} -> {self.ends}"


PHASES = (
    Phase("whole", "in", "committed"),
    Phase("waiting", "in", "sent"),
    Phase("target", "sent", "answered"),
    Phase("commit", "answered", "committed"),
)


@dataclass(slots=True)
class Operation:
    """
    What was counted of one operation of one device.

    :param count: those that were done, with or without an error
    :param unanswered: of them, those the target never answered on the connection they were sent on last; they
        are in the whole only
    """

    count: int = 0
    errors: int = 0
    unanswered: int = 0
    length_bytes: int = 0
    phases: tuple[Histogram, ...] = field(default_factory=lambda: tuple(Histogram() for _ in PHASES))


class Latency:
    """The report of `isboot trace latency`."""

    def __init__(self) -> None:
        self._operations: dict[tuple[int, int], Operation] = {}
        self._duration_s = 0.0

    def take(self, event: Event) -> str:
        raise AssertionError(f"{event} is not for this report")

    def finish(self, tables: Mapping[str, Sequence[tuple[Any, Any]]], duration_s: float) -> None:
        """Add up what the lanes counted, each for itself."""
        self._duration_s = duration_s
        for key, value in tables["totals"]:
            one = self._operation(key)
            one.count += value.count
            one.errors += value.errors
            one.unanswered += value.unanswered
            one.length_bytes += value.length_bytes
            for number, histogram in enumerate(one.phases):
                histogram.sum_ns += value.sum_ns[number]
                histogram.maximum_ns = max(histogram.maximum_ns, value.maximum_ns[number])
        for key, value in tables["buckets"]:
            self._operation(key).phases[key.phase].add(key.bucket, value.value)

    def _operation(self, key: Any) -> Operation:
        return self._operations.setdefault((key.device, key.operation), Operation())

    def text(self) -> str:
        if not self._operations:
            return f"no I/O was done in {self._duration_s:.1f} s"
        blocks = []
        for (device, number), one in sorted(self._operations.items()):
            rate = one.count / self._duration_s if self._duration_s else 0.0
            said = [
                f"{one.count:,} done",
                f"{rate:,.0f}/s",
                *([format_bytes(one.length_bytes)] if one.length_bytes else []),
                count_of(one.errors, "error"),
                *([f"{one.unanswered:,} never answered"] if one.unanswered else []),
            ]
            lines = [f"ublkb{device} {OPERATIONS[number]}: {', '.join(said)}, in {self._duration_s:.1f} s"]
            lines += side_by_side(
                [(phase.title, counts) for phase, counts in zip(PHASES, one.phases, strict=True)]
            )
            blocks.append("\n".join(lines))
        return "\n\n".join(blocks)

    def document(self) -> dict[str, Any]:
        devices: dict[int, list[dict[str, Any]]] = {}
        for (device, number), one in sorted(self._operations.items()):
            devices.setdefault(device, []).append(
                {
                    "operation": OPERATIONS[number],
                    "count": one.count,
                    "errors": one.errors,
                    "unanswered": one.unanswered,
                    "bytes": one.length_bytes,
                    "phases": [
                        _phase_document(phase, counts)
                        for phase, counts in zip(PHASES, one.phases, strict=True)
                    ],
                }
            )
        return {
            "duration_s": round(self._duration_s, 3),
            "devices": [
                {"device": f"ublkb{device}", "operations": operations}
                for device, operations in devices.items()
            ],
        }


def _phase_document(phase: Phase, counts: Histogram) -> dict[str, Any]:
    return {
        "phase": phase.name,
        "from": phase.begins,
        "to": phase.ends,
        **{f"{name.replace('.', '')}_ns": counts.quantile_ns(fraction) for name, fraction in QUANTILES},
        "max_ns": counts.maximum_ns if counts.count else None,
        "mean_ns": counts.mean_ns,
        "buckets": [
            {"from_ns": lower_ns(bucket), "to_ns": lower_ns(bucket + 1), "count": count}
            for bucket, count in sorted(counts.counts.items())
        ],
    }
