"""What is said, and how often."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isboot.daemon import log as log_module
from isboot.daemon.log import Level, Log


def test_a_peers_newline_cannot_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    Log(to_kernel=False).say("name\n<0>panic")
    assert capsys.readouterr().err == "isboot: name <0>panic\n"


def test_a_repeated_line_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(to_kernel=False)
    for _ in range(3):
        log.say_once("lane0", "refused")
    log.say_once("lane0", "no answer")
    assert capsys.readouterr().err == "isboot: refused\nisboot: no answer\n"


def test_what_is_for_developers_is_said_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(to_kernel=False)
    log.say("detail", Level.DEBUG)
    assert capsys.readouterr().err == ""
    log.turn_up(to_console=False, debug=1)
    log.say("detail", Level.DEBUG)
    assert capsys.readouterr().err == "isboot: detail\n"


@pytest.mark.parametrize(("debug", "lines"), [(1, 1), (2, 3)])
def test_repeats_are_said_from_debug_2_on(capsys: pytest.CaptureFixture[str], debug: int, lines: int) -> None:
    log = Log(to_kernel=False)
    log.turn_up(to_console=False, debug=debug)
    for _ in range(3):
        log.say_once("lane0", "refused")
    assert capsys.readouterr().err == "isboot: refused\n" * lines


@pytest.mark.parametrize("debug", [2, 3])
def test_where_an_error_came_up_is_said_from_debug_3_on(
    capsys: pytest.CaptureFixture[str], debug: int
) -> None:
    log = Log(to_kernel=False)
    log.turn_up(to_console=False, debug=debug)
    try:
        raise ValueError("here")
    except ValueError as error:
        log.trace(error)
    assert ("test_log.py" in capsys.readouterr().err) == (debug == 3)


def test_the_console_gets_what_the_kernel_keeps_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / name for name in ("kmsg", "console", "printk")}
    for file in files.values():
        file.write_text("4\t4\t1\t7\n" if file.name == "printk" else "")
    opened = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags: opened(files["kmsg"] if path == "/dev/kmsg" else path, flags)
    )
    log = Log()
    log.turn_up(to_console=True, debug=0, console=str(files["console"]), printk=str(files["printk"]))
    log.say("quiet", Level.NOTICE)
    log.say("loud", Level.ERROR)  # the kernel shows this one itself
    assert files["console"].read_text() == "isboot: quiet\n"
    assert files["kmsg"].read_text() == "<5>isboot: quiet\n<3>isboot: loud\n"


def test_a_table_keeps_its_columns_and_is_not_cut_by_the_kernels_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = []

    def open_kmsg() -> int:
        opened.append(os.open(tmp_path / str(len(opened)), os.O_WRONLY | os.O_CREAT))
        return opened[-1]

    monkeypatch.setattr(log_module, "_open_kmsg", open_kmsg)
    log = Log()
    log.say_table([f"  step {number}   ok\nforged" for number in range(20)], Level.ERROR)
    log.say("after")
    texts = [(tmp_path / str(number)).read_text().splitlines() for number in range(len(opened))]
    assert [len(text) for text in texts] == [1, 8, 8, 4]
    assert texts[1][0] == "<3>isboot:   step 0   ok forged"
    assert texts[0] == ["<6>isboot: after"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(opened[-1])


def test_what_is_not_shown_is_kept_in_the_ring(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(to_kernel=False, show=Level.WARNING)
    log.say("detail", Level.INFO)
    assert capsys.readouterr().err == ""
    assert list(log.ring) == ["detail"]
