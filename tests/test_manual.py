"""docs/isboot.8 says what the program does: every command, option, parameter and exit status."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from isboot import cli
from isboot.config import cmdline, dracut
from isboot.config.parameters import PARAMETERS, Parameter
from isboot.errors import ExitStatus

MANUAL = Path("docs/isboot.8")


def plain(roff: str) -> str:
    """Give the words of a man page without its macros and escapes."""
    lines = []
    for line in roff.splitlines():
        if line.startswith('.\\"'):
            continue
        line = re.sub(r"^\.(B|I|BI|BR|RI|RB|IR|SS|SH|TP|PP|EX|EE|TH)\b ?", "", line)
        # the alternating macros join their words, and quotes hold the blanks that are meant
        line = re.sub(r"\\f[BIRP]", "", line).replace("\\-", "-").replace("\\e", "\\").replace('"', "")
        lines.append(line)
    return "\n".join(lines)


def chapters(text: str, macro: str) -> dict[str, str]:
    """Give the parts of roff that a macro begins, by their titles."""
    parts = re.split(rf"^\.{macro} (.*)$", text, flags=re.MULTILINE)[1:]
    return {title.strip('"'): body for title, body in zip(parts[::2], parts[1::2], strict=True)}


ROFF = MANUAL.read_text(encoding="utf-8")
SECTIONS = chapters(ROFF, "SH")
COMMANDS = {
    plain(title).split()[1]: plain(body) for title, body in chapters(SECTIONS["COMMANDS"], "SS").items()
}


def paragraphs(section: str) -> dict[str, str]:
    """Give the tagged paragraphs of a section: tag -> text."""
    found = {}
    for part in re.split(r"^\.TP\n", SECTIONS[section], flags=re.MULTILINE)[1:]:
        tag, _, body = plain(part).partition("\n")
        found[tag] = body
    return found


def options_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield name
                yield from options_of(sub)
        yield from (option for option in action.option_strings if option not in ("-h", "--help"))


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_and_option_is_described(name: str) -> None:
    parser = argparse.ArgumentParser()
    cli._command(name).add_arguments(parser)
    text = COMMANDS[name]
    words = set(re.split(r"[\s,.;:()|]+", text + " " + " ".join(chapters(ROFF, "SS"))))
    assert [option for option in options_of(parser) if option not in words] == []


def test_nothing_is_described_that_there_is_not() -> None:
    assert set(COMMANDS) == set(cli.COMMANDS)
    known = {"--help"}
    for name in cli.COMMANDS:
        parser = argparse.ArgumentParser()
        cli._command(name).add_arguments(parser)
        known |= set(options_of(parser))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", plain(SECTIONS["COMMANDS"]))) <= known


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_example_of_every_command_is_there(name: str) -> None:
    assert cli._command(name).EXAMPLE in plain(SECTIONS["EXAMPLES"]).splitlines()


@pytest.mark.parametrize(
    "option",
    [
        *(f"{cmdline.PREFIX}.{key}".rstrip(".") for key in cmdline._SWITCHES),
        "rd.isboot.param", "rd.isboot.give_up", "rd.isboot.queues", "rd.isboot.profile", *dracut.OBEYED,
    ],
)  # fmt: skip
def test_every_option_of_the_kernel_command_line_is_described(option: str) -> None:
    assert f"{option}=" in " ".join(paragraphs("KERNEL COMMAND LINE"))


def test_every_option_described_is_one_the_kernel_command_line_takes() -> None:
    described = re.findall(r"(rd\.isboot[a-z_.]*)=", " ".join(paragraphs("KERNEL COMMAND LINE")))
    values = {"rd.isboot.param": "depth=64", "rd.isboot.profile": "small", "rd.isboot.luns": "boot"}
    values["rd.isboot.netns"] = "0"
    line = " ".join(f"{option}={values.get(option, '1')}" for option in described)
    assert len(described) >= 10
    assert cmdline.parse(line).warnings == ()


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_every_parameter_is_described_with_its_range_and_default(parameter: Parameter) -> None:
    text = paragraphs("PARAMETERS")[parameter.name].replace("\n", " ")
    unit = f" {parameter.unit}" if parameter.unit else ""
    assert text.strip().endswith(f"{parameter.range_text}{unit} ({parameter.default_text}).")


def test_no_parameter_is_described_that_there_is_not() -> None:
    assert set(paragraphs("PARAMETERS")) == {parameter.name for parameter in PARAMETERS}


def test_every_exit_status_is_described() -> None:
    numbers = {int(tag) for tag in paragraphs("EXIT STATUS")}
    assert numbers == {int(status) for status in ExitStatus} | {cli.INTERRUPTED}


def test_environment_variables_are_those_of_the_program() -> None:
    assert set(paragraphs("ENVIRONMENT")) == {cli.SHOW_TRACEBACK}


def test_the_page_is_set_without_a_warning() -> None:
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("needs man and groff")
    environment = os.environ | {"LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(MANUAL)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
