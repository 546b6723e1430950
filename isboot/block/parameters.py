"""What a LUN says of itself, in ublk's words."""

from __future__ import annotations

from dataclasses import dataclass

from isboot._engine import lib
from isboot.errors import BlockError, ExitStatus
from isboot.units import SECTOR_BYTES
from isboot.values import LunFacts

PAGE_BYTES = 4096
MAX_SHIFT_BYTES = 1 << 31  #: io_opt is 1 << shift in 32 bits


@dataclass(frozen=True, slots=True)
class Parameters:
    """
    The basic part of struct ublk_params. Shifts are powers of two in bytes, sectors are 512 bytes.

    :source: uapi linux/ublk_cmd.h, struct ublk_param_basic
    """

    attributes: int
    logical_bs_shift: int
    physical_bs_shift: int
    io_opt_shift: int
    io_min_shift: int
    max_sectors: int
    dev_sectors: int


def _shift(length_bytes: int) -> int:
    return length_bytes.bit_length() - 1


def _attributes(facts: LunFacts) -> int:
    # FUA is ignored by the driver without VOLATILE_CACHE, so it says no more than the truth.
    rows = (
        (facts.is_read_only, lib.ISBOOT_UBLK_ATTR_READ_ONLY),
        (facts.is_rotational, lib.ISBOOT_UBLK_ATTR_ROTATIONAL),
        (facts.has_volatile_cache, lib.ISBOOT_UBLK_ATTR_VOLATILE_CACHE),
        (facts.has_volatile_cache and facts.has_fua, lib.ISBOOT_UBLK_ATTR_FUA),
    )
    return sum(flag for is_set, flag in rows if is_set)


def from_lun(facts: LunFacts, max_io_bytes: int) -> Parameters:
    """
    Translate a LUN's facts.

    :param max_io_bytes: the size of a tag's buffer
    :raises BlockError: a block size or capacity no Linux disk can have (exit status 69)
    :source: SBC-4 READ CAPACITY(16), VPD B0
    """
    block = facts.block_size_bytes
    if block < SECTOR_BYTES or block > PAGE_BYTES or block & (block - 1):
        raise BlockError(
            f"making a disk of {facts.vendor} {facts.product}: its blocks are {block} bytes",
            "Linux disks have blocks of 512 to 4096 bytes, a power of two; choose another on the target",
            ExitStatus.UNAVAILABLE,
        )
    if facts.capacity_blocks <= 0:
        raise BlockError(
            f"making a disk of {facts.vendor} {facts.product}: its capacity is 0",
            "the LUN has no medium, or its backing store is missing on the target",
            ExitStatus.UNAVAILABLE,
        )
    physical = max(block, facts.physical_block_size_bytes)
    if physical & (physical - 1) or physical > PAGE_BYTES * 1024:
        physical = block
    max_bytes = max_io_bytes
    if facts.max_transfer_blocks:
        # below a page the block layer refuses a limit; a target that says so gets what it says, in pages
        max_bytes = max(PAGE_BYTES, min(max_bytes, facts.max_transfer_blocks * block))
    max_bytes -= max_bytes % max(PAGE_BYTES, block)
    optimal = facts.optimal_transfer_blocks * block
    # ublk can only say powers of two: any other optimal length is left unsaid rather than rounded
    if optimal < physical or optimal & (optimal - 1) or optimal > MAX_SHIFT_BYTES:
        optimal = physical
    return Parameters(
        attributes=_attributes(facts),
        logical_bs_shift=_shift(block),
        physical_bs_shift=_shift(physical),
        io_opt_shift=_shift(optimal),
        io_min_shift=_shift(physical),
        max_sectors=max_bytes // SECTOR_BYTES,
        dev_sectors=facts.capacity_blocks * (block // SECTOR_BYTES),
    )
