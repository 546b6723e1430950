"""The report: one JSON document, and a table people can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: the order of a cell's keys in the document
KEYS = (
    "rig", "kernel", "cell", "peer", "peer_version", "peer_kind", "mode", "profile", "header_digest",
    "data_digest", "queues", "depth", "ours", "theirs", "unit", "better", "ratio", "ratio_min", "ratio_max",
    "spread_ours", "spread_theirs", "rounds", "limited_by", "ceiling", "reason",
)  # fmt: skip


def document(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Give the whole, each cell with every key."""
    return {"cells": [{key: row.get(key) for key in KEYS} for row in rows]}


def figure(value: float | None, unit: str) -> str:
    """Write a figure short: 12.3k, 1.21G."""
    if value is None:
        return "-"
    for factor, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor and unit in ("iops", "B/s"):
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def verdict(row: dict[str, Any]) -> str:
    """Say who is ahead, or why nobody can say."""
    if row["reason"]:
        return str(row["reason"])
    ahead = row["ratio"] > 1 if row["better"] == "higher" else row["ratio"] < 1
    return "ahead" if ahead else "behind"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Give a table in Markdown, a line a cell; a ratio is ours over theirs: median (least to most)."""
    lines = [
        "| rig | kernel | cell | peer | isboot | peer's | unit | ratio | better | spread | |",
        "|---|---|---|---|---:|---:|---|---|---|---|---|",
    ]
    for row in rows:
        ratio = (
            f"{row['ratio']:.2f} ({row['ratio_min']:.2f} to {row['ratio_max']:.2f})" if row["ratio"] else "-"
        )
        spread = f"{row['spread_ours']:.0%}, {row['spread_theirs']:.0%}" if row["ratio"] else "-"
        columns = (
            row["rig"], row["kernel"], row["cell"], row["peer"], figure(row["ours"], row["unit"]),
            figure(row["theirs"], row["unit"]), row["unit"], ratio, row["better"], spread, verdict(row),
        )  # fmt: skip
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)
