"""
A LUN in words: every addressing method of SAM-5 §4.7.7, one row each, level by level.

The eight bytes go to the target as they are, whatever they mean; the words are for people who compare them
with what their storage shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

LUN_BYTES = 8
WELL_KNOWN = {1: "REPORT LUNS", 2: "ACCESS CONTROLS", 3: "TARGET LOG PAGES", 4: "SECURITY PROTOCOL"}


@dataclass(frozen=True, slots=True)
class Method:
    """
    One addressing method.

    :param mask: of the first byte of a level, which then has `value`
    :param size_bytes: of the level
    :param shown: the level's bytes as a number or in words
    :param fault: why no disk can be there, or ""
    """

    mask: int
    value: int
    size_bytes: int
    name: str
    shown: Callable[[bytes], str]
    fault: str = ""


def _peripheral(level: bytes) -> str:
    # Bus 0 is the device itself: then the second byte is the number of a logical unit of it.
    bus = level[0] & 0x3F
    return f"bus {bus}, target {level[1]}" if bus else str(level[1])


def _logical_unit(level: bytes) -> str:
    return f"bus {level[1] >> 5}, target {level[0] & 0x3F}, LUN {level[1] & 0x1F}"


def _well_known(level: bytes) -> str:
    return WELL_KNOWN.get(level[1], f"0x{level[1]:02x}")


def _number(first_bits: int) -> Callable[[bytes], str]:
    return lambda level: str(int.from_bytes(level, "big") & (1 << 8 * len(level) - first_bits) - 1)


_EXTENDED = "extended logical unit addressing"

METHODS = (
    Method(0xC0, 0x00, 2, "peripheral device addressing", _peripheral),
    Method(0xC0, 0x40, 2, "flat space addressing", _number(2)),
    Method(0xC0, 0x80, 2, "logical unit addressing", _logical_unit),
    Method(0xFF, 0xC1, 2, "well-known logical unit", _well_known, "a well-known logical unit is no disk"),
    Method(0xFF, 0xD2, 4, "extended flat space addressing", _number(8)),
    Method(0xFF, 0xE2, 6, "long extended flat space addressing", _number(8)),
    Method(0xFF, 0xFF, 8, "logical unit not specified", bytes.hex, "it says that no logical unit is meant"),
    # What is left of method 11b, by its length field.
    *(
        Method(0xF0, 0xC0 | length << 4, 2 + 2 * length, _EXTENDED, bytes.hex, "its method is not defined")
        for length in range(4)
    ),
)


def levels(lun: bytes) -> Iterator[tuple[Method, bytes]]:
    """
    Give the levels of a LUN, each with its bytes: one for nearly every LUN, four at most.

    :param lun: the 8 bytes of the wire
    """
    at = 0
    while at < LUN_BYTES:
        method = next(method for method in METHODS if lun[at] & method.mask == method.value)
        level = lun[at : at + method.size_bytes]
        at += method.size_bytes
        if len(level) < method.size_bytes:  # a length that leads out of the LUN
            method = METHODS[-1]
        yield method, level
        if not any(lun[at:]):
            return


def describe(lun: bytes) -> str:
    """Give a LUN for people: its number or what it names, its bytes, its addressing method."""
    found = list(levels(lun))
    shown = ", then ".join(method.shown(level) for method, level in found)
    return f"{shown} ({lun.hex()}), {', then '.join(dict.fromkeys(method.name for method, _ in found))}"


def fault(lun: bytes) -> str:
    """Say why no disk can be at this LUN, or ""."""
    return next((method.fault for method, _ in levels(lun) if method.fault), "")
