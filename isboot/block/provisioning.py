"""What a LUN offers for blocks nobody needs: discard and write zeroes, as ublk and the engine name them."""

from __future__ import annotations

from dataclasses import dataclass

from isboot.engine.lane import Discard
from isboot.units import MIB, SECTOR_BYTES
from isboot.values import LunFacts

#: one command, however large the target lets it be. All tags at once are 4 GiB then, which a target that
#: zeroes them at 150 MB/s does in half of a command's time
MAX_RANGE_BYTES = 32 * MIB


@dataclass(frozen=True, slots=True)
class Provisioning:
    """
    The discard part of struct ublk_params; a limit of 0 means that the device has no such operation.

    :source: uapi linux/ublk_cmd.h, struct ublk_param_discard; SBC-3 §6.6.3, §6.6.4
    """

    discard: Discard = Discard.NONE
    has_write_same: bool = False
    alignment_bytes: int = 0
    granularity_bytes: int = 0
    max_discard_sectors: int = 0
    max_write_zeroes_sectors: int = 0


def _sectors(blocks: int, block_size_bytes: int) -> int:
    """Give a limit in sectors, in whole blocks; 0 blocks: none is named."""
    limit = MAX_RANGE_BYTES if not blocks else min(blocks * block_size_bytes, MAX_RANGE_BYTES)
    return limit // block_size_bytes * block_size_bytes // SECTOR_BYTES


def from_lun(facts: LunFacts) -> Provisioning:
    """
    Translate a LUN's facts: UNMAP where it has that, else WRITE SAME(16) with its UNMAP bit, else nothing.

    A limit of 0 for UNMAP means that there is none (SBC-3 table 203); for WRITE SAME, that none is named.
    """
    if facts.is_read_only:
        return Provisioning()
    block = facts.block_size_bytes
    discard, max_discard = Discard.NONE, 0
    if facts.has_unmap and facts.max_unmap_blocks and facts.max_unmap_descriptors:
        discard, max_discard = Discard.UNMAP, _sectors(facts.max_unmap_blocks, block)
    elif facts.has_write_same_unmap:
        discard, max_discard = Discard.WRITE_SAME, _sectors(facts.max_write_same_blocks, block)
    granularity = max(facts.unmap_granularity_blocks * block, facts.physical_block_size_bytes, block)
    if granularity > max_discard * SECTOR_BYTES:
        # no range we could name holds one unit: such a discard would free nothing
        discard, max_discard, granularity = Discard.NONE, 0, max(facts.physical_block_size_bytes, block)
    # a target that names a limit has the command; one that names none may not
    has_write_same = bool(facts.max_write_same_blocks or facts.has_write_same_unmap)
    return Provisioning(
        discard=discard,
        has_write_same=has_write_same,
        alignment_bytes=facts.unmap_alignment_blocks * block % granularity,
        granularity_bytes=granularity,
        max_discard_sectors=max_discard,
        max_write_zeroes_sectors=_sectors(facts.max_write_same_blocks, block) if has_write_same else 0,
    )
