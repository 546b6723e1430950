"""
Asymmetric access (ALUA): which port groups lead to a LUN, and in what state they are.

:source: SPC-4 §5.15, §6.37 (REPORT TARGET PORT GROUPS)
"""

from __future__ import annotations

from dataclasses import dataclass

from isboot.errors import ExitStatus, SessionError
from isboot.session import commands, vpd
from isboot.session.commands import Answer
from isboot.session.control import Control
from isboot.session.sense import Sense, decode
from isboot.values import format_lun

#: SPC-4 table 308
STATES = {
    0x0: "active/optimized",
    0x1: "active/non-optimized",
    0x2: "standby",
    0x3: "unavailable",
    0x4: "logical block dependent",
    0xE: "offline",
    0xF: "transitioning between states",
}
ACTIVE = (0x0, 0x1, 0x4)

_HEADER_BYTES = 4
_DESCRIPTOR_BYTES = 8
_PORT_BYTES = 4
_ALLOCATION_BYTES = 4096
_PAGE_BYTES = 252
_MAX_TRIES = 4  #: unit attentions come first


@dataclass(frozen=True, slots=True)
class PortGroup:
    """:param ports: relative target port identifiers"""

    identifier: int
    state: int
    is_preferred: bool
    ports: tuple[int, ...]

    @property
    def state_name(self) -> str:
        return STATES.get(self.state, f"in state {self.state:#x}")


def decode_groups(data: bytes) -> tuple[PortGroup, ...]:
    """
    Read the answer to REPORT TARGET PORT GROUPS, as far as bytes came.

    :source: SPC-4 §6.37, table 307
    """
    end = min(len(data), _HEADER_BYTES + int.from_bytes(data[:_HEADER_BYTES], "big"))
    found = []
    offset = _HEADER_BYTES
    while offset + _DESCRIPTOR_BYTES <= end:
        row = data[offset : offset + _DESCRIPTOR_BYTES]
        offset += _DESCRIPTOR_BYTES
        last = min(end, offset + row[7] * _PORT_BYTES)
        ports = tuple(
            int.from_bytes(data[at + 2 : at + 4], "big") for at in range(offset, last - 3, _PORT_BYTES)
        )
        found.append(PortGroup(int.from_bytes(row[2:4], "big"), row[0] & 0x0F, bool(row[0] & 0x80), ports))
        offset = last
    return tuple(found)


def groups(control: Control) -> tuple[PortGroup, ...]:
    """Ask for the groups; none where the target does not say."""
    cdb = commands.build("REPORT TARGET PORT GROUPS", _ALLOCATION_BYTES)
    return decode_groups(_try(control, cdb, _ALLOCATION_BYTES).data)


def own_group(control: Control) -> int | None:
    """Give the identifier of the group whose port we came in by, None where the target does not say."""
    cdb = commands.build("INQUIRY", _PAGE_BYTES, {1: 1, 2: vpd.DEVICE_IDENTIFICATION})
    return vpd.target_port_group(_try(control, cdb, _PAGE_BYTES).data)


def not_reachable(control: Control, found: Sense) -> SessionError:
    """
    Give the error for a port that does not lead to the LUN now, naming the state of its group (exit 75).

    :param found: what the command before was answered
    """
    known = groups(control)
    own = own_group(control)
    ours = [group for group in known if group.identifier == own] or (list(known) if len(known) == 1 else [])
    said = f"its port group {ours[0].identifier} is {ours[0].state_name}: " if ours else ""
    others = [
        f"group {group.identifier} ({group.state_name}, port {', '.join(map(str, group.ports)) or 'unknown'})"
        for group in known
        if group.state in ACTIVE and group not in ours
    ]
    hint = "make this port group active at the target"
    if others:
        hint += f", or take a portal of {'; '.join(others)}"
    return SessionError(
        f"{control.doing}: LUN {format_lun(control.session.lun)} cannot be reached here: {said}{found}",
        hint,
        ExitStatus.TRY_AGAIN,
    )


def _try(control: Control, cdb: bytes, length: int) -> Answer:
    """Ask past unit attentions, but wait for nothing: this serves a message."""
    answer = Answer(commands.BUSY)
    for _ in range(_MAX_TRIES):
        answer = control.execute(cdb, length)
        found = decode(answer.sense) if answer.status == commands.CHECK_CONDITION else None
        if found is None or not found.is_unit_attention:
            break
    return answer if answer.status == commands.GOOD else Answer(answer.status)
