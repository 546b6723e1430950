"""SCSI status and sense: done, tried again, or which errno."""

from __future__ import annotations

import errno

import pytest

from isboot.engine.lane import Cause, Reason
from isboot.engine.requests import FLUSH, Request, read, write
from tests.engine.disk import Disk
from tests.engine.harness import session, started
from tests.engine.peer import (
    BUSY,
    CHECK_CONDITION,
    FINAL,
    GOOD,
    OVERFLOW,
    RESERVATION_CONFLICT,
    TASK_SET_FULL,
    UNDERFLOW,
    Peer,
    sense,
)

READ = read(0, 512)
WRITE = write(0, bytes(512))

FAILURES = [
    (READ, RESERVATION_CONFLICT, b"", errno.EBADE),
    (READ, CHECK_CONDITION, sense(3, 0x11, 0), errno.ENODATA),
    (READ, CHECK_CONDITION, sense(4, 0x44, 0), errno.EREMOTEIO),
    (READ, CHECK_CONDITION, sense(5, 0x21, 0), errno.EREMOTEIO),
    (READ, CHECK_CONDITION, sense(5, 0x20, 0), errno.EOPNOTSUPP),
    (READ, CHECK_CONDITION, sense(2, 0x3A, 0), errno.EIO),
    (WRITE, CHECK_CONDITION, sense(7, 0x27, 7), errno.ENOSPC),
    (WRITE, CHECK_CONDITION, sense(7, 0x27, 0), errno.EROFS),
    (WRITE, CHECK_CONDITION, sense(0xB, 0x10, 1), errno.EILSEQ),
    (WRITE, CHECK_CONDITION, sense(3, 0x0C, 0, descriptor=True), errno.ENODATA),
    (FLUSH, CHECK_CONDITION, sense(4, 0, 0), errno.EREMOTEIO),
    (READ, 0x77, b"", errno.EIO),
]


@pytest.mark.parametrize(("request_", "status", "sense_data", "number"), FAILURES)
def test_an_error_of_the_target_becomes_an_errno(
    request_: Request, status: int, sense_data: bytes, number: int
) -> None:
    def script(peer: Peer) -> None:
        peer.respond(peer.receive(), status, sense_data)

    with started() as engine:
        done = engine.ask(request_)
        assert engine.play(script)[0] == Reason.IDLE
        assert done.result(0) == -number
        assert engine.counters.io_errors == 1


PASSING = [
    (BUSY, b""),
    (TASK_SET_FULL, b""),
    (0x40, b""),
    (CHECK_CONDITION, sense(6, 0x29, 0)),
    (CHECK_CONDITION, sense(6, 0x2A, 1)),
    (CHECK_CONDITION, sense(6, 0x3F, 1)),
    (CHECK_CONDITION, sense(6, 0x38, 7)),
    (CHECK_CONDITION, sense(6, 0x29, 1, descriptor=True)),
    (CHECK_CONDITION, sense(2, 4, 1)),
    (CHECK_CONDITION, sense(2, 4, 0x0A)),
    (CHECK_CONDITION, sense(0xB, 0x47, 5)),
    (CHECK_CONDITION, b""),
]


@pytest.mark.parametrize(("status", "sense_data"), PASSING)
@pytest.mark.parametrize("times", [1, 4])
def test_what_passes_by_itself_is_tried_again_as_a_new_command(
    status: int, sense_data: bytes, times: int
) -> None:
    agreed = session()
    disk = Disk(agreed)
    tags = []

    def script(peer: Peer) -> None:
        for _ in range(times):
            command = peer.receive()
            tags.append(command.tag)
            peer.respond(command, status, sense_data)
        disk.serve(peer)

    with started() as engine:
        done = engine.ask(WRITE)
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert done.result(0) == 512
        assert engine.counters.retries == times
        assert engine.counters.io_errors == 0
    assert len(set(tags)) == times


def test_recovered_error_is_a_success() -> None:
    def script(peer: Peer) -> None:
        command = peer.receive()
        peer.data_in(command, bytes(512))
        peer.respond(command, CHECK_CONDITION, sense(1, 0x17, 1))

    with started() as engine:
        done = engine.ask(READ)
        engine.play(script)
        assert done.result(0) == 512


def deferred(sense_data: bytes) -> bytes:
    """Sense of a command that had ended before."""
    return bytes([sense_data[0] | 1]) + sense_data[1:]


@pytest.mark.parametrize("descriptor", [False, True])
def test_deferred_sense_is_not_of_the_command_it_comes_with(descriptor: bool) -> None:
    agreed = session()
    disk = Disk(agreed)

    def script(peer: Peer) -> None:
        for key in (1, 3):
            peer.respond(
                peer.receive(), CHECK_CONDITION, deferred(sense(key, 0x0C, 0, descriptor=descriptor))
            )
            disk.answer(peer, peer.receive())
        disk.serve(peer)

    with started(depth=1) as engine:
        done = engine.ask(write(0, b"\x01" * 512), write(512, b"\x02" * 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert (done.result(0), done.result(1), engine.counters.retries) == (512, 512, 2)
    assert disk.content[:1024] == b"\x01" * 512 + b"\x02" * 512


@pytest.mark.parametrize(
    ("key", "code", "result"),
    [(1, 0x0C, 0), (3, 0x0C, -errno.ENODATA), (7, 0x27, -errno.EROFS), (2, 4, -errno.EIO)],
)
def test_a_cached_write_that_was_lost_fails_one_flush(key: int, code: int, result: int) -> None:
    agreed = session()
    disk = Disk(agreed)

    def script(peer: Peer) -> None:
        disk.answer(peer, peer.receive())
        peer.respond(peer.receive(), CHECK_CONDITION, deferred(sense(key, code, 0)))
        disk.serve(peer)

    with started(depth=1) as engine:
        done = engine.ask(WRITE, READ, FLUSH)
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert [done.result(index) for index in range(3)] == [512, 512, result]
        assert engine.shared.written_since_flush == (result != 0)
        done = engine.ask(FLUSH)
        engine.lane.detach()
        assert engine.play(Disk(agreed).serve)[0] == Reason.IDLE
        assert done.result(0) == 0


def test_a_target_that_knows_no_flush_has_nothing_to_flush() -> None:
    def script(peer: Peer) -> None:
        peer.respond(peer.receive(), CHECK_CONDITION, sense(5, 0x20, 0))

    with started() as engine:
        done = engine.ask(FLUSH)
        engine.play(script)
        assert done.result(0) == 0


@pytest.mark.parametrize(
    "sense_data", [sense(5, 0x25, 0), sense(6, 0x3F, 3), sense(6, 0x3F, 0x0E), sense(6, 0x2A, 9)]
)
def test_a_lun_that_is_gone_or_changed_ends_the_session(sense_data: bytes) -> None:
    """Its identity has to be looked at again before anything is written to it."""
    agreed = session()

    def script(peer: Peer) -> None:
        peer.respond(peer.receive(), CHECK_CONDITION, sense_data)

    with started() as engine:
        done = engine.ask(WRITE)
        reason, loss = engine.play(script, agreed)
        assert (reason, loss.cause, loss.in_flight) == (Reason.LOST, Cause.LUN_CHANGED, 1)
        assert engine.play(Disk(agreed).serve, agreed)[0] == Reason.IDLE
        assert done.result(0) == 512


@pytest.mark.parametrize("sense_bytes", [1, 2, 3, 7, 12, 13])
def test_sense_that_is_cut_short_is_read_as_far_as_it_goes(sense_bytes: int) -> None:
    def script(peer: Peer) -> None:
        peer.respond(peer.receive(), CHECK_CONDITION, sense(3, 0x11, 0)[:sense_bytes])
        Disk(session()).serve(peer)

    with started() as engine:
        done = engine.ask(READ)
        engine.play(script)
        assert done.result(0) == (-errno.ENODATA if sense_bytes > 2 else 512)


def test_a_sense_length_beyond_the_segment_is_cut_to_it() -> None:
    def script(peer: Peer) -> None:
        command = peer.receive()
        peer.send(
            0x21,
            bytes2=bytes([0, CHECK_CONDITION]),
            tag=command.tag,
            transfer_tag=0,
            data=b"\xff\xff" + sense(3, 0, 0),
        )

    with started() as engine:
        done = engine.ask(READ)
        engine.play(script)
        assert done.result(0) == -errno.ENODATA


@pytest.mark.parametrize("flag", [UNDERFLOW, OVERFLOW])
def test_a_residual_is_never_a_success(flag: int) -> None:
    """Tried again; the data that came with it does not count."""
    agreed = session()
    disk = Disk(agreed, content=bytearray(b"\x11" * 4096))

    def script(peer: Peer) -> None:
        command = peer.receive()
        peer.data_in(command, b"\xee" * 512, status=GOOD, flags=FINAL | flag, residual=512)
        disk.serve(peer)

    with started() as engine:
        done = engine.ask(read(0, 1024))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert done.result(0) == 1024
        assert done.data(0) == b"\x11" * 1024


def test_a_failed_task_of_the_target_is_tried_again() -> None:
    agreed = session()

    def script(peer: Peer) -> None:
        peer.respond(peer.receive(), response=1)
        Disk(agreed).serve(peer)

    with started() as engine:
        done = engine.ask(READ)
        engine.play(script, agreed)
        assert done.result(0) == 512


def test_busy_shrinks_the_depth_and_good_status_grows_it_again() -> None:
    agreed = session(max_cmd_sn=64)
    disk = Disk(agreed)
    held = []

    def script(peer: Peer) -> None:
        first = [peer.receive() for _ in range(8)]
        for command in first:
            peer.respond(command, TASK_SET_FULL)
        # what is outstanding at once afterwards: count, answer one, count on
        outstanding = [peer.receive()]
        while True:
            peer.sock.settimeout(0.05)
            try:
                while True:
                    outstanding.append(peer.receive())
            except TimeoutError:
                pass
            peer.sock.settimeout(10)
            held.append(len(outstanding))
            if not outstanding:
                return
            disk.answer(peer, outstanding.pop(0))
            if len(held) > 3:
                for command in outstanding:
                    disk.answer(peer, command)
                disk.serve(peer)
                return

    with started(depth=8) as engine:
        done = engine.ask(*(read(at * 512, 512) for at in range(16)))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert [done.result(index) for index in range(16)] == [512] * 16
    assert held[0] < 8
