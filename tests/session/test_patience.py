"""What a LUN is waited for, and what is said meanwhile."""

from __future__ import annotations

import pytest

from isboot.errors import ExitStatus, SessionError
from isboot.session import lun, patience
from isboot.session.control import Control
from isboot.session.pdu import ScsiCommand
from tests.fakes.disk import Answer, fixed_sense
from tests.fakes.target import FakeTarget, raw_sense, sense
from tests.session.sessions import connected, log_in, path_to

START_STOP_UNIT = 0x1B


def lines_of(target: FakeTarget) -> list[str]:
    said: list[str] = []
    with connected(target) as sock:
        lun.wait_until_ready(Control(sock, log_in(sock, path_to(target)), say=said.append))
    return said


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_INTERVAL_S", 0.0)


def test_what_is_waited_for_is_said_once_a_while() -> None:
    with FakeTarget(unit_attentions=[]) as target:
        target.on(ScsiCommand, sense(2, 4, 1), times=3)
        said = lines_of(target)
    assert said == [
        f"LUN 1 of {target.name} is not ready: CHECK CONDITION: NOT READY, in process of becoming ready"
        " (2/04/01); waiting up to 30 s"
    ]


def test_how_far_it_is_is_said_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PROGRESS_S", 0.0)
    with FakeTarget(unit_attentions=[]) as target:
        for part in (0x4000, 0xC000):
            data = bytearray(fixed_sense(2, 4, 1))
            data[15:18] = bytes([0x80]) + part.to_bytes(2, "big")
            target.on(ScsiCommand, raw_sense(bytes(data)))
        said = lines_of(target)
    assert ["25% done" in said[0], "75% done" in said[1], len(said)] == [True, True, 2]


def test_a_lun_that_is_stopped_is_started_once() -> None:
    stopped = sense(2, 4, 2)
    with FakeTarget(unit_attentions=[]) as target:
        target.disk.answers[START_STOP_UNIT] = lambda cdb: Answer()
        target.on(ScsiCommand, stopped, times=1)
        target.on(ScsiCommand, sense(2, 4, 1), times=1, skip=1)
        said = lines_of(target)
        cdbs = [command.cdb for command in target.received(ScsiCommand)]
    assert [cdb[0] for cdb in cdbs] == [0, START_STOP_UNIT, 0, 0]
    assert (cdbs[1][1], cdbs[1][4]) == (1, 1)  # IMMED, START
    assert said[0] == "LUN 1 is stopped: starting it (START STOP UNIT)"
    assert "in process of becoming ready" in said[1]


def test_a_lun_that_stays_stopped_is_refused() -> None:
    with FakeTarget(unit_attentions=[]) as target:
        target.on(ScsiCommand, sense(2, 4, 2), times=None)
        with pytest.raises(SessionError, match="initializing command required") as caught:
            lines_of(target)
        assert len(target.received(ScsiCommand)) == 3
    assert caught.value.exit_status is ExitStatus.UNAVAILABLE


def test_a_unit_attention_is_no_wait() -> None:
    with FakeTarget() as target:
        assert lines_of(target) == []


@pytest.mark.parametrize("qualifier", [0x04, 0x09, 0x1B])
def test_what_takes_the_target_hours_is_for_later(qualifier: int) -> None:
    with FakeTarget(unit_attentions=[]) as target:
        target.on(ScsiCommand, sense(2, 4, qualifier), times=None)
        with pytest.raises(SessionError, match="in progress") as caught:
            lines_of(target)
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
