"""docs/interoperability.md: the rows of all runs, and the quirks found on the way."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from isboot.firmware.quirks import QUIRKS as TABLE_QUIRKS
from tests.matrix.cells import DIMENSIONS, Cell
from tests.matrix.rows import Row, Verdict

QUIRKS = Path(__file__).with_name("quirks.toml")

HEAD = """# Interoperability

What isboot was run against, and what it met. This file is written by `tools/matrix`, from
`interoperability.json` beside it and `tests/matrix/quirks.toml`; do not edit it.

- A **boot** is a diskless machine under QEMU (emulated, 2 processors) from power-on to power-off: firmware,
  iPXE, the table it leaves, GRUB, isboot in the initramfs, Debian 13 on the LUN, {mib} MiB written and read
  again past the page cache, and a shutdown that flushes and logs out. Seconds are of the whole, with other
  guests beside it.
- An **attach** is `isboot bench --verify`: random reads and writes of random sizes against a running target,
  each read compared with a model, and the negotiated values with those asked for. tgt and istgt are native on
  loopback, LIO and isboot are in one emulated guest. There is no block device: tests/vm has those.
- A cell that **cannot be** has its reason. A subset that covers every pair of values is in `tools/check`.
"""


def _cell_values(row: Row) -> list[str]:
    return [word.partition("=")[2] for word in row.cell.split()[1:]]


def _table(head: Sequence[str], body: Iterable[Sequence[object]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for values in body:
        lines.append("| " + " | ".join(str(value).replace("|", "\\|") for value in values) + " |")
    return lines


def summary(rows: Sequence[Row], cells: Sequence[Cell]) -> list[str]:
    """Give how many cells of each kind and target there are, and what came of them."""
    verdicts = {row.cell: row.verdict for row in rows}
    counts: dict[tuple[str, str], Counter[str]] = {}
    for cell in cells:
        place = counts.setdefault((cell.kind, cell["target"]), Counter())
        place["cells"] += 1
        place[verdicts.get(cell.key, "not run")] += 1
    names = ["cells", Verdict.PASS, Verdict.FAIL, Verdict.CANNOT, "not run"]
    body = [[kind, target, *(count[name] for name in names)] for (kind, target), count in counts.items()]
    return _table(["", "target", *names], body)


def _verdict(row: Row) -> str:
    return f"{row.verdict}: {' '.join(row.reason.split())}" if row.reason else str(row.verdict)


def boots(rows: Iterable[Row]) -> list[str]:
    """Give the table of boots."""
    head = ["kernel", "firmware", "table", "target", "login", "s", "verified", "verdict"]
    body = [
        [
            row.kernel, row.firmware, row.table, row.target, row.negotiated.get("login", "-"),
            f"{row.seconds:.0f}", _bytes(row), _verdict(row),
        ]
        for row in rows
    ]  # fmt: skip
    return _table(head, body)


def attached(rows: Sequence[Row]) -> list[str]:
    """Give the tables of attached targets, one a target and kernel: what they share is said once."""
    lines: list[str] = []
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.target, row.kernel), []).append(row)
    names = [name for name in DIMENSIONS["attach"] if name != "target"]
    for (target, kernel), some in groups.items():
        lines += ["", f"### {target}", "", f"Kernel {kernel}, no firmware, values from a URL.", ""]
        body = [
            [
                *_cell_values(row)[1:],
                *(row.negotiated.get(f"{name}_burst_length_bytes", "-") for name in ("first", "max")),
                f"{row.seconds:.1f}",
                _bytes(row),
                _verdict(row),
            ]
            for row in some
        ]
        lines += _table([*names, "FirstBurst", "MaxBurst", "s", "verified", "verdict"], body)
    return lines


def _bytes(row: Row) -> str:
    return f"{row.verified_bytes:,}" if row.verified_bytes else "-"


def quirks() -> list[str]:
    """Give the table of quirks."""
    found = tomllib.loads(QUIRKS.read_text(encoding="utf-8"))["quirk"]
    return _table(
        ["of", "what it does", "what isboot does", "seen"],
        [[quirk[name] for name in ("of", "does", "isboot", "source")] for quirk in found],
    )


def table_quirks() -> list[str]:
    """Give what firmware does in its own way, as `isboot ibft` knows it."""
    head = ["code", "of", "how it shows", "what isboot does", "known from"]
    return _table(head, [[row.code, row.producer, row.sign, row.action, row.source] for row in TABLE_QUIRKS])


def document(rows: Sequence[Row], cells: Sequence[Cell], mib: int) -> str:
    """
    Give the whole file.

    :param cells: all there are, run or not
    :param mib: how much a boot verifies
    """
    order = {cell.key: position for position, cell in enumerate(cells)}
    known = sorted((row for row in rows if row.cell in order), key=lambda row: order[row.cell])
    by_kind = {kind: [row for row in known if row.cell.startswith(f"{kind} ")] for kind in DIMENSIONS}
    not_run = [cell.key for cell in cells if cell.key not in {row.cell for row in known}]
    parts = [
        HEAD.format(mib=mib).rstrip(),
        "",
        *summary(known, cells),
        "",
        "## Quirks of targets",
        "",
        *quirks(),
        "",
        "## Quirks of tables",
        "",
        "`isboot ibft` names those it meets (isboot/firmware/quirks.py).",
        "",
        *table_quirks(),
        "",
        "## Boots",
        "",
        *boots(by_kind["boot"]),
        "",
        "## Attached",
        *attached(by_kind["attach"]),
    ]
    if not_run:
        parts += ["", "## Not run", "", *(f"- {key}" for key in not_run)]
    return "\n".join(parts) + "\n"
