"""The scripts of the scripted target do what its first page promises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from isboot.session.connection import Connection, ConnectionLost, Deadline
from isboot.session.pdu import DataOut, Pdu, ReadyToTransfer, ScsiCommand, ScsiResponse, TaskManagementRequest
from isboot.values import NegotiatedSession
from tests.fakes.login import Limits
from tests.fakes.target import LUN_1, FakeTarget, delay, hold, status
from tests.session.sessions import connected, log_in, path_to


class Peer:
    """A session that sends PDUs as they are."""

    def __init__(self, connection: Connection, session: NegotiatedSession) -> None:
        self.connection = connection
        self.cmd_sn = session.cmd_sn

    def send(self, message: Pdu) -> None:
        self.connection.send(message, Deadline.within(2000))

    def receive(self) -> Pdu:
        return self.connection.receive(Deadline.within(2000))

    def write(self, tag: int, data: bytes, immediate: int | None = None) -> None:
        """Send WRITE(16) of block 0, with so much of the data in the command."""
        cdb = bytes([0x8A]) + bytes(9) + (len(data) // 512).to_bytes(4, "big") + bytes(2)
        command = ScsiCommand(
            write=True, lun=LUN_1, initiator_task_tag=tag, expected_data_transfer_length=len(data),
            cmd_sn=self.cmd_sn, cdb=cdb, data=data[:immediate],
        )  # fmt: skip
        self.cmd_sn += 1
        self.send(command)


@contextmanager
def peer_of(target: FakeTarget) -> Iterator[Peer]:
    with connected(target) as sock:
        session = log_in(sock, path_to(target))
        yield Peer(Connection(sock, "peer", max_data_bytes=1 << 18), session)


def test_a_held_write_lands_over_newer_data_after_its_session_ended() -> None:
    with FakeTarget(unit_attentions=[]) as target:
        target.on(ScsiCommand, hold())
        with peer_of(target) as old:
            old.write(1, b"o" * 512)
            target.wait(lambda: target.held == 1)
        with peer_of(target) as new:
            new.write(1, b"n" * 512)
            assert isinstance(new.receive(), ScsiResponse)
            assert target.disk.data[:512] == b"n" * 512
            assert target.release() == 1
        assert target.disk.data[:512] == b"o" * 512


def test_a_reset_of_the_lun_forgets_what_is_held() -> None:
    with FakeTarget(unit_attentions=[]) as target, peer_of(target) as peer:
        target.on(ScsiCommand, hold())
        peer.write(1, b"o" * 512)
        peer.send(TaskManagementRequest(immediate=True, function=5, lun=LUN_1, initiator_task_tag=2))
        peer.receive()
        assert target.release() == 0
        assert target.disk.data[:512] == bytes(512)


def test_a_delayed_command_is_overtaken() -> None:
    with FakeTarget(unit_attentions=[]) as target, peer_of(target) as peer:
        target.on(ScsiCommand, delay(0.1))
        peer.write(1, b"a" * 512)
        peer.write(2, b"b" * 512)
        tags = [peer.receive(), peer.receive()]
        assert [answer.initiator_task_tag for answer in tags if isinstance(answer, ScsiResponse)] == [2, 1]
        assert target.disk.data[:512] == b"a" * 512


def test_data_is_asked_for_in_bursts_and_lands_in_order() -> None:
    limits = Limits(initial_r2t=True, immediate_data=False, max_burst_length=1024)
    data = bytes(range(256)) * 8
    with FakeTarget(unit_attentions=[], limits=limits) as target, peer_of(target) as peer:
        peer.write(1, data, immediate=0)
        for offset in (0, 1024):
            asked = peer.receive()
            assert isinstance(asked, ReadyToTransfer)
            assert (asked.buffer_offset, asked.desired_data_transfer_length) == (offset, 1024)
            part = DataOut(
                final=True, lun=LUN_1, initiator_task_tag=1, buffer_offset=offset,
                target_transfer_tag=asked.target_transfer_tag, data=data[offset : offset + 1024],
            )  # fmt: skip
            peer.send(part)
        assert isinstance(peer.receive(), ScsiResponse)
        assert target.disk.data[:2048] == data


def test_scripts_count_skip_and_end() -> None:
    with FakeTarget(unit_attentions=[]) as target, peer_of(target) as peer:
        target.on(ScsiCommand, status(0x28), times=2, skip=1)
        target.alter(ScsiResponse, lambda answer: replace(answer, response=7), skip=3)
        answers = []
        for tag in range(1, 6):
            peer.write(tag, bytes(512))
            answers.append(peer.receive())
    said = [(answer.status, answer.response) for answer in answers if isinstance(answer, ScsiResponse)]
    assert said == [(0, 0), (0x28, 0), (0x28, 0), (0, 7), (0, 0)]


@pytest.mark.parametrize("count", [0, 1, 47, 48, 90])
def test_the_connection_ends_after_so_many_bytes(count: int) -> None:
    with FakeTarget(unit_attentions=[]) as target, peer_of(target) as peer:
        target.drop_after(count)
        for tag in range(count // 48):
            peer.write(tag, bytes(512))
            peer.receive()
        peer.write(9, bytes(512))
        with pytest.raises(ConnectionLost):
            peer.receive()


def test_it_comes_back_on_the_same_port_with_the_same_disk() -> None:
    with FakeTarget(unit_attentions=[]) as target:
        with peer_of(target) as peer:
            peer.write(1, b"x" * 512)
            peer.receive()
        port = target.port
        target.stop()
        target.start()
        assert target.port == port
        with peer_of(target):
            assert target.disk.data[:512] == b"x" * 512
