"""
Memory that all processes of a device share, made before the first fork: counters, and the I/O buffers.

Counters live on when a worker dies.  Buffers are inherited so that a standby needs no memory of its own: the
dead worker's ring is gone before its pidfd says so, hence nothing writes to them any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isboot._engine import ffi, lib
from isboot.errors import DaemonError

PERCENTILES = (("p50", 0.50), ("p99", 0.99), ("p999", 0.999))


@dataclass(frozen=True, slots=True)
class Shared:
    """
    :param counters: struct isboot_shared *
    :param buffers: depth * max_io_bytes of all lanes together, page aligned
    """

    counters: Any
    buffers: Any
    depth: int
    max_io_bytes: int

    @classmethod
    def make(cls, depth: int, max_io_bytes: int) -> Shared:
        """:raises DaemonError: no memory"""
        return cls(
            ffi.cast("struct isboot_shared *", _map(ffi.sizeof("struct isboot_shared"))),
            _map(depth * max_io_bytes),
            depth,
            max_io_bytes,
        )

    def lane_buffers(self, first_tag: int) -> Any:
        """Give the buffers of a lane whose tags start at `first_tag`."""
        return self.buffers + first_tag * self.max_io_bytes

    def lane_counters(self, index: int) -> Any:
        return self.counters.lanes[index]


def _map(length_bytes: int) -> Any:
    error = ffi.new("struct isboot_error *")
    mapping = lib.isboot_shared_map(length_bytes, error)
    if mapping == ffi.NULL:
        raise DaemonError(
            f"{ffi.string(error.text).decode()} ({length_bytes} bytes)",
            "give the machine more memory, or choose a smaller depth",
        )
    return ffi.cast("char *", mapping)


def latency_us(counters: Any) -> dict[str, float | None]:
    """Give percentiles of in -> committed, in microseconds; None before the first I/O."""
    buckets = list(counters.latency_ns)
    total = sum(buckets)
    result: dict[str, float | None] = {}
    for name, share in PERCENTILES:
        if not total:
            result[name] = None
            continue
        rank = share * total
        seen = 0
        for index, count in enumerate(buckets):
            seen += count
            if seen >= rank:
                result[name] = round(lib.isboot_histogram_bucket_ns(index) / 1000, 1)
                break
    return result
