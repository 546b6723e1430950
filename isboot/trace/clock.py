"""The engine's clock and the wall's: probes give CLOCK_MONOTONIC, people want the time of day."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Clock:
    """:param offset_ns: the wall's clock minus CLOCK_MONOTONIC"""

    offset_ns: int

    @classmethod
    def read(cls) -> Clock:
        """Take the sample between whose two readings of the one clock the least time went by."""
        best = None
        for _ in range(SAMPLES):
            before = time.monotonic_ns()
            wall = time.time_ns()
            after = time.monotonic_ns()
            if best is None or after - before < best[0]:
                best = (after - before, wall - (before + after) // 2)
        assert best is not None  # noqa: S101 - SAMPLES is not 0
        return cls(best[1])

    def local(self, monotonic_ns: int) -> str:
        """Give the time of day here, to the microsecond."""
        return self._at(monotonic_ns).astimezone().strftime("%H:%M:%S.%f")

    def iso(self, monotonic_ns: int) -> str:
        """Give ISO 8601 in UTC, to the microsecond."""
        return self._at(monotonic_ns).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def _at(self, monotonic_ns: int) -> datetime:
        microseconds = (monotonic_ns + self.offset_ns) // 1000
        whole = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
        return whole.replace(microsecond=microseconds % 1_000_000)
