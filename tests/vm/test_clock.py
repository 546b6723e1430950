"""The rate of this machine's counter."""

from __future__ import annotations

import platform

import pytest

from tests.vm import clock


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the counter is that of x86-64 processors")
def test_the_counter_is_measured_twice_the_same() -> None:
    first = clock.counter_khz()
    clock.counter_khz.cache_clear()
    assert 100_000 < first < 10_000_000
    assert clock.counter_khz() == pytest.approx(first, rel=0.01)
