"""What a LUN offers for blocks nobody needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.block import provisioning
from isboot.block.provisioning import MAX_RANGE_BYTES, Provisioning
from isboot.engine.lane import Discard
from tests.block.test_parameters import LUN

UNMAP: dict[str, Any] = {"has_unmap": True, "max_unmap_blocks": 8192, "max_unmap_descriptors": 1}


def test_a_lun_that_offers_nothing_has_no_discard() -> None:
    found = provisioning.from_lun(LUN)
    assert (found.discard, found.has_write_same) == (Discard.NONE, False)
    assert (found.max_discard_sectors, found.max_write_zeroes_sectors) == (0, 0)


def test_unmap_comes_before_write_same() -> None:
    found = provisioning.from_lun(
        replace(LUN, has_write_same_unmap=True, max_write_same_blocks=4096, **UNMAP)
    )
    assert (found.discard, found.max_discard_sectors) == (Discard.UNMAP, 8192)
    assert (found.has_write_same, found.max_write_zeroes_sectors) == (True, 4096)
    alone = provisioning.from_lun(replace(LUN, has_write_same_unmap=True, max_write_same_blocks=4096))
    assert (alone.discard, alone.max_discard_sectors) == (Discard.WRITE_SAME, 4096)


@pytest.mark.parametrize("missing", ["has_unmap", "max_unmap_blocks", "max_unmap_descriptors"])
def test_unmap_without_a_limit_that_lets_it_is_none(missing: str) -> None:
    found = provisioning.from_lun(replace(LUN, **{**UNMAP, missing: 0}))
    assert found.discard == Discard.NONE


def test_limits_are_in_sectors_of_512_bytes() -> None:
    thin = replace(
        LUN, block_size_bytes=4096, physical_block_size_bytes=4096, unmap_granularity_blocks=16,
        unmap_alignment_blocks=3, **UNMAP,
    )  # fmt: skip
    found = provisioning.from_lun(thin)
    assert found.max_discard_sectors == 8192 * 8
    assert (found.granularity_bytes, found.alignment_bytes) == (65536, 3 * 4096)


def test_a_read_only_lun_takes_neither() -> None:
    assert provisioning.from_lun(replace(LUN, is_read_only=True, **UNMAP)) == Provisioning()


LIMITS = st.integers(0, 0xFFFFFFFF)


@given(
    block=st.sampled_from([512, 1024, 2048, 4096]), unmap=LIMITS, same=st.integers(0, (1 << 64) - 1),
    granularity=LIMITS, has_unmap=st.booleans(), has_same=st.booleans(),
)  # fmt: skip
def test_whatever_a_target_says_the_kernel_takes_it(
    block: int, unmap: int, same: int, granularity: int, has_unmap: bool, has_same: bool
) -> None:
    facts = replace(
        LUN, block_size_bytes=block, physical_block_size_bytes=block, has_unmap=has_unmap,
        has_write_same_unmap=has_same, max_unmap_blocks=unmap, max_unmap_descriptors=1,
        max_write_same_blocks=same, unmap_granularity_blocks=granularity,
    )  # fmt: skip
    found = provisioning.from_lun(facts)
    for sectors in (found.max_discard_sectors, found.max_write_zeroes_sectors):
        assert sectors * 512 <= MAX_RANGE_BYTES
        assert sectors * 512 % block == 0
    assert 0 < found.granularity_bytes < 1 << 32
    assert 0 <= found.alignment_bytes < 1 << 32
    assert bool(found.max_discard_sectors) == (found.discard != Discard.NONE)
