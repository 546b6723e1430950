"""How numbers are laid out for people: durations, quantiles, histograms side by side."""

from __future__ import annotations

from collections.abc import Sequence

from isboot.trace.histogram import Histogram, row_bounds_us

QUANTILES = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))
LABEL_WIDTH = 20
COLUMN_WIDTH = 22
BAR_WIDTH = 11


def duration(duration_ns: int | None) -> str:
    """Give a duration in three digits and a unit: 12.3 us; "-" for None."""
    if duration_ns is None:
        return "-"
    value = float(duration_ns)
    for unit in ("ns", "us", "ms"):
        if round(value, 0) < 1000:
            digits = 0 if unit == "ns" or value >= 99.95 else 1 if value >= 9.995 else 2
            return f"{value:.{digits}f} {unit}"
        value /= 1000
    return f"{value:.2f} s"


def count_of(number: int, noun: str) -> str:
    """Give a number with its noun: "no errors", "1 error", "12,345 errors"."""
    if number == 0:
        return f"no {noun}s"
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def bar(count: int, largest: int, width: int = BAR_WIDTH) -> str:
    """Give a bar; what is there at all has one star."""
    if not count:
        return ""
    return "*" * max(1, round(width * count / largest))


def side_by_side(columns: Sequence[tuple[str, Histogram]]) -> list[str]:
    """
    Give quantiles and histograms, a column each, all with the same rows.

    :param columns: title, at most COLUMN_WIDTH - 2 characters, and the counts
    """
    width = COLUMN_WIDTH
    lines = [" " * LABEL_WIDTH + "".join(f"{title:>{width}}" for title, _ in columns)]
    for name, fraction in QUANTILES:
        lines.append(_line(name, [duration(one.quantile_ns(fraction)) for _, one in columns]))
    lines.append(_line("max", [duration(one.maximum_ns if one.count else None) for _, one in columns]))
    lines.append(_line("mean", [duration(one.mean_ns) for _, one in columns]))
    lines.append("    microseconds")
    counts = [one.rows() for _, one in columns]
    largest = [max(rows.values(), default=1) for rows in counts]
    used = {row for rows in counts for row, count in rows.items() if count}
    for row in range(min(used, default=0), max(used, default=-1) + 1):
        first, last = row_bounds_us(row)
        cells = ""
        for rows, most in zip(counts, largest, strict=True):
            count = rows.get(row, 0)
            cells += f"{count or '':>{width - BAR_WIDTH - 2}} |{bar(count, most):{BAR_WIDTH}}"
        label = f"{first:>8} -> {last:<8}" if row else f"{'below 1':>12}{'':8}"
        lines.append(f"{label}{cells}".rstrip())
    return lines


def _line(name: str, cells: Sequence[str]) -> str:
    return f"    {name:{LABEL_WIDTH - 4}}" + "".join(f"{cell:>{COLUMN_WIDTH}}" for cell in cells)
