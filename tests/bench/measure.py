"""Two sides in turns, A B A B, and what the rounds say together."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.bench.cells import Cell

#: a side whose figures lie further apart than this share of their median gives no result
SPREAD_MAX = 0.15


class BenchError(Exception):
    """A measurement that says nothing: no block device, or data that did not go over the wire."""


@dataclass(frozen=True)
class Sample:
    """
    One run of one load on one side.

    :ivar figures: "iops", "bytes_per_s", "p50_us", "p999_us", "cpu_us_per_io", ...
    :ivar moved_bytes: of payload, by the load's own count
    :ivar wire_bytes: seen on the NIC, or in the engine
    """

    figures: Mapping[str, float]
    moved_bytes: int
    wire_bytes: int

    @classmethod
    def of(cls, document: Mapping[str, Any], what: str) -> Sample:
        """
        Make one of what the load printed.

        :raises BenchError: less went over the wire than the load moved
        """
        sample = cls(document["figures"], int(document["moved_bytes"]), int(document["wire_bytes"]))
        if sample.wire_bytes < sample.moved_bytes:
            raise BenchError(
                f"{what}: {sample.moved_bytes} bytes were moved, but {sample.wire_bytes} went over the wire"
            )
        return sample


@dataclass
class Rounds:
    """The samples of one load, in the order they were taken; ours[i] and theirs[i] are neighbours in time."""

    ours: list[Sample] = field(default_factory=list)
    theirs: list[Sample] = field(default_factory=list)


def spread(values: Sequence[float]) -> float:
    """Give the distance of the quartiles as a share of the median; of few values, of the extremes."""
    middle = statistics.median(values)
    if not middle:
        return float("inf")
    if len(values) < 4:
        return (max(values) - min(values)) / middle
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / middle


def judge(cell: Cell, rounds: Rounds) -> dict[str, Any]:
    """
    Give a cell's figures: medians, and the ratio of each round.

    :return: ours, theirs, ratio, ratio_min, ratio_max, spread_ours, spread_theirs, rounds, reason
    """
    ours = [sample.figures[cell.figure] for sample in rounds.ours]
    theirs = [sample.figures[cell.figure] for sample in rounds.theirs]
    pairs = list(zip(ours, theirs, strict=True))
    ratios = [mine / other for mine, other in pairs]
    spreads = (spread(ours), spread(theirs))
    reason = None
    if max(spreads) > SPREAD_MAX:
        reason = f"no result: spread {spreads[0]:.0%} of ours, {spreads[1]:.0%} of theirs"
    return {
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "spread_ours": spreads[0],
        "spread_theirs": spreads[1],
        "rounds": len(pairs),
        "reason": reason,
    }
