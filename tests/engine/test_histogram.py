"""Latency buckets, and the CRC against another library."""

from __future__ import annotations

import itertools

import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st
from isboot._engine import ffi, lib

from isboot.engine import lane

LAST = lib.ISBOOT_HISTOGRAM_BUCKETS - 1


@given(st.integers(0, (1 << 63) - 1))
def test_a_value_lies_in_its_bucket(value: int) -> None:
    bucket = lib.isboot_histogram_bucket(value)
    assert lib.isboot_histogram_bucket_ns(bucket) <= value
    if bucket < LAST:
        assert value < lib.isboot_histogram_bucket_ns(bucket + 1)


@given(st.integers(0, LAST))
def test_a_bucket_starts_where_it_says(bucket: int) -> None:
    assert lib.isboot_histogram_bucket(lib.isboot_histogram_bucket_ns(bucket)) == bucket


def test_buckets_grow_by_an_eighth_at_most() -> None:
    bounds = [lib.isboot_histogram_bucket_ns(bucket) for bucket in range(LAST + 1)]
    assert all(low < high for low, high in itertools.pairwise(bounds))
    assert all(high - low <= max(1, low / 8) for low, high in itertools.pairwise(bounds))


def test_what_is_beyond_the_last_bucket_counts_there() -> None:
    assert lib.isboot_histogram_bucket((1 << 64) - 1) == LAST


@given(st.binary(max_size=5000))
def test_crc32c_is_that_of_another_library(data: bytes) -> None:
    assert lib.isboot_crc32c(data, len(data)) == crc32c.crc32c(data)


def test_crc32c_of_the_standards_examples() -> None:
    """RFC 7143 A.4"""
    assert lib.isboot_crc32c(bytes(32), 32) == 0x8A9136AA
    assert lib.isboot_crc32c(b"\xff" * 32, 32) == 0x62A8AB43
    assert lib.isboot_crc32c(bytes(range(32)), 32) == 0x46DD794E


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [(lane.Reason, "ISBOOT_REASON_"), (lane.Cause, "ISBOOT_CAUSE_"), (lane.Operation, "ISBOOT_")],
)
def test_python_and_c_number_alike(kind: type[lane.Reason], prefix: str) -> None:
    for member in kind:
        assert getattr(lib, prefix + member.name) == member


def test_every_cause_has_a_text() -> None:
    known = [name for name in dir(lib) if name.startswith("ISBOOT_CAUSE_")]
    assert len(known) == len(lane.CAUSE_TEXTS) == len(lane.Cause)


def test_every_struct_can_be_used() -> None:
    """A wrong field type builds and imports cleanly and fails on first use."""
    for name in ffi.list_types()[1]:
        if name not in ("isboot_lane", "isboot_control"):
            assert ffi.sizeof(f"struct {name}") > 0
