"""Digests, NOPs, async messages, Reject, and time-outs."""

from __future__ import annotations

import random
import struct
import time

import pytest

from isboot.engine.lane import Cause, Reason
from isboot.engine.requests import read, write
from tests.engine.disk import Disk
from tests.engine.harness import session, started
from tests.engine.peer import (
    ASYNC_MESSAGE,
    CHECK_CONDITION,
    DATA_IN,
    DATA_OUT,
    FINAL,
    GOOD,
    LOGOUT,
    LOGOUT_RESPONSE,
    LUN,
    NOP_IN,
    NOP_OUT,
    REJECT,
    RESERVED,
    SCSI_COMMAND,
    TASK_MANAGEMENT,
    TASK_MANAGEMENT_RESPONSE,
    Peer,
    PeerClosed,
    sense,
)

DIGESTS = {"header_digest": True, "data_digest": True}


# --- digests ---


@pytest.mark.parametrize("length", [512, 65536])
def test_a_wrong_data_digest_ends_the_connection_and_the_read_is_done_again(length: int) -> None:
    agreed = session(**DIGESTS)
    disk = Disk(agreed, content=bytearray(random.Random(1).randbytes(65536)))

    def script(peer: Peer) -> None:
        command = peer.receive()
        peer.data_in(command, bytes(disk.content[:length]), status=GOOD, flip_data=True)

    with started() as engine:
        done = engine.ask(read(0, length))
        reason, loss = engine.play(script, agreed)
        assert (reason, loss.cause) == (Reason.LOST, Cause.DATA_DIGEST)
        assert done.result(0) == 0
        assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
        assert done.data(0) == disk.content[:length]
        assert engine.counters.digest_errors == 1
        assert engine.counters.reissued == 1
        assert engine.counters.reconnects == 1


def test_a_wrong_header_digest_ends_the_connection() -> None:
    agreed = session(**DIGESTS)

    def script(peer: Peer) -> None:
        peer.send(DATA_IN, tag=peer.receive().tag, flip_header=True, advances=False)

    with started() as engine:
        engine.ask(read(0, 512))
        assert engine.play(script, agreed)[1].cause == Cause.HEADER_DIGEST


# --- NOP-In, NOP-Out ---


def test_a_ping_of_the_target_is_answered_with_its_lun_and_tag() -> None:
    def script(peer: Peer) -> None:
        command = peer.receive()
        peer.send(NOP_IN, lun=LUN, transfer_tag=0x1234, advances=False)
        reply = peer.expect(NOP_OUT)
        assert (reply.is_immediate, reply.lun, reply.tag, reply.transfer_tag) == (True, LUN, RESERVED, 0x1234)
        peer.data_in(command, bytes(512), status=GOOD)

    with started() as engine:
        engine.ask(read(0, 512))
        assert engine.play(script)[0] == Reason.IDLE


def test_a_flood_of_pings_is_answered_and_io_goes_on() -> None:
    agreed = session()
    count = 2000

    def script(peer: Peer) -> None:
        command = peer.receive()
        pings = b"".join(
            peer.build(
                NOP_IN,
                flags=FINAL,
                bytes2=b"\0\0",
                lun=LUN,
                tag=RESERVED,
                transfer_tag=number,
                tail=bytes(12),
                data=b"",
                advances=False,
                stat_sn=None,
                flip_header=False,
                flip_data=False,
                ahs=b"",
            )
            for number in range(count)
        )
        peer.raw(pings)
        assert [peer.expect(NOP_OUT).transfer_tag for _ in range(count)] == list(range(count))
        Disk(agreed).answer(peer, command)

    with started() as engine:
        engine.ask(read(0, 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE


def test_a_silent_target_is_asked_and_an_answer_is_enough() -> None:
    agreed = session()
    disk = Disk(agreed)

    def script(peer: Peer) -> None:
        command = peer.receive()
        for _ in range(2):
            ping = peer.expect(NOP_OUT)
            assert ping.is_immediate
            assert ping.transfer_tag == RESERVED
            disk.answer(peer, ping)
        disk.answer(peer, command)

    with started(nop_interval_ms=30, nop_timeout_ms=2000) as engine:
        engine.ask(read(0, 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE


def test_a_dead_target_is_found_by_a_ping() -> None:
    with started(nop_interval_ms=30, nop_timeout_ms=30) as engine:
        engine.ask(read(0, 512))
        reason, loss = engine.play(lambda peer: None)
        assert (reason, loss.cause, loss.in_flight) == (Reason.LOST, Cause.NOP_TIMEOUT, 1)


# --- asynchronous messages ---


def send_async(peer: Peer, event: int, parameters: tuple[int, int, int] = (0, 0, 0)) -> None:
    peer.send(ASYNC_MESSAGE, tail=struct.pack(">BBHHHI", event, 0, *parameters, 0))


@pytest.mark.parametrize("event", [0, 255, 77])
def test_other_events_change_nothing(event: int) -> None:
    agreed = session()

    def script(peer: Peer) -> None:
        command = peer.receive()
        send_async(peer, event)
        Disk(agreed).answer(peer, command)

    with started() as engine:
        engine.ask(read(0, 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE


@pytest.mark.parametrize("event", [1, 4])
def test_asked_to_log_out_the_lane_finishes_logs_out_and_comes_back(event: int) -> None:
    agreed = session(max_cmd_sn=2)
    disk = Disk(agreed)

    def script(peer: Peer) -> None:
        first = [peer.receive(), peer.receive()]
        send_async(peer, event, (0, 0, 3))
        for command in first:
            disk.answer(peer, command)
        logout = peer.expect(LOGOUT)
        assert logout.is_immediate
        peer.send(LOGOUT_RESPONSE, tag=logout.tag, transfer_tag=0, tail=struct.pack(">IHHI", 0, 2, 9, 0))
        with pytest.raises(PeerClosed):
            peer.receive()

    with started() as engine:
        done = engine.ask(*(read(at * 512, 512) for at in range(4)))
        reason, loss = engine.play(script, agreed)
        assert (reason, loss.cause) == (Reason.LOST, Cause.ASYNC_LOGOUT)
        assert (loss.time2wait_s, loss.in_flight) == (2, 2)
        assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
        assert [done.result(index) for index in range(4)] == [512] * 4


@pytest.mark.parametrize("event", [2, 3])
def test_an_announced_drop_tells_how_long_to_wait(event: int) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        send_async(peer, event, (1, 7, 20))

    with started() as engine:
        engine.ask(read(0, 512))
        loss = engine.play(script)[1]
        assert (loss.cause, loss.time2wait_s) == (Cause.ASYNC_DROP, 7)


# --- Reject ---


def test_a_rejected_command_is_tried_again_alone() -> None:
    agreed = session()
    disk = Disk(agreed)

    def script(peer: Peer) -> None:
        first, second = peer.receive(), peer.receive()
        peer.send(REJECT, bytes2=bytes([9, 0]), data=first.header)
        disk.answer(peer, second)
        again = peer.receive()
        assert again.cdb == first.cdb
        assert again.tag != first.tag
        disk.answer(peer, again)

    with started() as engine:
        engine.ask(read(0, 512), read(512, 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert engine.counters.rejects == 1


def test_data_refused_for_its_digest_waits_for_the_targets_verdict() -> None:
    agreed = session(initial_r2t=True, immediate_data=False)
    disk = Disk(agreed)

    def script(peer: Peer) -> None:
        command = peer.receive()
        peer.r2t(command, 0, 512)
        refused = peer.expect(DATA_OUT)
        peer.send(REJECT, bytes2=bytes([2, 0]), data=refused.header)
        # RFC 7143 §7.8: the task ends with CHECK CONDITION, 0B/47/05
        peer.respond(command, 2, bytes([0x70, 0, 0x0B, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x47, 5, 0, 0, 0, 0]))
        disk.serve(peer)

    with started() as engine:
        done = engine.ask(write(0, b"\x22" * 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert done.result(0) == 512
        assert engine.counters.digest_errors == 1
    assert disk.content[:512] == b"\x22" * 512


def test_another_pdu_refused_ends_the_connection() -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(REJECT, bytes2=bytes([4, 0]), data=bytes([0x10]) + bytes(47))

    with started() as engine:
        engine.ask(read(0, 512))
        assert engine.play(script)[1].cause == Cause.REJECT


# --- time-outs of commands ---


def test_a_command_without_answer_is_aborted_and_issued_again() -> None:
    agreed = session()
    disk = Disk(agreed, content=bytearray(b"\x11" * 512))

    def script(peer: Peer) -> None:
        command = peer.receive()
        abort = peer.expect(TASK_MANAGEMENT)
        assert abort.is_immediate
        assert (abort.header[1], abort.word(20), abort.word(32)) == (0x81, command.tag, command.word(24))
        peer.send(TASK_MANAGEMENT_RESPONSE, tag=abort.tag, transfer_tag=0)
        again = peer.expect(SCSI_COMMAND)
        # the answer to the aborted one comes late after all
        peer.data_in(command, b"\xee" * 512, status=GOOD)
        disk.answer(peer, again)

    with started(command_timeout_ms=40) as engine:
        done = engine.ask(read(0, 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert done.data(0) == b"\x11" * 512
        assert engine.counters.stale == 1


def test_an_answer_that_crosses_the_abort_counts() -> None:
    agreed = session()

    def script(peer: Peer) -> None:
        command = peer.receive()
        abort = peer.expect(TASK_MANAGEMENT)
        Disk(agreed).answer(peer, command)
        peer.send(TASK_MANAGEMENT_RESPONSE, tag=abort.tag, bytes2=bytes([1, 0]), transfer_tag=0)
        Disk(agreed).serve(peer)

    with started(command_timeout_ms=40, depth=1) as engine:
        done = engine.ask(read(0, 512), read(0, 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert (done.result(0), done.result(1)) == (512, 512)


def test_after_a_reset_no_such_task_is_an_answer() -> None:
    agreed = session()
    disk = Disk(agreed)

    def script(peer: Peer) -> None:
        swallowed, told = peer.receive(), peer.receive()
        peer.respond(told, CHECK_CONDITION, sense(6, 0x29, 3))
        disk.answer(peer, peer.expect(SCSI_COMMAND))
        abort = peer.expect(TASK_MANAGEMENT)
        assert abort.word(20) == swallowed.tag
        peer.send(TASK_MANAGEMENT_RESPONSE, tag=abort.tag, bytes2=bytes([1, 0]), transfer_tag=0)
        disk.serve(peer)

    with started(command_timeout_ms=100) as engine:
        done = engine.ask(read(0, 512), read(512, 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert (done.result(0), done.result(1)) == (512, 512)


def test_a_closed_window_is_waited_for_while_an_abort_is_out() -> None:
    def script(peer: Peer) -> None:
        peer.max_cmd_sn = 1
        command = peer.receive()
        peer.expect(TASK_MANAGEMENT)
        peer.data_in(command, bytes(512), status=GOOD)

    with started(command_timeout_ms=40, nop_timeout_ms=500) as engine:
        engine.ask(read(0, 512), read(512, 512))
        start_s = time.thread_time()
        assert engine.play(script, session(max_cmd_sn=1))[1].cause == Cause.COMMAND_TIMEOUT
        assert time.thread_time() - start_s < 0.1  # 0.4 s in a busy loop


@pytest.mark.parametrize("answer", ["no answer", "no such task", "aborted twice"])
def test_what_cannot_be_aborted_ends_the_connection(answer: str) -> None:
    agreed = session()
    disk = Disk(agreed)

    def script(peer: Peer) -> None:
        for pdu in peer.all_commands():
            if pdu.opcode == TASK_MANAGEMENT and answer != "no answer":
                response = 1 if answer == "no such task" else 0
                peer.send(TASK_MANAGEMENT_RESPONSE, tag=pdu.tag, bytes2=bytes([response, 0]), transfer_tag=0)

    with started(command_timeout_ms=40, nop_timeout_ms=40) as engine:
        done = engine.ask(read(0, 512))
        reason, loss = engine.play(script, agreed)
        assert (reason, loss.cause, loss.in_flight) == (Reason.LOST, Cause.COMMAND_TIMEOUT, 1)
        assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
        assert done.result(0) == 512
