"""A SCSI disk in memory: what a logical unit answers to a CDB. No I/O, no threads."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

GOOD, CHECK_CONDITION, BUSY, RESERVATION_CONFLICT, TASK_SET_FULL = 0x00, 0x02, 0x08, 0x18, 0x28

INVALID_OPCODE = (5, 0x20, 0x00)
INVALID_FIELD = (5, 0x24, 0x00)
OUT_OF_RANGE = (5, 0x21, 0x00)
LUN_NOT_SUPPORTED = (5, 0x25, 0x00)
WRITE_PROTECTED = (7, 0x27, 0x00)
POWER_ON = (6, 0x29, 0x00)


def fixed_sense(key: int, code: int, qualifier: int) -> bytes:
    """Fixed-format sense data, 18 bytes (SPC-4 §4.5.3)."""
    return bytes([0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0])


def descriptor_sense(key: int, code: int, qualifier: int) -> bytes:
    """Descriptor-format sense data without descriptors (SPC-4 §4.5.2)."""
    return bytes([0x72, key, code, qualifier, 0, 0, 0, 0])


@dataclass
class Answer:
    """:param data: what goes to the initiator, before it is cut to what was asked for"""

    status: int = GOOD
    data: bytes = b""
    sense: bytes = b""


def failure(key: int, code: int, qualifier: int) -> Answer:
    return Answer(CHECK_CONDITION, sense=fixed_sense(key, code, qualifier))


def designator(code_set: int, kind: int, body: bytes, association: int = 0) -> bytes:
    """One designation descriptor of VPD page 0x83."""
    return bytes([code_set, association << 4 | kind, 0, len(body)]) + body


@dataclass
class Disk:
    """
    One logical unit.

    :param answers: opcode -> function that answers in place of the disk
    :param pages: VPD page -> its whole bytes, header included; these replace or add to the computed ones
    """

    capacity_blocks: int = 2048
    block_size: int = 512
    vendor: str = "ISBOOT"
    product: str = "FAKE DISK"
    revision: str = "1"
    serial: str = "fake0001"
    naa: bytes = bytes.fromhex("6001405f00d00000000000000000beef")
    is_read_only: bool = False
    has_volatile_cache: bool = True
    has_fua: bool = True
    is_rotational: bool = False
    is_thin: bool = True
    peripheral: int = 0
    pages: dict[int, bytes] = field(default_factory=dict)
    answers: dict[int, Callable[[bytes], Answer]] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    flushes: int = 0
    resets: int = 0

    def __post_init__(self) -> None:
        if not self.data:
            self.data = bytearray(self.capacity_blocks * self.block_size)

    # --- commands that move no data from the initiator ---

    def execute(self, cdb: bytes) -> Answer:
        """Answer a command that is not a WRITE."""
        opcode = cdb[0]
        if opcode in self.answers:
            return self.answers[opcode](cdb)
        if opcode == 0x00:
            return Answer()
        if opcode == 0x12:
            return self._inquiry(cdb)
        if opcode == 0x1A:
            return Answer(data=self._mode_sense_6(cdb)[: cdb[4]])
        if opcode == 0x5A:
            return Answer(data=self._mode_sense_10(cdb)[: int.from_bytes(cdb[7:9], "big")])
        if opcode == 0x25:
            last = min(self.capacity_blocks - 1, 0xFFFFFFFF) if self.capacity_blocks else 0
            return Answer(data=struct.pack(">II", last, self.block_size))
        if opcode == 0x9E and cdb[1] & 0x1F == 0x10:
            return Answer(data=self._read_capacity_16()[: int.from_bytes(cdb[10:14], "big")])
        if opcode in (0x35, 0x91):
            self.flushes += 1
            return Answer()
        if opcode in (0x28, 0x88):
            return self._read(*self._range(cdb))
        return failure(*INVALID_OPCODE)

    def _range(self, cdb: bytes) -> tuple[int, int]:
        if cdb[0] in (0x28, 0x2A):
            return int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[7:9], "big")
        return int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big")

    def _read(self, block: int, count: int) -> Answer:
        if block + count > self.capacity_blocks:
            return failure(*OUT_OF_RANGE)
        return Answer(data=bytes(self.data[block * self.block_size : (block + count) * self.block_size]))

    # --- WRITE(10), WRITE(16) ---

    def is_write(self, cdb: bytes) -> bool:
        return cdb[0] in (0x2A, 0x8A)

    def write_length(self, cdb: bytes) -> int:
        return self._range(cdb)[1] * self.block_size

    def check_write(self, cdb: bytes) -> Answer:
        block, count = self._range(cdb)
        if self.is_read_only:
            return failure(*WRITE_PROTECTED)
        return Answer() if block + count <= self.capacity_blocks else failure(*OUT_OF_RANGE)

    def write(self, cdb: bytes, data: bytes) -> Answer:
        if (answer := self.check_write(cdb)).status == GOOD:
            start = self._range(cdb)[0] * self.block_size
            self.data[start : start + len(data)] = data
        return answer

    # --- what it says of itself ---

    def _inquiry(self, cdb: bytes) -> Answer:
        length = int.from_bytes(cdb[3:5], "big")
        if cdb[1] & 1:
            page = self._page(cdb[2])
            return Answer(data=page[:length]) if page else failure(*INVALID_FIELD)
        text = f"{self.vendor:8.8}{self.product:16.16}{self.revision:4.4}".encode()
        return Answer(data=(bytes([self.peripheral, 0, 6, 0x12, 91, 0, 0, 2]) + text + bytes(60))[:length])

    def _page(self, number: int) -> bytes:
        if number in self.pages:
            return self.pages[number]
        serial = self.serial.encode()
        bodies = {
            0x80: serial,
            0x83: designator(2, 1, b"ISBOOT  " + serial) + designator(1, 3, self.naa),
            0xB0: struct.pack(">BBHIIIIIIIQ", 0, 0, 8, 2048, 128, 0, 4096, 16, 8, 0x80000000, 1024)
            + bytes(20),
            0xB1: struct.pack(">H", 7200 if self.is_rotational else 1) + bytes(58),
            0xB2: bytes([0, 0xE0 if self.is_thin else 0, 2, 0]),
        }
        bodies[0x00] = bytes(sorted({0, *bodies, *self.pages}))
        if number not in bodies:
            return b""
        return struct.pack(">BBH", self.peripheral, number, len(bodies[number])) + bodies[number]

    def _read_capacity_16(self) -> bytes:
        thin = 0xC000 if self.is_thin else 0
        last = self.capacity_blocks - 1 if self.capacity_blocks else 2**64 - 1
        exponent = 3 if self.block_size == 512 else 0
        return struct.pack(">QIBBH", last, self.block_size, 0, exponent, thin) + bytes(16)

    def _mode_page(self, cdb: bytes) -> bytes:
        caching = bytes([0x08, 0x12, 0x04 if self.has_volatile_cache else 0]) + bytes(17)
        return caching if cdb[2] & 0x3F in (0x08, 0x3F) else b""

    def _device_specific(self) -> int:
        return (0x80 if self.is_read_only else 0) | (0x10 if self.has_fua else 0)

    def _mode_sense_6(self, cdb: bytes) -> bytes:
        page = self._mode_page(cdb)
        return bytes([3 + len(page), 0, self._device_specific(), 0]) + page

    def _mode_sense_10(self, cdb: bytes) -> bytes:
        page = self._mode_page(cdb)
        return struct.pack(">HBBHH", 6 + len(page), 0, self._device_specific(), 0, 0) + page
