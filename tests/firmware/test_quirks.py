"""Every quirk of the rows: a table that shows it, at the right place; and tables that do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given

from isboot.firmware import decode, document, quirks
from isboot.firmware.encode import encode
from isboot.values import IbftControl, IbftTable
from tests.firmware.tables import INITIATOR, NIC, PROPERTY, TABLE, TARGET, tables

DATA = Path("tests/data/ibft")
PLAIN = replace(TABLE, oem_id="VENDOR", oem_table_id="TEST")
IQN = "iqn.2001-04.com.example:"
SECOND = replace(TARGET, index=1, header_index=1, boot_selected=False, flags=1, ip=ip_address("10.0.2.9"))
UNFLAGGED = {"flags": 0, "valid": False, "boot_selected": False}
SELECTED = {"flags": 2, "valid": False, "boot_selected": True}
LINK_LOCAL = replace(NIC, ip=ip_address("fe80::1"), prefix=64, gateway=None, is_global=True, flags=7)
FROM_ROUTER = replace(NIC, ip=ip_address("2001:db8::5054:ff:fe12:3456"), prefix=64, gateway=None)
IPV6_TABLE = replace(PLAIN, nics=(replace(FROM_ROUTER, origin="manual"),))


def read(table: IbftTable, source: str = "file") -> IbftTable:
    return decode.decode(encode(table), source)


def control(pairs: int, flags: int = 0) -> IbftControl:
    return IbftControl(flags, bool(flags), pairs, 0)


def targets(*given: object) -> IbftTable:
    return replace(PLAIN, targets=given)


def patched(offset: int, raw: bytes, table: IbftTable = PLAIN) -> IbftTable:
    """Give a table with other bytes and a good checksum."""
    new = bytearray(encode(table))
    new[offset : offset + len(raw)] = raw
    new[9] = 0
    new[9] = -sum(new) % 256
    return decode.decode(bytes(new), "file")


def edk2(name: str = "edk2") -> IbftTable:
    return decode.decode((DATA / f"{name}.bin").read_bytes(), "acpi")


def overlapping() -> IbftTable:
    """A table of EDK2 whose target name begins in the target's own structure."""
    raw = bytearray((DATA / "edk2.bin").read_bytes())
    raw[0x122 + 2 : 0x122 + 4] = (0x130).to_bytes(2, "little")
    raw[9] = 0
    raw[9] = -sum(raw) % 256
    return decode.decode(bytes(raw), "acpi")


def lossy() -> IbftTable:
    table = read(PLAIN)
    problem = decode.Problem("warning", "lun", "target0.lun", None, "")
    return replace(table, source="sysfs", raw=b"", problems=(problem,))


# The quirk, a table that shows it, and where.
SHOWN: list[tuple[str, Callable[[], IbftTable], tuple[str, ...]]] = [
    ("low-memory", lambda: read(PLAIN, "memory"), ("table",)),
    ("creator", lambda: patched(24, b"\x01\0\0\0iPXE"), ("table",)),
    ("all-selected", lambda: read(targets(TARGET, replace(SECOND, flags=3, boot_selected=True))),
     ("target0", "target1")),
    ("no-ipv6", lambda: read(replace(TABLE, targets=(replace(TARGET, ip=None),))), ("target0.ip",)),
    ("fixed-length", edk2, ("table.length",)),
    ("heap-down", edk2, ("table",)),
    ("heap-overlap", overlapping, ("target0.name",)),
    ("mapped-zero", edk2, ("nic0.dns", "nic0.dhcp")),
    ("nic-per-attempt", lambda: edk2("edk2-four-attempts"), ("nic1.mac", "nic2.mac")),
    ("no-failover", lambda: read(targets(TARGET, SECOND)), ("control.flags",)),
    ("empty-pairs", lambda: edk2("edk2-four-attempts"), ("control.pairs",)),
    ("router-manual", lambda: edk2("edk2-four-attempts"), ("nic2.origin",)),
    ("always-global", lambda: read(replace(PLAIN, nics=(LINK_LOCAL,))), ("nic0.flags",)),
    ("long-control", lambda: read(replace(PLAIN, control=control(3))), ("control",)),
    ("bift", lambda: read(replace(PLAIN, signature="BIFT")), ("table.signature",)),
    ("acpi-spelling", lambda: read(replace(PLAIN, signature="IBFT")), ("table.signature",)),
    ("dhcp-no-server", lambda: read(replace(PLAIN, nics=(replace(NIC, dhcp=None),))), ("nic0.dhcp",)),
    ("only-selected", lambda: read(targets(replace(TARGET, **SELECTED))), ("target0.flags",)),
    ("left-over", lambda: read(targets(TARGET, replace(SECOND, **UNFLAGGED))), ("target1.flags",)),
    ("aborted", lambda: read(targets(replace(TARGET, **UNFLAGGED))), ("table",)),
    ("aborted", lambda: read(replace(PLAIN, targets=())), ("table",)),
    ("wrong-checksum", lambda: decode.decode(encode(PLAIN)[:9] + b"\0" + encode(PLAIN)[10:], "acpi"),
     ("table.checksum_ok",)),
    ("lossy-lun", lossy, ("target0.lun",)),
]  # fmt: skip

# The quirk, and a table near to it that does not have it.
ABSENT: list[tuple[str, Callable[[], IbftTable]]] = [
    ("low-memory", lambda: read(PLAIN, "acpi")),
    ("no-ipv6", lambda: read(targets(replace(TARGET, ip=None)))),
    ("fixed-length", lambda: read(replace(PLAIN, length=2048))),
    ("heap-down", lambda: read(PLAIN)),
    (
        "heap-down",
        lambda: read(replace(PLAIN, targets=(), initiator=replace(INITIATOR, name=f"{IQN}{'x' * 7}"))),
    ),
    ("heap-overlap", edk2),
    ("mapped-zero", lambda: read(PLAIN)),
    ("no-failover", lambda: read(replace(targets(TARGET, SECOND), control=control(2, flags=1)))),
    ("no-failover", lambda: read(targets(TARGET, replace(SECOND, **UNFLAGGED)))),
    ("empty-pairs", lambda: read(replace(PLAIN, control=control(2)))),
    ("router-manual", lambda: read(replace(PLAIN, nics=(replace(FROM_ROUTER, origin="ra"),)))),
    ("always-global", lambda: read(replace(PLAIN, nics=(FROM_ROUTER,)))),
    ("left-over", lambda: read(replace(PLAIN, initiator=replace(INITIATOR, **UNFLAGGED)))),
    ("only-selected", lambda: read(PLAIN)),
    ("lossy-lun", lambda: read(targets(replace(TARGET, lun=b"\xff" * 8)))),
]


def found(table: IbftTable) -> dict[str, tuple[str, ...]]:
    return {met.quirk.code: met.places for met in quirks.met(table)}


@pytest.mark.parametrize(("code", "table", "places"), SHOWN, ids=[code for code, _, _ in SHOWN])
def test_a_quirk_is_met_where_it_is(
    code: str, table: Callable[[], IbftTable], places: tuple[str, ...]
) -> None:
    assert found(table())[code] == places


@pytest.mark.parametrize(("code", "table"), ABSENT, ids=[code for code, _ in ABSENT])
def test_a_quirk_is_not_met_where_it_is_not(code: str, table: Callable[[], IbftTable]) -> None:
    assert code not in found(table())


def test_every_row_is_shown_by_a_table_and_says_all_it_must() -> None:
    codes = [quirk.code for quirk in quirks.QUIRKS]
    assert len(set(codes)) == len(codes)
    assert set(codes) == {code for code, _, _ in SHOWN}
    for quirk in quirks.QUIRKS:
        assert all((quirk.producer, quirk.sign, quirk.action, quirk.source)), quirk.code


def test_a_plain_table_has_none() -> None:
    assert found(read(PLAIN, "acpi")) == {}
    assert "router-manual" in found(read(IPV6_TABLE))


def test_the_document_names_them_with_place_and_source() -> None:
    shown = document.to_document(read(replace(PLAIN, signature="BIFT")))["quirks"]
    (quirk,) = shown
    assert list(quirk) == ["code", "producer", "where", "message", "source"]
    assert (quirk["code"], quirk["where"]) == ("bift", ["table.signature"])


@PROPERTY
@given(tables())
def test_any_table_has_quirks_that_a_document_can_hold(table: IbftTable) -> None:
    shown = document.to_document(read(table))
    assert json.loads(json.dumps(shown["quirks"])) == shown["quirks"]
