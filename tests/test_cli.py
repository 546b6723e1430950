from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from isboot import __version__, cli
from isboot.errors import ExitStatus, NetworkError


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def replace_command(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    command = SimpleNamespace(
        NAME="ibft", HELP="test", EXAMPLE="isboot ibft", add_arguments=lambda parser: None, run=run
    )
    monkeypatch.setattr(cli, "_command", lambda name: command)


def test_every_command_has_a_row_and_every_row_a_command() -> None:
    names = {path.stem for path in Path("isboot/commands").glob("*.py")} - {"__init__"}
    assert {name.replace("-", "_") for name in cli.COMMANDS} == names


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_a_command_offers_what_the_command_line_needs(name: str) -> None:
    command = cli._command(name)
    assert name == command.NAME
    assert command.HELP
    assert not command.HELP.endswith(".")
    assert callable(command.add_arguments)
    assert callable(command.run)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in cli.COMMANDS)


def help_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main([*words, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_help_fits_a_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = help_of([], capsys).splitlines()
    assert len(lines) <= 24
    assert all(len(line) < 80 for line in lines)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_ends_with_an_example_that_can_be_typed(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = help_of([name], capsys).splitlines()[-1].strip()
    assert example.startswith(f"isboot {name}")
    ran: list[object] = []
    monkeypatch.setattr(cli._command(name), "run", lambda parsed: ran.append(parsed) or 0)
    assert cli.main(shlex.split(example)[1:]) == 0
    assert len(ran) == 1


def test_the_version_names_engine_crc_and_probes_or_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = SimpleNamespace(isboot_crc_library=lambda: b"ISA-L 2.31.1", isboot_probe_count=lambda: 12)
    engine = SimpleNamespace(lib=library, ffi=SimpleNamespace(string=lambda text: text))
    monkeypatch.setitem(sys.modules, "isboot._engine", engine)  # type: ignore[arg-type]
    assert cli.main(["--version"]) == 0
    shown = capsys.readouterr().out
    for part in (
        f"isboot {__version__}",
        "engine: C on io_uring",
        "CRC32C: ISA-L 2.31.1",
        "probes: 12",
        "bcc: ",
    ):
        assert part in shown
    monkeypatch.setitem(sys.modules, "isboot._engine", None)  # type: ignore[arg-type]
    assert cli.main(["--version"]) == 0
    assert "engine: missing" in capsys.readouterr().out


def test_an_error_is_told_with_its_hint_and_exit_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(arguments: object) -> ExitStatus:
        raise NetworkError("connecting to a:1: refused", "start the target", ExitStatus.TRY_AGAIN)

    replace_command(monkeypatch, run)
    assert cli.main(["ibft"]) == 75
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "isboot: connecting to a:1: refused\n        hint: start the target\n"


def test_a_defect_is_told_in_one_line_and_shown_whole_on_demand(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(arguments: object) -> ExitStatus:
        raise LookupError("surprise")

    replace_command(monkeypatch, run)
    assert cli.main(["ibft"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("isboot: isboot ibft: unexpected LookupError: surprise\n")
    assert "Traceback" not in shown
    monkeypatch.setenv(cli.SHOW_TRACEBACK, "1")
    with pytest.raises(LookupError):
        cli.main(["ibft"])


def test_an_interrupt_ends_quietly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(arguments: object) -> ExitStatus:
        raise KeyboardInterrupt

    replace_command(monkeypatch, run)
    assert cli.main(["ibft"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["ibft", "--nonsense"], ["ibft", "--index", "x"]])
def test_wrong_usage_is_2_with_a_way_on(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("isboot: reading the command line: ")
    assert "hint: isboot" in shown


def test_a_reader_that_leaves_causes_no_traceback() -> None:
    code = "from isboot.cli import main; import sys; sys.exit(main(['ibft', '--file', '/dev/zero', '--hex']))"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert result.stderr == ""
    assert result.returncode == 1


def test_only_the_command_that_runs_is_imported() -> None:
    result = run_python(
        "import sys; from isboot.cli import main; main(['ibft', '--file', '/nonexistent']);"
        "print([m for m in sys.modules if m.startswith('isboot.commands.')])"
    )
    assert result.stdout.strip() == "['isboot.commands.ibft']"


def test_reading_a_table_needs_no_heavy_module() -> None:
    result = run_python(
        "import sys; from isboot.cli import main; main(['ibft', '--file', '/nonexistent']);"
        "print([m for m in ('pyroute2', 'cffi', 'crc32c', 'asyncio', 'tomllib', 'isboot._engine')"
        " if m in sys.modules])"
    )
    assert result.stdout.strip() == "[]"
