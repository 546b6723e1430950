"""From the engine's clock to the wall's."""

from __future__ import annotations

import time

from isboot.trace.clock import Clock


def test_now_is_now() -> None:
    clock = Clock.read()
    assert abs(time.monotonic_ns() + clock.offset_ns - time.time_ns()) < 50_000_000


def test_times_are_told_to_the_microsecond() -> None:
    clock = Clock(1_767_225_600 * 10**9)
    assert clock.iso(1_000_002_999) == "2026-01-01T00:00:01.000002Z"
    assert clock.local(1_000_002_999).endswith(":01.000002")
