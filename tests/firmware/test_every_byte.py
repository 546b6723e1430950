"""
Each byte of three real tables set to every value: no traceback, nothing read outside, nothing made up.

Bytes behind the table are there and are poison: whatever is read outside shows in what was decoded, and a
second reader (`oracle`) says that the table does not say so.

Bytes that lead to other bytes (headers, pointers, lengths) are set alone, one by one.  Of those that only
mean something (a MAC, a letter of a name) eight are set at a time, far apart: the second reader sees each.
Those that mean nothing (fillings) are all set at once.  What prints is tried with a few values of each byte.
With --all every byte is set alone, and more values are printed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Container
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import pytest

from isboot.commands import ibft
from isboot.firmware import checks, document, hexdump, layout, text
from isboot.firmware.decode import decode, regions
from isboot.firmware.layout import Kind
from isboot.values import IbftTable
from tests.firmware.oracle import disbelief

DATA = Path("tests/data/ibft")
TABLES = ("ipxe-bios-two-paths", "ipxe-uefi-mutual-chap", "edk2")
POISON = b"\xa5" * 4096
CHECKSUM, LENGTH = 9, range(4, 8)
SHARP = (0, 0x80, 0xFF)  #: values that all that prints is tried with
MANY = range(0, 256, 5)  #: the same with --all


def real(name: str) -> bytes:
    return (DATA / f"{name}.bin").read_bytes()


def meaning(raw: bytes) -> list[int]:
    """Give the offsets of bytes that mean something: structures, strings and the NULs behind them."""
    return sorted(
        {at for region in regions(raw) for at in range(region.start, region.end + 1)} & {*range(len(raw))}
    )


def groups(raw: bytes, together: int) -> list[list[int]]:
    """Give the offsets that are set at the same time: all that mean something, each once."""
    leading = set(range(layout.CONTROL_OFFSET + layout.CONTROL_BYTES))
    sizes = {structure.name: structure for structure in layout.STRUCTURES}
    for region in regions(raw):
        if structure := sizes.get(region.where.rstrip("0123456789")):
            leading |= {region.start + at for at in range(layout.STRUCTURE_HEADER_BYTES)}
            for field in structure.fields:
                if field.kind in (Kind.STRING, Kind.SECRET):
                    leading |= {region.start + field.offset + at for at in range(4)}
    others = [at for at in meaning(raw) if at not in leading]
    strides = -(-len(others) // together)
    return [[at] for at in sorted(leading)] + [others[start::strides] for start in range(strides)]


def changed(raw: bytes, offsets: list[int], value: int) -> bytes:
    """Give a table with other bytes and, unless that byte was meant, a good checksum."""
    new = bytearray(raw)
    for at in offsets:
        new[at] = value
    if CHECKSUM not in offsets:
        length = int.from_bytes(new[4:8], "little")
        new[CHECKSUM] = (new[CHECKSUM] - sum(new[:length])) % 256
    return bytes(new)


def without_bytes(table: IbftTable) -> IbftTable:
    return replace(table, raw=b"", problems=())


def _remember_what_repeats() -> None:
    """Let pure functions remember: of a table only one byte changes at a time."""
    text.decode_address = lru_cache(4096)(text.decode_address)
    text.printable = lru_cache(4096)(text.printable)
    examine, structures = checks.examine, {structure.name: structure for structure in layout.STRUCTURES}
    findings = lru_cache(4096)(lambda name, value: tuple(examine(structures[name], value)))
    checks.examine = lambda structure, value: findings(structure.name, value)


def faults_of(name: str, printed: Container[int], offsets: list[int]) -> list[str]:
    """Give what is wrong with any value at these offsets; runs in a process of its own."""
    raw, faults = real(name), []
    for value in range(256):
        bad = changed(raw, offsets, value) + POISON
        table = decode(bad, "file")
        found = disbelief(table, bad)
        if value in printed:
            lines = [*ibft.describe(table), *hexdump.hexdump(table.raw)]
            lines += [json.dumps(document.to_document(table, show_secrets=True))]
            found += [f"{line!r} cannot be printed" for line in lines if not line.isprintable()]
        faults += [f"{name}: {value:#04x} at {offsets}: {fault}" for fault in found]
    return faults


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_every_value_of_every_byte_is_believed_as_it_stands(
    name: str, request: pytest.FixtureRequest
) -> None:
    is_all = request.config.getoption("--all")
    printed = MANY if is_all else SHARP
    sets = groups(real(name), together=1 if is_all else 8)
    assert sorted(at for offsets in sets for at in offsets) == meaning(real(name))
    processes = get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), processes, _remember_what_repeats) as pool:
        results = list(pool.map(faults_of, repeat(name), repeat(printed), sets, chunksize=8))
    assert len(results) == len(sets)
    assert [fault for faults in results for fault in faults][:5] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_fillings_mean_nothing_whatever_is_in_them(name: str) -> None:
    raw = real(name)
    fillings = [at for at in range(len(raw)) if at not in set(meaning(raw))]
    assert fillings
    plain = without_bytes(decode(raw, "file"))
    for value in range(256):
        table = decode(changed(raw, fillings, value), "file")
        assert without_bytes(table) == plain
        assert [p for p in table.problems if p.code not in ("duplicate", "terminator")] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_without_a_new_checksum_no_other_value_is_believed(name: str) -> None:
    raw = real(name)
    for offset in range(len(raw)):
        # A sum modulo 256 differs for each other value of one byte; the decoder is asked about two of them.
        for value in ((raw[offset] + 1) % 256, raw[offset] ^ 0xFF):
            table = decode(raw[:offset] + bytes([value]) + raw[offset + 1 :], "file")
            assert not table.is_bootable, (offset, value)


def test_the_second_reader_disbelieves_what_is_made_up() -> None:
    raw = real("edk2")
    table = decode(raw, "file")
    (nic,), (target,) = table.nics, table.targets
    assert disbelief(table, raw) == []
    for made_up in (
        replace(table, nics=(replace(nic, mac="52:54:00:99:00:01"),)),
        replace(table, nics=(replace(nic, dhcp=nic.ip),)),
        replace(table, nics=(replace(nic, dns=(nic.ip,)),)),
        replace(table, targets=(replace(target, chap_name="x"),)),
        replace(table, targets=(replace(target, chap="chap"),)),
        replace(table, targets=(target, replace(target, index=1))),
        replace(table, is_bootable=False),
        replace(table, control=None),
    ):
        assert disbelief(made_up, raw)
