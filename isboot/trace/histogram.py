"""
Counts by duration, as bpf/latency.c keeps them, and how they are read.

The unit is 125 ns, so that powers of two of it are powers of two of a microsecond.  The first eight buckets
hold one unit each; from there on a power of two is cut into eight.  A quantile is right within 12.5 %, below
a microsecond within 125 ns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

UNIT_NS = 125
SUB_BITS = 3
SUB_BUCKETS = 1 << SUB_BITS
BUCKETS = SUB_BUCKETS * 40  #: 2^40 us are twelve days


def bucket_of(duration_ns: int) -> int:
    """Give the number of the bucket; bpf/latency.c computes the same."""
    units = duration_ns // UNIT_NS
    if units < SUB_BUCKETS:
        return units
    exponent = units.bit_length() - 1
    number = (exponent - SUB_BITS + 1) * SUB_BUCKETS + ((units >> (exponent - SUB_BITS)) & (SUB_BUCKETS - 1))
    return min(number, BUCKETS - 1)


def lower_ns(bucket: int) -> int:
    """Give where a bucket begins; it ends where the next begins."""
    if bucket < SUB_BUCKETS:
        return bucket * UNIT_NS
    return ((SUB_BUCKETS + bucket % SUB_BUCKETS) << (bucket // SUB_BUCKETS - 1)) * UNIT_NS


@dataclass(slots=True)
class Histogram:
    """
    :param counts: by bucket
    :param sum_ns: of all durations
    """

    counts: dict[int, int] = field(default_factory=dict)
    sum_ns: int = 0
    maximum_ns: int = 0

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    @property
    def mean_ns(self) -> int | None:
        return self.sum_ns // self.count if self.count else None

    def add(self, bucket: int, count: int) -> None:
        self.counts[bucket] = self.counts.get(bucket, 0) + count

    def quantile_ns(self, fraction: float) -> int | None:
        """
        Give the duration that this fraction of all did not exceed, or None of none.

        :param fraction: above 0, at most 1; counts are taken as spread evenly within a bucket
        """
        wanted = fraction * self.count
        below = 0
        for bucket, count in sorted(self.counts.items()):
            if count and below + count >= wanted:
                first, end = lower_ns(bucket), lower_ns(bucket + 1)
                return min(first + int((end - first) * (wanted - below) / count), self.maximum_ns)
            below += count
        return None

    def rows(self) -> Mapping[int, int]:
        """Give the counts by power of two of a microsecond: row 0 below 1 us, row N from 2^(N-1) us on."""
        rows: dict[int, int] = {}
        for bucket, count in self.counts.items():
            rows[bucket // SUB_BUCKETS] = rows.get(bucket // SUB_BUCKETS, 0) + count
        return rows


def row_bounds_us(row: int) -> tuple[int, int]:
    """Give the first and the last whole microsecond of a row."""
    return ((1 << row) >> 1, max((1 << row) - 1, 0))
