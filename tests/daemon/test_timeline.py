"""The steps of a boot: how they are kept, and what a failed one says."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.daemon import timeline
from isboot.daemon.log import Log
from isboot.daemon.timeline import NAMES, STEPS, Mark, Timeline, read, tell
from isboot.errors import ExitStatus, SessionError

REFUSED = SessionError("login to iqn refused: authentication failure", "check CHAP", ExitStatus.NOT_PERMITTED)


def walked(made: Timeline, end: str) -> Timeline:
    """Have every step up to one reached."""
    for name in NAMES[NAMES.index("table") : NAMES.index(end) + 1]:
        made.reach(name, f"words of {name}")
    return made


def steps(lines: list[str]) -> dict[str, str]:
    """Give the word after the step of each line of a summary."""
    return {line.split()[0]: line.split()[1].rstrip(":") for line in lines if line.split()[0] != "also"}


def test_marks_are_read_back_as_they_were_made(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    before = time.monotonic()
    made = walked(Timeline(path), "connect")
    made.fail("connection\nrefused")
    marks = read(path)
    assert [mark.step for mark in marks] == ["table", "nic", "carrier", "address", "connect", "login"]
    assert marks[0].words == "words of table"
    assert marks[-1].failure == "connection refused"
    assert before <= marks[0].seconds <= marks[-1].seconds <= time.monotonic()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@given(st.text(), st.text(min_size=1), st.floats(0, 1e6))
def test_any_words_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory, words: str, cause: str, at_s: float
) -> None:
    path = tmp_path_factory.mktemp("marks") / "marks"
    made = Timeline(path)
    made.reach("table", words, at_s)
    made.fail(cause)
    first, second = read(path)
    assert first == Mark(round(at_s, 6), "table", " ".join(words.split()))
    assert second.failure == " ".join(cause.split())


def test_a_line_that_is_no_mark_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    path.write_text('rubbish\n[]\n{"at_s": 1}\n{"at_s": "x", "step": "nic"}\n{"at_s": 2, "step": "other"}\n'
                    '{"at_s": 3, "step": "nic"}\n')  # fmt: skip
    assert read(path) == [Mark(3.0, "nic")]
    assert read(tmp_path / "none") == []


def test_a_boot_that_tries_for_days_does_not_fill_the_file(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    made = Timeline(path)
    for attempt in range(timeline.MAX_LINES * 2):
        made.fail(f"attempt {attempt}")
    assert len(read(path)) == timeline.MAX_LINES


def test_the_summary_names_the_step_that_failed() -> None:
    made = walked(Timeline(), "address")
    made.attempt("connect")
    made.reach("connect", "192.0.2.1:3260")
    made.fail("login refused")
    assert steps(made.summary("login refused")) == {
        "table": "ok", "NIC": "ok", "carrier": "ok", "address": "ok", "connect": "ok", "login": "FAILED",
        "LUN": "-", "device": "-", "root": "-",
    }  # fmt: skip


def test_a_failure_nobody_noted_is_that_of_the_next_step() -> None:
    assert steps(walked(Timeline(), "lun").summary("no ublk driver"))["device"] == "FAILED"
    assert steps(Timeline().summary("no table"))["table"] == "FAILED"


def test_other_paths_are_told_after_the_one_that_counts() -> None:
    made = walked(Timeline(), "address")
    made.attempt("connect")
    made.reach("connect")
    made.fail("path 0: not let in")
    made.attempt("connect")
    made.fail("path 1: no answer")
    lines = made.summary("path 0: not let in")
    assert steps(lines)["login"] == "FAILED"
    assert lines[-1] == "  also at connect: path 1: no answer"


def test_of_several_nics_one_is_enough(tmp_path: Path) -> None:
    made = Timeline(tmp_path / "marks")
    made.reach("table")
    made.attempt("nic")
    for step, nic in (("nic", "eth0"), ("carrier", ""), ("nic", "eth1"), ("address", "192.0.2.2")):
        made.reach(step, nic)
    made.fail("eth1: no carrier")
    assert [(mark.step, mark.words) for mark in read(tmp_path / "marks")][1] == ("nic", "eth0")
    made.attempt("connect")
    made.fail("refused")
    lines = made.summary("refused")
    assert (steps(lines)["carrier"], steps(lines)["connect"]) == ("ok", "FAILED")
    assert lines[-1] == "  also at address: eth1: no carrier"


def test_a_road_taken_again_is_marked_again(tmp_path: Path) -> None:
    made = walked(Timeline(tmp_path / "marks"), "login")
    made.fail("LUN 1 is not there")
    made.attempt("connect")
    made.reach("connect", "the second time")
    assert [mark.step for mark in read(tmp_path / "marks")].count("connect") == 2
    assert steps(made.summary("no answer"))["login"] == "FAILED"


def test_the_marks_of_a_live_boot_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    walked(Timeline(path), "device")
    before = path.read_bytes()
    Timeline.of_boot(path).reach("table")
    assert path.read_bytes() == before


def test_a_boot_begins_with_the_start_of_its_process(tmp_path: Path) -> None:
    path = tmp_path / "marks"
    path.write_text('{"at_s": 1, "step": "table"}\n')
    Timeline.of_boot(path)
    start, python = read(path)
    assert (start.step, python.step) == ("start", "python")
    assert 0 < start.seconds <= python.seconds <= time.monotonic()


def test_a_process_takes_over_what_its_child_has_marked(tmp_path: Path) -> None:
    made = walked(Timeline(tmp_path / "marks"), "address")
    if (pid := os.fork()) == 0:
        walked(made, "device")
        os._exit(0)
    os.waitpid(pid, 0)
    assert steps(made.summary("no root"))["connect"] == "FAILED"
    made.resume()
    assert steps(made.summary("no root"))["root"] == "FAILED"


def test_what_ends_a_boot_is_told_once_with_its_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    made = walked(Timeline(), "connect")
    tell(Log(to_kernel=False), made, REFUSED, "session", is_final=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "isboot: boot failed at session: login to iqn refused: authentication failure"
    assert lines[1] == "isboot: hint: check CHAP"
    assert "isboot:   login    FAILED" in lines
    assert lines[-1] == "isboot: exit status 77 (not permitted): nothing is tried again"
    assert sum("authentication failure" in line for line in lines) == 1
    assert REFUSED.is_told


def test_the_same_trouble_is_told_again_only_when_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Timeline()
    assert made.is_worth_telling("no carrier")
    made.summary("no carrier")
    assert not made.is_worth_telling("no carrier")
    assert made.is_worth_telling("refused")
    monkeypatch.setattr(timeline, "STILL_S", 0.0)
    assert made.is_worth_telling("no carrier")


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    made = Timeline(tmp_path / "no" / "such" / "place")
    made.reach("table")
    assert steps(made.summary("x"))["table"] == "ok"


def test_every_step_says_what_has_happened() -> None:
    assert all(step.told and step.label for step in STEPS)
