"""Control commands of SCSI: one table, their command descriptor blocks, and what their answers say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from isboot.errors import ExitStatus, SessionError
from isboot.session import sense as sense_data

CDB_BYTES = 16  #: in a SCSI Command PDU, shorter ones padded (RFC 7143 §11.3.6)


@dataclass(frozen=True, slots=True)
class Command:
    """
    :param allocation_offset: where the allocation length stands in the CDB; 0 where the command has none
    :param allocation_bytes: how wide it is
    :param service_action: of opcodes that have one, in byte 1
    """

    name: str
    opcode: int
    source: str
    allocation_offset: int = 0
    allocation_bytes: int = 0
    service_action: int = 0


# fmt: off
COMMANDS = (
    Command("TEST UNIT READY", 0x00, "SPC-4 §6.47"),
    Command("INQUIRY", 0x12, "SPC-4 §6.6", allocation_offset=3, allocation_bytes=2),
    Command("MODE SENSE(6)", 0x1A, "SPC-4 §6.13", allocation_offset=4, allocation_bytes=1),
    Command("START STOP UNIT", 0x1B, "SBC-3 §5.20"),
    Command("READ CAPACITY(10)", 0x25, "SBC-3 §5.15"),
    Command("MODE SENSE(10)", 0x5A, "SPC-4 §6.14", allocation_offset=7, allocation_bytes=2),
    Command("PERSISTENT RESERVE IN", 0x5E, "SPC-4 §6.15", allocation_offset=7, allocation_bytes=2),
    Command("SYNCHRONIZE CACHE(16)", 0x91, "SBC-3 §5.22"),
    Command("READ CAPACITY(16)", 0x9E, "SBC-3 §5.16", allocation_offset=10, allocation_bytes=4,
            service_action=0x10),
    Command("REPORT LUNS", 0xA0, "SPC-4 §6.33", allocation_offset=6, allocation_bytes=4),
    Command("REPORT TARGET PORT GROUPS", 0xA3, "SPC-4 §6.37", allocation_offset=6, allocation_bytes=4,
            service_action=0x0A),
)
# fmt: on
BY_NAME = {command.name: command for command in COMMANDS}

# fmt: off
STATUS_NAMES = {
    0x00: "GOOD", 0x02: "CHECK CONDITION", 0x04: "CONDITION MET", 0x08: "BUSY", 0x18: "RESERVATION CONFLICT",
    0x28: "TASK SET FULL", 0x30: "ACA ACTIVE", 0x40: "TASK ABORTED",
}
# fmt: on
GOOD = 0x00
CHECK_CONDITION = 0x02
BUSY = 0x08
RESERVATION_CONFLICT = 0x18
TASK_SET_FULL = 0x28


class HasStatus(Protocol):
    """What both Control and a lane of the engine give back."""

    @property
    def status(self) -> int: ...
    @property
    def sense(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """
    :param data: as many bytes as came, at most those asked for
    :param sense: sense data as it came, without the length before it
    """

    status: int
    data: bytes = b""
    sense: bytes = b""


def build(name: str, allocation: int = 0, fields: dict[int, int] | None = None) -> bytes:
    """
    Give a command descriptor block, padded to the 16 bytes of the PDU.

    :param allocation: how many bytes may come
    :param fields: byte of the CDB -> value, for what is particular to the command
    """
    row = BY_NAME[name]
    cdb = bytearray(CDB_BYTES)
    cdb[0], cdb[1] = row.opcode, row.service_action
    for offset, value in (fields or {}).items():
        cdb[offset] |= value
    if row.allocation_bytes:
        end = row.allocation_offset + row.allocation_bytes
        cdb[row.allocation_offset : end] = allocation.to_bytes(row.allocation_bytes, "big")
    return bytes(cdb)


def start_unit() -> bytes:
    """START STOP UNIT: start, and answer before it is done (START, IMMED)."""
    return build("START STOP UNIT", fields={1: 0x01, 4: 0x01})


def synchronize_cache() -> bytes:
    """SYNCHRONIZE CACHE(16) over the whole disk: block 0, count 0."""
    return build("SYNCHRONIZE CACHE(16)")


def describe(answer: HasStatus) -> str:
    """Say what a status and its sense mean, by name."""
    status = STATUS_NAMES.get(answer.status, f"status 0x{answer.status:02x}")
    sense = sense_data.decode(answer.sense)
    return f"{status}: {sense}" if answer.status == CHECK_CONDITION and sense is not None else status


def expect_good(answer: HasStatus, name: str) -> None:
    """:raises SessionError: the command was not carried out"""
    if answer.status != GOOD:
        raise SessionError(
            f"{name}: the target answers {describe(answer)}",
            "the target's log may say why",
            ExitStatus.FAILED,
        )
