"""What a LUN says, in ublk's words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from isboot._engine import lib

from isboot.block import parameters
from isboot.errors import BlockError, ExitStatus
from isboot.values import LunFacts

LUN = LunFacts(
    lun=bytes(8),
    vendor="IET",
    product="VIRTUAL-DISK",
    revision="0001",
    serial="beaf11",
    designators=("naa.60000000000000000e00000000010001",),
    block_size_bytes=512,
    physical_block_size_bytes=512,
    lowest_aligned_block=0,
    capacity_blocks=2048,
    max_transfer_blocks=0,
    optimal_transfer_blocks=0,
    optimal_granularity_blocks=0,
    is_read_only=False,
    has_volatile_cache=False,
    has_fua=False,
    is_rotational=False,
    is_thin=False,
    max_unmap_blocks=0,
    max_unmap_descriptors=0,
    unmap_granularity_blocks=0,
    unmap_alignment_blocks=0,
    max_write_same_blocks=0,
    has_unmap=False,
    has_write_same_unmap=False,
)
MAX_IO_BYTES = 256 * 1024


def test_sectors_are_512_bytes_whatever_the_block_size() -> None:
    found = parameters.from_lun(replace(LUN, block_size_bytes=4096, capacity_blocks=100), MAX_IO_BYTES)
    assert (found.dev_sectors, found.logical_bs_shift) == (800, 12)


@pytest.mark.parametrize("block_size_bytes", [0, 256, 520, 528, 4104, 8192])
def test_block_sizes_no_disk_can_have_are_refused(block_size_bytes: int) -> None:
    with pytest.raises(BlockError, match=f"blocks are {block_size_bytes} bytes") as caught:
        parameters.from_lun(replace(LUN, block_size_bytes=block_size_bytes), MAX_IO_BYTES)
    assert caught.value.exit_status == ExitStatus.UNAVAILABLE


def test_capacity_zero_is_refused() -> None:
    with pytest.raises(BlockError, match="capacity is 0"):
        parameters.from_lun(replace(LUN, capacity_blocks=0), MAX_IO_BYTES)


@pytest.mark.parametrize(
    ("facts", "attributes"),
    [
        (replace(LUN, is_read_only=True), lib.ISBOOT_UBLK_ATTR_READ_ONLY),
        (replace(LUN, is_rotational=True), lib.ISBOOT_UBLK_ATTR_ROTATIONAL),
        (replace(LUN, has_volatile_cache=True), lib.ISBOOT_UBLK_ATTR_VOLATILE_CACHE),
        (
            replace(LUN, has_volatile_cache=True, has_fua=True),
            lib.ISBOOT_UBLK_ATTR_VOLATILE_CACHE | lib.ISBOOT_UBLK_ATTR_FUA,
        ),
        (replace(LUN, has_fua=True), 0),
    ],
)
def test_attributes_say_what_the_lun_says(facts: LunFacts, attributes: int) -> None:
    assert parameters.from_lun(facts, MAX_IO_BYTES).attributes == attributes


def test_a_target_limit_below_the_buffer_is_kept() -> None:
    assert parameters.from_lun(replace(LUN, max_transfer_blocks=64), MAX_IO_BYTES).max_sectors == 64


def test_an_optimal_length_that_is_no_power_of_two_is_left_unsaid() -> None:
    assert parameters.from_lun(replace(LUN, optimal_transfer_blocks=96), MAX_IO_BYTES).io_opt_shift == 9


@given(
    block=st.sampled_from([512, 1024, 2048, 4096]),
    physical=st.integers(0, 1 << 20),
    max_transfer=st.integers(0, 1 << 32),
    optimal=st.integers(0, 1 << 32),
    capacity=st.integers(1, 1 << 48),
)
def test_every_lun_gives_parameters_the_driver_takes(
    block: int, physical: int, max_transfer: int, optimal: int, capacity: int
) -> None:
    facts = replace(
        LUN,
        block_size_bytes=block,
        physical_block_size_bytes=physical,
        max_transfer_blocks=max_transfer,
        optimal_transfer_blocks=optimal,
        capacity_blocks=capacity,
    )
    found = parameters.from_lun(facts, MAX_IO_BYTES)
    # the checks of ublk_validate_params() and of the block layer's limits
    assert 9 <= found.logical_bs_shift <= 12
    assert found.physical_bs_shift >= found.logical_bs_shift
    assert found.io_min_shift <= 31
    assert found.io_opt_shift <= 31
    assert 4096 // 512 <= found.max_sectors <= MAX_IO_BYTES // 512
    assert found.max_sectors * 512 % block == 0
