"""Sense data: why a SCSI command was not carried out (SPC-4 §4.5), with names from tables."""

from __future__ import annotations

from dataclasses import dataclass

# fmt: off
KEY_NAMES = (
    "NO SENSE", "RECOVERED ERROR", "NOT READY", "MEDIUM ERROR", "HARDWARE ERROR", "ILLEGAL REQUEST",
    "UNIT ATTENTION", "DATA PROTECT", "BLANK CHECK", "VENDOR SPECIFIC", "COPY ABORTED", "ABORTED COMMAND",
    "RESERVED", "VOLUME OVERFLOW", "MISCOMPARE", "COMPLETED",
)
NOT_READY = 0x2
ILLEGAL_REQUEST = 0x5
UNIT_ATTENTION = 0x6

#: (additional sense code, qualifier) -> name; those a boot disk meets. SPC-4 annex F.
NAMES: dict[tuple[int, int], str] = {
    (0x04, 0x00): "not ready, cause not reportable",
    (0x04, 0x01): "in process of becoming ready",
    (0x04, 0x02): "initializing command required",
    (0x04, 0x03): "manual intervention required",
    (0x04, 0x04): "format in progress",
    (0x04, 0x07): "operation in progress",
    (0x04, 0x09): "self-test in progress",
    (0x04, 0x0A): "asymmetric access state transition",
    (0x04, 0x0B): "target port in standby state",
    (0x04, 0x0C): "target port in unavailable state",
    (0x04, 0x14): "space allocation in progress",
    (0x04, 0x1B): "sanitize in progress",
    (0x0C, 0x02): "write error",
    (0x11, 0x00): "unrecovered read error",
    (0x20, 0x00): "invalid command operation code",
    (0x21, 0x00): "logical block address out of range",
    (0x24, 0x00): "invalid field in CDB",
    (0x25, 0x00): "logical unit not supported",
    (0x26, 0x00): "invalid field in parameter list",
    (0x27, 0x00): "write protected",
    (0x27, 0x07): "space allocation failed, write protected",
    (0x28, 0x00): "not ready to ready change",
    (0x29, 0x00): "power on, reset, or bus device reset occurred",
    (0x29, 0x01): "power on occurred",
    (0x29, 0x02): "bus reset occurred",
    (0x29, 0x03): "bus device reset function occurred",
    (0x29, 0x04): "device internal reset",
    (0x29, 0x07): "I_T nexus loss occurred",
    (0x2A, 0x01): "mode parameters changed",
    (0x2A, 0x06): "asymmetric access state changed",
    (0x2A, 0x09): "capacity data has changed",
    (0x2F, 0x00): "commands cleared by another initiator",
    (0x38, 0x07): "thin provisioning soft threshold reached",
    (0x3A, 0x00): "medium not present",
    (0x3E, 0x00): "logical unit has not self-configured yet",
    (0x3F, 0x03): "inquiry data has changed",
    (0x3F, 0x0E): "reported LUNs data has changed",
    (0x44, 0x00): "internal target failure",
    (0x47, 0x03): "information unit iuCRC error detected",
    (0x55, 0x03): "insufficient resources",
}
# fmt: on

_FIXED = (0x70, 0x71)
_DESCRIPTOR = (0x72, 0x73)
_SENSE_KEY_SPECIFIC = 0x02  #: descriptor type


@dataclass(frozen=True, slots=True)
class Sense:
    """:param is_deferred: it is about an earlier command, not the one it came with"""

    key: int
    code: int
    qualifier: int
    is_deferred: bool = False

    @property
    def triple(self) -> tuple[int, int, int]:
        return (self.key, self.code, self.qualifier)

    @property
    def is_unit_attention(self) -> bool:
        return self.key == UNIT_ATTENTION

    @property
    def is_becoming_ready(self) -> bool:
        """Say whether waiting is the cure: becoming ready, not self-configured yet, in transition (ALUA)."""
        return self.key == NOT_READY and (self.code, self.qualifier) in (
            (0x04, 0x01),
            (0x04, 0x0A),
            (0x3E, 0x00),
        )

    @property
    def is_stopped(self) -> bool:
        """Say whether it waits for somebody to start it: initializing command required."""
        return self.triple == (NOT_READY, 0x04, 0x02)

    @property
    def is_about_ports(self) -> bool:
        """Say whether another port may lead to the LUN: ALUA transition, standby, unavailable."""
        return self.key == NOT_READY and self.code == 0x04 and self.qualifier in (0x0A, 0x0B, 0x0C)

    @property
    def may_pass(self) -> bool:
        """Say whether it may be gone after minutes or hours: what the LUN is busy with ends by itself."""
        return (
            self.key == NOT_READY and self.code == 0x04 and self.qualifier in (0x04, 0x07, 0x09, 0x14, 0x1B)
        )

    @property
    def is_missing_lun(self) -> bool:
        return self.key == ILLEGAL_REQUEST and self.code == 0x25

    @property
    def is_unsupported(self) -> bool:
        """Say whether the target does not know the command or the page."""
        return self.key == ILLEGAL_REQUEST and self.code in (0x20, 0x24)

    def __str__(self) -> str:
        name = NAMES.get((self.code, self.qualifier), "")
        numbers = f"{self.key:x}/{self.code:02x}/{self.qualifier:02x}"
        return f"{KEY_NAMES[self.key]}{', ' + name if name else ''} ({numbers})"


def decode(data: bytes) -> Sense | None:
    """
    Read sense data, fixed or descriptor format, as far as bytes came.

    :return: None where there is none: empty, or of a format the standard does not know
    :source: SPC-4 §4.5.2 (descriptor), §4.5.3 (fixed)
    """
    if len(data) < 3:
        return None
    response_code = data[0] & 0x7F
    if response_code in _FIXED:
        # Code and qualifier are there only if the additional length says so; short data reads as 00/00.
        padded = data[: 8 + (data[7] if len(data) > 7 else 0)].ljust(14, b"\0")
        return Sense(data[2] & 0x0F, padded[12], padded[13], response_code == 0x71)
    if response_code in _DESCRIPTOR:
        padded = data.ljust(4, b"\0")
        return Sense(padded[1] & 0x0F, padded[2], padded[3], response_code == 0x73)
    return None


def progress(data: bytes) -> float | None:
    """
    Give how much of what makes the LUN not ready is done, 0 to 1; None where the target does not say.

    :source: SPC-4 §4.5.2.4.4 (descriptor type 2), §4.5.3
    """
    response_code = data[0] & 0x7F if data else 0
    field = b""
    if response_code in _FIXED:
        field = data[15:18]
    elif response_code in _DESCRIPTOR:
        rest = data[8:]
        while len(rest) >= 2 and not field:
            if rest[0] == _SENSE_KEY_SPECIFIC:
                field = rest[4:7]
            rest = rest[2 + rest[1] :]
    if len(field) < 3 or not field[0] & 0x80:  # SKSV
        return None
    return int.from_bytes(field[1:3], "big") / 65536
