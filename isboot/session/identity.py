"""Is it still the same disk? Another one behind the same number would be written over without a word."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isboot.errors import ExitStatus, IdentityError
from isboot.values import LunFacts, format_lun

HINT = "another disk answers where ours was: put the old one back; nothing was written to this one"


def differences(expected: LunFacts, found: LunFacts) -> list[str]:
    """
    Say what is not the same, one text a difference.

    A capacity that grew is no difference where strong identifiers are the same: the LUN was extended. One
    that shrank always is.
    """
    rows = (
        ("designators", ", ".join(expected.designators) or "none", ", ".join(found.designators) or "none"),
        ("serial", expected.serial or "none", found.serial or "none"),
        ("block size", f"{expected.block_size_bytes} bytes", f"{found.block_size_bytes} bytes"),
    )
    result = [f"{what} was {was}, is {now}" for what, was, now in rows if was != now]
    has_grown = found.capacity_blocks > expected.capacity_blocks and not weakness(expected)
    if found.capacity_blocks != expected.capacity_blocks and not has_grown:
        result.append(f"capacity was {expected.capacity_blocks} blocks, is {found.capacity_blocks}")
    return result


def check(expected: LunFacts, found: LunFacts) -> None:
    """:raises IdentityError: it is another disk; a hard stop (exit 69), never to be tried again"""
    if found_differences := differences(expected, found):
        raise IdentityError(
            f"checking the identity of LUN {format_lun(expected.lun)}: it is another disk: "
            + "; ".join(found_differences),
            HINT,
            ExitStatus.UNAVAILABLE,
        )


@dataclass(frozen=True, slots=True)
class _DefaultSerial:
    """What a target calls its LUNs where nobody named them: from their numbers, whatever file is behind."""

    vendor: str
    pattern: str
    text: str


_DEFAULT_SERIALS = (
    _DefaultSerial(
        "IET", r"beaf\d+", "tgt's default serial: it follows from target and LUN number, not the disk"
    ),
    _DefaultSerial(
        "FreeBSD", r"1\d{7}", "istgt's default serial: it follows from the unit's number, not the disk"
    ),
)

# SPC-4 §7.8.6.6: NAA 3 is locally assigned. Zeroes for the company in the others (tgt) make them that, too.
_WORLDWIDE = re.compile(r"naa\.(?!3|[56]000000)|eui\.(?!000000)|scsi-name\.")


def weakness(facts: LunFacts) -> str:
    """Say why what this LUN is called does not tell it from another disk, or ""."""
    if any(_WORLDWIDE.match(name) for name in facts.designators):
        return ""
    if not facts.serial:
        return "it has no worldwide unique designator and no serial number"
    for row in _DEFAULT_SERIALS:
        if facts.vendor == row.vendor and re.fullmatch(row.pattern, facts.serial):
            return row.text
    return ""
