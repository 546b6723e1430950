from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from isboot.firmware.encode import encode
from isboot.firmware.hexdump import hexdump
from isboot.values import Secret
from tests.firmware.tables import CHAP_TABLE, CHAP_TARGET, PROPERTY

SECRET = b"\xa5\x5a\xc3\x3c\x96\x69\xf0\x0f\x87\x78\xe1\x1e"
GOOD = encode(replace(CHAP_TABLE, targets=(replace(CHAP_TARGET, chap_secret=Secret(SECRET)),)))


def shown(raw: bytes, *, show_secrets: bool = False) -> list[str]:
    """Give the bytes as they were printed, in their order."""
    lines = [line for line in hexdump(raw, show_secrets=show_secrets) if line.startswith("  ")]
    return [byte for line in lines for byte in re.findall(r"[0-9a-f*]{2}", line[8:55])]


def test_every_byte_of_a_table_appears_once_in_its_place() -> None:
    assert shown(GOOD, show_secrets=True) == [f"{byte:02x}" for byte in GOOD]


def test_a_secret_is_starred_and_nothing_else() -> None:
    at = GOOD.index(SECRET)
    expected = [f"{byte:02x}" for byte in GOOD]
    expected[at : at + len(SECRET)] = ["**"] * len(SECRET)
    assert shown(GOOD) == expected


def test_no_bytes_give_no_lines() -> None:
    assert list(hexdump(b"")) == []


def test_each_structure_stands_under_its_name() -> None:
    titles = [line for line in hexdump(GOOD) if not line.startswith(" ")]
    assert titles[:5] == ["header:", "control:", "initiator:", "nic0:", "target0:"]
    assert "target0.chap_secret:" in titles


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 0x1B0), st.integers(0, 255)), max_size=6))
def test_damage_never_brings_the_whole_secret_to_light(changes: list[tuple[int, int]]) -> None:
    at = GOOD.index(SECRET)
    raw = bytearray(GOOD)
    for offset, byte in changes:
        if not at <= offset % len(raw) < at + len(SECRET):
            raw[offset % len(raw)] = byte
    assert SECRET.hex() not in "".join(shown(bytes(raw)))
