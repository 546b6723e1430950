from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.firmware import lun
from isboot.values import LUN_FORMS, format_lun, lun_of_number
from tests.firmware.tables import PROPERTY

# SAM-5 §4.7.7: the first bytes of a LUN, its words, its addressing method.
LUNS = [
    ("0000", "0", "peripheral device addressing"),
    ("0001", "1", "peripheral device addressing"),
    ("00ff", "255", "peripheral device addressing"),
    ("0207", "bus 2, target 7", "peripheral device addressing"),
    ("4001", "1", "flat space addressing"),
    ("4100", "256", "flat space addressing"),
    ("7fff", "16383", "flat space addressing"),
    ("8325", "bus 1, target 3, LUN 5", "logical unit addressing"),
    ("bfff", "bus 7, target 63, LUN 31", "logical unit addressing"),
    ("c101", "REPORT LUNS", "well-known logical unit"),
    ("c17f", "0x7f", "well-known logical unit"),
    ("d2004000", "16384", "extended flat space addressing"),
    ("d2ffffff", "16777215", "extended flat space addressing"),
    ("e20001000000", "16777216", "long extended flat space addressing"),
    ("c200", "c200", "extended logical unit addressing"),
    ("d3000001", "d3000001", "extended logical unit addressing"),
    ("f200000000000001", "f200000000000001", "extended logical unit addressing"),
    ("ffffffffffffffff", "ffffffffffffffff", "logical unit not specified"),
    ("02070003", "bus 2, target 7, then 3", "peripheral device addressing"),
    ("020741008325", "bus 2, target 7, then 256, then bus 1, target 3, LUN 5",
     "peripheral device addressing, then flat space addressing, then logical unit addressing"),
    ("000100020003f200", "1, then 2, then 3, then f200",
     "peripheral device addressing, then extended logical unit addressing"),
]  # fmt: skip


@pytest.mark.parametrize(("start", "words", "method"), LUNS)
def test_a_lun_of_every_addressing_method_is_told_in_words(start: str, words: str, method: str) -> None:
    text = start.ljust(16, "0")
    assert lun.describe(bytes.fromhex(text)) == f"{words} ({text}), {method}"


@pytest.mark.parametrize(
    ("start", "is_fault"),
    [("0001", False), ("8325", False), ("d2004000", False), ("c101", True), ("c200", True), ("ff", True)],
)
def test_a_lun_where_no_disk_can_be_says_so(start: str, is_fault: bool) -> None:
    assert bool(lun.fault(bytes.fromhex(start.ljust(16, "0" if start != "ff" else "f")))) == is_fault


@PROPERTY
@given(st.binary(min_size=8, max_size=8))
def test_any_eight_bytes_have_words_and_show_themselves(raw: bytes) -> None:
    assert f"({raw.hex()})" in lun.describe(raw)
    levels = list(lun.levels(raw))
    assert 1 <= len(levels) <= 4
    shown = b"".join(level for _, level in levels)
    assert raw.startswith(shown)
    assert not any(raw[len(shown) :])


@PROPERTY
@given(st.integers(0, LUN_FORMS[-1][2]))
def test_a_number_is_shown_as_that_number(number: int) -> None:
    raw = lun_of_number(number)
    assert lun.describe(raw).startswith(f"{number} (")
    assert format_lun(raw) == str(number)
