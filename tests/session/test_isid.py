"""The computed ISID."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.session import isid

NAME = "iqn.2026-11.org.example:host"
MAC = "52:54:00:12:34:56"


def test_isid_is_the_same_in_every_process() -> None:
    # A worker that took over logs in with this, and the target ends the session of the one before: these
    # bytes must not change from one version to the next. printf 'NAME\nMAC' | sha256sum gives the middle.
    assert isid.compute(NAME, MAC, 3).hex() == "80efcf7eaa03"


@given(st.text(max_size=40), st.text(max_size=17), st.integers(0, isid.MAX_LANE), st.booleans())
def test_type_is_random_and_reserved_bits_are_clear(name: str, mac: str, lane: int, other: bool) -> None:
    value = isid.compute(name, mac, lane, is_other_half=other)
    assert len(value) == isid.ISID_BYTES
    assert value[0] == 0x80  # RFC 7143 §11.12.5: T = 10b, A reserved


def test_what_makes_a_session_its_own_changes_the_isid() -> None:
    values = {
        isid.compute(NAME, MAC, 0),
        isid.compute(NAME, MAC, 1),
        isid.compute(NAME, MAC, 0, is_other_half=True),
        isid.compute(NAME, "", 0),
        isid.compute(NAME, MAC, 0, lun=bytes(8)),
        isid.compute(NAME, MAC, 0, lun=bytes([0, 1]) + bytes(6)),
        isid.compute(NAME + "2", MAC, 0),
        isid.of_command(NAME),
    }
    assert len(values) == 8


def test_case_of_name_and_mac_does_not_matter() -> None:
    assert isid.compute(NAME.upper(), MAC.upper(), 0) == isid.compute(NAME, MAC, 0)


def test_the_halves_differ_in_one_bit() -> None:
    one, other = (isid.compute(NAME, MAC, 5, is_other_half=half) for half in (False, True))
    assert (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count() == 1


@pytest.mark.parametrize("lane", [-1, 128])
def test_a_lane_without_room_is_refused(lane: int) -> None:
    with pytest.raises(ValueError, match="lane"):
        isid.compute(NAME, MAC, lane)
