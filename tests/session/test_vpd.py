"""Vital product data, as far as it came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.session import vpd
from tests.fakes.disk import Disk, designator

DECODERS = (
    vpd.supported_pages, vpd.serial_number, vpd.designators, vpd.block_limits, vpd.is_rotational,
    vpd.provisioning,
)  # fmt: skip


def page(number: int, body: bytes) -> bytes:
    return bytes([0, number]) + len(body).to_bytes(2, "big") + body


@given(
    st.sampled_from(range(len(DECODERS))),
    st.sampled_from([0, 0x80, 0x83, 0xB0, 0xB1, 0xB2]),
    st.binary(max_size=99),
)
def test_any_page_is_read_without_a_traceback(which: int, number: int, body: bytes) -> None:
    for wire in (page(number, body), page(number, body)[: len(body)], bytes([0, number, 0xFF, 0xFF]) + body):
        DECODERS[which](wire)


def test_a_page_is_believed_as_far_as_it_came() -> None:
    whole = Disk().execute(bytes([0x12, 1, 0xB0, 0, 255, 0]) + bytes(10)).data
    assert vpd.block_limits(whole).max_unmap == 4096
    assert vpd.block_limits(whole[:21]).max_unmap == 0
    assert vpd.block_limits(whole[:12]).max_transfer == 2048


def test_another_page_than_asked_for_is_nothing() -> None:
    assert vpd.serial_number(page(0x83, b"abc")) == ""


def test_a_length_beyond_the_bytes_is_not_believed() -> None:
    assert vpd.serial_number(bytes([0, 0x80, 0xFF, 0xFF]) + b"abc") == "abc"


def test_designators_stand_strongest_first() -> None:
    body = b"".join(
        [
            designator(2, 1, b"VENDOR  thing"),
            designator(3, 8, b"iqn.2026-11.org.example:lu\0\0"),
            designator(1, 3, bytes.fromhex("3000000100000001")),
            designator(1, 2, bytes.fromhex("0011223344556677")),
            designator(1, 3, bytes.fromhex("6001405f00d00000000000000000beef")),
            designator(1, 3, bytes.fromhex("5000000000000001"), association=1),  # names the port, not the LUN
            designator(1, 4, bytes(4)),  # a relative port number
            designator(2, 0, b"whatever"),  # vendor specific
        ]
    )
    assert vpd.designators(page(0x83, body)) == (
        "naa.6001405f00d00000000000000000beef",
        "naa.3000000100000001",
        "eui.0011223344556677",
        "scsi-name.iqn.2026-11.org.example:lu",
        "t10.VENDOR  thing",
    )


def test_a_designator_cut_off_is_left_out() -> None:
    assert vpd.designators(page(0x83, designator(1, 3, bytes(16)))[:-1]) == ()


def test_text_of_the_target_is_printable() -> None:
    assert vpd.text(b"  disk\x1b[0m\xff\0 ") == "disk\\x1b[0m\\xff"


@pytest.mark.parametrize(("rate", "is_rotational"), [(0, False), (1, False), (7200, True), (0xFFFF, True)])
def test_rotation_rate_says_whether_it_spins(rate: int, is_rotational: bool) -> None:
    assert vpd.is_rotational(page(0xB1, rate.to_bytes(2, "big"))) is is_rotational


@pytest.mark.parametrize(
    ("flags", "expected"), [(0, (False, False)), (0x80, (True, False)), (0x40, (False, True))]
)
def test_provisioning_flags(flags: int, expected: tuple[bool, bool]) -> None:
    assert vpd.provisioning(page(0xB2, bytes([0, flags, 0, 0]))) == expected


def test_unmap_alignment_counts_only_if_valid() -> None:
    def limits(alignment: int) -> int:
        body = bytearray(60)
        body[28:32] = alignment.to_bytes(4, "big")
        return vpd.block_limits(page(0xB0, bytes(body))).unmap_alignment

    assert limits(0x80000005) == 5
    assert limits(0x00000005) == 0
