"""Sense data, both formats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.session import sense
from isboot.session.sense import Sense
from tests.fakes.disk import descriptor_sense, fixed_sense

triples = st.tuples(st.integers(0, 15), st.integers(0, 255), st.integers(0, 255))


@given(triples)
def test_both_formats_say_the_same(triple: tuple[int, int, int]) -> None:
    for data in (fixed_sense(*triple), descriptor_sense(*triple)):
        found = sense.decode(data)
        assert found is not None
        assert found.triple == triple
        assert not found.is_deferred


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_are_no_sense(data: bytes) -> None:
    found = sense.decode(data)
    if found is not None:
        assert str(found)


@pytest.mark.parametrize("data", [b"", b"\x70", b"\x70\x00", bytes(18), b"\x7f" + bytes(17)])
def test_what_is_no_sense_data_is_none(data: bytes) -> None:
    assert sense.decode(data) is None


def test_short_data_keeps_its_key() -> None:
    assert sense.decode(fixed_sense(6, 0x29, 0)[:8]) == Sense(6, 0, 0)


def test_the_additional_length_bounds_what_is_believed() -> None:
    data = bytearray(fixed_sense(5, 0x24, 1))
    data[7] = 0
    assert sense.decode(bytes(data)) == Sense(5, 0, 0)


def test_deferred_errors_are_told_apart() -> None:
    found = sense.decode(b"\x71" + fixed_sense(3, 0x0C, 2)[1:])
    assert found == Sense(3, 0x0C, 2, is_deferred=True)


@pytest.mark.parametrize(
    ("triple", "text"),
    [
        ((6, 0x29, 0), "UNIT ATTENTION, power on, reset, or bus device reset occurred (6/29/00)"),
        ((5, 0x25, 0), "ILLEGAL REQUEST, logical unit not supported (5/25/00)"),
        ((0xB, 0x99, 0x99), "ABORTED COMMAND (b/99/99)"),
    ],
)
def test_sense_is_told_by_name(triple: tuple[int, int, int], text: str) -> None:
    assert str(Sense(*triple)) == text


@pytest.mark.parametrize(
    ("triple", "statement"),
    [
        ((6, 0x29, 0), "is_unit_attention"),
        ((2, 0x04, 1), "is_becoming_ready"),
        ((2, 0x04, 0x0A), "is_becoming_ready"),
        ((5, 0x25, 0), "is_missing_lun"),
        ((5, 0x20, 0), "is_unsupported"),
        ((5, 0x24, 0), "is_unsupported"),
        ((2, 0x3A, 0), ""),
    ],
)
def test_statements_hold_for_their_sense_alone(triple: tuple[int, int, int], statement: str) -> None:
    names = ("is_unit_attention", "is_becoming_ready", "is_missing_lun", "is_unsupported")
    assert [name for name in names if getattr(Sense(*triple), name)] == [statement][: bool(statement)]
