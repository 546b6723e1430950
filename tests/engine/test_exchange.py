"""Control commands beside the I/O, and the ways a run is ended on purpose."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from isboot.engine import lane
from isboot.engine.lane import Cause, Reason
from isboot.engine.requests import read
from isboot.errors import EngineError
from tests.engine.disk import Disk
from tests.engine.harness import Engine, Script, session, started
from tests.engine.peer import (
    GOOD,
    LOGOUT,
    LOGOUT_RESPONSE,
    LUN,
    NOP_IN,
    NOP_OUT,
    SCSI_COMMAND,
    TASK_MANAGEMENT,
    TASK_MANAGEMENT_RESPONSE,
    Peer,
    PeerClosed,
    sense,
)


def beside(engine: Engine, script: Script, action: Callable[[], Any]) -> tuple[Any, Any]:
    """
    Run `action` on another thread while a session is played with a read under way.

    :param script: it is handed the peer after the read has arrived; the read is answered after it
    :return: what `action` gave or raised, and the outcome of the run
    """
    agreed = session()
    results: list[Any] = []
    is_up = threading.Event()
    is_done = threading.Event()

    def act() -> None:
        is_up.wait(10)
        try:
            results.append(action())
        except EngineError as error:
            results.append(error)
        is_done.set()

    def play(peer: Peer) -> None:
        held = peer.receive()
        is_up.set()
        script(peer)
        is_done.wait(10)
        Disk(agreed).answer(peer, held)

    engine.ask(read(0, 512))
    thread = threading.Thread(target=act)
    thread.start()
    outcome = engine.play(play, agreed)
    thread.join(10)
    return results[0], outcome


def test_a_scsi_command_brings_its_data() -> None:
    cdb = bytes([0x12, 1, 0x83, 0, 255, 0])

    def script(peer: Peer) -> None:
        command = peer.expect(SCSI_COMMAND)
        assert (command.cdb[:6], command.length, command.lun) == (cdb, 255, LUN)
        peer.data_in(command, b"designators", status=GOOD, flags=0x80 | 2, residual=244)

    with started() as engine:
        answer, outcome = beside(engine, script, lambda: engine.lane.exchange_scsi(cdb, 255))
        assert (answer.status, answer.data, answer.sense) == (0, b"designators", b"")
        assert outcome[0] == Reason.IDLE
        assert engine.counters.in_flight == 0


def test_a_scsi_command_may_carry_data_and_come_back_with_sense() -> None:
    parameters = bytes(range(24))

    def script(peer: Peer) -> None:
        command = peer.expect(SCSI_COMMAND)
        assert command.data == parameters
        peer.respond(command, 2, sense(5, 0x26, 0))

    with started() as engine:
        answer, _ = beside(
            engine, script, lambda: engine.lane.exchange_scsi(b"\x5f" + bytes(9), 0, parameters)
        )
        assert (answer.status, answer.sense) == (2, sense(5, 0x26, 0))


def test_a_logical_unit_reset_is_answered() -> None:
    def script(peer: Peer) -> None:
        request = peer.expect(TASK_MANAGEMENT)
        assert (request.header[1], request.lun, request.word(20)) == (0x85, LUN, 0xFFFFFFFF)
        peer.send(TASK_MANAGEMENT_RESPONSE, bytes2=bytes([5, 0]), tag=request.tag, transfer_tag=0)

    with started() as engine:
        assert beside(engine, script, lambda: engine.lane.exchange_task_management(5))[0] == 5


def test_a_ping_comes_back() -> None:
    def script(peer: Peer) -> None:
        peer.send(NOP_IN, tag=peer.expect(NOP_OUT).tag)

    with started() as engine:
        assert beside(engine, script, engine.lane.exchange_ping)[0] is None


def test_a_lost_connection_ends_the_exchange() -> None:
    def script(peer: Peer) -> None:
        peer.expect(SCSI_COMMAND)
        peer.sock.close()
        raise PeerClosed

    with started() as engine:
        error, outcome = beside(engine, script, lambda: engine.lane.exchange_scsi(bytes(6), 0))
        assert isinstance(error, EngineError)
        assert outcome[1].cause in (Cause.CLOSED, Cause.SOCKET)


def test_a_late_answer_reaches_no_descriptor_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Any] = []
    monkeypatch.setattr(lane, "_lost_exchanges", lost)
    monkeypatch.setattr(lane, "EXCHANGE_TIMEOUT_S", 0.05)
    has_given_up = threading.Event()

    def ask_and_go_on() -> int:
        try:
            with pytest.raises(EngineError, match="does not answer"):
                engine.lane.exchange_task_management(5)
            return os.eventfd(0, os.EFD_NONBLOCK)  # takes the lowest number that is free
        finally:
            has_given_up.set()

    def script(peer: Peer) -> None:
        request = peer.expect(TASK_MANAGEMENT)
        has_given_up.wait(10)
        peer.send(TASK_MANAGEMENT_RESPONSE, tag=request.tag, transfer_tag=0)

    with started() as engine:
        other, outcome = beside(engine, script, ask_and_go_on)
        assert outcome[0] == Reason.IDLE
    with pytest.raises(BlockingIOError):
        os.eventfd_read(other)
    os.close(other)
    assert [os.eventfd_read(exchange.done_fd) for exchange in lost] == [1]
    os.close(lost[0].done_fd)


def test_between_runs_an_exchange_is_refused() -> None:
    with started() as engine, pytest.raises(EngineError, match="not connected"):
        engine.lane.exchange_scsi(bytes(6), 0)


def test_a_logout_waits_for_what_is_under_way() -> None:
    agreed = session()
    results: list[int] = []
    with started() as engine:
        done = engine.ask(*(read(at * 512, 512) for at in range(12)))
        thread = threading.Thread(target=lambda: results.append(engine.lane.exchange_logout()))

        def script(peer: Peer) -> None:
            held = [peer.receive() for _ in range(8)]
            thread.start()
            peer.sock.settimeout(0.05)
            with pytest.raises(TimeoutError):
                peer._receive()
            peer.sock.settimeout(10)
            for command in held:
                Disk(agreed).answer(peer, command)
            logout = peer.expect(LOGOUT)
            assert (logout.header[1], logout.word(20) >> 16) == (0x80, 1)
            peer.send(LOGOUT_RESPONSE, tag=logout.tag, transfer_tag=0)

        assert engine.play(script, agreed)[0] == Reason.LOGGED_OUT
        thread.join(10)
        assert results == [0]
        assert [done.result(index) for index in range(8)] == [512] * 8
        # the rest is done by the next session
        assert engine.play(Disk(agreed).serve, agreed)[0] == Reason.IDLE
        assert {done.result(index) for index in range(12)} == {512}


@pytest.mark.parametrize("drain", [True, False])
def test_a_stop_comes_after_what_is_in_flight_or_at_once(drain: bool) -> None:
    agreed = session()
    with started(depth=4) as engine:
        done = engine.ask(*(read(at * 512, 512) for at in range(8)))

        def script(peer: Peer) -> None:
            held = [peer.receive() for _ in range(4)]
            engine.lane.stop(drain=drain)
            if drain:
                for command in held:
                    Disk(agreed).answer(peer, command)

        assert engine.play(script, agreed)[0] == Reason.STOPPED
        assert sum(done.result(index) == 512 for index in range(8)) == (4 if drain else 0)


def test_exchanges_from_many_threads_take_their_turn() -> None:
    agreed = session()
    outcomes: list[str] = []

    def ask(engine: Engine) -> None:
        for _ in range(50):
            try:
                engine.lane.exchange_ping()
                outcomes.append("done")
            except EngineError as error:
                outcomes.append("busy" if "busy" in error.message else error.message)

    with started() as engine:
        engine.ask(read(0, 512))
        threads = [threading.Thread(target=ask, args=(engine,)) for _ in range(3)]

        def script(peer: Peer) -> None:
            held = peer.receive()
            for thread in threads:
                thread.start()
            disk = Disk(agreed)
            peer.sock.settimeout(0.05)
            while any(thread.is_alive() for thread in threads) or peer.aside:
                try:
                    disk.answer(peer, peer.receive())
                except TimeoutError:
                    continue
            disk.answer(peer, held)

        assert engine.play(script, agreed)[0] == Reason.IDLE
    assert set(outcomes) <= {"done", "busy"}
    assert outcomes.count("done") > 10
