"""Buckets of durations and what is read from them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.trace.histogram import BUCKETS, UNIT_NS, Histogram, bucket_of, lower_ns, row_bounds_us

#: a microsecond in the largest buckets is beyond what anybody waits
DURATIONS = st.integers(0, lower_ns(BUCKETS - 1))


@given(DURATIONS)
def test_duration_lies_in_its_bucket(duration_ns: int) -> None:
    bucket = bucket_of(duration_ns)
    assert lower_ns(bucket) <= duration_ns < lower_ns(bucket + 1)


@given(st.integers(0, BUCKETS - 1))
def test_bucket_begins_where_it_says(bucket: int) -> None:
    assert bucket_of(lower_ns(bucket)) == bucket
    width_ns = lower_ns(bucket + 1) - lower_ns(bucket)
    assert width_ns <= max(UNIT_NS, lower_ns(bucket) / 8)


def test_last_bucket_takes_what_is_longer() -> None:
    assert bucket_of(2**63) == BUCKETS - 1


@pytest.mark.parametrize(
    ("duration_ns", "bounds"),
    [(999, (0, 0)), (1000, (1, 1)), (1999, (1, 1)), (2000, (2, 3)), (20_000_000, (16384, 32767))],
)
def test_rows_are_powers_of_two_of_a_microsecond(duration_ns: int, bounds: tuple[int, int]) -> None:
    histogram = filled([duration_ns])
    assert [row_bounds_us(row) for row in histogram.rows()] == [bounds]


def filled(durations_ns: list[int]) -> Histogram:
    histogram = Histogram(sum_ns=sum(durations_ns), maximum_ns=max(durations_ns, default=0))
    for duration_ns in durations_ns:
        histogram.add(bucket_of(duration_ns), 1)
    return histogram


@pytest.mark.parametrize("fraction", [0.5, 0.99, 0.999])
def test_quantile_is_right_within_an_eighth(fraction: float) -> None:
    durations_ns = sorted(int(random.Random(7).lognormvariate(13, 2)) for _ in range(5000))
    exact = durations_ns[int(fraction * len(durations_ns)) - 1]
    assert filled(durations_ns).quantile_ns(fraction) == pytest.approx(exact, rel=0.125)


@given(st.lists(DURATIONS, min_size=1))
def test_quantiles_grow_and_end_at_the_maximum(durations_ns: list[int]) -> None:
    histogram = filled(durations_ns)
    quantiles = [histogram.quantile_ns(fraction) or 0 for fraction in (0.01, 0.5, 0.9, 1)]
    assert quantiles == sorted(quantiles)
    assert quantiles[-1] == max(durations_ns)


def test_nothing_has_no_quantile_and_no_mean() -> None:
    assert Histogram().quantile_ns(0.5) is None
    assert Histogram().mean_ns is None
