"""Records of the kernel: one table for both sides."""

from __future__ import annotations

import ctypes
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.trace.catalogue import TRACES
from isboot.trace.events import (
    ConnectionLost,
    Event,
    c_declarations,
    c_name,
    decode,
    members,
    structure,
)

KINDS = sorted({kind for trace in TRACES for kind in trace.records}, key=lambda kind: kind.__name__)
RANGES = {
    ctypes.c_uint64: (0, 2**64 - 1),
    ctypes.c_uint32: (0, 2**32 - 1),
    ctypes.c_int32: (-(2**31), 2**31 - 1),
}


@st.composite
def event(draw: st.DrawFn) -> Event:
    kind = draw(st.sampled_from(KINDS))
    types = dict(members(kind))
    values = {field.name: draw(st.integers(*RANGES[types[field.name]])) for field in fields(kind)}
    return kind(**values)


def encode(one: Event) -> bytes:
    values = {field.name: getattr(one, field.name) for field in fields(one)}
    return bytes(structure(type(one))(kind=KINDS.index(type(one)) + 1, **values))


@given(event(), st.binary(max_size=8))
def test_decode_gives_what_was_encoded(one: Event, rounded_up: bytes) -> None:
    assert decode(encode(one) + rounded_up, KINDS) == one


@pytest.mark.parametrize("kind", KINDS)
def test_record_has_no_padding(kind: type[Event]) -> None:
    assert ctypes.sizeof(structure(kind)) == sum(ctypes.sizeof(c_type) for _, c_type in members(kind))
    assert ctypes.sizeof(structure(kind)) % 8 == 0


def test_declarations_are_c_in_one_line() -> None:
    assert c_declarations([ConnectionLost]) == (
        "enum { KIND_connection_lost = 1 }; struct connection_lost { u64 kind; u64 ns; u32 pid; u32 device; "
        "u32 lane; u32 cause; s32 code; u32 in_flight; };"
    )
    assert c_name(ConnectionLost) == "connection_lost"


@pytest.mark.parametrize("number", [0, len(KINDS) + 1, 2**63])
def test_unknown_kind_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"kind {number}"):
        decode(number.to_bytes(8, "little") + bytes(64), KINDS)


def test_short_record_is_refused() -> None:
    with pytest.raises(ValueError, match="small"):
        decode((1).to_bytes(8, "little"), KINDS)
