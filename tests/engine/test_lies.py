"""
A target that breaks the rules: the connection ends, nothing outside a buffer is written or sent, and the
request is done right on the next session.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest
from isboot._engine import ffi

from isboot.engine.lane import Cause, Reason
from isboot.engine.requests import Request, RequestList, read, write
from tests.engine.disk import Disk
from tests.engine.harness import Engine, session, started
from tests.engine.peer import (
    DATA_IN,
    FINAL,
    GOOD,
    NOP_IN,
    R2T,
    REJECT,
    SCSI_RESPONSE,
    STATUS,
    Peer,
    PeerClosed,
    Received,
)

Lie = Callable[[Peer, Received], None]
LENGTH = 4096
GUARD = b"\xa5"
#: solicited data only, so that an R2T is due at once
ASKING = {"initial_r2t": True, "immediate_data": False}


def guarded(engine: Engine, request: Request) -> tuple[RequestList, object]:
    """Ask for a request whose buffer stands between guard bytes."""
    memory = ffi.new("char[]", GUARD * (3 * LENGTH))
    done = RequestList([request])
    done.array[0].buffer = memory + LENGTH
    if request.data:
        ffi.memmove(memory + LENGTH, request.data, len(request.data))
    engine.lane.open_local(done.array, 1)
    return done, memory


def check(request: Request, lie: Lie, rule: str, **changes: object) -> None:
    agreed = session(**changes)
    content = random.Random(1).randbytes(LENGTH)
    disk = Disk(agreed, content=bytearray(content))

    def script(peer: Peer) -> None:
        lie(peer, peer.receive())
        # whatever the engine still sends stays within what it was asked to write
        for pdu in drain(peer):
            assert pdu.word(40) + len(pdu.data) <= LENGTH

    with started() as engine:
        done, memory = guarded(engine, request)
        reason, loss = engine.play(script, agreed)
        assert (reason, loss.cause) == (Reason.LOST, Cause.PROTOCOL), loss
        assert rule in loss.detail
        assert engine.counters.protocol_errors == 1
        assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
        assert done.result(0) == LENGTH
        around = bytes(ffi.buffer(memory))
        assert around[:LENGTH] == around[2 * LENGTH : 3 * LENGTH] == GUARD * LENGTH
        assert done.data(0) == disk.content


def drain(peer: Peer) -> list[Received]:
    found = []
    try:
        while True:
            found.append(peer.receive())
    except PeerClosed:
        return found


DATA = bytes(LENGTH)
READ_LIES: dict[str, tuple[Lie, str]] = {
    "beyond the end": (lambda peer, command: peer.data_in(command, DATA + bytes(512)), "beyond"),
    "offset beyond the end": (
        lambda peer, command: peer.data_in(command, bytes(512), offset=LENGTH),
        "order",
    ),
    "offset wraps": (lambda peer, command: peer.data_in(command, bytes(512), offset=0xFFFFFE00), "order"),
    "a gap": (lambda peer, command: peer.data_in(command, bytes(512), offset=512), "order"),
    "number skipped": (lambda peer, command: peer.data_in(command, bytes(512), number=1), "DataSN"),
    "number repeated": (
        lambda peer, command: [peer.data_in(command, bytes(512), flags=0) for _ in range(2)],  # type: ignore[dict-item]
        "DataSN",
    ),
    "status without the final bit": (
        lambda peer, command: peer.data_in(command, DATA, flags=0, status=GOOD),
        "not final",
    ),
    "good but short": (lambda peer, command: peer.data_in(command, bytes(512), status=GOOD), "missing"),
    "good without data": (lambda peer, command: peer.respond(command), "missing"),
    "R2T for a read": (lambda peer, command: peer.r2t(command, 0, 512), "writes nothing"),
    "segment beyond what we declared": (
        lambda peer, command: peer.raw(
            struct.pack(
                ">BB2xI8sIIIIIIII", DATA_IN, FINAL, 0x80000, bytes(8), command.tag, 0, 0, 1, 9, 0, 0, 0
            )
        ),
        "MaxRecvDataSegmentLength",
    ),
    "unknown opcode": (lambda peer, command: peer.send(0x3C), "opcode"),
    "an opcode of initiators": (lambda peer, command: peer.send(0x01), "opcode"),
    "Reject without a header": (lambda peer, command: peer.send(REJECT, data=bytes(47)), "header"),
}
WRITE_LIES: dict[str, tuple[Lie, str]] = {
    "beyond the end": (lambda peer, command: peer.r2t(command, 0, LENGTH + 512), "beyond"),
    "offset beyond the end": (lambda peer, command: peer.r2t(command, LENGTH, 512), "order"),
    "offset and length wrap": (lambda peer, command: peer.r2t(command, 0xFFFFFFFF, 2), "order"),
    "length wraps": (lambda peer, command: peer.r2t(command, 0, 0xFFFFFFFF), "beyond"),
    "nothing": (lambda peer, command: peer.r2t(command, 0, 0), "beyond"),
    "a gap": (lambda peer, command: peer.r2t(command, 512, 512), "order"),
    "overlap": (
        lambda peer, command: [peer.r2t(command, 0, 1024), peer.r2t(command, 512, 512, number=1)],  # type: ignore[dict-item]
        "order",
    ),
    "number skipped": (lambda peer, command: peer.r2t(command, 0, 512, number=1), "R2TSN"),
    "no transfer tag": (
        lambda peer, command: peer.r2t(command, 0, 512, transfer_tag=0xFFFFFFFF),
        "Transfer Tag",
    ),
    "good without asking for data": (lambda peer, command: peer.respond(command), "missing"),
    "Data-In for a write": (lambda peer, command: peer.data_in(command, bytes(512)), "reads nothing"),
}


@pytest.mark.parametrize("name", READ_LIES)
def test_a_lie_to_a_read_ends_the_connection(name: str) -> None:
    check(read(0, LENGTH), *READ_LIES[name])


@pytest.mark.parametrize("name", WRITE_LIES)
def test_a_lie_to_a_write_ends_the_connection(name: str) -> None:
    check(write(0, random.Random(2).randbytes(LENGTH)), *WRITE_LIES[name], **ASKING)


def test_an_r2t_longer_than_a_burst_ends_the_connection() -> None:
    check(
        write(0, random.Random(2).randbytes(LENGTH)),
        lambda peer, command: peer.r2t(command, 0, 2048),
        "MaxBurstLength",
        max_burst_length_bytes=1024,
        **ASKING,
    )


def test_more_r2ts_than_agreed_end_the_connection() -> None:
    def lie(peer: Peer, command: Received) -> None:
        peer.raw(b"".join(r2t_bytes(peer, command, number) for number in range(4)))

    check(write(0, random.Random(2).randbytes(LENGTH)), lie, "MaxOutstandingR2T", **ASKING)


def r2t_bytes(peer: Peer, command: Received, number: int) -> bytes:
    return peer.build(
        R2T,
        flags=FINAL,
        bytes2=b"\0\0",
        lun=bytes(8),
        tag=command.tag,
        transfer_tag=7,
        tail=struct.pack(">III", number, number * 512, 512),
        data=b"",
        advances=False,
        stat_sn=None,
        flip_header=False,
        flip_data=False,
        ahs=b"",
    )


@pytest.mark.parametrize(
    "make_tag",
    [
        lambda tag: tag ^ 1,  # another slot
        lambda tag: tag + (1 << 13),  # the next generation of this slot
        lambda tag: tag - (1 << 13),  # the one before
        lambda tag: 0x1FFF,  # beyond all slots
    ],
)
def test_answers_with_a_tag_not_in_use_are_dropped(make_tag: Callable[[int], int]) -> None:
    content = bytearray(random.Random(1).randbytes(LENGTH))

    def script(peer: Peer) -> None:
        command = peer.receive()
        wrong = make_tag(command.tag) & 0xFFFFFFFF
        peer.data_in(command, b"\xee" * 512, tag=wrong)
        peer.data_in(command, b"\xee" * LENGTH, tag=wrong, status=GOOD)
        peer.send(SCSI_RESPONSE, tag=wrong, transfer_tag=0)
        peer.r2t(command, 0, 512, tag=wrong)
        disk = Disk(session(), content=content)
        disk.answer(peer, command)

    with started() as engine:
        done = engine.ask(read(0, LENGTH))
        assert engine.play(script)[0] == Reason.IDLE
        assert done.data(0) == content
        assert engine.counters.stale == 4


def test_an_additional_header_segment_is_skipped() -> None:
    agreed = session(header_digest=True)

    def script(peer: Peer) -> None:
        command = peer.receive()
        peer.send(
            DATA_IN,
            flags=FINAL | STATUS,
            tag=command.tag,
            data=b"\x11" * 512,
            ahs=bytes(1020),
            tail=struct.pack(">III", 0, 0, 0),
        )

    with started() as engine:
        done = engine.ask(read(0, 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert done.data(0) == b"\x11" * 512


def test_zero_length_data_in_is_legal() -> None:
    def script(peer: Peer) -> None:
        command = peer.receive()
        peer.data_in(command, b"", flags=0)
        peer.data_in(command, b"\x11" * 512, number=1, flags=0)
        peer.data_in(command, b"", number=2, offset=512, status=GOOD)

    with started() as engine:
        done = engine.ask(read(0, 512))
        assert engine.play(script)[0] == Reason.IDLE
        assert done.data(0) == b"\x11" * 512


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_end_the_connection_or_are_ignored_but_never_harm(seed: int) -> None:
    rng = random.Random(seed)
    agreed = session()
    disk = Disk(agreed, content=bytearray(rng.randbytes(LENGTH)))

    def script(peer: Peer) -> None:
        command = peer.receive()
        opcode = rng.choice([DATA_IN, R2T, SCSI_RESPONSE, NOP_IN, REJECT, 0x22, 0x26, 0x32])
        header = bytearray(rng.randbytes(48))
        header[0] = opcode
        header[4] = rng.choice([0, 0, header[4]])
        header[5:8] = rng.choice([0, 3, 512, 1 << 18]).to_bytes(3, "big")
        if rng.random() < 0.7:
            header[16:20] = command.header[16:20]
        header[24:28] = peer.stat_sn.to_bytes(4, "big")
        peer.raw(bytes(header) + rng.randbytes(1 << 18))
        peer.sock.close()

    with started() as engine:
        done, memory = guarded(engine, read(0, LENGTH))
        engine.play(script, agreed)
        if done.result(0) == 0:
            assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
            assert done.data(0) == disk.content
        around = bytes(ffi.buffer(memory))
        assert around[:LENGTH] == around[2 * LENGTH : 3 * LENGTH] == GUARD * LENGTH
