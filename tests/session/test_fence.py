"""LOGICAL UNIT RESET as the fence against writes of an old session."""

from __future__ import annotations

import pytest

from isboot.errors import ExitStatus, SessionError
from isboot.session import commands, fence, lun
from isboot.session.fence import Fence
from isboot.session.pdu import NopIn, NopOut, ScsiCommand, TaskManagementRequest
from tests.fakes.target import LUN_1, FakeTarget, before, hold
from tests.session.sessions import session_with


def write_16(block: int, count: int) -> bytes:
    return bytes([0x8A, 0]) + block.to_bytes(8, "big") + count.to_bytes(4, "big") + bytes(2)


def test_the_reset_is_answered_and_its_unit_attention_swallowed() -> None:
    with FakeTarget() as target, session_with(target) as control:
        lun.wait_until_ready(control)
        assert fence.fence(control, LUN_1) is Fence.COMPLETE
        request = target.received(TaskManagementRequest)[0]
        assert (request.function, request.lun, request.immediate) == (5, LUN_1, True)
        assert target.disk.resets == 1
        assert control.execute(commands.build("TEST UNIT READY")).status == commands.GOOD


def test_a_command_of_before_is_not_carried_out_after_it() -> None:
    with FakeTarget(unit_attentions=[]) as target:
        target.on(ScsiCommand, hold(), when=lambda command: command.cdb[0] == 0x91)
        with session_with(target, timeout_ms=20) as old, pytest.raises(SessionError):
            old.execute(commands.synchronize_cache())
        assert target.held == 1
        with session_with(target) as control:
            fence.fence(control, LUN_1)
            assert target.release() == 0
        assert target.disk.flushes == 0


@pytest.mark.parametrize("response", [3, 4, 5, 6, 255])
def test_a_target_that_does_not_reset_is_told_from_one_that_did(response: int) -> None:
    with FakeTarget(answers_tmf=response) as target, session_with(target) as control:
        assert fence.fence(control, LUN_1) is Fence.NOT_SUPPORTED


@pytest.mark.parametrize(
    ("response", "exit_status"), [(2, ExitStatus.NOTHING_THERE), (99, ExitStatus.MALFORMED)]
)
def test_no_lun_and_nonsense_are_errors(response: int, exit_status: ExitStatus) -> None:
    with (
        FakeTarget(answers_tmf=response) as target,
        session_with(target) as control,
        pytest.raises(SessionError, match="LOGICAL UNIT RESET") as caught,
    ):
        fence.fence(control, LUN_1)
    assert caught.value.exit_status is exit_status


def test_while_older_commands_end_the_target_gets_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "ALIVE_S", 0.01)
    ping = NopIn(target_transfer_tag=77, lun=LUN_1)
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.on(ScsiCommand, before(ping))
        fence.outlast(control, 0.05)
        assert control.execute(commands.build("TEST UNIT READY")).status == commands.GOOD
        assert [echo.target_transfer_tag for echo in target.received(NopOut)] == [77]
