"""A well-behaved target over a Peer: a disk in memory, within the limits a session agreed on."""

from __future__ import annotations

from dataclasses import dataclass, field

from isboot.values import NegotiatedSession
from tests.engine.peer import (
    FINAL,
    GOOD,
    LOGOUT,
    LOGOUT_RESPONSE,
    NOP_IN,
    NOP_OUT,
    READ_16,
    RESERVED,
    SCSI_COMMAND,
    SYNCHRONIZE_CACHE_16,
    TASK_MANAGEMENT,
    TASK_MANAGEMENT_RESPONSE,
    WRITE_16,
    Peer,
    PeerClosed,
    Received,
)


@dataclass
class Disk:
    """
    :param collapses: status comes in the last Data-In, else in a SCSI Response of its own
    """

    session: NegotiatedSession
    size_bytes: int = 1 << 20
    collapses: bool = True
    content: bytearray = field(default_factory=bytearray)
    flushes: int = 0
    pings: int = 0

    def __post_init__(self) -> None:
        self.content = self.content or bytearray(self.size_bytes)

    def serve(self, peer: Peer) -> None:
        """Answer until the engine closes or logs out."""
        try:
            while self.answer(peer, peer.receive()):
                pass
        except PeerClosed:
            return

    def answer(self, peer: Peer, pdu: Received) -> bool:
        """Answer one PDU; False after a Logout."""
        if pdu.opcode == SCSI_COMMAND:
            self.answer_command(peer, pdu)
        elif pdu.opcode == NOP_OUT:
            if pdu.tag != RESERVED:
                self.pings += 1
                peer.send(NOP_IN, tag=pdu.tag, data=pdu.data)
        elif pdu.opcode == TASK_MANAGEMENT:
            peer.send(TASK_MANAGEMENT_RESPONSE, tag=pdu.tag, transfer_tag=0)
        elif pdu.opcode == LOGOUT:
            peer.send(LOGOUT_RESPONSE, tag=pdu.tag, transfer_tag=0)
            return False
        else:
            raise AssertionError(f"unexpected opcode {pdu.opcode:#x}")
        return True

    def answer_command(self, peer: Peer, command: Received) -> None:
        operation = command.cdb[0]
        if operation == READ_16:
            self.answer_read(peer, command)
        elif operation == WRITE_16:
            data = self.take_write(peer, command)
            self.content[command.offset_bytes : command.offset_bytes + len(data)] = data
            peer.respond(command)
        elif operation == SYNCHRONIZE_CACHE_16:
            self.flushes += 1
            peer.respond(command)
        else:
            raise AssertionError(f"unexpected CDB {command.cdb.hex()}")

    def answer_read(self, peer: Peer, command: Received) -> None:
        data = bytes(self.content[command.offset_bytes : command.offset_bytes + command.length])
        limit = self.session.max_recv_data_segment_length_bytes
        for number, at in enumerate(range(0, len(data), limit)):
            is_last = at + limit >= len(data)
            peer.data_in(
                command,
                data[at : at + limit],
                offset=at,
                number=number,
                flags=FINAL if is_last else 0,
                status=GOOD if is_last and self.collapses else None,
            )
        if not self.collapses:
            peer.respond(command)

    def take_write(self, peer: Peer, command: Received) -> bytes:
        """Take a write's data: immediate, unsolicited, solicited (RFC 7143 §13.10-13.14)."""
        session = self.session
        limit = session.max_send_data_segment_length_bytes
        first = min(command.length, session.first_burst_length_bytes)
        assert len(command.data) == (min(first, limit) if session.immediate_data else 0)
        unsolicited = len(command.data) if session.initial_r2t else first
        assert command.is_final == (unsolicited == len(command.data))
        data = command.data + peer.data_out(command, len(command.data), unsolicited, RESERVED, limit)
        number = 0
        while len(data) < command.length:
            length = min(session.max_burst_length_bytes, command.length - len(data))
            transfer_tag = 0x1000 + number
            peer.r2t(command, len(data), length, number=number, transfer_tag=transfer_tag)
            data += peer.data_out(command, len(data), len(data) + length, transfer_tag, limit)
            number += 1
        return data
