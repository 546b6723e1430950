"""
Memory that all processes of a device share, made before the first fork: counters, where targets sent logins,
and the I/O buffers.

Counters live on when a worker dies, and so does the knowledge that a target has moved.  Buffers are inherited
so that a standby needs no memory of its own: the dead worker's ring is gone before its pidfd says so, hence
nothing writes to them any more.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import Any

from isboot._engine import ffi, lib
from isboot.errors import DaemonError
from isboot.session import redirect

#: the counters, rounded up to whole pages
COUNTERS_BYTES = -(-ffi.sizeof("struct isboot_shared") // mmap.PAGESIZE) * mmap.PAGESIZE
PORTALS_BYTES = -(-redirect.MEMORY_BYTES // mmap.PAGESIZE) * mmap.PAGESIZE
PERCENTILES = (("p50", 0.50), ("p99", 0.99), ("p999", 0.999))


@dataclass(frozen=True, slots=True)
class Shared:
    """
    :param fd: of the memory, by which a launcher that comes later finds it (/proc/PID/fd/N)
    :param counters: struct isboot_shared *
    :param portals: where permanent redirections lead
    :param buffers: depth * max_io_bytes of all lanes together, page aligned
    """

    fd: int
    counters: Any
    portals: redirect.Memory
    buffers: Any
    depth: int
    max_io_bytes: int
    mapping: mmap.mmap  #: keeps the memory mapped

    @classmethod
    def make(cls, depth: int, max_io_bytes: int) -> Shared:
        """:raises DaemonError: no memory"""
        fd = os.memfd_create("isboot", os.MFD_CLOEXEC)
        os.ftruncate(fd, COUNTERS_BYTES + PORTALS_BYTES + depth * max_io_bytes)
        return cls.open(fd, depth, max_io_bytes)

    @classmethod
    def open(cls, fd: int, depth: int, max_io_bytes: int) -> Shared:
        """
        Map memory that was made before.

        :raises DaemonError: no memory
        """
        length_bytes = COUNTERS_BYTES + PORTALS_BYTES + depth * max_io_bytes
        try:
            mapping = mmap.mmap(fd, length_bytes, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        except OSError as error:
            raise DaemonError(
                f"mapping {length_bytes} bytes of shared memory: {error.strerror}",
                "give the machine more memory, or choose a smaller depth",
            ) from error
        start = ffi.cast("char *", ffi.from_buffer(mapping))
        counters = ffi.cast("struct isboot_shared *", start)
        portals = redirect.Memory(memoryview(mapping)[COUNTERS_BYTES : COUNTERS_BYTES + PORTALS_BYTES])
        buffers = start + COUNTERS_BYTES + PORTALS_BYTES
        return cls(fd, counters, portals, buffers, depth, max_io_bytes, mapping)

    def lane_buffers(self, first_tag: int) -> Any:
        """Give the buffers of a lane whose tags start at `first_tag`."""
        return self.buffers + first_tag * self.max_io_bytes

    def lane_counters(self, index: int) -> Any:
        return self.counters.lanes[index]


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
