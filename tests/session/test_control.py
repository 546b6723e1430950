"""The full feature phase as Python drives it: numbers, windows, what the target sends of its own accord."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from isboot.errors import ExitStatus, SessionError
from isboot.session import commands, pdu
from isboot.session.connection import ConnectionLost
from isboot.session.control import is_after
from isboot.session.pdu import DataIn, NopIn, NopOut, ReadyToTransfer, ScsiCommand, ScsiResponse
from isboot.values import Policy
from tests.fakes.disk import Disk
from tests.fakes.target import FakeTarget, before, corrupt, drop, ignore
from tests.session.sessions import session_with

TEST_UNIT_READY = commands.build("TEST UNIT READY")


def read_16(count: int) -> bytes:
    return bytes([0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0]) + count.to_bytes(4, "big") + bytes(2)


@pytest.mark.parametrize(
    ("left", "right", "is_later"),
    [
        (2, 1, True),
        (1, 1, False),
        (1, 2, False),
        (0, 0xFFFFFFFF, True),
        (0xFFFFFFFF, 0, False),
        (2**31, 1, True),
    ],
)
def test_sequence_numbers_compare_in_serial_arithmetic(left: int, right: int, is_later: bool) -> None:
    assert is_after(left, right) is is_later


@pytest.mark.parametrize("has_digests", [False, True])
@pytest.mark.parametrize("is_separate", [False, True], ids=["status-in-data", "response-after-data"])
def test_data_of_a_command_arrives_in_order(has_digests: bool, is_separate: bool) -> None:
    disk = Disk(capacity_blocks=4096)
    disk.data[:] = bytes(i % 251 for i in range(len(disk.data)))
    policy = Policy(header_digest=has_digests, data_digest=has_digests)
    with (
        FakeTarget(disk=disk, separate_status=is_separate, unit_attentions=[]) as target,
        session_with(target, policy=policy) as control,
    ):
        answer = control.execute(read_16(1500), 1500 * 512)
    assert answer.status == commands.GOOD
    assert answer.data == disk.data[: 1500 * 512]


def test_numbers_are_those_the_engine_goes_on_with() -> None:
    with FakeTarget(unit_attentions=[], first_stat_sn=0xFFFFFFFD) as target, session_with(target) as control:
        assert control.negotiated() == control.session
        control.execute(TEST_UNIT_READY)
        control.ping()
        control.task_management(5, control.session.lun)
        after = control.negotiated()
        assert (after.cmd_sn, after.exp_stat_sn) == (2, 2)  # StatSN has wrapped on its way
        assert after.max_cmd_sn == control.session.max_cmd_sn + 1
        assert [command.cmd_sn for command in target.received(ScsiCommand)] == [1]


def test_nothing_is_read_beyond_the_last_answer() -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.alter(ScsiResponse, lambda response: [response, b"what follows"])
        control.execute(TEST_UNIT_READY)
        with socket.socket(fileno=socket.dup(control.session.fd)) as sock:  # type: ignore[attr-defined]
            assert sock.recv(64) == b"what follows"


def test_pings_of_the_target_are_answered_meanwhile() -> None:
    ping = NopIn(target_transfer_tag=77, lun=bytes([0, 1]) + bytes(6), data=b"echo")
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.on(ScsiCommand, before(ping, NopIn()))
        control.execute(TEST_UNIT_READY)
        control.ping()  # the answer to the first ping has been read by now
        reply = next(nop for nop in target.received(NopOut) if nop.target_transfer_tag == 77)
    assert (reply.initiator_task_tag, reply.lun, reply.data) == (pdu.RESERVED_TAG, ping.lun, b"echo")
    assert reply.immediate


def test_a_closed_window_is_waited_for() -> None:
    with FakeTarget(unit_attentions=[], window=0) as target, session_with(target, timeout_ms=50) as control:
        with pytest.raises(ConnectionLost, match="no answer within"):
            control.execute(TEST_UNIT_READY)
        assert target.received(ScsiCommand) == []
        target.window = 1
        target.send(NopIn())
        assert control.execute(TEST_UNIT_READY).status == commands.GOOD


def test_a_window_that_goes_back_is_ignored() -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.alter(ScsiResponse, lambda response: replace(response, max_cmd_sn=response.exp_cmd_sn - 2))
        control.execute(TEST_UNIT_READY)
        assert control.negotiated().max_cmd_sn == control.session.max_cmd_sn


def test_a_window_that_contradicts_itself_is_ignored() -> None:
    # RFC 7143 §4.2.2.1: MaxCmdSN below ExpCmdSN - 1
    lie = {"exp_cmd_sn": 1000, "max_cmd_sn": 500}
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.alter(ScsiResponse, lambda response: replace(response, **lie))
        control.execute(TEST_UNIT_READY)
        assert control.negotiated().max_cmd_sn == control.session.max_cmd_sn


@pytest.mark.parametrize(
    ("event", "complaint"),
    [(1, "asks for a logout"), (2, "about to drop this connection"), (3, "about to drop all connections")],
)
def test_a_target_that_takes_its_leave_is_a_lost_connection(event: int, complaint: str) -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.on(ScsiCommand, before(pdu.AsyncMessage(event=event)))
        with pytest.raises(ConnectionLost, match=complaint):
            control.execute(TEST_UNIT_READY)


@pytest.mark.parametrize("event", [0, 4, 255])
def test_other_events_do_not_disturb(event: int) -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.on(ScsiCommand, before(pdu.AsyncMessage(event=event)))
        assert control.execute(TEST_UNIT_READY).status == commands.GOOD


def test_a_reject_says_why() -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.on(ScsiCommand, before(pdu.Reject(reason=9)))
        with pytest.raises(SessionError, match=r"rejected a PDU: invalid PDU field \(0x09\)"):
            control.execute(TEST_UNIT_READY)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"buffer_offset": 512}, "a Data-In with offset 512 where 0 was due"),
        ({"buffer_offset": 0xFFFFFFFF}, "offset 4294967295"),
        ({"data": bytes(1024)}, "1024 bytes of data where 512 were asked for"),
        ({"initiator_task_tag": 0x1234}, "task 0x1234, which is not ours"),
        ({"data_sn": 1}, "DataSN 1 where 0 was due"),
    ],
)
def test_lies_in_data_in_are_found(change: dict[str, object], complaint: str) -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.alter(DataIn, lambda message: replace(message, **change))
        with pytest.raises(SessionError, match=complaint) as caught:
            control.execute(read_16(1), 512)
    assert caught.value.exit_status is ExitStatus.MALFORMED


@pytest.mark.parametrize(
    ("instead", "complaint"),
    [
        (ReadyToTransfer(initiator_task_tag=1, desired_data_transfer_length=512), "an R2T came where"),
        (pdu.LoginResponse(), "a Login Response, which no target sends"),
        (pdu.ScsiCommand(), "a SCSI Command, which no target sends"),
        (pdu.TaskManagementResponse(stat_sn=3), "came where a SCSI Response was due"),
        (b"\x3e" + bytes(47), "unknown opcode 0x3e"),
        (b"\x21\x80\x00\x00\x00\xff\xff\xff" + bytes(40), "a data segment of 16777215 bytes"),
    ],
)
def test_what_is_out_of_place_is_named(instead: pdu.Pdu | bytes, complaint: str) -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.alter(ScsiResponse, lambda message: instead)
        with pytest.raises(SessionError, match=complaint):
            control.execute(TEST_UNIT_READY)


@pytest.mark.parametrize("byte", [0, 20, 47, -1])
def test_a_wrong_digest_ends_the_session(byte: int) -> None:
    policy = Policy(header_digest=True, data_digest=True)
    with FakeTarget(unit_attentions=[]) as target, session_with(target, policy=policy) as control:
        target.alter(DataIn, corrupt(byte))
        with pytest.raises(SessionError, match="digest") as caught:
            control.execute(read_16(1), 512)
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    assert "new session" in caught.value.hint


@pytest.mark.parametrize("stat_sn", [99, 2])
def test_a_status_that_was_lost_is_cured_by_a_new_session(stat_sn: int) -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.alter(DataIn, lambda message: replace(message, stat_sn=stat_sn))
        with pytest.raises(SessionError, match=f"StatSN {stat_sn} where 3 was due") as caught:
            control.execute(read_16(1), 512)
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_a_connection_lost_under_a_command_is_told() -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.on(ScsiCommand, drop())
        with pytest.raises(ConnectionLost):
            control.execute(TEST_UNIT_READY)


def test_a_command_without_an_answer_ends_in_a_timeout() -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target, timeout_ms=50) as control:
        target.on(ScsiCommand, ignore())
        with pytest.raises(ConnectionLost, match=r"no answer within 0.05 s"):
            control.execute(TEST_UNIT_READY)


def test_sense_is_believed_as_far_as_it_came() -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        lie = b"\xff\xff" + bytes([0x70, 0, 5])
        target.alter(ScsiResponse, lambda response: replace(response, status=2, data=lie))
        assert control.execute(TEST_UNIT_READY).sense == bytes([0x70, 0, 5])


def test_a_failure_within_the_target_is_no_answer() -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.alter(ScsiResponse, lambda response: replace(response, response=1))
        with pytest.raises(SessionError, match="iSCSI response 1"):
            control.execute(TEST_UNIT_READY)


def test_logout_is_answered() -> None:
    with FakeTarget() as target, session_with(target) as control:
        control.logout()
        assert target.received(pdu.LogoutRequest)[0].reason == 0


def test_a_refused_logout_is_told() -> None:
    with FakeTarget() as target, session_with(target) as control:
        target.alter(pdu.LogoutResponse, lambda response: replace(response, response=3))
        with pytest.raises(SessionError, match="logout refused with response 3"):
            control.logout()


def test_a_target_that_hangs_up_at_a_logout_has_ended_the_session() -> None:
    with FakeTarget() as target, session_with(target) as control:
        target.on(pdu.LogoutRequest, drop())
        control.logout()


def test_a_logout_without_an_answer_is_told() -> None:
    with FakeTarget() as target, session_with(target) as control:
        control.timeout_ms = 50
        target.on(pdu.LogoutRequest, ignore())
        with pytest.raises(ConnectionLost, match="no answer within"):
            control.logout()
