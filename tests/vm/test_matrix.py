"""The part of the matrix' subset that needs guests; tools/matrix runs all of it."""

from __future__ import annotations

import pytest

from tests.matrix import attach, boots
from tests.matrix.cells import Cell, covering, product
from tests.matrix.rows import Verdict
from tests.vm.rig import Rig

pytestmark = pytest.mark.guest

#: what tests/vm/test_diskless.py does not boot: LIO, an address set by hand
BOOTED = [Cell("boot", ("bios", "7.2", "static", "mutual", "lio"))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        cells = covering(product("boot")) if metafunc.config.getoption("--all") else BOOTED
        metafunc.parametrize("cell", cells, ids=lambda cell: "-".join(cell.values))


def test_every_pair_of_values_moves_the_right_data_of_lio(rig: Rig) -> None:
    cells = covering(cell for cell in product("attach") if cell["target"] == "lio")
    rows = list(attach.run(cells, attach.LioPlace(rig, "7.2")))
    assert [(row.cell, row.reason) for row in rows if row.verdict is not Verdict.PASS] == []
    assert len(rows) >= 12
    assert all(row.verified_bytes for row in rows)


def test_a_machine_boots(rig: Rig, cell: Cell) -> None:
    row = boots.run(rig, cell)
    assert row.verdict is Verdict.PASS, row.reason
    assert row.table.endswith(f"CHAP {cell['chap']}")
