"""Numbers laid out for people."""

from __future__ import annotations

import pytest

from isboot.trace.histogram import Histogram, bucket_of
from isboot.trace.report import bar, count_of, duration, side_by_side


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (None, "-"),
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1.00 us"),
        (9994, "9.99 us"),
        (9996, "10.0 us"),
        (99_960, "100 us"),
        (999_400, "999 us"),
        (999_600, "1.00 ms"),
        (20_100_000, "20.1 ms"),
        (61_000_000_000, "61.00 s"),
    ],
)
def test_duration_has_three_digits_and_a_unit(duration_ns: int | None, text: str) -> None:
    assert duration(duration_ns) == text


def test_count_has_its_noun() -> None:
    assert [count_of(number, "error") for number in (0, 1, 2345)] == ["no errors", "1 error", "2,345 errors"]


def test_bar_shows_what_is_there_at_all() -> None:
    assert bar(0, 1000, 10) == ""
    assert bar(1, 1000, 10) == "*"
    assert bar(1000, 1000, 10) == "*" * 10


def test_columns_share_rows_and_stand_under_their_titles() -> None:
    slow = Histogram({bucket_of(5_000): 1, bucket_of(20_000): 3}, 65_000, 20_500)
    lines = side_by_side([("slow", slow), ("none", Histogram())])
    assert lines == [
        "                                      slow                  none",
        "    p50                            20.5 us                     -",
        "    p99                            20.5 us                     -",
        "    p99.9                          20.5 us                     -",
        "    max                            20.5 us                     -",
        "    mean                           16.2 us                     -",
        "    microseconds",
        "       4 -> 7               1 |****                 |",
        "       8 -> 15                |                     |",
        "      16 -> 31              3 |***********          |",
    ]
