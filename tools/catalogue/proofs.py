"""Which test makes which message happen: tests/messages.json, written by the recorder."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FILE = Path("tests/messages.json")
KEPT = 2  #: tests named for a message: those nearest to the real thing
#: where a test stands says how real it is
ORDER = ("tests/vm/", "tests/native/", "tests/daemon/", "tests/commands/", "tests/")


def read(path: Path = FILE) -> dict[str, list[str]]:
    """Give the tests of each message by its key; none where nothing was recorded yet."""
    if not path.exists():
        return {}
    found: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return found


def update(seen: Mapping[str, set[str]], ran: set[str], path: Path = FILE) -> None:
    """
    Put what was seen into the file; what other tests have shown before stays, as long as they are there.

    :param ran: tests that ran just now: what they no longer show goes
    """
    from tools.catalogue.rows import all_rows

    before = read(path)
    merged = {}
    for key in (row.key for row in all_rows()):
        kept = {test for test in before.get(key, ()) if test not in ran and exists(test)}
        tests = sorted(kept | seen.get(key, set()), key=lambda test: (rank(test), test))
        if tests:
            merged[key] = tests[:KEPT]
    path.write_text(
        json.dumps(dict(sorted(merged.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def rank(test: str) -> int:
    return next(number for number, folder in enumerate(ORDER) if test.startswith(folder))


def exists(test: str) -> bool:
    """Whether there is a test of that name: "tests/a/test_b.py::test_c"."""
    file, _, name = test.partition("::")
    return name.rpartition("::")[2] in functions(file)


@cache
def functions(file: str) -> frozenset[str]:
    path = Path(file)
    if not path.exists():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
