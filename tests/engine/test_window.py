"""CmdSN, MaxCmdSN and StatSN: RFC 7143 §4.2.2."""

from __future__ import annotations

import pytest

from isboot.engine.lane import Cause, Reason
from isboot.engine.requests import read
from tests.engine.disk import Disk
from tests.engine.harness import session, started
from tests.engine.peer import NOP_IN, Peer


def reads(count: int) -> list:  # type: ignore[type-arg]
    return [read(at * 512, 512) for at in range(count)]


def is_silent(peer: Peer) -> bool:
    peer.sock.settimeout(0.05)
    try:
        peer.aside.append(peer._receive())
    except TimeoutError:
        return True
    finally:
        peer.sock.settimeout(10)
    return False


def test_nothing_is_sent_into_a_closed_window_until_a_nop_in_opens_it() -> None:
    agreed = session(max_cmd_sn=0)

    def script(peer: Peer) -> None:
        assert is_silent(peer)
        peer.max_cmd_sn = 2
        peer.send(NOP_IN, advances=False)
        assert [peer.receive().word(24), peer.receive().word(24)] == [1, 2]
        assert is_silent(peer)
        # an older value, and a pair that contradicts itself, do not count
        peer.max_cmd_sn = 1
        peer.send(NOP_IN, advances=False)
        assert is_silent(peer)
        peer.exp_cmd_sn, peer.max_cmd_sn = 50, 40
        peer.send(NOP_IN, advances=False)
        assert is_silent(peer)
        peer.sock.close()

    with started() as engine:
        engine.ask(*reads(4))
        assert engine.play(script, agreed)[1].cause == Cause.CLOSED


@pytest.mark.parametrize("window", [1, 2, 31])
def test_a_window_of_any_size_is_kept(window: int) -> None:
    agreed = session(max_cmd_sn=window)
    with started(depth=32) as engine:
        done = engine.ask(*reads(40))
        assert engine.play(Disk(agreed).serve, agreed)[0] == Reason.IDLE
        assert {done.result(index) for index in range(40)} == {512}


def test_no_more_commands_are_out_than_the_window_holds() -> None:
    agreed = session(max_cmd_sn=3)

    def script(peer: Peer) -> None:
        first = [peer.receive() for _ in range(3)]
        assert is_silent(peer)
        disk = Disk(agreed)
        for command in first:
            disk.answer(peer, command)
        disk.serve(peer)

    with started() as engine:
        engine.ask(*reads(8))
        assert engine.play(script, agreed)[0] == Reason.IDLE


@pytest.mark.parametrize("start", [0x7FFFFFFC, 0xFFFFFFFC])
def test_numbers_wrap(start: int) -> None:
    agreed = session(cmd_sn=start, max_cmd_sn=(start + 3) & 0xFFFFFFFF, exp_stat_sn=start)
    with started() as engine:
        done = engine.ask(*reads(20))
        assert engine.play(Disk(agreed).serve, agreed)[0] == Reason.IDLE
        assert {done.result(index) for index in range(20)} == {512}


@pytest.mark.parametrize("offset", [-1, 1, 1 << 30])
@pytest.mark.parametrize("in_data", [True, False])
def test_a_status_number_out_of_order_ends_the_connection(offset: int, in_data: bool) -> None:
    def script(peer: Peer) -> None:
        command = peer.receive()
        peer.stat_sn += offset
        if in_data:
            peer.data_in(command, bytes(512), status=0)
        else:
            peer.data_in(command, bytes(512))
            peer.respond(command)

    with started() as engine:
        engine.ask(*reads(1))
        loss = engine.play(script)[1]
        assert (loss.cause, loss.in_flight) == (Cause.PROTOCOL, 1)
        assert "StatSN" in loss.detail


def test_what_was_received_is_acknowledged() -> None:
    agreed = session()
    seen = []

    def script(peer: Peer) -> None:
        for _ in range(3):
            command = peer.receive()
            seen.append(command.word(28))
            peer.data_in(command, bytes(512), status=0)

    with started(depth=1) as engine:
        engine.ask(*reads(3))
        engine.play(script, agreed)
    assert seen == [100, 101, 102]


def test_a_window_that_stays_closed_is_given_up() -> None:
    agreed = session(max_cmd_sn=0)
    with started(command_timeout_ms=50) as engine:
        engine.ask(*reads(1))
        loss = engine.play(lambda peer: None, agreed)[1]
        assert loss.cause == Cause.COMMAND_TIMEOUT
        assert "window" in loss.detail
