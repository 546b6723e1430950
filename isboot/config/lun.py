"""
Logical unit numbers as people write them, and as the 8 bytes of the wire.

:source: SAM-5 §4.7
"""

from __future__ import annotations

import re

from isboot.errors import UsageError

PERIPHERAL_MAXIMUM = 255  #: SAM-5 §4.7.7.2: peripheral device addressing on bus 0
FLAT_MAXIMUM = 16383  #: SAM-5 §4.7.7.3: flat space addressing, 14 bits
FLAT_SPACE = 0x4000


def parse_lun(text: str) -> bytes:
    """
    Give the 8 bytes of a LUN.

    :param text: decimal, or the 8 bytes as 16 hexadecimal digits
    :raises UsageError: neither, or beyond what fits a LUN of one level
    """
    if re.fullmatch(r"[0-9a-fA-F]{16}", text):
        return bytes.fromhex(text)
    if not re.fullmatch(r"[0-9]{1,15}", text):
        hint = "give it in decimal, or its 8 bytes as 16 hexadecimal digits"
        raise UsageError(f'reading the LUN "{text}": it is no number', hint)
    number = int(text)
    if number > FLAT_MAXIMUM:
        hint = "give the 8 bytes of such a LUN as 16 hexadecimal digits"
        raise UsageError(f"reading the LUN {text}: it is beyond {FLAT_MAXIMUM}", hint)
    word = number if number <= PERIPHERAL_MAXIMUM else FLAT_SPACE | number
    return word.to_bytes(2, "big") + bytes(6)


def format_lun(lun: bytes) -> str:
    """Give a LUN in decimal where `parse_lun` makes the same bytes of it, else as 16 hexadecimal digits."""
    word = int.from_bytes(lun[:2], "big")
    if not any(lun[2:]):
        if word <= PERIPHERAL_MAXIMUM:
            return str(word)
        if FLAT_SPACE + PERIPHERAL_MAXIMUM < word <= FLAT_SPACE + FLAT_MAXIMUM:
            return str(word - FLAT_SPACE)
    return lun.hex()


def parse_boot_luns(text: str) -> tuple[bytes, ...] | str:
    """
    Read which LUNs to attach.

    :param text: "boot", "all", or numbers with commas between
    :return: the word, or the LUNs
    :raises UsageError: as `parse_lun`
    """
    if text in ("boot", "all"):
        return text
    return tuple(parse_lun(part) for part in text.split(","))
