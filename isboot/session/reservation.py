"""
Persistent reservations of others: who holds the LUN, by what key, and what that keeps us from.

isboot reserves nothing and takes nothing away from anybody; it only says why its commands are refused, before
a file system finds out.

:source: SPC-4 §5.13, §6.15 (PERSISTENT RESERVE IN)
"""

from __future__ import annotations

from dataclasses import dataclass

from isboot.errors import ExitStatus, SessionError
from isboot.session import commands
from isboot.session.control import Control
from isboot.session.patience import ask
from isboot.session.vpd import text
from isboot.values import format_lun

READ_KEYS, READ_RESERVATION, READ_FULL_STATUS = 0x00, 0x01, 0x03

#: SPC-4 table 61: type -> name
TYPES = {
    0x1: "write exclusive",
    0x3: "exclusive access",
    0x5: "write exclusive, registrants only",
    0x6: "exclusive access, registrants only",
    0x7: "write exclusive, all registrants",
    0x8: "exclusive access, all registrants",
}
_ONLY_WRITES = (0x1, 0x5, 0x7)  #: others may read
_FOR_REGISTRANTS = (0x5, 0x6, 0x7, 0x8)
_ALL_HOLD = (0x7, 0x8)  #: every registrant is a holder, and the reservation has no key of its own

_HEADER_BYTES = 8  #: PRGENERATION, ADDITIONAL LENGTH
_KEY_BYTES = 8
_FULL_STATUS_BYTES = 24
_ALLOCATION_BYTES = 8192
_PROTOCOL_ISCSI = 5
_MAX_KEYS = 8  #: in a message
_NAMES = (b"iqn.", b"eui.", b"naa.")
_ISID_SEPARATOR = b",i,0x"  #: of a TransportID of format 01b


@dataclass(frozen=True, slots=True)
class Registrant:
    """
    :param name: the initiator's, "" where the target does not tell
    :param isid: 12 hexadecimal digits, "" where the target does not tell
    """

    key: int
    is_holder: bool
    name: str = ""
    isid: str = ""


@dataclass(frozen=True, slots=True)
class Reservation:
    """:param kind: its type, a key of TYPES"""

    key: int
    kind: int

    @property
    def kind_name(self) -> str:
        return TYPES.get(self.kind, f"type {self.kind:#x}")


def _content(data: bytes) -> bytes:
    """Give what follows the header, as far as it came."""
    return data[_HEADER_BYTES : _HEADER_BYTES + int.from_bytes(data[4:8], "big")]


def decode_keys(data: bytes) -> tuple[int, ...]:
    """Read the answer to READ KEYS."""
    listed = _content(data)
    return tuple(
        int.from_bytes(listed[at : at + _KEY_BYTES], "big")
        for at in range(0, len(listed) - _KEY_BYTES + 1, _KEY_BYTES)
    )


def decode_reservation(data: bytes) -> Reservation | None:
    """Read the answer to READ RESERVATION; None where nobody holds one."""
    found = _content(data)
    if len(found) < 14:
        return None
    return Reservation(int.from_bytes(found[:_KEY_BYTES], "big"), found[13] & 0x0F)


def decode_full_status(data: bytes) -> tuple[Registrant, ...]:
    """Read the answer to READ FULL STATUS, as far as it came."""
    rest = _content(data)
    found = []
    while len(rest) >= _FULL_STATUS_BYTES:
        length = int.from_bytes(rest[20:24], "big")
        name, isid = _transport(rest[_FULL_STATUS_BYTES : _FULL_STATUS_BYTES + length])
        found.append(Registrant(int.from_bytes(rest[:_KEY_BYTES], "big"), bool(rest[12] & 1), name, isid))
        rest = rest[_FULL_STATUS_BYTES + length :]
    return tuple(found)


def _transport(identifier: bytes) -> tuple[str, str]:
    """Give name and ISID of an iSCSI TransportID (SPC-4 §7.6.4.6)."""
    if identifier.startswith(_NAMES):  # istgt leaves the four bytes before the name out
        name = identifier
    elif len(identifier) < 4 or identifier[0] & 0x0F != _PROTOCOL_ISCSI:
        return "", ""
    else:
        name = identifier[4 : 4 + int.from_bytes(identifier[2:4], "big")]
    name = name.split(b"\0")[0]
    name, _, isid = name.partition(_ISID_SEPARATOR)
    return text(name), text(isid).lower()


def check(control: Control, *, is_read_only: bool) -> None:
    """
    Refuse a LUN that somebody else has reserved against what we will do.

    :param is_read_only: the LUN; a reservation that keeps others from writing is none for us then
    :raises SessionError: it is reserved (exit 75)
    """
    held = _reservation(control)
    if held is None or (is_read_only and held.kind in _ONLY_WRITES):
        return
    registered = _registrants(control)
    own = control.session.isid.hex()
    for one in registered:
        if one.isid == own and (one.is_holder or held.kind in _FOR_REGISTRANTS):
            return
    raise _refusal(control, held, registered)


def conflict(control: Control, name: str) -> SessionError:
    """
    Give the error for a command that was answered RESERVATION CONFLICT (exit 75).

    :param name: of the command
    """
    held = _reservation(control)
    if held is not None:
        return _refusal(control, held, _registrants(control))
    said = _keys(control)
    return SessionError(
        f"{control.doing}: LUN {format_lun(control.session.lun)} is reserved by another initiator:"
        f" {name} is answered RESERVATION CONFLICT"
        + (f"; registered keys: {said}" if said else "; the target names neither holder nor key"),
        "the holder has to release it (RELEASE of SCSI-2, or its persistent reservation); isboot clears none",
        ExitStatus.TRY_AGAIN,
    )


def _refusal(control: Control, held: Reservation, registered: tuple[Registrant, ...]) -> SessionError:
    holders = [one for one in registered if one.is_holder and one.name]
    who = f" by {holders[0].name}" if holders else ""
    if holders and holders[0].isid:
        who += f" (ISID {holders[0].isid})"
    key = _keys(control) if held.kind in _ALL_HOLD else ""
    return SessionError(
        f"{control.doing}: LUN {format_lun(control.session.lun)} is reserved{who or ' by another initiator'}:"
        f" {held.kind_name}, key {key or f'0x{held.key:016x}'}",
        "release it where it is held, or have the target clear it; isboot takes no reservation away",
        ExitStatus.TRY_AGAIN,
    )


def _reservation(control: Control) -> Reservation | None:
    data = _read(control, READ_RESERVATION)
    return None if data is None else decode_reservation(data)


def _registrants(control: Control) -> tuple[Registrant, ...]:
    return decode_full_status(_read(control, READ_FULL_STATUS) or b"")


def _keys(control: Control) -> str:
    listed = decode_keys(_read(control, READ_KEYS) or b"")
    return ", ".join(f"0x{key:016x}" for key in listed[:_MAX_KEYS])


def _read(control: Control, action: int) -> bytes | None:
    """Run one PERSISTENT RESERVE IN; None where the target does not do that."""
    name = "PERSISTENT RESERVE IN"
    answer = ask(control, name, commands.build(name, _ALLOCATION_BYTES, {1: action}), _ALLOCATION_BYTES)
    return answer.data if answer.status == commands.GOOD else None
