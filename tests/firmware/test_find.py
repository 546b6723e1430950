from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from isboot import boot
from isboot.config import cmdline
from isboot.errors import ExitStatus, FirmwareError
from isboot.firmware import find
from isboot.firmware.encode import encode
from tests.firmware.tables import TABLE, TARGET

GOOD = encode(TABLE)
OTHER = encode(replace(TABLE, targets=(replace(TARGET, name="iqn.2001-04.com.example:other"),)))
BROKEN = GOOD[:9] + bytes([GOOD[9] ^ 1]) + GOOD[10:]
ACPI = Path("sys/firmware/acpi/tables")
PLACE = 0x9E620  #: where iPXE under BIOS was seen to leave it


def put_acpi(root: Path, name: str, raw: bytes) -> None:
    (root / ACPI).mkdir(parents=True, exist_ok=True)
    (root / ACPI / name).write_bytes(raw)


def put_memory(root: Path, raw: bytes, *places: int) -> None:
    (root / "dev").mkdir(exist_ok=True)
    with (root / "dev/mem").open("wb") as file:
        file.truncate(0x100000)
        for place in places:
            file.seek(place)
            file.write(raw)


@pytest.mark.parametrize("name", ["iBFT", "IBFT", "BIFT", "iBFT1"])
def test_an_acpi_table_is_found_under_each_of_its_names(tmp_path: Path, name: str) -> None:
    put_acpi(tmp_path, name, GOOD)
    put_acpi(tmp_path, "SSDT1", OTHER)
    (table,) = find.find_tables(tmp_path)
    assert (table.source, table.raw) == ("acpi", GOOD)


def test_numbered_tables_come_in_their_order(tmp_path: Path) -> None:
    for name, raw in (("iBFT10", BROKEN), ("iBFT2", OTHER), ("iBFT1", GOOD)):
        put_acpi(tmp_path, name, raw)
    assert [table.raw for table in find.find_tables(tmp_path)] == [GOOD, OTHER, BROKEN]


LAST_PLACE = (0x100000 - len(GOOD)) // 16 * 16


@pytest.mark.parametrize("place", [0x80000, PLACE, 0x9F000 - 16, 0xC0000, LAST_PLACE])
def test_a_table_in_low_memory_is_found(tmp_path: Path, place: int) -> None:
    put_memory(tmp_path, GOOD, place)
    (table,) = find.find_tables(tmp_path)
    assert (table.source, table.raw) == ("memory", GOOD)


@pytest.mark.parametrize("name", ["iBFT", "iBFT1"])
def test_the_usual_spelling_comes_first(tmp_path: Path, name: str) -> None:
    # Linux numbers all of one name, as soon as there are two of it.
    for other, raw in (("BIFT", BROKEN), ("IBFT", OTHER), (name, GOOD)):
        put_acpi(tmp_path, other, raw)
    assert [table.raw for table in find.find_tables(tmp_path)] == [GOOD, BROKEN, OTHER]


@pytest.mark.parametrize("place", [0x7FFF0, 0xA0000, 0xBF000, PLACE + 8])
def test_memory_outside_the_range_or_the_alignment_is_not_looked_at(tmp_path: Path, place: int) -> None:
    put_memory(tmp_path, GOOD, place)
    assert find.find_tables(tmp_path) == []


def test_low_memory_is_not_looked_at_under_uefi(tmp_path: Path) -> None:
    put_memory(tmp_path, GOOD, PLACE)
    (tmp_path / "sys/firmware/efi").mkdir(parents=True)
    assert find.find_tables(tmp_path) == []


def test_the_four_letters_alone_in_an_option_rom_are_no_table(tmp_path: Path) -> None:
    put_memory(tmp_path, b"iBFT" + b"\xc3" * 60, 0xC8000)
    assert find.find_tables(tmp_path) == []


@pytest.mark.parametrize(
    ("length", "control", "is_found"),
    [(256, 1, True), (256, 9, False), (0x100000, 1, False), (47, 1, False), (0x100000 - PLACE, 1, True)],
)
def test_a_signature_in_memory_counts_with_a_length_and_a_control_structure(
    tmp_path: Path, length: int, control: int, is_found: bool
) -> None:
    raw = bytearray(GOOD)
    raw[4:8] = length.to_bytes(4, "little")
    raw[48] = control
    put_memory(tmp_path, bytes(raw), PLACE)
    assert bool(find.find_tables(tmp_path)) == is_found


def test_a_table_without_a_control_structure_counts_by_its_checksum(tmp_path: Path) -> None:
    raw = bytearray(GOOD)
    raw[48] -= 1
    raw[9] = (raw[9] + 1) % 256
    put_memory(tmp_path, bytes(raw), PLACE)
    (table,) = find.find_tables(tmp_path)
    assert [problem.code for problem in table.problems] == ["structure-id"]


def test_a_table_with_a_wrong_checksum_in_low_memory_is_shown(tmp_path: Path) -> None:
    put_memory(tmp_path, BROKEN, PLACE)
    (table,) = find.find_tables(tmp_path)
    assert [problem.code for problem in table.problems] == ["checksum"]


def test_a_page_that_cannot_be_read_hides_no_table_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_memory(tmp_path, GOOD, PLACE)
    read = os.pread

    def refuse(fd: int, size: int, offset: int) -> bytes:
        if offset == 0x90000:
            raise PermissionError(1, "Operation not permitted")
        return read(fd, size, offset)

    monkeypatch.setattr(os, "pread", refuse)
    assert [table.raw for table in find.find_tables(tmp_path)] == [GOOD]


def test_a_table_cut_by_a_page_that_cannot_be_read_is_truncated() -> None:
    page = bytes(find.PAGE_BYTES - 64) + GOOD[:64]
    (raw,) = find.scan({0x90000: page, 0x92000: page[:64]})
    assert raw == GOOD[:64]


def test_one_table_in_two_places_is_one(tmp_path: Path) -> None:
    put_acpi(tmp_path, "iBFT", GOOD)
    put_memory(tmp_path, GOOD, PLACE)
    assert [table.source for table in find.find_tables(tmp_path)] == ["acpi"]


def test_different_tables_come_in_the_order_of_their_places(tmp_path: Path) -> None:
    put_memory(tmp_path, GOOD, PLACE)
    put_acpi(tmp_path, "iBFT", OTHER)
    assert [table.source for table in find.find_tables(tmp_path)] == ["acpi", "memory"]


def test_an_empty_machine_has_no_table(tmp_path: Path) -> None:
    assert find.find_tables(tmp_path) == []
    with pytest.raises(FirmwareError) as caught:
        find.choose([])
    assert caught.value.exit_status == ExitStatus.NOTHING_THERE
    assert "there is none" in caught.value.message


def test_places_that_may_not_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_acpi(tmp_path, "iBFT", GOOD)
    opened = Path.open

    def refuse(self: Path, *args: object, **kwargs: object) -> object:
        if self.name == "iBFT":
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FirmwareError) as caught:
        find.find_tables(tmp_path)
    assert caught.value.exit_status == ExitStatus.NOT_PERMITTED
    assert "/sys/firmware/acpi/tables/iBFT" in caught.value.message


def refuse_memory(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    opened = os.open

    def refuse(path: object, *args: object, **kwargs: object) -> int:
        if str(path).endswith("/dev/mem"):
            raise OSError(number, os.strerror(number))
        return opened(path, *args, **kwargs)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.parametrize(("number", "uid", "way"), [
    (errno.EPERM, 0, "modprobe iscsi_ibft"), (errno.EACCES, 1000, "run it as root"),
])  # fmt: skip
def test_memory_that_may_not_be_read_is_named_with_a_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, uid: int, way: str
) -> None:
    refuse_memory(monkeypatch, number)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(FirmwareError, match="reading /dev/mem is not permitted") as caught:
        find.find_tables(tmp_path)
    assert caught.value.exit_status == ExitStatus.NOT_PERMITTED
    assert way in caught.value.hint
    # where netroot= says what to boot from, nobody misses a table
    assert find.find_tables(tmp_path, has_other_source=True) == []
    netroot = cmdline.parse("netroot=iscsi:192.0.2.9::::iqn.2001-04.com.example:disk")
    assert boot.find_table(netroot, tmp_path) == []
    with pytest.raises(FirmwareError):
        boot.find_table(cmdline.parse("rd.isboot=1"), tmp_path)


def test_memory_whose_every_page_is_refused_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_memory(tmp_path, GOOD, PLACE)

    def refuse(fd: int, size: int, offset: int) -> bytes:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "pread", refuse)
    with pytest.raises(FirmwareError, match="reading /dev/mem is not permitted"):
        find.find_tables(tmp_path)


def test_memory_that_may_not_be_read_hides_no_table_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_acpi(tmp_path, "iBFT", GOOD)
    refuse_memory(monkeypatch, errno.EPERM)
    assert [table.source for table in find.find_tables(tmp_path)] == ["acpi"]


def test_memory_full_of_tables_gives_some_of_them() -> None:
    one = (b"iBFT" + (64).to_bytes(4, "little")).ljust(48, b"\0") + b"\1" + bytes(15)
    assert len(find.scan({0xC0000: one * 60})) == find.MAXIMUM_FOUND


def test_a_broken_table_hides_no_good_one(tmp_path: Path) -> None:
    put_acpi(tmp_path, "iBFT1", BROKEN)
    put_acpi(tmp_path, "iBFT2", OTHER)
    tables = find.find_tables(tmp_path)
    assert find.choose(tables).raw == OTHER
    assert find.choose(tables, 1).raw == OTHER


def test_a_broken_table_that_was_asked_for_is_refused_with_its_error(tmp_path: Path) -> None:
    put_acpi(tmp_path, "iBFT1", BROKEN)
    put_acpi(tmp_path, "iBFT2", OTHER)
    tables = find.find_tables(tmp_path)
    with pytest.raises(FirmwareError, match="checksum_ok: the bytes sum up") as caught:
        find.choose(tables, 0)
    assert caught.value.exit_status == ExitStatus.MALFORMED
    assert find.pick(tables, 0).raw == BROKEN


def test_an_index_beyond_the_tables_is_nothing_there(tmp_path: Path) -> None:
    put_acpi(tmp_path, "iBFT", GOOD)
    for index in (1, -1):
        with pytest.raises(FirmwareError) as caught:
            find.choose(find.find_tables(tmp_path), index)
        assert caught.value.exit_status == ExitStatus.NOTHING_THERE


def test_a_file_is_read_and_a_missing_one_named(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(GOOD)
    assert find.read_file(tmp_path / "table").is_bootable
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(FirmwareError) as caught:
            find.read_file(path)
        assert caught.value.exit_status == ExitStatus.NOTHING_THERE
        assert str(path) in caught.value.message


def test_an_endless_file_is_read_only_as_far_as_a_table_can_reach() -> None:
    assert not find.read_file(Path("/dev/zero")).is_bootable
