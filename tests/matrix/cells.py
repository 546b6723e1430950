"""What the matrix is made of: dimensions, their product, the pairs that a subset has to cover."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.vm.kernel import KERNELS

#: kind -> dimension -> its values
DIMENSIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "boot": {
        "firmware": ("bios", "uefi"),
        "kernel": tuple(KERNELS),
        "table": ("dhcp", "static"),
        "chap": ("none", "chap", "mutual"),
        "target": ("tgt", "lio"),
    },
    "attach": {
        "target": ("tgt", "istgt", "lio"),
        "address": ("ipv4", "ipv6"),
        "digests": ("none", "header", "data", "both"),
        "initial_r2t": ("yes", "no"),
        "immediate_data": ("yes", "no"),
        "segment": ("512", "8192", "262144"),
        "block": ("512", "4096"),
    },
}


@dataclass(frozen=True)
class Cell:
    """
    One combination.

    :ivar kind: "boot", or "attach" to a running target
    :ivar values: one of each dimension, in their order
    """

    kind: str
    values: tuple[str, ...]

    def __getitem__(self, dimension: str) -> str:
        return self.values[list(DIMENSIONS[self.kind]).index(dimension)]

    @property
    def key(self) -> str:
        """Its name, the same in every run."""
        names = DIMENSIONS[self.kind]
        return " ".join(
            [self.kind, *(f"{name}={value}" for name, value in zip(names, self.values, strict=True))]
        )

    def is_chosen(self, wanted: Mapping[str, Sequence[str]]) -> bool:
        """Whether it has one of the values wanted of each dimension named, `kind` being one of them."""
        own = {"kind": self.kind, **dict(zip(DIMENSIONS[self.kind], self.values, strict=True))}
        return all(own.get(name) in values for name, values in wanted.items())


@dataclass(frozen=True)
class Impossible:
    """Cells that cannot be, and what says so; a test holds each row to be true."""

    kind: str
    values: Mapping[str, str]
    reason: str


IMPOSSIBLE = (
    Impossible(
        "attach",
        {"target": "istgt", "initial_r2t": "no"},
        "istgt does not start with InitialR2T No: istgt_init: not supported value",
    ),
)


def impossible(cell: Cell) -> str:
    """Say why a cell cannot be, or ""."""
    for rule in IMPOSSIBLE:
        if rule.kind == cell.kind and all(cell[name] == value for name, value in rule.values.items()):
            return rule.reason
    return ""


def product(kind: str) -> list[Cell]:
    """Give every combination of a kind."""
    return [Cell(kind, values) for values in itertools.product(*DIMENSIONS[kind].values())]


def pairs(cell: Cell) -> set[tuple[int, str, int, str]]:
    """Give the pairs of values a cell has."""
    placed = list(enumerate(cell.values))
    return {(a, x, b, y) for (a, x), (b, y) in itertools.combinations(placed, 2)}


def covering(cells: Iterable[Cell]) -> list[Cell]:
    """
    Choose a few cells that have every pair of values which any of the cells has.

    Each step takes the first of those with the most pairs that are new, so the choice is always the same.
    """
    left = list(cells)
    missing = set().union(*map(pairs, left))
    chosen = []
    while missing:
        best = max(left, key=lambda cell: len(pairs(cell) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


def in_order(cells: Sequence[Cell]) -> Iterator[Cell]:
    """Give a few that cover every pair first, then the rest: a run that is cut short has seen the most."""
    first = covering(cells)
    yield from first
    yield from (cell for cell in cells if cell not in first)
