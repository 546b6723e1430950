"""Linters are tests, so that one command says everything. Each row is a program and the files it reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Linter:
    """
    One program.

    :ivar command: its arguments before the files; without a directory it is found beside this Python
    :ivar is_mine: whether it reads a file, from its name and its first line
    :ivar configuration: without this file of the repository it has nothing to hold anybody to
    """

    name: str
    command: tuple[str, ...]
    is_mine: Callable[[Path, str], bool]
    configuration: str = "pyproject.toml"


def is_python(path: Path, first_line: str) -> bool:
    return path.suffix == ".py" or ("python3" in first_line and first_line.startswith("#!"))


def is_typed(path: Path, _first_line: str) -> bool:
    # the rig is a program, too; tests hand wrong types to functions on purpose
    return path.suffix == ".py" and (path.parts[0] == "isboot" or path.parts[:2] == ("tests", "vm"))


def is_c(path: Path, _first_line: str) -> bool:
    # bcc rewrites its C before it compiles it, and engine.h is cffi's as much as the compiler's
    return path.suffix in (".c", ".h") and path.parts[0] != "bpf"


def is_shell(_path: Path, first_line: str) -> bool:
    return first_line.startswith(("#!/bin/sh", "#!/bin/bash"))


LINTERS = (
    Linter("ruff", ("ruff", "check", "--quiet"), is_python),
    Linter("ruff-format", ("ruff", "format", "--quiet", "--diff"), is_python),
    Linter("mypy", ("mypy", "--no-error-summary", "--explicit-package-bases"), is_typed),
    Linter(
        "clang-format", ("clang-format", "--dry-run", "-Werror", "-ferror-limit=5"), is_c, ".clang-format"
    ),
    Linter("shellcheck", ("shellcheck",), is_shell),
)


def repository_files() -> list[Path]:
    """Give the files of the working tree, by their names in it; what git ignores is left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    )
    names = sorted(set(filter(None, listed.stdout.decode().split("\0"))))
    return [Path(name) for name in names if (REPOSITORY / name).is_file()]


def first_line(path: Path) -> str:
    with open(REPOSITORY / path, "rb") as file:
        return file.readline(200).decode(errors="replace")


@pytest.mark.parametrize("linter", LINTERS, ids=lambda linter: linter.name)
def test_lint_finds_nothing(linter: Linter) -> None:
    if not (REPOSITORY / linter.configuration).exists():
        pytest.skip(f"there is no {linter.configuration}: write one")
    program = Path(sys.executable).with_name(linter.command[0])
    found = str(program) if program.exists() else shutil.which(linter.command[0])
    assert found, f"{linter.command[0]} is not installed: tools/prepare check"
    files = [path for path in repository_files() if linter.is_mine(path, first_line(path))]
    assert files, "no file to read"
    done = subprocess.run(
        [found, *linter.command[1:], *map(str, files)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode or done.stdout.strip():
        pytest.fail(f"exit {done.returncode}\n{done.stdout}", pytrace=False)
