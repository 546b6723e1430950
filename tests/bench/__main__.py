"""
Measure isboot against its peers, side by side: A B A B in one guest, or natively.

Rigs: `guest` (tgtd beside the guest, over a tap), `lio` (LIO in the guest, over its loopback), `native` (the
engine alone against libiscsi, no block device). A ratio is ours over theirs, of rounds that are neighbours in
time; absolute figures of an emulated guest mean little.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import guests, native, report
from tests.bench.cells import GUEST_CELLS, NATIVE_CELLS, QUICK
from tests.bench.guests import Options
from tests.bench.measure import BenchError
from tests.bench.sides import PEERS
from tests.vm.kernel import KERNELS
from tests.vm.progress import RigError

RIGS = ("guest", "lio", "native")
NAMES = sorted({cell.name for cell in (*GUEST_CELLS, *NATIVE_CELLS)})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rig", action="append", choices=RIGS, help="one rig (may be repeated; default: all)"
    )
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="of the guests (default: both)")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="in guests (default: all)")
    parser.add_argument(
        "--cell", action="append", choices=NAMES, metavar="CELL", help=f"of {', '.join(NAMES)}"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of each side, in turns (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run (5)")
    parser.add_argument("--quick", action="store_true", help="a few cells, 2 rounds of 2 seconds")
    parser.add_argument("--json", type=Path, metavar="F", help="write all cells there")
    return parser.parse_args()


def cells(chosen: argparse.Namespace, options: Options) -> Iterator[dict[str, Any]]:
    for rig in chosen.rig or RIGS:
        if rig == "native":
            yield from native.measure(options)
        else:
            for label in chosen.kernel or KERNELS:
                yield from guests.measure(rig, label, options)


def main() -> int:
    chosen = arguments()
    if chosen.rounds < 1 or chosen.seconds < 1:
        print("tools/bench: --rounds and --seconds are from 1 on", file=sys.stderr)
        return 2
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.1f}] {text}", file=sys.stderr, flush=True)

    options = Options(
        seconds=2.0 if chosen.quick else chosen.seconds,
        rounds=2 if chosen.quick else chosen.rounds,
        cells=chosen.cell or (QUICK if chosen.quick else ()),
        peers=chosen.peer or (("open-iscsi-tuned",) if chosen.quick else tuple(PEERS)),
        say=say,
    )
    rows: list[dict[str, Any]] = []
    try:
        for row in cells(chosen, options):
            rows.append(row)
            if chosen.json:
                chosen.json.write_text(json.dumps(report.document(rows), indent=1) + "\n")
    except (BenchError, RigError) as error:
        print(f"tools/bench: {error}", file=sys.stderr)
        return 1
    finally:
        print(report.table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
