"""What came of a cell: one row, the same in the JSON document and in the table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.matrix.cells import Cell


class Verdict(StrEnum):
    """`CANNOT`: the target or the firmware has no such thing, `reason` says what."""

    PASS = "pass"
    FAIL = "FAIL"
    CANNOT = "cannot be"


@dataclass(frozen=True)
class Row:
    """
    :ivar table: where the values of the session came from: a URL, or a table and who made it
    :ivar negotiated: what both sides agreed on
    :ivar verified_bytes: written, read and compared
    """

    cell: str
    kernel: str
    firmware: str
    table: str
    target: str
    verdict: Verdict
    seconds: float = 0.0
    verified_bytes: int = 0
    negotiated: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


class Results:
    """
    The rows of all runs, in a file that is written after each.

    :param file: JSON: a list of rows
    :param keeps: start with what is in the file
    """

    def __init__(self, file: Path, *, keeps: bool) -> None:
        self.file = file
        self.rows: dict[str, Row] = {}
        if keeps and file.exists():
            for entry in json.loads(file.read_text(encoding="utf-8")):
                row = Row(**{**entry, "verdict": Verdict(entry["verdict"])})
                self.rows[row.cell] = row

    def has(self, cell: Cell) -> bool:
        """Whether it need not be run again: what failed is."""
        row = self.rows.get(cell.key)
        return row is not None and row.verdict is not Verdict.FAIL

    def add(self, row: Row) -> None:
        """Keep a row, and write the file."""
        self.rows[row.cell] = row
        lines = ",\n ".join(json.dumps(asdict(each), ensure_ascii=False) for each in self.rows.values())
        fresh = self.file.with_name(self.file.name + ".new")
        fresh.write_text(f"[{lines}]\n", encoding="utf-8")
        fresh.replace(self.file)
