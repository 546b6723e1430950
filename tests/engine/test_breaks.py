"""Connections that break anywhere, and what a new session finds."""

from __future__ import annotations

import random
import struct
import threading
import time

from isboot.engine.lane import Cause, Reason
from isboot.engine.requests import FLUSH, RequestList, read, write
from tests.engine.disk import Disk
from tests.engine.harness import session, started
from tests.engine.peer import (
    DATA_IN,
    FINAL,
    LUN,
    RESERVED,
    SCSI_COMMAND,
    Peer,
    PeerClosed,
    Received,
)

DIGESTS = {"header_digest": True, "data_digest": True}


def reference_bytes(agreed, disk_content: bytes, requests) -> int:  # type: ignore[no-untyped-def]
    """How many bytes a target sends in an undisturbed run of these requests."""
    with started(depth=2) as engine:
        engine.ask(*requests)
        disk = Disk(agreed, content=bytearray(disk_content), collapses=False)
        assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
        return int(engine.counters.wire_received_bytes)


class Cut:
    """A socket that breaks after so many bytes were sent through it."""

    def __init__(self, sock, after: int) -> None:  # type: ignore[no-untyped-def]
        self._sock = sock
        self._left = after

    def sendall(self, data: bytes) -> None:
        self._sock.sendall(data[: self._left])
        if len(data) >= self._left:
            # RST: what was sent is not waited for
            self._sock.setsockopt(1, 13, struct.pack("ii", 1, 0))
            self._sock.close()
            raise PeerClosed
        self._left -= len(data)

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return getattr(self._sock, name)


def test_a_connection_cut_after_any_byte_loses_and_doubles_nothing() -> None:
    agreed = session(
        initial_r2t=True,
        immediate_data=True,
        first_burst_length_bytes=512,
        max_burst_length_bytes=1024,
        max_recv_data_segment_length_bytes=1024,
        **DIGESTS,
    )
    before = random.Random(1).randbytes(16384)
    new = random.Random(2).randbytes(2560)
    requests = [read(0, 2048), write(8192, new), FLUSH]
    total = reference_bytes(agreed, before, requests)
    assert total > 2048
    for after in range(1, total):
        disk = Disk(agreed, content=bytearray(before), collapses=False)

        def script(peer: Peer, after: int = after, disk: Disk = disk) -> None:
            peer.sock = Cut(peer.sock, after)  # type: ignore[assignment]
            disk.serve(peer)

        with started(depth=2) as engine:
            done = engine.ask(*requests)
            reason, loss = engine.play(script, agreed)
            assert reason == Reason.LOST, after
            assert loss.cause in (Cause.CLOSED, Cause.SOCKET), after
            assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
            assert [done.result(index) for index in range(3)] == [2048, 2560, 0], after
            assert done.data(0) == before[:2048], after
            assert engine.counters.reads + engine.counters.writes + engine.counters.flushes == 3
        assert disk.content == before[:8192] + new + before[10752:], after


def test_commands_are_issued_again_in_the_order_they_came() -> None:
    agreed = session()
    seen: list[bytes] = []

    def first(peer: Peer) -> None:
        commands = [peer.receive() for _ in range(6)]
        # the third is done, the first was told to come again later
        Disk(agreed).answer(peer, commands[2])
        peer.expect(SCSI_COMMAND)
        peer.respond(commands[0], 8)
        peer.sock.close()

    def second(peer: Peer) -> None:
        commands = [peer.receive() for _ in range(6)]
        seen.extend(command.cdb for command in commands)
        disk = Disk(agreed)
        for command in commands:
            disk.answer(peer, command)
        disk.serve(peer)

    with started(depth=6) as engine:
        done = engine.ask(*(read(at * 512, 512) for at in range(7)))
        engine.play(first, agreed)
        assert engine.play(second, agreed)[0] == Reason.IDLE
        assert {done.result(index) for index in range(7)} == {512}
    assert [int.from_bytes(cdb[2:10], "big") for cdb in seen] == [0, 1, 3, 4, 5, 6]


def test_every_tag_of_a_new_session_is_new() -> None:
    agreed = session()
    tags: list[int] = []

    def record(peer: Peer) -> None:
        tags.extend(peer.receive().tag for _ in range(4))
        peer.sock.close()

    with started(depth=4) as engine:
        engine.ask(*(read(at * 512, 512) for at in range(4)))
        for _ in range(10):
            assert engine.play(record, agreed)[0] == Reason.LOST
    assert len(set(tags)) == 40


def test_late_data_of_the_connection_before_reaches_no_buffer() -> None:
    """The socket is closed, its operations are over: the second session's data is what is read."""
    agreed = session()

    def first(peer: Peer) -> None:
        command = peer.receive()
        peer.raw(
            peer.build(
                DATA_IN,
                flags=FINAL,
                bytes2=b"\0\0",
                lun=LUN,
                tag=command.tag,
                transfer_tag=RESERVED,
                tail=bytes(12),
                data=b"\xee" * 65536,
                advances=False,
                stat_sn=None,
                flip_header=False,
                flip_data=False,
                ahs=b"",
            )[:40000]
        )
        peer.sock.close()

    disk = Disk(agreed, content=bytearray(b"\x11" * 65536))
    with started() as engine:
        done = engine.ask(read(0, 65536))
        assert engine.play(first, agreed)[0] == Reason.LOST
        assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
        assert done.data(0) == b"\x11" * 65536


def test_an_answer_before_all_data_was_sent_gives_the_buffer_back_only_then() -> None:
    """A target that refuses a long write early, while our data still fills the socket."""
    agreed = session(
        first_burst_length_bytes=1 << 20,
        max_send_data_segment_length_bytes=1 << 20,
        max_burst_length_bytes=1 << 20,
    )
    taken: list[bytes] = []

    def script(peer: Peer) -> None:
        header = peer._read(48)
        peer.exp_cmd_sn += 1
        peer.respond(
            Received(header, b""), 2, bytes([0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x0C, 0, 0, 0, 0, 0])
        )
        time.sleep(0.05)  # the answer is there long before the data is taken
        taken.append(peer._read(1 << 20))

    data = random.Random(3).randbytes(1 << 20)
    with started() as engine:
        done = engine.ask(write(0, data))
        assert engine.play(script, agreed, buffer_bytes=1 << 16)[0] == Reason.IDLE
        assert done.result(0) == -61
        # not before the peer began to take it: until then the buffer was still being sent from
        assert done.array[0].committed_ns - done.array[0].answered_ns > 30_000_000
    assert taken == [data]


def test_no_wait_of_the_loop_is_longer_than_what_it_waits_for() -> None:
    """Batches larger than the socket takes, one after the other: each stall would cost the backstop's 1 s."""
    agreed = session(
        initial_r2t=True, max_send_data_segment_length_bytes=512, max_recv_data_segment_length_bytes=512
    )
    start = time.monotonic()
    with started() as engine:
        engine.ask(write(0, bytes(1 << 20)))
        assert engine.play(Disk(agreed).serve, agreed)[0] == Reason.IDLE
    assert time.monotonic() - start < 4  # 8 batches: 8 s with the stalls, 0.05 s without


def test_without_a_session_everything_fails_with_the_code_given() -> None:
    with started() as engine:
        done: RequestList = engine.ask(read(0, 512), write(0, bytes(512)))
        engine.play(lambda peer: peer.sock.close())
        assert engine.lane.fail(-67) == Reason.IDLE
        assert (done.result(0), done.result(1)) == (-67, -67)


def test_without_any_session_ever_everything_fails_as_well() -> None:
    with started() as engine:
        done = engine.ask(read(0, 512), write(0, bytes(512)), FLUSH)
        stopper = threading.Timer(1, engine.lane.stop, kwargs={"drain": False})
        stopper.start()
        try:
            assert engine.lane.fail(-67) == Reason.IDLE
        finally:
            stopper.cancel()
            stopper.join()
        assert [done.result(index) for index in range(3)] == [-67] * 3


def test_the_session_can_be_taken_back_and_gone_on_with() -> None:
    agreed = session()
    with started() as engine:
        engine.ask(read(0, 512), read(512, 512))
        engine.play(Disk(agreed).serve, agreed)
        assert engine.lane.detach() == (3, 102, 34)
