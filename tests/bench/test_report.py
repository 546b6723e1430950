"""The two forms of a report."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.report import KEYS, document, figure, table, verdict

ROW: dict[str, Any] = {
    "rig": "guest", "kernel": "6.12.107", "cell": "4k-randread-qd32", "peer": "open-iscsi-tuned",
    "unit": "iops", "better": "higher", "ours": 12345.0, "theirs": 6789.0, "ratio": 1.82,
    "ratio_min": 1.7, "ratio_max": 1.9, "spread_ours": 0.02, "spread_theirs": 0.05, "reason": None,
}  # fmt: skip


def test_a_document_has_every_key_of_every_cell() -> None:
    (cell,) = document([ROW])["cells"]
    assert tuple(cell) == KEYS
    assert cell["ours"] == 12345.0
    assert cell["ceiling"] is None


def test_a_table_has_a_line_a_cell() -> None:
    *_, line = table([ROW]).splitlines()
    assert "| 12.3k | 6.79k | iops | 1.82 (1.70 to 1.90) | higher | 2%, 5% | ahead |" in line


@pytest.mark.parametrize(
    ("better", "ratio", "said"),
    [("higher", 1.2, "ahead"), ("higher", 0.8, "behind"), ("lower", 1.2, "behind"), ("lower", 0.8, "ahead")],
)
def test_a_verdict_knows_which_way_is_better(better: str, ratio: float, said: str) -> None:
    assert verdict(ROW | {"better": better, "ratio": ratio}) == said


def test_a_cell_without_a_result_says_why() -> None:
    empty = ROW | {"ours": None, "theirs": None, "ratio": None, "reason": "not measured: no peer"}
    assert verdict(empty) == "not measured: no peer"
    assert "| - | - |" in table([empty])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(None, "iops", "-"), (950.0, "iops", "950"), (1.5e9, "B/s", "1.5G"), (123.4, "us", "123")],
)
def test_figures_are_short(value: float | None, unit: str, text: str) -> None:
    assert figure(value, unit) == text
