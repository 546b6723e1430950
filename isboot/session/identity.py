"""Is it still the same disk? Another one behind the same number would be written over without a word."""

from __future__ import annotations

from isboot.errors import ExitStatus, IdentityError
from isboot.session import lun
from isboot.values import LunFacts

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
            f"checking the identity of LUN {lun.show(expected.lun)}: it is another disk: "
            + "; ".join(found_differences),
            HINT,
            ExitStatus.UNAVAILABLE,
        )


def weakness(facts: LunFacts) -> str:
    """
    Say why these identifiers do not tell one disk from another, or "".

    tgt numbers its LUNs: target 1, LUN 1 of every tgtd says naa.3000000100000001 and serial beaf11, whatever
    file is behind it.
    """
    strong = [name for name in facts.designators if name.startswith(("naa.", "eui.", "scsi-name."))]
    if facts.vendor == "IET" and facts.serial.startswith("beaf"):
        return "tgt's default serial: it follows from target and LUN number, not from the disk"
    if not facts.designators and not facts.serial:
        return "the LUN has neither a designator nor a serial number"
    if not strong and not facts.serial:
        return "the LUN has no worldwide unique designator and no serial number"
    return ""
