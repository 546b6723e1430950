"""Dimensions, pairs, choice, and that what is said to be impossible is so."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.matrix.__main__ import wanted
from tests.matrix.cells import DIMENSIONS, IMPOSSIBLE, Cell, covering, impossible, in_order, pairs, product
from tests.native.targets import Istgt, missing

KINDS = list(DIMENSIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_combination_is_a_cell_with_a_name_of_its_own(kind: str) -> None:
    cells = product(kind)
    assert len({cell.key for cell in cells}) == math.prod(map(len, DIMENSIONS[kind].values()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_subset_has_every_pair_and_few_cells(kind: str) -> None:
    cells = product(kind)
    some = covering(cells)
    assert set().union(*map(pairs, some)) == set().union(*map(pairs, cells))
    two_longest = sorted(map(len, DIMENSIONS[kind].values()))[-2:]
    assert math.prod(two_longest) <= len(some) <= 2 * math.prod(two_longest)
    assert covering(product(kind)) == some


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_a_run_leaves_nothing_out(kind: str) -> None:
    ordered = list(in_order(product(kind)))
    assert sorted(cell.key for cell in ordered) == sorted(cell.key for cell in product(kind))
    some = covering(product(kind))
    assert ordered[: len(some)] == some


def test_only_takes_what_fits_all() -> None:
    choice = wanted(["kind=attach", "target=tgt,lio", "segment=512", "digests=none"])
    chosen = [cell for kind in KINDS for cell in product(kind) if cell.is_chosen(choice)]
    assert len(chosen) == 2 * 2 * 2 * 2 * 2
    assert {cell["target"] for cell in chosen} == {"tgt", "lio"}
    # a dimension only boots have
    assert {
        cell.kind for kind in KINDS for cell in product(kind) if cell.is_chosen(wanted(["chap=none"]))
    } == {"boot"}


@pytest.mark.parametrize("text", ["target", "target=scst", "colour=red", "segment=512,13"])
def test_only_of_what_no_cell_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no cell has that"):
        wanted([text])


def test_what_cannot_be_is_known_by_its_values() -> None:
    values = ("istgt", "ipv4", "none", "no", "yes", "512", "512")
    assert "InitialR2T" in impossible(Cell("attach", values))
    assert impossible(Cell("attach", ("tgt", *values[1:]))) == ""
    assert [rule for rule in IMPOSSIBLE if set(rule.values) - set(DIMENSIONS[rule.kind])] == []


@pytest.mark.native
@pytest.mark.skipif(bool(missing("istgt")), reason=f"{missing('istgt')}")
def test_istgt_does_not_start_without_initial_r2t(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not supported value No"):
        Istgt(tmp_path, parameters={"InitialR2T": "No"}).start()
