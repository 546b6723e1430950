"""Turns of the loop that a well-timed world has to meet: brought about by inside.c, within the lane."""

from __future__ import annotations

import ctypes
import errno
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from isboot._engine import ffi

from isboot import _engine
from isboot.engine.lane import Cause, Reason
from isboot.engine.requests import read
from tests.engine.disk import Disk
from tests.engine.harness import Engine, session, started
from tests.engine.peer import BUSY, DATA_IN, FINAL, GOOD, LUN, NOP_IN, RESERVED, STATUS, Peer

REPOSITORY = Path(__file__).resolve().parents[2]
SEGMENT_BYTES = 1448  #: what a TCP segment carries on Ethernet


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Any:
    library = tmp_path_factory.mktemp("inside") / "inside.so"
    source = Path(__file__).with_name("inside.c")
    includes = [f"-I{REPOSITORY / name}" for name in ("cdefs", "isboot/engine")]
    command = ["gcc", "-std=gnu11", "-Wall", "-Werror", "-fPIC", "-shared", *includes, "-o", library, source]
    subprocess.run([*command, _engine.__file__, "-luring"], check=True)
    return ctypes.CDLL(str(library))


def pointer(engine: Engine) -> ctypes.c_void_p:
    return ctypes.c_void_p(int(ffi.cast("uintptr_t", engine.lane._lane)))


def test_waiting_for_an_operation_that_does_not_end_is_no_busy_loop(inside: Any) -> None:
    """At SCHED_FIFO the kernel thread waited for may need the CPU the loop would keep."""
    with started() as engine:
        lane, attach = pointer(engine), engine.lane.attach
        engine.ask(read(0, 512))

        def attach_and_hold(agreed: Any) -> None:
            attach(agreed)
            inside.hold_receive(lane, True)

        engine.lane.attach = attach_and_hold  # type: ignore[method-assign]
        release = threading.Timer(0.35, inside.hold_receive, (lane, False))

        def script(peer: Peer) -> None:
            peer.receive()
            release.start()
            engine.lane.stop(drain=False)

        assert engine.play(script)[0] == Reason.STOPPED
        # it asks again, but at most once in 100 ms
        assert 4 <= inside.count_sqes(lane) <= 50


def test_a_commit_in_the_same_turn_does_not_hold_up_the_next_send(inside: Any) -> None:
    agreed = session()
    with started(depth=1) as engine:
        engine.ask(*(read(at * 512, 512) for at in range(3)))
        inside.commit_by_sqe(pointer(engine))
        start = time.monotonic()
        assert engine.play(Disk(agreed).serve, agreed)[0] == Reason.IDLE
        assert time.monotonic() - start < 2  # each of three stalls lasts for the backstop's 1 s


def test_a_device_that_is_gone_is_told_after_a_loss_in_the_same_turn(inside: Any) -> None:
    with started() as engine:
        engine.ask(read(0, 512))
        inside.abandon_and_lose(pointer(engine))

        def script(peer: Peer) -> None:
            peer.receive()
            peer.send(NOP_IN, advances=False)  # wakes it

        reason, loss = engine.play(script)
        assert (reason, loss.cause) == (Reason.LOST, Cause.CLOSED)
        stopper = threading.Timer(1, engine.lane.stop, kwargs={"drain": False})
        stopper.start()
        try:
            assert engine.lane.fail(-67) == Reason.ABANDONED
        finally:
            stopper.cancel()
            stopper.join()


FAILED = 1  #: a response: the target could not carry it out; tried again for 10 s


def test_the_time_to_try_again_begins_anew_on_a_new_session(inside: Any) -> None:
    def first(peer: Peer) -> None:
        peer.respond(peer.receive(), response=FAILED)
        peer.receive()
        peer.sock.close()

    def second(peer: Peer) -> None:
        peer.respond(peer.receive(), response=FAILED)
        peer.data_in(peer.receive(), bytes(512), status=GOOD)

    with started() as engine:
        done = engine.ask(read(0, 512))
        assert engine.play(first)[0] == Reason.LOST
        inside.age_retries(pointer(engine), 11_000)
        assert engine.play(second)[0] == Reason.IDLE
        assert done.result(0) == 512


def test_the_time_to_try_again_is_that_of_one_cause(inside: Any) -> None:
    def script(peer: Peer) -> None:
        peer.respond(peer.receive(), BUSY)  # for as long as it takes
        command = peer.receive()
        inside.age_retries(lane, 11_000)
        peer.respond(command, response=FAILED)
        peer.data_in(peer.receive(), bytes(512), status=GOOD)

    with started() as engine:
        lane = pointer(engine)
        done = engine.ask(read(0, 512))
        assert engine.play(script)[0] == Reason.IDLE
        assert done.result(0) == 512


def test_the_time_to_try_again_ends(inside: Any) -> None:
    def script(peer: Peer) -> None:
        peer.respond(peer.receive(), response=FAILED)
        command = peer.receive()
        inside.age_retries(lane, 11_000)
        peer.respond(command, response=FAILED)

    with started() as engine:
        lane = pointer(engine)
        done = engine.ask(read(0, 512))
        assert engine.play(script)[0] == Reason.IDLE
        assert done.result(0) == -errno.EREMOTEIO


def kernel_threads() -> Iterator[str]:
    for path in Path("/proc/self/task").iterdir():
        if (path / "comm").read_text().startswith("iou-wrk"):
            yield path.name


def test_a_long_payload_in_many_segments_makes_no_kernel_thread() -> None:
    length = 1 << 18
    found: set[str] = set()

    def script(peer: Peer) -> None:
        command = peer.receive()
        wire = peer.build(
            DATA_IN, flags=FINAL | STATUS, bytes2=bytes([0, GOOD]), lun=LUN, tag=command.tag,
            transfer_tag=RESERVED, tail=bytes(12), data=bytes(length), advances=True, stat_sn=None,
            flip_header=False, flip_data=False, ahs=b"",
        )  # fmt: skip
        for at in range(0, len(wire), SEGMENT_BYTES):
            peer.raw(wire[at : at + SEGMENT_BYTES])
            time.sleep(0.001)  # so that each wakes the lane
            found.update(kernel_threads())

    def run() -> None:
        with started() as engine:
            done = engine.ask(read(0, length))
            outcomes.append(engine.play(script)[0])
            outcomes.append(done.result(0))

    outcomes: list[int] = []
    thread = threading.Thread(target=run)  # of its own: no kernel thread of a lane before it
    before = set(kernel_threads())
    thread.start()
    thread.join()
    assert outcomes == [Reason.IDLE, length]
    assert found <= before
