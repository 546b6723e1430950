"""Reads, writes and flushes over every shape of session a target may agree on."""

from __future__ import annotations

import random
import resource
from itertools import groupby, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isboot.engine.lane import Reason
from isboot.engine.requests import FLUSH, RequestList, read, write
from tests.engine.disk import Disk
from tests.engine.harness import session, started
from tests.engine.peer import SCSI_COMMAND, Peer

SIZES = (512, 1024, 4096, 8192, 16384, 20480, 65536, 66048, 262144, 300032, 524288)


def pattern(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


SHAPES = [
    {"initial_r2t": initial_r2t, "immediate_data": immediate, **sizes}
    for initial_r2t, immediate, sizes in product(
        (True, False),
        (True, False),
        (
            {},
            {"max_recv_data_segment_length_bytes": 512, "max_send_data_segment_length_bytes": 512},
            {"max_recv_data_segment_length_bytes": 65536, "max_send_data_segment_length_bytes": 8192},
            {"first_burst_length_bytes": 512, "max_burst_length_bytes": 1024},
            {"first_burst_length_bytes": 262144, "max_burst_length_bytes": 262144},
        ),
    )
]


@pytest.mark.parametrize("digests", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    "shape", SHAPES, ids=lambda shape: ",".join(f"{k}={int(v)}" for k, v in shape.items())
)
def test_what_is_written_is_read_back(shape: dict[str, int], digests: tuple[bool, bool]) -> None:
    agreed = session(**shape, header_digest=digests[0], data_digest=digests[1])
    disk = Disk(agreed, size_bytes=2 << 20)
    places = [(sum(SIZES[:index]), size) for index, size in enumerate(SIZES)]
    with started() as engine:
        written = engine.ask(*(write(at, pattern(size, at)) for at, size in places))
        assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
        assert [written.result(index) for index in range(len(SIZES))] == list(SIZES)
    for at, size in places:
        assert disk.content[at : at + size] == pattern(size, at)
    with started() as engine:
        done = engine.ask(*(read(at, size) for at, size in places))
        assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
        for index, (at, size) in enumerate(places):
            assert done.result(index) == size
            assert done.data(index) == pattern(size, at)
        assert engine.counters.protocol_errors == 0
        assert engine.counters.stale == 0


@pytest.mark.parametrize("collapses", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, 48, 49, 1000])
@pytest.mark.parametrize("digest", [True, False])
def test_bytes_may_come_in_pieces_of_any_size(chunk: int, collapses: bool, digest: bool) -> None:
    agreed = session(header_digest=digest, data_digest=digest, max_recv_data_segment_length_bytes=2048)
    disk = Disk(agreed, content=bytearray(pattern(1 << 15)), collapses=collapses)
    with started() as engine:
        done = engine.ask(read(0, 512), read(512, 5120), write(8192, pattern(1024, 9)), FLUSH)
        assert engine.play(disk.serve, agreed, chunk=chunk)[0] == Reason.IDLE
        assert done.data(0) == disk.content[:512]
        assert done.data(1) == disk.content[512:5632]
        assert done.result(3) == 0
    assert disk.content[8192:9216] == pattern(1024, 9)
    assert disk.flushes == 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["read", "write"]), st.integers(0, 60), st.integers(1, 200)),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([512, 1536, 16384, 65536, 262144]),
    st.sampled_from([512, 4096, 262144]),
    st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_any_sequence_at_depth_one_matches_a_model(
    steps: list[tuple[str, int, int]], segment: int, burst: int, collapses: bool
) -> None:
    agreed = session(
        max_recv_data_segment_length_bytes=segment,
        first_burst_length_bytes=burst,
        max_burst_length_bytes=burst,
        header_digest=True,
        data_digest=True,
    )
    disk = Disk(agreed, size_bytes=300 * 512, collapses=collapses)
    model = bytearray(300 * 512)
    requests, expected = [], []
    for index, (kind, block, count) in enumerate(steps):
        if kind == "write":
            data = pattern(count * 512, index)
            model[block * 512 : (block + count) * 512] = data
            requests.append(write(block * 512, data))
            expected.append(data)
        else:
            requests.append(read(block * 512, count * 512))
            expected.append(bytes(model[block * 512 : (block + count) * 512]))
    with started(depth=1) as engine:
        done = engine.ask(*requests)
        assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
        assert [done.data(index) for index in range(done.count)] == expected
    assert disk.content == model


def test_times_of_a_request_are_in_order() -> None:
    agreed = session()
    with started() as engine:
        done = engine.ask(read(0, 4096), write(0, bytes(4096)))
        engine.play(Disk(agreed).serve, agreed)
        for entry in (done.array[0], done.array[1]):
            assert 0 < entry.in_ns <= entry.sent_ns <= entry.answered_ns <= entry.committed_ns


def test_counters_count_operations_and_bytes() -> None:
    agreed = session()
    with started() as engine:
        engine.ask(read(0, 4096), read(4096, 512), write(0, bytes(1024)), FLUSH)
        engine.play(Disk(agreed).serve, agreed)
        counters = engine.counters
        assert (counters.reads, counters.writes, counters.flushes) == (2, 1, 1)
        assert (counters.read_bytes, counters.written_bytes) == (4608, 1024)
        assert counters.wire_sent_bytes == 4 * 48 + 1024
        assert counters.wire_received_bytes == 4 * 48 + 4608
        assert counters.in_flight == 0
        assert sum(counters.latency_ns) == 3


def test_fua_goes_into_the_command_and_leaves_the_cache_clean() -> None:
    agreed = session()
    seen = []

    def script(peer: Peer) -> None:
        command = peer.receive()
        seen.append(command.cdb[1])
        peer.respond(command)

    with started() as engine:
        engine.ask(write(0, bytes(512), fua=True))
        engine.play(script, agreed)
        assert seen == [0x08]
        assert engine.shared.written_since_flush == 0


def test_only_a_flush_clears_written_since_flush() -> None:
    agreed = session()
    disk = Disk(agreed)
    with started() as engine:
        engine.ask(write(0, bytes(512)))
        engine.play(disk.serve, agreed)
        assert engine.shared.written_since_flush == 1
    with started() as engine:
        engine.ask(write(0, bytes(512)), FLUSH)
        engine.play(disk.serve, agreed)
        # both were under way at once: the flush was issued before the write was done, so it does not cover it
        assert engine.shared.written_since_flush == 1
    with started(depth=1) as engine:
        engine.ask(write(0, bytes(512)), FLUSH)
        engine.play(disk.serve, agreed)
        assert engine.shared.written_since_flush == 0


@pytest.mark.parametrize("outstanding", [1, 2, 4, 7])
def test_several_r2ts_may_be_open_at_once(outstanding: int) -> None:
    agreed = session(
        initial_r2t=True,
        immediate_data=False,
        max_burst_length_bytes=4096,
        max_send_data_segment_length_bytes=1024,
        max_outstanding_r2t=outstanding,
    )
    data = pattern(outstanding * 4096)
    taken = []

    def script(peer: Peer) -> None:
        command = peer.receive()
        for number in range(outstanding):
            peer.r2t(command, number * 4096, 4096, number=number, transfer_tag=number)
        for number in range(outstanding):
            taken.append(peer.data_out(command, number * 4096, (number + 1) * 4096, number, 1024))
        peer.respond(command)

    with started() as engine:
        done = engine.ask(write(0, data))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert done.result(0) == len(data)
    assert b"".join(taken) == data


def test_unsolicited_data_follows_the_order_of_its_commands() -> None:
    """RFC 7143 §4.2.5.2, also when the data of one command takes several batches."""
    agreed = session(
        max_send_data_segment_length_bytes=8192,
        first_burst_length_bytes=1 << 20,
        max_burst_length_bytes=1 << 20,
    )
    order: list[int] = []

    def script(peer: Peer) -> None:
        commands = {}
        missing = 4
        while missing:
            pdu = peer.receive()
            if pdu.opcode == SCSI_COMMAND:
                commands[pdu.tag] = pdu
                continue
            order.append(pdu.tag)
            if pdu.is_final:
                peer.respond(commands[pdu.tag])
                missing -= 1
        assert [tag for tag, _ in groupby(order)] == list(commands)

    with started() as engine:
        done = engine.ask(*(write(at << 20, pattern(1 << 20, at)) for at in range(4)))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert {done.result(index) for index in range(4)} == {1 << 20}


def test_a_warm_lane_takes_no_page_fault() -> None:
    """A page of ours the kernel has taken back could only come from the disk this lane serves."""
    agreed = session()
    disk = Disk(agreed)
    done = RequestList(read(at * 4096, 4096) for at in range(200))
    with started() as engine:
        faults = []
        for _ in range(3):
            engine.lane.open_local(done.array, done.count)
            before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
            assert engine.play(disk.serve, agreed)[0] == Reason.IDLE
            faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before)
            engine.lane.detach()
    # the first round touches its buffers; Python around it, and ASan, may take one or two, I/Os take none
    assert min(faults[1:]) < 5
