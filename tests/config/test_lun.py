from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.config.lun import format_lun, parse_boot_luns, parse_lun
from isboot.errors import UsageError
from tests.firmware.tables import PROPERTY


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("0", "0000000000000000"),
        ("1", "0001000000000000"),
        ("255", "00ff000000000000"),
        ("256", "4100000000000000"),
        ("16383", "7fff000000000000"),
        ("16384", "d200400000000000"),
        ("16777215", "d2ffffff00000000"),
        ("16777216", "e200010000000000"),
        ("1099511627775", "e2ffffffffff0000"),
        ("0001000000000000", "0001000000000000"),
        ("C001234500000000", "c001234500000000"),
    ],
)
def test_a_lun_is_encoded_as_sam_has_it(text: str, raw: str) -> None:
    assert parse_lun(text).hex() == raw


@pytest.mark.parametrize(
    "text", ["", "-1", "1099511627776", "0x1", "1.0", "١", "99999999999999999", "00g1000000000000"]
)
def test_what_is_no_lun_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_lun(text)


@PROPERTY
@given(
    st.one_of(
        st.binary(min_size=8, max_size=8),
        st.integers(0, 0x7FFF).map(lambda n: n.to_bytes(2) + bytes(6)),
        st.binary(min_size=3, max_size=3).map(lambda n: b"\xd2" + n + bytes(4)),
        st.binary(min_size=5, max_size=5).map(lambda n: b"\xe2" + n + bytes(2)),
    )
)
def test_what_was_formatted_is_parsed(lun: bytes) -> None:
    assert parse_lun(format_lun(lun)) == lun


@PROPERTY
@given(st.integers(0, (1 << 40) - 1))
def test_a_number_is_formatted_as_it_was_given(number: int) -> None:
    assert format_lun(parse_lun(str(number))) == str(number)


def test_boot_luns_are_a_word_or_a_list() -> None:
    assert parse_boot_luns("boot") == "boot"
    assert parse_boot_luns("all") == "all"
    assert parse_boot_luns("0,2") == (bytes(8), parse_lun("2"))
    with pytest.raises(UsageError):
        parse_boot_luns("some")
