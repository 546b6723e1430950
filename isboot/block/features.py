"""
ublk's feature flags: what we ask for and why.

ADD_DEV drops flags it does not know without a word, so only what it gives back counts.
"""

from __future__ import annotations

from dataclasses import dataclass

from isboot._engine import lib


@dataclass(frozen=True, slots=True)
class Feature:
    """A flag of ADD_DEV. `since` is the kernel it came in; `is_required`: no device without it."""

    name: str
    flag: int
    since: str
    is_required: bool
    why: str


FEATURES = (
    Feature("USER_RECOVERY", lib.ISBOOT_UBLK_F_USER_RECOVERY, "6.1", True, "the device outlives its worker"),
    Feature(
        "USER_RECOVERY_REISSUE",
        lib.ISBOOT_UBLK_F_USER_RECOVERY_REISSUE,
        "6.1",
        True,
        "what was in flight comes again instead of failing",
    ),
    Feature("UPDATE_SIZE", lib.ISBOOT_UBLK_F_UPDATE_SIZE, "6.16", False, "a LUN that grows is seen at once"),
    Feature("CMD_IOCTL_ENCODE", lib.ISBOOT_UBLK_F_CMD_IOCTL_ENCODE, "6.4", True, "the opcodes we use"),
)


def wanted_flags() -> int:
    flags = 0
    for feature in FEATURES:
        flags |= feature.flag
    return flags


def missing(given_flags: int) -> tuple[Feature, ...]:
    """Give the required features that ADD_DEV did not grant."""
    return tuple(row for row in FEATURES if row.is_required and not given_flags & row.flag)
