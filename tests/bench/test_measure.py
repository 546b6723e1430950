"""What rounds of two sides say together."""

from __future__ import annotations

import pytest

from tests.bench.cells import GUEST_CELLS, LOADS, NATIVE_CELLS, QUICK, Cell
from tests.bench.measure import BenchError, Rounds, Sample, judge, spread

IOPS = Cell("c", "4k-randread-qd32", "iops", "iops", "higher")


def rounds(ours: list[float], theirs: list[float]) -> Rounds:
    return Rounds(
        [Sample({"iops": value}, 1, 1) for value in ours], [Sample({"iops": v}, 1, 1) for v in theirs]
    )


def test_a_ratio_is_that_of_neighbours_in_time() -> None:
    # the machine was twice as fast in the second half: the ratio does not see it
    row = judge(IOPS, rounds([100, 110, 200, 220, 210], [50, 55, 100, 110, 105]))
    assert (row["ratio"], row["ratio_min"], row["ratio_max"]) == (2, 2, 2)
    assert (row["ours"], row["theirs"], row["rounds"]) == (200, 100, 5)


def test_a_wide_spread_of_either_side_is_no_result() -> None:
    assert judge(IOPS, rounds([100, 101, 99], [50, 50, 50]))["reason"] is None
    assert "spread 40% of ours" in judge(IOPS, rounds([80, 100, 120], [50, 50, 50]))["reason"]
    assert "40% of theirs" in judge(IOPS, rounds([50, 50, 50], [80, 100, 120]))["reason"]


def test_one_outlier_of_many_does_not_spoil_a_cell() -> None:
    assert spread([100, 101, 99, 100, 300]) > spread([100, 101, 99, 100, 102, 98, 100, 300])
    assert spread([100, 101, 99, 100, 102, 98, 100, 300]) < 0.05


def test_data_that_did_not_go_over_the_wire_is_refused() -> None:
    figures = {"figures": {"iops": 1.0}, "moved_bytes": 4096}
    assert Sample.of({**figures, "wire_bytes": 4096}, "x").wire_bytes == 4096
    with pytest.raises(BenchError, match="4096 bytes were moved, but 100 went over the wire"):
        Sample.of({**figures, "wire_bytes": 100}, "x")


@pytest.mark.parametrize("cell", [*GUEST_CELLS, *NATIVE_CELLS], ids=lambda cell: cell.name)
def test_every_cell_reads_a_load_there_is(cell: Cell) -> None:
    assert cell.load in LOADS
    assert cell.better in ("higher", "lower")


def test_the_quick_cells_exist_in_both_rigs() -> None:
    for cells in (GUEST_CELLS, NATIVE_CELLS):
        assert set(QUICK) <= {cell.name for cell in cells}
