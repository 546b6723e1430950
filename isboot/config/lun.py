"""
Logical unit numbers as people write them, and as the 8 bytes of the wire.

:source: SAM-5 §4.7
"""

from __future__ import annotations

import re

from isboot.errors import UsageError
from isboot.values import LUN_FORMS, format_lun, lun_of_number

__all__ = ["format_lun", "parse_boot_luns", "parse_lun"]

MAXIMUM = LUN_FORMS[-1][2]


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
    if int(text) > MAXIMUM:
        hint = "give the 8 bytes of such a LUN as 16 hexadecimal digits"
        raise UsageError(f"reading the LUN {text}: it is beyond {MAXIMUM}", hint)
    return lun_of_number(int(text))


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
