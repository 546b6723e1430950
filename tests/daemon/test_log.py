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
