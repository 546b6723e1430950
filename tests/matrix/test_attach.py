"""The native part of the matrix' subset: every pair of values, against tgtd and istgt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.matrix import attach
from tests.matrix.cells import covering, impossible, product
from tests.matrix.rows import Verdict
from tests.native.targets import missing

pytestmark = [pytest.mark.native, pytest.mark.slow]


@pytest.mark.parametrize(("target", "program"), [("tgt", "tgtd"), ("istgt", "istgt")])
def test_every_pair_of_values_moves_the_right_data(tmp_path: Path, target: str, program: str) -> None:
    if reason := missing(program):
        pytest.skip(reason)
    cells = [cell for cell in product("attach") if cell["target"] == target and not impossible(cell)]
    with attach.native(target, tmp_path) as place:
        rows = list(attach.run(covering(cells), place))
    assert [(row.cell, row.reason) for row in rows if row.verdict is not Verdict.PASS] == []
    assert len(rows) >= 12
    assert all(row.verified_bytes for row in rows)
