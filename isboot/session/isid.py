"""
The initiator session identifier: computed, so that it survives every process that knew it.

A login with the ISID of a session that still stands ends that session at the target and takes its place (RFC
7143 §6.3.5).  A worker that was killed has no file to remember its ISID by, so the ISID follows from what is
the same on every start: the initiator's name, the NIC, the LUN, the lane.
"""

from __future__ import annotations

import hashlib
import os

ISID_BYTES = 6
_TYPE_RANDOM = 0b10 << 6  #: T field, RFC 7143 §11.12.5: 24 bits of B and C are random, 16 of D qualify them
_GENERATION_BIT = 0x80  #: of the last byte
MAX_LANE = 0x7F


def of_command(initiator_name: str) -> bytes:
    """
    Give the ISID of a short-lived session of a command: never that of a lane, whose session it would end.

    Two commands at a time differ by their process.
    """
    return compute(initiator_name, f"command {os.getpid()}", 0)


def compute(
    initiator_name: str, mac: str, lane: int, *, lun: bytes = b"", is_other_half: bool = False
) -> bytes:
    """
    Give the 6 bytes of an ISID.

    :param mac: of the NIC the session runs over, "" where the host routes
    :param lane: 0..127, distinct sessions of one device
    :param lun: 8 bytes: two disks behind one target must not end each other's session
    :param is_other_half: the half a new version logs in under while the old one still serves
    :source: RFC 7143 §11.12.5: T = 10b, then "random" B and C, here a hash, so that two NICs of one initiator
        name and two initiators never meet; D = 8 more bits of the hash, the generation, the lane
    """
    if not 0 <= lane <= MAX_LANE:
        raise ValueError(f"lane {lane} is outside 0..{MAX_LANE}")
    seed = "\n".join([initiator_name.lower(), mac.lower(), *([lun.hex()] if lun else [])]).encode()
    digest = hashlib.sha256(seed).digest()
    last = lane | (_GENERATION_BIT if is_other_half else 0)
    return bytes([_TYPE_RANDOM, *digest[:4], last])
