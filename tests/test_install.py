"""What a user does first: install it from source. And the oldest dependencies we promise to work with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

pytestmark = [pytest.mark.native, pytest.mark.slow]

#: what would make the tests of a copy find the modules of this tree
LEFT_OUT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTEST_ADDOPTS")


def run(*command: str | Path, directory: Path) -> str:
    """Run a command and give what it wrote; a failure shows it."""
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}", pytrace=False)
    return done.stdout


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the working tree as a clone would have it: nothing built, nothing ignored by git."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in set(filter(None, names.split("\0"))):
        if (REPOSITORY / name).is_file():
            target = tmp_path / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target)
    return tmp_path / "source"


def test_pip_install_in_an_empty_environment_gives_the_command(source: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment, directory=tmp_path)
    run(environment / "bin/pip", "install", "--quiet", ".", directory=source)
    told = run(environment / "bin/isboot", "--version", directory=tmp_path)
    lines = told.splitlines()
    assert lines[0].startswith("isboot ")
    assert "engine: C on io_uring" in lines
    assert any(line.startswith("CRC32C: ") for line in lines)
    probes = next(line.removeprefix("probes: ") for line in lines if line.startswith("probes: "))
    assert int(probes) > 0


def test_unit_tests_pass_with_the_oldest_dependencies(source: Path) -> None:
    prepared = run(REPOSITORY / "tools/prepare", "python", "oldest", directory=REPOSITORY)
    python = Path(prepared.splitlines()[-1]) / "bin/python"
    frozen = run(python, "-m", "pip", "list", "--format=freeze", directory=source).splitlines()
    assert {"cffi==1.17.1", "crc32c==2.7.1", "pyroute2==0.7.7"} <= set(frozen)
    run(python, "setup.py", "-q", "build_ext", "--inplace", directory=source)
    options = ["-q", "-p", "no:cacheprovider", "--ignore=tests/test_lint.py", "--ignore=tests/vm"]
    told = run(python, "-m", "pytest", *options, "-m", "not native and not guest", directory=source)
    assert " passed" in told.splitlines()[-1]
