"""
The wire format of iSCSI PDUs (RFC 7143 §11).

Each PDU is a frozen class whose fields are rows: where a field stands in the 48-byte basic header segment and
how wide it is.  Encoding and decoding are derived from these rows, so the two cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from crc32c import crc32c as compute_crc32c  # now: a standby's first login is no time for an import

from isboot.errors import ExitStatus, SessionError

BHS_BYTES = 48
DIGEST_BYTES = 4
RESERVED_TAG = 0xFFFFFFFF  #: "no task": of an unsolicited NOP-In, of a NOP-Out that asks for no answer

#: RFC 7143 §11.17.1
REJECT_REASONS = {
    0x02: "data digest error", 0x03: "SNACK reject", 0x04: "protocol error", 0x05: "command not supported",
    0x06: "too many immediate commands", 0x07: "task in progress", 0x08: "invalid data ack",
    0x09: "invalid PDU field", 0x0A: "long operation reject", 0x0B: "negotiation reset (deprecated)",
    0x0C: "waiting for logout",
}  # fmt: skip
#: RFC 7143 §11.9.1: what ends the connection; other events tell of something else.
ENDING_EVENTS = {
    1: "asks for a logout",
    2: "is about to drop this connection",
    3: "is about to drop all connections of the session",
}


class ProtocolError(SessionError):
    """The peer sent bytes that break the standard. Raised without context; the connection adds it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_status=ExitStatus.MALFORMED)


class LostInTransit(ProtocolError):  # noqa: N818 - what happened
    """
    Bytes were damaged or left out on the way. At ErrorRecoveryLevel 0 a new session cures that (exit 75).

    :source: RFC 7143 §7.1.4.1
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.hint = "a new session cures it; if it comes back again and again, look at network and target"
        self.exit_status = ExitStatus.TRY_AGAIN


class DigestError(LostInTransit):
    """A header or data digest does not fit what it covers."""


class StatusGap(LostInTransit):
    """StatSN is not the one due: the status of a command was lost, or came twice."""


# --- the rows ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    offset: int
    size: int
    mask: int  #: 0: the whole field; otherwise the bits of one byte
    kind: type


def _flag(offset: int, mask: int, default: bool = False) -> Any:
    return field(default=default, metadata={"row": _Row(offset, 1, mask, bool)})


def _bits(offset: int, mask: int, default: int = 0) -> Any:
    return field(default=default, metadata={"row": _Row(offset, 1, mask, int)})


def _uint(offset: int, size: int, default: int = 0) -> Any:
    return field(default=default, metadata={"row": _Row(offset, size, 0, int)})


def _raw(offset: int, size: int) -> Any:
    return field(default=bytes(size), metadata={"row": _Row(offset, size, 0, bytes)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdu:
    """
    What all PDUs share.

    :param data: the data segment, without padding and digest
    :param additional_header: all additional header segments, a multiple of 4 bytes
    """

    OPCODE: ClassVar[int] = -1
    NAME: ClassVar[str] = ""
    data: bytes = b""
    additional_header: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class NopOut(Pdu):
    OPCODE: ClassVar[int] = 0x00
    NAME: ClassVar[str] = "NOP-Out"
    immediate: bool = _flag(0, 0x40)
    final: bool = _flag(1, 0x80, True)
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _uint(16, 4, RESERVED_TAG)
    target_transfer_tag: int = _uint(20, 4, RESERVED_TAG)
    cmd_sn: int = _uint(24, 4)
    exp_stat_sn: int = _uint(28, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiCommand(Pdu):
    OPCODE: ClassVar[int] = 0x01
    NAME: ClassVar[str] = "SCSI Command"
    immediate: bool = _flag(0, 0x40)
    final: bool = _flag(1, 0x80, True)
    read: bool = _flag(1, 0x40)
    write: bool = _flag(1, 0x20)
    attributes: int = _bits(1, 0x07, 1)  #: 1: simple
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _uint(16, 4)
    expected_data_transfer_length: int = _uint(20, 4)
    cmd_sn: int = _uint(24, 4)
    exp_stat_sn: int = _uint(28, 4)
    cdb: bytes = _raw(32, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskManagementRequest(Pdu):
    OPCODE: ClassVar[int] = 0x02
    NAME: ClassVar[str] = "Task Management Function Request"
    immediate: bool = _flag(0, 0x40)
    final: bool = _flag(1, 0x80, True)
    function: int = _bits(1, 0x7F)
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _uint(16, 4)
    referenced_task_tag: int = _uint(20, 4, RESERVED_TAG)
    cmd_sn: int = _uint(24, 4)
    exp_stat_sn: int = _uint(28, 4)
    ref_cmd_sn: int = _uint(32, 4)
    exp_data_sn: int = _uint(36, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest(Pdu):
    OPCODE: ClassVar[int] = 0x03
    NAME: ClassVar[str] = "Login Request"
    immediate: bool = _flag(0, 0x40, True)  # RFC 7143 §11.12: Login Requests are always immediate
    transit: bool = _flag(1, 0x80)
    is_continued: bool = _flag(1, 0x40)
    current_stage: int = _bits(1, 0x0C)
    next_stage: int = _bits(1, 0x03)
    version_max: int = _uint(2, 1)
    version_min: int = _uint(3, 1)
    isid: bytes = _raw(8, 6)
    tsih: int = _uint(14, 2)
    initiator_task_tag: int = _uint(16, 4)
    cid: int = _uint(20, 2)
    cmd_sn: int = _uint(24, 4)
    exp_stat_sn: int = _uint(28, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest(Pdu):
    OPCODE: ClassVar[int] = 0x04
    NAME: ClassVar[str] = "Text Request"
    immediate: bool = _flag(0, 0x40)
    final: bool = _flag(1, 0x80, True)
    is_continued: bool = _flag(1, 0x40)
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _uint(16, 4)
    target_transfer_tag: int = _uint(20, 4, RESERVED_TAG)
    cmd_sn: int = _uint(24, 4)
    exp_stat_sn: int = _uint(28, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOut(Pdu):
    OPCODE: ClassVar[int] = 0x05
    NAME: ClassVar[str] = "SCSI Data-Out"
    final: bool = _flag(1, 0x80)
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _uint(16, 4)
    target_transfer_tag: int = _uint(20, 4, RESERVED_TAG)
    exp_stat_sn: int = _uint(28, 4)
    data_sn: int = _uint(36, 4)
    buffer_offset: int = _uint(40, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutRequest(Pdu):
    OPCODE: ClassVar[int] = 0x06
    NAME: ClassVar[str] = "Logout Request"
    immediate: bool = _flag(0, 0x40)
    final: bool = _flag(1, 0x80, True)
    reason: int = _bits(1, 0x7F)
    initiator_task_tag: int = _uint(16, 4)
    cid: int = _uint(20, 2)
    cmd_sn: int = _uint(24, 4)
    exp_stat_sn: int = _uint(28, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPdu(Pdu):
    """The numbers every PDU of a target carries (RFC 7143 §4.2.2)."""

    final: bool = _flag(1, 0x80, True)
    initiator_task_tag: int = _uint(16, 4)
    stat_sn: int = _uint(24, 4)
    exp_cmd_sn: int = _uint(28, 4)
    max_cmd_sn: int = _uint(32, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class NopIn(TargetPdu):
    OPCODE: ClassVar[int] = 0x20
    NAME: ClassVar[str] = "NOP-In"
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _uint(16, 4, RESERVED_TAG)
    target_transfer_tag: int = _uint(20, 4, RESERVED_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScsiResponse(TargetPdu):
    OPCODE: ClassVar[int] = 0x21
    NAME: ClassVar[str] = "SCSI Response"
    has_overflow: bool = _flag(1, 0x04)
    has_underflow: bool = _flag(1, 0x02)
    response: int = _uint(2, 1)
    status: int = _uint(3, 1)
    exp_data_sn: int = _uint(36, 4)
    residual_count: int = _uint(44, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskManagementResponse(TargetPdu):
    OPCODE: ClassVar[int] = 0x22
    NAME: ClassVar[str] = "Task Management Function Response"
    response: int = _uint(2, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginResponse(Pdu):
    OPCODE: ClassVar[int] = 0x23
    NAME: ClassVar[str] = "Login Response"
    transit: bool = _flag(1, 0x80)
    is_continued: bool = _flag(1, 0x40)
    current_stage: int = _bits(1, 0x0C)
    next_stage: int = _bits(1, 0x03)
    version_max: int = _uint(2, 1)
    version_active: int = _uint(3, 1)
    isid: bytes = _raw(8, 6)
    tsih: int = _uint(14, 2)
    initiator_task_tag: int = _uint(16, 4)
    stat_sn: int = _uint(24, 4)
    exp_cmd_sn: int = _uint(28, 4)
    max_cmd_sn: int = _uint(32, 4)
    status_class: int = _uint(36, 1)
    status_detail: int = _uint(37, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextResponse(TargetPdu):
    OPCODE: ClassVar[int] = 0x24
    NAME: ClassVar[str] = "Text Response"
    is_continued: bool = _flag(1, 0x40)
    lun: bytes = _raw(8, 8)
    target_transfer_tag: int = _uint(20, 4, RESERVED_TAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataIn(TargetPdu):
    OPCODE: ClassVar[int] = 0x25
    NAME: ClassVar[str] = "SCSI Data-In"
    wants_acknowledge: bool = _flag(1, 0x40)
    has_overflow: bool = _flag(1, 0x04)
    has_underflow: bool = _flag(1, 0x02)
    has_status: bool = _flag(1, 0x01)
    status: int = _uint(3, 1)
    lun: bytes = _raw(8, 8)
    target_transfer_tag: int = _uint(20, 4, RESERVED_TAG)
    data_sn: int = _uint(36, 4)
    buffer_offset: int = _uint(40, 4)
    residual_count: int = _uint(44, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutResponse(TargetPdu):
    OPCODE: ClassVar[int] = 0x26
    NAME: ClassVar[str] = "Logout Response"
    response: int = _uint(2, 1)
    time2wait_s: int = _uint(40, 2)
    time2retain_s: int = _uint(42, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyToTransfer(TargetPdu):
    OPCODE: ClassVar[int] = 0x31
    NAME: ClassVar[str] = "R2T"
    lun: bytes = _raw(8, 8)
    target_transfer_tag: int = _uint(20, 4)
    r2t_sn: int = _uint(36, 4)
    buffer_offset: int = _uint(40, 4)
    desired_data_transfer_length: int = _uint(44, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncMessage(TargetPdu):
    OPCODE: ClassVar[int] = 0x32
    NAME: ClassVar[str] = "Asynchronous Message"
    lun: bytes = _raw(8, 8)
    initiator_task_tag: int = _uint(16, 4, RESERVED_TAG)
    event: int = _uint(36, 1)
    vendor_code: int = _uint(37, 1)
    parameter1: int = _uint(38, 2)
    parameter2: int = _uint(40, 2)
    parameter3: int = _uint(42, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject(TargetPdu):
    """:param data: the header of the PDU that was rejected"""

    OPCODE: ClassVar[int] = 0x3F
    NAME: ClassVar[str] = "Reject"
    reason: int = _uint(2, 1)
    initiator_task_tag: int = _uint(16, 4, RESERVED_TAG)
    data_sn: int = _uint(36, 4)

    @property
    def reason_text(self) -> str:
        """Give the reason in words, with its number."""
        text = REJECT_REASONS.get(self.reason, "no reason the standard knows")
        return f"{text} (0x{self.reason:02x})"


BY_OPCODE: dict[int, type[Pdu]] = {
    kind.OPCODE: kind
    for kind in (
        NopOut, ScsiCommand, TaskManagementRequest, LoginRequest, TextRequest, DataOut, LogoutRequest,
        NopIn, ScsiResponse, TaskManagementResponse, LoginResponse, TextResponse, DataIn, LogoutResponse,
        ReadyToTransfer, AsyncMessage, Reject,
    )
}  # fmt: skip
_ROWS: dict[type[Pdu], tuple[tuple[str, _Row], ...]] = {
    kind: tuple((f.name, f.metadata["row"]) for f in fields(kind) if "row" in f.metadata)
    for kind in BY_OPCODE.values()
}


# --- encode and decode -------------------------------------------------------------------------------------


def crc32c(data: bytes) -> bytes:
    """
    Give the digest as it stands on the wire.

    :source: RFC 7143 §13.1; the examples of appendix B.4 show the order of its bytes
    """
    return int(compute_crc32c(data)).to_bytes(4, "little")


def _shift(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def encode(pdu: Pdu, *, header_digest: bool = False, data_digest: bool = False) -> bytes:
    """
    Give the bytes of a PDU, padding and digests included.

    :raises ValueError: a field does not fit its place: a mistake of ours, never of the peer
    """
    header = bytearray(BHS_BYTES)
    header[0] = pdu.OPCODE
    for name, row in _ROWS[type(pdu)]:
        value = getattr(pdu, name)
        if row.kind is bytes:
            if len(value) != row.size:
                raise ValueError(f"{pdu.NAME}: {name} takes {row.size} bytes, not {len(value)}")
            header[row.offset : row.offset + row.size] = value
        elif row.mask:
            shifted = int(value) << _shift(row.mask)
            if shifted & ~row.mask:
                raise ValueError(f"{pdu.NAME}: {name} = {value} does not fit its bits")
            header[row.offset] |= shifted
        else:
            header[row.offset : row.offset + row.size] = int(value).to_bytes(row.size, "big")
    if len(pdu.additional_header) % 4:
        raise ValueError(f"{pdu.NAME}: additional header of {len(pdu.additional_header)} bytes")
    header[4] = len(pdu.additional_header) // 4
    header[5:8] = len(pdu.data).to_bytes(3, "big")
    parts = [bytes(header), pdu.additional_header]
    if header_digest:
        parts.append(crc32c(b"".join(parts)))
    if pdu.data:
        padded = pdu.data + bytes(-len(pdu.data) % 4)
        parts.append(padded)
        if data_digest:
            parts.append(crc32c(padded))
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Layout:
    """How many bytes follow a basic header segment, in the order of the wire."""

    additional_header_bytes: int
    header_digest_bytes: int
    data_bytes: int
    padding_bytes: int
    data_digest_bytes: int

    @property
    def total_bytes(self) -> int:
        return (
            self.additional_header_bytes + self.header_digest_bytes
            + self.data_bytes + self.padding_bytes + self.data_digest_bytes
        )  # fmt: skip


def layout(header: bytes, *, header_digest: bool = False, data_digest: bool = False) -> Layout:
    """Say what follows these 48 bytes. All lengths are the peer's: check them before allocating."""
    data_bytes = int.from_bytes(header[5:8], "big")
    return Layout(
        additional_header_bytes=header[4] * 4,
        header_digest_bytes=DIGEST_BYTES if header_digest else 0,
        data_bytes=data_bytes,
        padding_bytes=-data_bytes % 4,
        data_digest_bytes=DIGEST_BYTES if data_digest and data_bytes else 0,
    )


def decode(wire: bytes, *, header_digest: bool = False, data_digest: bool = False) -> Pdu:
    """
    Give the PDU these bytes hold, from its basic header to the end of its last digest.

    :raises ProtocolError: unknown opcode, or a length that is not that of `wire`
    :raises DigestError: a digest does not fit
    """
    if len(wire) < BHS_BYTES:
        raise ProtocolError(f"a PDU of {len(wire)} bytes, shorter than its header of {BHS_BYTES}")
    shape = layout(wire, header_digest=header_digest, data_digest=data_digest)
    if len(wire) != BHS_BYTES + shape.total_bytes:
        raise ProtocolError(f"a PDU of {len(wire)} bytes whose header says {BHS_BYTES + shape.total_bytes}")
    end = BHS_BYTES + shape.additional_header_bytes
    if header_digest and crc32c(wire[:end]) != wire[end : end + DIGEST_BYTES]:
        raise DigestError("the header digest of a PDU does not fit its header")
    data_start = end + shape.header_digest_bytes
    data_end = data_start + shape.data_bytes + shape.padding_bytes
    if shape.data_digest_bytes and crc32c(wire[data_start:data_end]) != wire[data_end:]:
        raise DigestError("the data digest of a PDU does not fit its data segment")
    kind = BY_OPCODE.get(wire[0] & 0x3F)
    if kind is None:
        raise ProtocolError(f"a PDU with the unknown opcode 0x{wire[0] & 0x3F:02x}")
    values: dict[str, Any] = {}
    for name, row in _ROWS[kind]:
        raw = wire[row.offset : row.offset + row.size]
        if row.kind is bytes:
            values[name] = raw
        elif row.mask:
            values[name] = row.kind((raw[0] & row.mask) >> _shift(row.mask))
        else:
            values[name] = int.from_bytes(raw, "big")
    data = wire[data_start : data_start + shape.data_bytes]
    return kind(data=data, additional_header=wire[BHS_BYTES:end], **values)


AnyPdu = TypeVar("AnyPdu", bound=Pdu)


def expect(pdu: Pdu, kind: type[AnyPdu]) -> AnyPdu:
    """Insist on one kind of PDU. :raises ProtocolError: it is another"""
    if not isinstance(pdu, kind):
        article = "an" if pdu.NAME.startswith(("A", "R2T")) else "a"
        raise ProtocolError(f"{article} {pdu.NAME} came where a {kind.NAME} was due")
    return pdu
