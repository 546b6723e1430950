"""DISCARD and WRITE ZEROES: which command, which data, and what a refusal leads to."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from isboot.engine.lane import Discard, Reason
from isboot.engine.requests import FLUSH, Request, discard, write, write_zeroes
from tests.engine.harness import session, started
from tests.engine.peer import (
    CHECK_CONDITION,
    FINAL,
    TASK_MANAGEMENT,
    TASK_MANAGEMENT_RESPONSE,
    UNDERFLOW,
    Peer,
    PeerClosed,
    Received,
    sense,
)

BLOCK, COUNT = 0x1_2345_6789, 0x3FFFFF
RANGE = (BLOCK * 512, COUNT * 512)
LBA, LENGTH = BLOCK.to_bytes(8, "big"), COUNT.to_bytes(4, "big")
UNMAP_LIST = bytes([0, 22, 0, 16, 0, 0, 0, 0]) + LBA + LENGTH + bytes(4)

ROWS = [
    (discard(*RANGE), Discard.UNMAP, bytes([0x42, *bytes(6), 0, 24, 0]), UNMAP_LIST),
    (discard(*RANGE), Discard.WRITE_SAME, bytes([0x93, 0x08]) + LBA + LENGTH + bytes(2), bytes(512)),
    (write_zeroes(*RANGE), Discard.NONE, bytes([0x93, 0x00]) + LBA + LENGTH + bytes(2), bytes(512)),
]
SHAPES: list[dict[str, Any]] = [
    {},
    {"immediate_data": False},
    {"immediate_data": False, "initial_r2t": True},
    {"header_digest": True, "data_digest": True},
    {"max_send_data_segment_length_bytes": 512, "first_burst_length_bytes": 512},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("request_", "kind", "cdb", "payload"), ROWS)
def test_a_range_goes_out_in_a_command_and_little_data(
    request_: Request, kind: Discard, cdb: bytes, payload: bytes, shape: dict[str, Any]
) -> None:
    agreed = session(**shape)
    seen: list[tuple[bytes, int, bytes]] = []

    def script(peer: Peer) -> None:
        command = peer.receive()
        data = command.data
        limit = agreed.max_send_data_segment_length_bytes
        if agreed.initial_r2t:
            peer.r2t(command, 0, len(payload), number=0, transfer_tag=7)
            data += peer.data_out(command, 0, len(payload), 7, limit)
        elif not agreed.immediate_data:
            data += peer.data_out(command, 0, len(payload), 0xFFFFFFFF, limit)
        seen.append((command.cdb, command.word(20), data))
        peer.respond(command)

    with started(discard=kind) as engine:
        done = engine.ask(request_)
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert done.result(0) == 0
        assert (engine.counters.discards, engine.counters.discarded_bytes) == (1, COUNT * 512)
        assert engine.counters.writes == 0
    assert seen == [(cdb.ljust(16, b"\0"), len(payload), payload)]


@pytest.mark.parametrize("request_", [discard(0, 512), write_zeroes(0, 512)])
def test_what_the_target_has_not_is_never_sent(request_: Request) -> None:
    def script(peer: Peer) -> None:
        peer.respond(peer.receive())  # the flush behind it

    with started(discard=Discard.NONE, has_write_same=False) as engine:
        done = engine.ask(request_, FLUSH)
        assert engine.play(script)[0] == Reason.IDLE
        assert [done.result(0), done.result(1)] == [-errno.EOPNOTSUPP, 0]


REFUSALS = [
    (discard(0, 512), sense(5, 0x20, 0), errno.EOPNOTSUPP),
    (discard(0, 512), sense(5, 0x24, 0), errno.EOPNOTSUPP),
    (discard(0, 512), sense(5, 0x26, 0), errno.EOPNOTSUPP),
    (write_zeroes(0, 512), sense(5, 0x24, 0), errno.EOPNOTSUPP),
    (write_zeroes(0, 512), sense(5, 0x26, 0), errno.EOPNOTSUPP),
    (discard(0, 512), sense(5, 0x21, 0), errno.EREMOTEIO),
    (write_zeroes(0, 512), sense(7, 0x27, 7), errno.ENOSPC),
]


@pytest.mark.parametrize(("request_", "sense_data", "number"), REFUSALS)
def test_a_refusal_is_told_so_that_the_block_layer_can_do_otherwise(
    request_: Request, sense_data: bytes, number: int
) -> None:
    def script(peer: Peer) -> None:
        peer.respond(peer.receive(), CHECK_CONDITION, sense_data)

    with started() as engine:
        done = engine.ask(request_)
        assert engine.play(script)[0] == Reason.IDLE
        assert done.result(0) == -number


@pytest.mark.parametrize("request_", [discard(0, 512), write_zeroes(0, 512)])
def test_a_residual_of_what_stands_for_a_range_says_nothing(request_: Request) -> None:
    def script(peer: Peer) -> None:
        command = peer.receive()
        peer.respond(command, flags=FINAL | UNDERFLOW, residual=command.word(20))

    with started() as engine:
        done = engine.ask(request_)
        assert engine.play(script)[0] == Reason.IDLE
        assert (done.result(0), engine.counters.retries) == (0, 0)


def test_a_discard_under_way_is_issued_again_on_the_next_session() -> None:
    seen: list[Received] = []

    def breaks(peer: Peer) -> None:
        seen.append(peer.receive())
        raise PeerClosed

    def answers(peer: Peer) -> None:
        seen.append(peer.receive())
        peer.respond(seen[-1])

    with started() as engine:
        done = engine.ask(discard(*RANGE))
        assert engine.play(breaks)[0] == Reason.LOST
        assert engine.play(answers)[0] == Reason.IDLE
        assert done.result(0) == 0
        assert engine.counters.reissued == 1
    assert [command.data for command in seen] == [UNMAP_LIST, UNMAP_LIST]


@pytest.mark.parametrize("is_aborted", [True, False], ids=["aborted", "lost"])
@pytest.mark.parametrize("request_", [discard(0, 512), write_zeroes(0, 512)])
def test_a_range_the_target_is_too_slow_for_is_not_issued_again(request_: Request, is_aborted: bool) -> None:
    """Else every round of time-out, reset and new session would take all other commands with it, for ever."""

    def is_slow(peer: Peer) -> None:
        peer.receive()
        abort = peer.expect(TASK_MANAGEMENT)
        if not is_aborted:
            raise PeerClosed
        peer.send(TASK_MANAGEMENT_RESPONSE, tag=abort.tag, transfer_tag=0)
        answers(peer)

    def answers(peer: Peer) -> None:
        peer.respond(peer.receive())  # the flush alone

    with started(depth=1, command_timeout_ms=100) as engine:
        done = engine.ask(request_, FLUSH)
        reason, _ = engine.play(is_slow)
        if not is_aborted:
            assert reason == Reason.LOST
            reason, _ = engine.play(answers)
        assert reason == Reason.IDLE
        assert [done.result(0), done.result(1)] == [-errno.EOPNOTSUPP, 0]


@pytest.mark.parametrize("request_", [discard(0, 512), write_zeroes(0, 512), write(0, bytes(512))])
def test_a_range_stays_unflushed_until_a_flush(request_: Request) -> None:
    bits: list[int] = []

    with started(depth=1) as engine:

        def script(peer: Peer) -> None:
            for _ in range(2):
                command = peer.receive()
                bits.append(engine.shared.written_since_flush)
                peer.respond(command)

        engine.ask(request_, FLUSH)
        assert engine.play(script)[0] == Reason.IDLE
        bits.append(engine.shared.written_since_flush)
    assert bits == [0, 1, 0]
