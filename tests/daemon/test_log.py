"""What is said, and how often."""

from __future__ import annotations

import pytest

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


def test_what_is_not_shown_is_kept_in_the_ring(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(to_kernel=False, show=Level.WARNING)
    log.say("detail", Level.INFO)
    assert capsys.readouterr().err == ""
    assert list(log.ring) == ["detail"]
