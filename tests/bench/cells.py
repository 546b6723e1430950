"""What is measured: one row a cell, each a load and what is read off it."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Load:
    """
    One run of fio, or of what stands for it where there is no block device.

    :ivar depth: commands in flight
    """

    name: str
    pattern: str  #: fio's rw=
    size_bytes: int
    depth: int

    @property
    def is_write(self) -> bool:
        return "write" in self.pattern

    @property
    def is_long(self) -> bool:
        """Whether it is judged by its bytes; measured with requests of up to 1 MiB then."""
        return self.size_bytes >= MIB


@dataclass(frozen=True)
class Cell:
    """
    One figure of a load.

    :ivar figure: a key of `measure.Sample.figures`
    :ivar better: "higher" or "lower" figures; a ratio is always ours over theirs
    """

    name: str
    load: str
    figure: str
    unit: str
    better: str


LOADS = {
    load.name: load
    for load in (
        Load("4k-randread-qd1", "randread", 4 * KIB, 1),
        Load("4k-randread-qd32", "randread", 4 * KIB, 32),
        Load("4k-randread-qd128", "randread", 4 * KIB, 128),
        Load("4k-randwrite-qd32", "randwrite", 4 * KIB, 32),
        Load("4k-randwrite-qd128", "randwrite", 4 * KIB, 128),
        Load("1m-read-qd8", "read", MIB, 8),
        Load("1m-write-qd8", "write", MIB, 8),
    )
}

#: guests: a block device on each side
GUEST_CELLS = (
    Cell("4k-randread-qd1", "4k-randread-qd1", "p50_us", "us", "lower"),
    Cell("4k-randread-qd1-p99.9", "4k-randread-qd1", "p999_us", "us", "lower"),
    Cell("4k-randread-qd32", "4k-randread-qd32", "iops", "iops", "higher"),
    Cell("4k-randread-qd32-p99.9", "4k-randread-qd32", "p999_us", "us", "lower"),
    Cell("cpu-per-4k-read-qd32", "4k-randread-qd32", "cpu_us_per_io", "us", "lower"),
    Cell("switches-per-4k-read-qd32", "4k-randread-qd32", "switches_per_io", "count", "lower"),
    Cell("4k-randread-qd128", "4k-randread-qd128", "iops", "iops", "higher"),
    Cell("4k-randwrite-qd32", "4k-randwrite-qd32", "iops", "iops", "higher"),
    Cell("4k-randwrite-qd128", "4k-randwrite-qd128", "iops", "iops", "higher"),
    Cell("1m-read-qd8", "1m-read-qd8", "bytes_per_s", "B/s", "higher"),
    Cell("1m-write-qd8", "1m-write-qd8", "bytes_per_s", "B/s", "higher"),
    Cell("cpu-per-mb-1m-read", "1m-read-qd8", "cpu_us_per_mb", "us", "lower"),
)

#: native: the engine alone against libiscsi's own tool, CPU of the initiator
NATIVE_CELLS = (
    Cell("4k-randread-qd1", "4k-randread-qd1", "iops", "iops", "higher"),
    Cell("4k-randread-qd32", "4k-randread-qd32", "iops", "iops", "higher"),
    Cell("4k-randread-qd128", "4k-randread-qd128", "iops", "iops", "higher"),
    Cell("cpu-per-4k-read-qd32", "4k-randread-qd32", "cpu_us_per_io", "us", "lower"),
    Cell("1m-read-qd8", "1m-read-qd8", "bytes_per_s", "B/s", "higher"),
    Cell("cpu-per-mb-1m-read", "1m-read-qd8", "cpu_us_per_mb", "us", "lower"),
)

#: what `--quick` runs of each
QUICK = ("4k-randread-qd32", "cpu-per-4k-read-qd32", "1m-read-qd8", "cpu-per-mb-1m-read")
