"""Rows, the file they are kept in, and the tables made of them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.matrix import attach, report
from tests.matrix.cells import DIMENSIONS, Cell, product
from tests.matrix.rows import Results, Row, Verdict

CELL = Cell("attach", ("tgt", "ipv4", "both", "yes", "no", "8192", "4096"))
BOOT = Cell("boot", ("bios", "6.12", "static", "chap", "lio"))
SESSION = attach.expected(CELL) | {"first_burst_length_bytes": 65536, "max_burst_length_bytes": 262144}
FIGURES = {"differ": 0, "io_errors": 0, "bytes": 4321, "session": SESSION}


class Place:
    version, kernel = "tgt 1.0", "6.99"


def judge(figures: dict[str, Any], status: int = 0, messages: str = "") -> Row:
    import json

    outcome = {"status": status, "seconds": 1.25, "output": json.dumps(figures), "messages": messages}
    return attach.judge(CELL, Place(), outcome)  # type: ignore[arg-type]


def row(cell: Cell, verdict: Verdict, **more: Any) -> Row:
    return Row(cell.key, "6.99", "SeaBIOS", "memory, iPXE, manual", "tgt 1.0", verdict, **more)


def test_data_read_back_and_values_as_asked_for_are_a_pass() -> None:
    made = judge(FIGURES)
    assert (made.verdict, made.reason, made.verified_bytes, made.seconds) == (Verdict.PASS, "", 4321, 1.25)


@pytest.mark.parametrize(
    ("figures", "status", "reason"),
    [
        (FIGURES | {"differ": 1}, 1, "differ: 1"),
        (FIGURES | {"io_errors": 2}, 1, "io_errors: 2"),
        (FIGURES | {"reconnects": 1}, 0, "reconnects: 1"),
        (FIGURES | {"session": SESSION | {"initial_r2t": False}}, 0, "initial_r2t is False, not True"),
        (FIGURES | {"session": SESSION | {"data_digest": False}}, 0, "data_digest is False"),
        (
            FIGURES | {"session": SESSION | {"max_send_data_segment_length_bytes": 512}},
            0,
            "max_send_data_segment_length_bytes is 512, not 8192",
        ),
        ({}, 75, "exit 75: isboot: refused"),
    ],
)
def test_anything_else_fails_with_its_reason(figures: dict[str, Any], status: int, reason: str) -> None:
    made = judge(figures, status, "isboot: refused")
    assert made.verdict is Verdict.FAIL
    assert reason in made.reason


def test_results_are_kept_and_only_what_failed_is_run_again(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    results = Results(file, keeps=True)
    results.add(row(CELL, Verdict.PASS, negotiated={"initial_r2t": True}))
    results.add(row(BOOT, Verdict.FAIL, reason="the root § was not mounted"))
    again = Results(file, keeps=True)
    assert again.rows == results.rows
    assert (again.has(CELL), again.has(BOOT)) == (True, False)
    assert not Results(file, keeps=False).rows


def test_the_document_names_every_cell_run_or_not() -> None:
    cells = [cell for kind in DIMENSIONS for cell in product(kind)]
    rows = [
        row(CELL, Verdict.PASS, seconds=1.5, verified_bytes=1234567, negotiated=SESSION),
        row(BOOT, Verdict.FAIL, seconds=77.0, reason="login: a | b\nsecond line"),
    ]
    text = report.document(rows, cells, 8)
    assert "| ipv4 | both | yes | no | 8192 | 4096 | 65536 | 262144 | 1.5 | 1,234,567 | pass |" in text
    assert "FAIL: login: a \\| b second line |" in text
    not_run = text.partition("## Not run")[2]
    assert CELL.key not in not_run
    assert BOOT.key not in not_run
    assert not_run.count("\n- ") == len(cells) - 2
    assert "| bift | Broadcom offload |" in text
    assert "| attach | tgt | 192 | 1 | 0 | 0 | 191 |" in text
    assert "| boot | lio | 24 | 0 | 1 | 0 | 23 |" in text


def test_every_quirk_says_what_isboot_does_about_it_and_who_says_so() -> None:
    found = tomllib.loads(report.QUIRKS.read_text(encoding="utf-8"))["quirk"]
    for quirk in found:
        assert set(quirk) == {"of", "does", "isboot", "source"}
        assert all(quirk.values())
    assert len({quirk["does"] for quirk in found}) == len(found)
