from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isboot.firmware import document, layout
from isboot.firmware.decode import bounded, decode, regions
from isboot.firmware.encode import encode
from isboot.values import IbftTable, IbftTarget, Problem, Secret
from tests.firmware.tables import CHAP_TABLE, CHAP_TARGET, NIC, PROPERTY, TABLE, TARGET, tables

DATA = Path("tests/data/ibft")
EXAMPLES = sorted(path for path in DATA.glob("*.bin") if path.with_suffix(".json").exists())
GOOD = encode(CHAP_TABLE)
CONTROL, INITIATOR, NIC0, TARGET0 = (
    next(region.start for region in regions(GOOD) if region.where == where)
    for where in ("control", "initiator", "nic0", "target0")
)
SECRET0 = GOOD.index(b"twelve bytes")


def damaged(offset: int, raw: bytes, *, table: bytes = GOOD) -> bytes:
    """Give a table with other bytes at an offset and a good checksum."""
    new = bytearray(table)
    new[offset : offset + len(raw)] = raw
    new[9] = 0
    new[9] = -sum(new[: struct.unpack_from("<I", new, 4)[0]]) % 256
    return bytes(new)


def codes(table: IbftTable) -> list[tuple[str, str, str, int | None]]:
    return [(p.severity, p.code, p.where, p.offset) for p in table.problems]


def check_invariants(table: IbftTable) -> None:
    """What holds for every table, however damaged."""
    text = json.dumps(document.to_document(table, show_secrets=True))
    assert text.isascii()
    assert text.isprintable()
    offsets = [problem.offset for problem in table.problems]
    assert offsets == sorted(offsets)
    assert all(0 <= offset <= max(len(table.raw), 48) for offset in offsets)
    assert table.is_bootable or any(problem.severity == "error" for problem in table.problems)
    if table.is_bootable:
        assert table.checksum_ok
        assert table.initiator
        assert table.targets


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_table_gives_its_document_to_the_letter(path: Path) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())
    table = decode(path.read_bytes(), expected["source"])
    assert document.to_document(table) == expected
    assert list(document.to_document(table)) == list(expected)


def test_example_tables_are_there() -> None:
    assert {"three-pairs", "ipv6", "mutual-chap"} <= {path.stem for path in EXAMPLES}


@PROPERTY
@given(tables())
def test_what_was_encoded_is_decoded(table: IbftTable) -> None:
    raw = encode(table)
    decoded = decode(raw, "file")
    expected = replace(table, length=len(raw), raw=raw, problems=decoded.problems)
    assert decoded == expected
    check_invariants(decoded)


@PROPERTY
@given(st.binary(max_size=700))
@example(b"")
@example(b"iBFT")
@example(b"iBFT" + struct.pack("<I", 0) + bytes(40))
@example(b"iBFT" + struct.pack("<I", 0xFFFFFFFF) + bytes(4000))
def test_arbitrary_bytes_give_a_rejected_table_and_a_document(raw: bytes) -> None:
    check_invariants(decode(raw, "file"))


@PROPERTY
@given(tables(), st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_tables_give_a_document(table: IbftTable, changes: list[tuple[int, int]]) -> None:
    raw = bytearray(encode(table))
    for offset, byte in changes:
        raw[offset % len(raw)] = byte
    raw[9] = 0
    raw[9] = -sum(raw) % 256
    check_invariants(decode(bytes(raw), "file"))


def test_every_change_of_one_byte_is_refused_by_the_checksum_or_an_earlier_rule() -> None:
    for offset in range(len(GOOD)):
        for change in (0x01, 0x80, 0xFF):
            raw = bytearray(GOOD)
            raw[offset] ^= change
            table = decode(bytes(raw), "file")
            check_invariants(table)
            assert not table.is_bootable


def test_every_change_of_one_byte_under_a_good_checksum_gives_a_document() -> None:
    for offset in range(len(GOOD)):
        for byte in (0, 1, 0x7F, 0xFF):
            check_invariants(decode(damaged(offset, bytes([byte])), "file"))


def test_every_truncation_is_refused_as_too_short() -> None:
    for length in range(len(GOOD)):
        table = decode(GOOD[:length], "file")
        check_invariants(table)
        assert not table.is_bootable
        assert "length" in [problem.code for problem in table.problems]


def test_bytes_behind_the_table_are_never_read() -> None:
    table = decode(GOOD + b"\xff" * 4096, "file")
    assert codes(table) == [("note", "length", "table.length", 4)]
    assert table.raw == GOOD
    assert table.is_bootable


def test_a_good_table_has_no_problems() -> None:
    assert codes(decode(GOOD, "file")) == []


# What is written where, and the one problem it must give.
DAMAGE = [
    (0, b"XBFT", ("error", "signature", "table.signature", 0)),
    (8, b"\x02", ("error", "revision", "table.revision", 8)),
    (36, b"\x07", ("warning", "reserved", "table", 36)),
    (CONTROL, b"\x07", ("error", "structure-id", "control", CONTROL)),
    (CONTROL + 1, b"\x02", ("warning", "structure-version", "control", CONTROL + 1)),
    (CONTROL + 2, b"\x11", ("error", "structure-length", "control", CONTROL + 2)),
    (CONTROL + 5, b"\x80", ("warning", "flags", "control.flags", CONTROL + 5)),
    (CONTROL + 6, b"\xff\xff", ("error", "pointer-range", "control.extensions", CONTROL + 6)),
    (CONTROL + 8, b"\x00\x00", ("error", "pointer-range", "initiator", CONTROL + 8)),
    (CONTROL + 8, b"\xff\xff", ("error", "pointer-range", "initiator", CONTROL + 8)),
    (CONTROL + 10, b"\x08\x00", ("error", "pointer-range", "nic0", CONTROL + 10)),
    (CONTROL + 12, bytes([TARGET0 & 255, TARGET0 >> 8, TARGET0 & 255, TARGET0 >> 8]),
     ("error", "structure-id", "nic1", TARGET0)),
    (CONTROL + 16, bytes([TARGET0 & 255, TARGET0 >> 8]), ("error", "duplicate", "target1", CONTROL + 16)),
    (INITIATOR + 2, b"\xff\x7f", ("error", "structure-length", "initiator", INITIATOR + 2)),
    (INITIATOR + 2, b"\x4b\x00", ("warning", "structure-length", "initiator", INITIATOR + 2)),
    (INITIATOR + 5, b"\x07", ("warning", "flags", "initiator.flags", INITIATOR + 5)),
    (INITIATOR + 70, b"\xff\x7f", ("error", "string-range", "initiator.name", INITIATOR + 70)),
    (NIC0 + 4, b"\x01", ("warning", "index", "nic0.header_index", NIC0 + 4)),
    (NIC0 + 5, b"\x02", ("warning", "flags", "nic0.flags", NIC0 + 5)),
    (NIC0 + 22, b"\x21", ("warning", "prefix", "nic0.prefix", NIC0 + 22)),
    (NIC0 + 23, b"\x09", ("warning", "origin", "nic0.origin", NIC0 + 23)),
    (NIC0 + 88, b"\xff\x0f", ("warning", "vlan", "nic0.vlan", NIC0 + 88)),
    (NIC0 + 90, b"\x00" * 6, ("warning", "mac", "nic0.mac", NIC0 + 90)),
    (TARGET0 + 6, b"\x00" * 16, ("warning", "address", "target0.ip", TARGET0 + 6)),
    (TARGET0 + 22, b"\x00\x00", ("warning", "port", "target0.port", TARGET0 + 22)),
    (TARGET0 + 32, b"\x00", ("note", "chap", "target0.chap", TARGET0 + 32)),
    (TARGET0 + 32, b"\x03", ("warning", "chap", "target0.chap", TARGET0 + 32)),
    (TARGET0 + 33, b"\x05", ("warning", "nic", "target0.nic", TARGET0 + 33)),
    (TARGET0 + 42, b"\xff\x7f", ("error", "string-range", "target0.chap_secret", TARGET0 + 42)),
    (TARGET0 + 42, b"\x0b\x00", ("warning", "chap", "target0.chap_secret", SECRET0)),
]  # fmt: skip


@pytest.mark.parametrize(("offset", "raw", "expected"), DAMAGE)
def test_damage_is_named_with_its_place(
    offset: int, raw: bytes, expected: tuple[str, str, str, int | None]
) -> None:
    assert expected in codes(decode(damaged(offset, raw), "file"))


def test_a_wrong_checksum_is_named_and_rejected() -> None:
    table = decode(GOOD[:9] + bytes([GOOD[9] ^ 1]) + GOOD[10:], "file")
    assert codes(table) == [("error", "checksum", "table.checksum_ok", 9)]
    assert table.checksum_ok is False
    assert not table.is_bootable
    assert table.targets  # the document shows what is there all the same


def test_a_broken_nic_is_left_out_and_its_target_stays() -> None:
    table = decode(damaged(NIC0, b"\x00"), "file")
    assert table.nics == ()
    assert table.targets[0].nic is None
    assert table.is_bootable


def test_a_name_that_is_none_is_shown_and_rejected() -> None:
    raw = encode(replace(TABLE, targets=(replace(TARGET, name="../../etc/passwd"),)))
    table = decode(raw, "file")
    assert table.targets[0].name == "../../etc/passwd"
    assert [p.code for p in table.problems if p.severity == "error"] == ["name"]
    assert not table.is_bootable


def test_unprintable_bytes_are_shown_in_hexadecimal_with_their_place() -> None:
    at = GOOD.index(b"disk0")
    table = decode(damaged(at, b"\n\x00\x1b"), "file")
    assert table.targets[0].name.endswith(r":\x0a\x00\x1bk0")
    assert ("warning", "text", "target0.name", at) in codes(table)


def test_a_secret_appears_in_no_problem() -> None:
    at = GOOD.index(b"twelve bytes")
    table = decode(damaged(at, b"\x01"), "file")
    messages = " ".join(problem.message for problem in table.problems)
    assert ("warning", "text", "target0.chap_secret", at) in codes(table)
    assert "0x01" not in messages
    assert "welve" not in messages + repr(table)


def test_an_undefined_chap_type_never_means_less_than_what_is_there() -> None:
    assert decode(damaged(TARGET0 + 32, b"\x77"), "file").targets[0].chap == "chap"


def test_a_selected_but_not_valid_target_boots() -> None:
    assert decode(damaged(TARGET0 + 5, b"\x02"), "file").is_bootable
    assert not decode(damaged(TARGET0 + 5, b"\x00"), "file").is_bootable


def test_a_table_filled_up_with_zeros_like_that_of_edk2_is_good() -> None:
    raw = encode(replace(CHAP_TABLE, length=2048))
    assert len(raw) == 2048
    assert codes(decode(raw, "acpi")) == []


def test_the_signature_of_broadcom_is_good() -> None:
    table = decode(encode(replace(TABLE, signature="BIFT")), "acpi")
    assert table.is_bootable
    assert table.signature == "BIFT"


def test_an_ipv4_address_of_zeros_is_absent() -> None:
    at = NIC0 + 72
    assert GOOD[at + 12 : at + 16] == bytes([10, 0, 2, 2])
    assert decode(damaged(at + 12, bytes(4)), "file").nics[0].dhcp is None


def test_a_control_structure_of_an_odd_length_is_used_and_named() -> None:
    raw = encode(replace(TABLE, control=replace(TABLE.control, pairs=3)))
    table = decode(damaged(CONTROL + 2, b"\x14", table=raw), "file")
    assert table.control is not None
    assert table.control.pairs == 2
    assert ("warning", "structure-length", "control", CONTROL + 2) in codes(table)


def test_two_nics_with_one_mac_are_noted() -> None:
    second = replace(NIC, index=1, header_index=1)
    table = decode(encode(replace(TABLE, nics=(NIC, second))), "acpi")
    assert [(p.severity, p.code, p.where) for p in table.problems] == [("note", "duplicate", "nic1.mac")]


def test_nics_that_all_call_themselves_0_are_found_by_position() -> None:
    second = replace(NIC, index=1, mac="52:54:00:12:34:57")
    target = replace(TARGET, nic=1)
    table = decode(encode(replace(TABLE, nics=(NIC, second), targets=(target,))), "acpi")
    assert table.targets[0].nic == 1


def test_a_string_over_a_structure_is_named() -> None:
    raw = damaged(TARGET0 + 36, struct.pack("<H", NIC0))
    assert ("warning", "overlap", "target0.name", TARGET0 + 34) in codes(decode(raw, "file"))


def test_a_string_kept_once_for_several_fields_is_no_overlap() -> None:
    name, chap_name = TARGET0 + 34, TARGET0 + 38
    length, offset = struct.unpack_from("<HH", GOOD, name)
    for first, second in ((name, chap_name), (chap_name, name)):
        # One string, and one that is the tail of the other.
        raw = damaged(first, struct.pack("<HH", length, offset))
        raw = damaged(second, struct.pack("<HH", length - 5, offset + 5), table=raw)
        assert "overlap" not in [problem.code for problem in decode(raw, "file").problems]
        raw = damaged(second, struct.pack("<HH", length, offset + 5), table=raw)
        assert "overlap" in [problem.code for problem in decode(raw, "file").problems]


def test_extensions_are_known_by_their_id() -> None:
    raw = encode(replace(TABLE, control=replace(TABLE.control, extensions=len(GOOD))))
    raw = damaged(
        4,
        struct.pack("<I", len(GOOD) + 8),
        table=raw.ljust(len(GOOD), b"\0") + bytes([5, 1, 8, 0, 0, 0, 0, 0]),
    )
    assert codes(decode(raw, "file")) == []
    raw = damaged(len(GOOD), b"\x06", table=raw)
    assert codes(decode(raw, "file")) == [("error", "structure-id", "control.extensions", len(GOOD))]


@pytest.mark.parametrize(
    ("target", "where"),
    [
        (replace(CHAP_TARGET, chap_name=""), "target0.chap_name"),
        (replace(CHAP_TARGET, chap_secret=Secret(b"")), "target0.chap_secret"),
        (replace(CHAP_TARGET, chap_secret=Secret(b"short")), "target0.chap_secret"),
        (replace(CHAP_TARGET, chap="mutual", reverse_chap_secret=Secret(b"other secret")),
         "target0.reverse_chap_name"),
        (replace(CHAP_TARGET, chap="mutual", reverse_chap_name="storage"), "target0.reverse_chap_secret"),
        (replace(CHAP_TARGET, chap="mutual", reverse_chap_name="storage",
                 reverse_chap_secret=CHAP_TARGET.chap_secret), "target0.reverse_chap_secret"),
    ],
)  # fmt: skip
def test_chap_that_cannot_work_is_named(target: IbftTarget, where: str) -> None:
    table = decode(encode(replace(TABLE, targets=(target,))), "file")
    assert [(problem.code, problem.where) for problem in table.problems] == [("chap", where)]


def test_mutual_chap_with_two_secrets_is_no_matter() -> None:
    secret = Secret(b"other secret")
    target = replace(CHAP_TARGET, chap="mutual", reverse_chap_name="storage", reverse_chap_secret=secret)
    assert codes(decode(encode(replace(TABLE, targets=(target,))), "file")) == []


def test_a_structure_over_another_is_left_out() -> None:
    raw = bytearray(GOOD)
    header = struct.pack("<BBHBB", layout.NIC.id, 1, layout.NIC.size_bytes, 1, 3)
    raw[NIC0 + 8 : NIC0 + 14] = header
    table = decode(damaged(CONTROL + 14, struct.pack("<H", NIC0 + 8), table=bytes(raw)), "file")
    assert ("error", "overlap", "nic1", CONTROL + 14) in codes(table)
    assert [nic.index for nic in table.nics] == [0]


def test_an_underscore_in_a_name_is_a_warning_and_boots() -> None:
    target = replace(TARGET, name="iqn.2001-04.com.example:disk_0")
    initiator = replace(TABLE.initiator, name="iqn.2001-04.com.example:my_host")  # type: ignore[type-var]
    table = decode(encode(replace(TABLE, initiator=initiator, targets=(target,))), "file")
    assert [(p.severity, p.code, p.where) for p in table.problems] == [
        ("warning", "name", "initiator.name"), ("warning", "name", "target0.name"),
    ]  # fmt: skip
    assert all("underscore" in p.message and "RFC 3722" in p.message for p in table.problems)
    assert table.is_bootable


def test_a_short_secret_of_the_target_is_a_warning_too() -> None:
    mutual = replace(
        CHAP_TARGET, chap="mutual", reverse_chap_name="disk", reverse_chap_secret=Secret(b"short")
    )
    table = decode(encode(replace(TABLE, targets=(mutual,))), "file")
    assert [(p.severity, p.code, p.where) for p in table.problems] == [
        ("warning", "chap", "target0.reverse_chap_secret")
    ]
    assert table.is_bootable


def hostile(control_bytes: int, fill: bytes) -> bytes:
    """Give 64 KiB: a control structure of that length, every pointer of it to a copy of `fill`."""
    raw = bytearray(struct.pack("<4sIB", b"iBFT", 1 << 16, 1).ljust(48, b"\0"))
    raw += struct.pack("<BBHBBH", 1, 1, control_bytes, 0, 0, 0)
    pairs = (control_bytes - layout.PAIRS_OFFSET) // layout.PAIR_BYTES
    first, places = 48 + control_bytes, max(1, ((1 << 16) - 48 - control_bytes) // len(fill))
    for n in range((control_bytes - 8) // 2):
        raw += struct.pack("<H", min(first + n % places * len(fill), 0xFFFF))
    raw += fill * places
    assert pairs > layout.MAXIMUM_PAIRS
    return damaged(9, b"\0", table=bytes(raw).ljust(1 << 20, b"x"))


@pytest.mark.parametrize("control_bytes", [4096, 30000, 65000])
@pytest.mark.parametrize("structure", [layout.NIC, layout.TARGET])
def test_a_table_made_to_keep_us_busy_is_bounded(control_bytes: int, structure: layout.Structure) -> None:
    size = structure.size_bytes
    head = struct.pack("<BBHBB", structure.id, 9, size, 7, 0xFF)
    # every 4 bytes a string over all of the table, where there are strings
    table = decode(hostile(control_bytes, head + b"\x00\xf0\x30\x00" * ((size - 6) // 4)), "file")
    check_invariants(table)
    assert table.control
    assert table.control.pairs == (control_bytes - layout.PAIRS_OFFSET) // layout.PAIR_BYTES
    assert len(table.nics) <= layout.MAXIMUM_PAIRS
    assert len(table.targets) <= layout.MAXIMUM_PAIRS
    assert len(table.problems) <= layout.MAXIMUM_PROBLEMS + 1
    assert all(len(problem.message) < 1000 for problem in table.problems)
    assert all(len(target.name) <= layout.MAXIMUM_STRING_BYTES * 4 for target in table.targets)
    assert ("warning", "pairs", "control", 50) in codes(table)


def test_problems_left_out_are_counted_and_errors_kept() -> None:
    table = decode(hostile(4096, bytes(54)), "file")
    assert len(table.problems) < layout.MAXIMUM_PROBLEMS
    many = [Problem("note", "x", f"nic{n}", n, "") for n in range(layout.MAXIMUM_PROBLEMS + 5)]
    error = Problem("error", "y", "control", 9999, "")
    kept = bounded([*many, error])
    left_out = next(problem for problem in kept if problem.code == "problems")
    assert left_out.message == "6 more problems are left out"
    kept.remove(left_out)
    assert kept == [*many[: layout.MAXIMUM_PROBLEMS - 1], error]
    assert bounded(many[: layout.MAXIMUM_PROBLEMS]) == many[: layout.MAXIMUM_PROBLEMS]
