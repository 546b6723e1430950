"""The layering of ARCHITECTURE.md, and a few rules of form, held over every file there is."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMON = {"values", "errors", "units"}
STAGES = {"firmware", "config", "network", "session", "engine", "block"}

# What each part may import of isboot besides itself and COMMON.
MAY_IMPORT = {
    "values": set(),
    "errors": set(),
    "units": set(),
    "firmware": set(),
    "config": set(),
    "network": set(),
    "session": set(),
    "engine": {"_engine"},
    "block": {"engine", "_engine"},
    "trace": set(),
    "boot": STAGES,
    "visit": STAGES,
    "daemon": STAGES | {"boot", "_engine"},
    "commands": STAGES | {"boot", "visit", "daemon", "trace", "_engine"},
    "cli": {"commands", "_engine"},
    "__main__": {"cli"},
    "__init__": set(),
}
DEPENDENCIES = {"cffi", "pyroute2", "crc32c", "bcc"}
MAY_PRINT = {"cli", "commands"}
FORBIDDEN_NAMES = {"util", "utils", "helper", "helpers", "manager", "misc", "common"}
MAXIMUM_LINES = 500

PACKAGE = Path("isboot")
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = sorted(
    path
    for folder in ("isboot", "tests", "tools", "cdefs", "bpf")
    for path in Path(folder).rglob("*")
    if path.suffix in (".py", ".c", ".h") and path.name != "_engine.c"
)


def part_of(path: Path) -> str:
    """Give the stage or the single module a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Give each imported module in full, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            for name in node.names:
                yield f"{node.module}.{name.name}", node.lineno


def complaints(source: str, part: str) -> list[str]:
    """Say what a module imports or prints though its part may not."""
    tree = ast.parse(source)
    found = []
    for module, line in imports(tree):
        package, _, rest = module.partition(".")
        imported = rest.partition(".")[0]
        if package != "isboot":
            if package not in sys.stdlib_module_names | DEPENDENCIES:
                found.append(f"line {line}: {package} is no dependency of isboot")
        elif imported not in MAY_IMPORT[part] | COMMON | {part, "", "__version__"}:
            found.append(f"line {line}: {part} must not import isboot.{imported}")
    for node in ast.walk(tree):
        is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if is_call and node.func.id == "print" and part not in MAY_PRINT:
            found.append(f"line {node.lineno}: only the command line prints")
    return found


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    assert part_of(path) in MAY_IMPORT, "a new part needs a row in this table and in ARCHITECTURE.md"
    assert complaints(path.read_text(encoding="utf-8"), part_of(path)) == []


@pytest.mark.parametrize(
    ("source", "part", "count"),
    [
        ("from isboot.config import boot", "firmware", 1),
        ("from isboot import trace", "session", 1),
        ("import isboot.session.pdu", "network", 1),
        ("import requests", "config", 1),
        ("print('x')", "block", 1),
        ("def f():\n    from isboot.daemon import start", "boot", 1),
        ("from isboot.values import Policy\nfrom isboot.firmware import find", "firmware", 0),
        ("import os\nfrom isboot.config import boot\nprint('x')", "commands", 0),
    ],
)
def test_the_rule_itself_finds_what_it_is_for(source: str, part: str, count: int) -> None:
    assert len(complaints(source, part)) == count


def test_no_file_is_longer_than_can_be_read() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > MAXIMUM_LINES} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [path for path in SOURCES if path.stem.strip("_") in FORBIDDEN_NAMES] == []


def test_packages_of_stages_are_empty() -> None:
    # What stands in one of them is paid for by every import of the stage, at boot.
    inits = [path for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE]
    assert {path for path in inits if len(path.read_text().splitlines()) > 5} == set()
