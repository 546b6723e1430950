"""
Run the matrix and print it: boots of a diskless machine, and attached targets with all they may negotiate.

What came out is kept in --json, and written as a table to --table. The exit status is 1 if a cell failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.matrix import attach, boots, report
from tests.matrix.cells import DIMENSIONS, Cell, covering, impossible, in_order, product
from tests.matrix.rows import Results, Row, Verdict
from tests.vm.kernel import KERNELS
from tests.vm.progress import RigError
from tests.vm.rig import Rig

DOCS = Path(__file__).resolve().parents[2] / "docs"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/matrix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = "; ".join(f"{kind}: {', '.join(values)}" for kind, values in DIMENSIONS.items())
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"these cells; VALUE,VALUE takes either, several --only take what fits all. KEY: kind; {names}",
    )
    parser.add_argument("--subset", action="store_true", help="as few cells as cover every pair of values")
    parser.add_argument(
        "--resume", action="store_true", help="keep what is in --json, run what is missing or failed"
    )
    parser.add_argument("--list", action="store_true", help="name the cells and run none")
    parser.add_argument(
        "--lio-kernel", choices=list(KERNELS), default="6.12", help="where LIO is attached (6.12)"
    )
    parser.add_argument("--json", type=Path, default=DOCS / "interoperability.json", metavar="F")
    parser.add_argument("--table", type=Path, default=DOCS / "interoperability.md", metavar="F")
    return parser.parse_args()


def wanted(texts: Sequence[str]) -> dict[str, list[str]]:
    """
    Read the --only options.

    :raises ValueError: a name or a value no cell has
    """
    known = {"kind": set(DIMENSIONS)}
    for dimensions in DIMENSIONS.values():
        for name, values in dimensions.items():
            known.setdefault(name, set()).update(values)
    chosen: dict[str, list[str]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        for one in value.split(","):
            if one not in known.get(name, ()):
                raise ValueError(f"--only {text}: no cell has that; keys are {', '.join(known)}")
        chosen[name] = value.split(",")
    return chosen


def run(cells: Sequence[Cell], lio_kernel: str) -> Iterator[Row]:
    """Run cells; attached ones first, since a boot costs a minute."""
    for target in DIMENSIONS["attach"]["target"]:
        some = [cell for cell in cells if cell.kind == "attach" and cell["target"] == target]
        if some:
            yield from _attach(target, some, lio_kernel)
    for cell in cells:
        if cell.kind == "boot":
            with Rig("matrix-" + "-".join(cell.values)) as rig:
                yield boots.run(rig, cell)


def _attach(target: str, cells: Sequence[Cell], lio_kernel: str) -> Iterator[Row]:
    if target == "lio":
        with Rig("matrix-lio") as rig:
            yield from attach.run(cells, attach.LioPlace(rig, lio_kernel))
            rig.check_kernels()
        return
    with tempfile.TemporaryDirectory() as directory, attach.native(target, Path(directory)) as place:
        yield from attach.run(cells, place)


def main() -> int:
    arguments = parse()
    every = [cell for kind in DIMENSIONS for cell in product(kind)]
    try:
        choice = wanted(arguments.only)
    except ValueError as error:
        print(f"tools/matrix: {error}", file=sys.stderr)
        return 2
    cells = [cell for kind in DIMENSIONS for cell in in_order(product(kind)) if cell.is_chosen(choice)]
    possible = [cell for cell in cells if not impossible(cell)]
    if arguments.subset:
        possible = [cell for kind in DIMENSIONS for cell in covering([c for c in possible if c.kind == kind])]
    if arguments.list:
        print("\n".join(cell.key for cell in possible))
        return 0
    results = Results(arguments.json, keeps=arguments.resume or bool(arguments.only) or arguments.subset)
    for cell in cells:
        if impossible(cell):
            results.add(Row(cell.key, "-", "-", "-", cell["target"], Verdict.CANNOT, reason=impossible(cell)))
    left = [cell for cell in possible if not (arguments.resume and results.has(cell))]
    failed = _run_all(left, results, arguments.lio_kernel)
    arguments.table.write_text(
        report.document(list(results.rows.values()), every, boots.VERIFY_MIB), encoding="utf-8"
    )
    print("\n".join(report.summary(list(results.rows.values()), every)))
    print(f"{len(left)} cells run, {failed} failed; all of them: {arguments.table}")
    return 1 if failed else 0


def _run_all(cells: Sequence[Cell], results: Results, lio_kernel: str) -> int:
    started = time.monotonic()
    failed = 0
    try:
        for number, row in enumerate(run(cells, lio_kernel), 1):
            results.add(row)
            failed += row.verdict is Verdict.FAIL
            progress = f"[{time.monotonic() - started:6.0f}] {number}/{len(cells)}"
            text = f"{progress} {row.verdict} {row.cell} {row.seconds} s {row.reason}"
            print(text, file=sys.stderr, flush=True)
    except RigError as error:
        print(f"tools/matrix: the rig failed: {error}", file=sys.stderr)
        failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
