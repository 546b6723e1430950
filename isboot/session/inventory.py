"""Which logical units a target has for us (REPORT LUNS), and which of them are disks."""

from __future__ import annotations

from isboot.session import commands
from isboot.session.commands import GOOD
from isboot.session.control import Control
from isboot.session.patience import ask

WELL_KNOWN_REPORT_LUNS = bytes.fromhex("c101000000000000")  #: SAM-5 §4.7.9.2, SPC-4 §8
DIRECT_ACCESS = (0x00, 0x0E)  #: peripheral device types: SBC and RBC
_WELL_KNOWN = 0xC1  #: extended logical unit addressing, method 1
_LUN_BYTES = 8
_HEADER_BYTES = 8
_FIRST_LUNS = 256
_MAX_LUNS = 4096  #: more than any boot has a use for; a target's word is not a length to be believed
_INQUIRY_BYTES = 36


def list_luns(control: Control) -> list[bytes]:
    """
    Give the LUNs the target reports, 8 bytes each; an empty list where it does not say.

    Sorted: LIO lists them in the order they were made in, and disks are to have the same numbers on every
    boot.
    """
    # LUN 0 answers whether there is one or not (SAM-5 §4.7.4), and tgt lists by no other.  Where it does
    # not, the well-known logical unit is there for this; and any LUN may answer (SPC-4 §6.33).
    for lun in dict.fromkeys((bytes(_LUN_BYTES), WELL_KNOWN_REPORT_LUNS, control.session.lun)):
        found = _report(control, lun)
        if found is not None:
            return sorted(set(found))
    return []


def _report(control: Control, lun: bytes) -> list[bytes] | None:
    count = _FIRST_LUNS
    while True:
        length = _HEADER_BYTES + _LUN_BYTES * count
        answer = ask(control, "REPORT LUNS", commands.build("REPORT LUNS", length), length, lun=lun)
        if answer.status != GOOD or len(answer.data) < _HEADER_BYTES:
            return None
        listed_bytes = int.from_bytes(answer.data[:4], "big")
        if listed_bytes <= length - _HEADER_BYTES or count == _MAX_LUNS:
            break
        count = min(_MAX_LUNS, listed_bytes // _LUN_BYTES)
    listed = answer.data[_HEADER_BYTES : _HEADER_BYTES + listed_bytes]
    return [listed[at : at + _LUN_BYTES] for at in range(0, len(listed) - _LUN_BYTES + 1, _LUN_BYTES)]


def list_disks(control: Control) -> list[bytes]:
    """Give the LUNs that are disks; controllers, tapes and well-known logical units are left out."""
    return [lun for lun in list_luns(control) if lun[0] != _WELL_KNOWN and _is_disk(control, lun)]


def _is_disk(control: Control, lun: bytes) -> bool:
    answer = ask(control, "INQUIRY", commands.build("INQUIRY", _INQUIRY_BYTES), _INQUIRY_BYTES, lun=lun)
    return answer.status == GOOD and bool(answer.data) and answer.data[0] in DIRECT_ACCESS
