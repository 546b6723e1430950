"""
The other end of a session, played by a test over a socket pair: PDUs of a target, true ones and lies.

Nothing of isboot.session is used here: what the engine says is read by a second pair of eyes.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import crc32c

RESERVED = 0xFFFFFFFF
LUN = bytes([0, 1, 0, 0, 0, 0, 0, 0])

NOP_OUT, SCSI_COMMAND, TASK_MANAGEMENT, DATA_OUT, LOGOUT = 0x00, 0x01, 0x02, 0x05, 0x06
NOP_IN, SCSI_RESPONSE, TASK_MANAGEMENT_RESPONSE = 0x20, 0x21, 0x22
DATA_IN, LOGOUT_RESPONSE, R2T, ASYNC_MESSAGE, REJECT = 0x25, 0x26, 0x31, 0x32, 0x3F
READ_16, WRITE_16, SYNCHRONIZE_CACHE_16 = 0x88, 0x8A, 0x91

FINAL, OVERFLOW, UNDERFLOW, STATUS = 0x80, 0x04, 0x02, 0x01
GOOD, CHECK_CONDITION, BUSY, RESERVATION_CONFLICT, TASK_SET_FULL = 0x00, 0x02, 0x08, 0x18, 0x28


def sense(key: int, code: int, qualifier: int, *, descriptor: bool = False) -> bytes:
    if descriptor:
        return bytes([0x72, key, code, qualifier, 0, 0, 0, 0])
    return bytes([0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0])


class PeerClosed(Exception):  # noqa: N818
    """The engine closed the connection."""


@dataclass(frozen=True)
class Received:
    header: bytes
    data: bytes

    def word(self, offset: int) -> int:
        return int(struct.unpack_from(">I", self.header, offset)[0])

    @property
    def opcode(self) -> int:
        return self.header[0] & 0x3F

    @property
    def is_immediate(self) -> bool:
        return bool(self.header[0] & 0x40)

    @property
    def is_final(self) -> bool:
        return bool(self.header[1] & FINAL)

    @property
    def lun(self) -> bytes:
        return self.header[8:16]

    @property
    def tag(self) -> int:
        return self.word(16)

    @property
    def transfer_tag(self) -> int:
        return self.word(20)

    @property
    def length(self) -> int:
        """Expected data transfer length of a SCSI Command."""
        return self.word(20)

    @property
    def cdb(self) -> bytes:
        return self.header[32:48]

    @property
    def offset_bytes(self) -> int:
        """Where on a LUN with blocks of 512 bytes a READ(16) or WRITE(16) goes."""
        return int.from_bytes(self.cdb[2:10], "big") * 512


@dataclass
class Peer:
    """
    :param window: MaxCmdSN is ExpCmdSN + window - 1
    """

    sock: socket.socket
    header_digest: bool = False
    data_digest: bool = False
    stat_sn: int = 100
    exp_cmd_sn: int = 1
    window: int = 32
    max_cmd_sn: int | None = None  #: instead of what the window gives
    chunk: int = 0  #: send so many bytes at once, 0: all
    aside: list[Received] = field(default_factory=list)  #: came while something else was waited for

    def _read(self, count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            try:
                part = self.sock.recv(count - len(parts))
            except ConnectionError as error:
                raise PeerClosed from error
            if not part:
                raise PeerClosed
            parts += part
        return bytes(parts)

    def receive(self) -> Received:
        """Give the engine's next PDU; digests, padding and CmdSN are checked."""
        return self.aside.pop(0) if self.aside else self._receive()

    def _receive(self) -> Received:
        header = self._read(48)
        assert header[4] == 0, "no additional header segment was expected"
        if self.header_digest:
            assert self._read(4) == struct.pack("<I", crc32c.crc32c(header))
        length = int.from_bytes(header[5:8], "big")
        data = self._read(length)
        if length:
            padding = self._read(-length % 4)
            assert padding == bytes(len(padding))
            if self.data_digest:
                assert self._read(4) == struct.pack("<I", crc32c.crc32c(data + padding))
        pdu = Received(header, data)
        if pdu.opcode == DATA_OUT:
            return pdu
        assert pdu.word(24) == self.exp_cmd_sn, "CmdSN"
        if not pdu.is_immediate:
            self.exp_cmd_sn = (self.exp_cmd_sn + 1) & 0xFFFFFFFF
        return pdu

    def _data_out(self, tag: int, transfer_tag: int) -> Received:
        def is_wanted(pdu: Received) -> bool:
            return pdu.opcode == DATA_OUT and pdu.tag == tag and pdu.transfer_tag == transfer_tag

        for index, pdu in enumerate(self.aside):
            if is_wanted(pdu):
                return self.aside.pop(index)
        while not is_wanted(pdu := self._receive()):
            self.aside.append(pdu)
        return pdu

    def expect(self, opcode: int) -> Received:
        pdu = self.receive()
        assert pdu.opcode == opcode, f"expected {opcode:#x}, not {pdu.opcode:#x}"
        return pdu

    def send(
        self,
        opcode: int,
        *,
        flags: int = FINAL,
        bytes2: bytes = b"\0\0",
        lun: bytes = bytes(8),
        tag: int = RESERVED,
        transfer_tag: int = RESERVED,
        tail: bytes = bytes(12),
        data: bytes = b"",
        advances: bool = True,
        stat_sn: int | None = None,
        flip_header: bool = False,
        flip_data: bool = False,
        ahs: bytes = b"",
    ) -> None:
        """
        :param bytes2: bytes 2 and 3 of the header
        :param tail: bytes 36 to 47
        :param advances: a StatSN is used up
        :param flip_header: damage the header after its digest was made; likewise data
        """
        self.raw(
            self.build(
                opcode,
                flags=flags,
                bytes2=bytes2,
                lun=lun,
                tag=tag,
                transfer_tag=transfer_tag,
                tail=tail,
                data=data,
                advances=advances,
                stat_sn=stat_sn,
                flip_header=flip_header,
                flip_data=flip_data,
                ahs=ahs,
            )
        )

    def build(
        self,
        opcode: int,
        *,
        flags: int,
        bytes2: bytes,
        lun: bytes,
        tag: int,
        transfer_tag: int,
        tail: bytes,
        data: bytes,
        advances: bool,
        stat_sn: int | None,
        flip_header: bool,
        flip_data: bool,
        ahs: bytes,
    ) -> bytes:
        number = self.stat_sn if stat_sn is None else stat_sn
        if advances:
            self.stat_sn = (self.stat_sn + 1) & 0xFFFFFFFF
        highest = self.max_cmd_sn if self.max_cmd_sn is not None else self.exp_cmd_sn + self.window - 1
        header = (
            bytearray([opcode, flags]) + bytes2 + bytes([len(ahs) // 4]) + len(data).to_bytes(3, "big") + lun
        )
        header += struct.pack(">IIIII", tag, transfer_tag, number, self.exp_cmd_sn, highest & 0xFFFFFFFF)
        header += tail + ahs
        assert len(header) == 48 + len(ahs)
        wire = bytes(header)
        if self.header_digest:
            wire += struct.pack("<I", crc32c.crc32c(bytes(header)))
        if flip_header:
            wire = bytes([wire[0], wire[1] ^ 0x40]) + wire[2:]
        if data:
            padded = data + bytes(-len(data) % 4)
            digest = struct.pack("<I", crc32c.crc32c(padded)) if self.data_digest else b""
            if flip_data:
                padded = bytes([padded[0] ^ 1]) + padded[1:]
            wire += padded + digest
        return wire

    def raw(self, wire: bytes) -> None:
        step = self.chunk or len(wire)
        try:
            for at in range(0, len(wire), step):
                self.sock.sendall(wire[at : at + step])
        except OSError as error:
            raise PeerClosed from error

    # --- a target's answers ---

    def respond(
        self,
        command: Received,
        status: int = GOOD,
        sense_data: bytes = b"",
        *,
        flags: int = FINAL,
        residual: int = 0,
        response: int = 0,
        stat_sn: int | None = None,
    ) -> None:
        data = struct.pack(">H", len(sense_data)) + sense_data if sense_data else b""
        self.send(
            SCSI_RESPONSE,
            flags=flags,
            bytes2=bytes([response, status]),
            tag=command.tag,
            transfer_tag=0,
            tail=struct.pack(">III", 0, 0, residual),
            data=data,
            stat_sn=stat_sn,
        )

    def data_in(
        self,
        command: Received,
        data: bytes,
        *,
        offset: int = 0,
        number: int = 0,
        flags: int = FINAL,
        status: int | None = None,
        residual: int = 0,
        tag: int | None = None,
        flip_data: bool = False,
    ) -> None:
        has_status = status is not None
        self.send(
            DATA_IN,
            flags=flags | (STATUS if has_status else 0),
            bytes2=bytes([0, status or 0]),
            lun=LUN,
            tag=command.tag if tag is None else tag,
            tail=struct.pack(">III", number, offset, residual),
            data=data,
            advances=has_status,
            flip_data=flip_data,
        )

    def r2t(
        self,
        command: Received,
        offset: int,
        length: int,
        *,
        number: int = 0,
        transfer_tag: int = 7,
        tag: int | None = None,
    ) -> None:
        self.send(
            R2T,
            lun=LUN,
            tag=command.tag if tag is None else tag,
            transfer_tag=transfer_tag,
            tail=struct.pack(">III", number, offset, length),
            advances=False,
        )

    def data_out(self, command: Received, offset: int, end: int, transfer_tag: int, limit: int) -> bytes:
        """Take one sequence of Data-Out, checked: tags, DataSN from 0, offsets, F on the last only."""
        parts = bytearray()
        number = 0
        while offset + len(parts) < end:
            pdu = self._data_out(command.tag, transfer_tag)
            assert pdu.word(36) == number
            assert pdu.word(40) == offset + len(parts)
            assert 0 < len(pdu.data) <= limit
            parts += pdu.data
            number += 1
            assert pdu.is_final == (offset + len(parts) == end)
        return bytes(parts)

    def all_commands(self) -> Iterator[Received]:
        """Give PDUs until the engine closes."""
        while True:
            try:
                yield self.receive()
            except PeerClosed:
                return
