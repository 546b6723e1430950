"""The names a disk gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from isboot.block import udev
from isboot.values import PathConfig, Portal
from tests.block.test_parameters import LUN

PATH = PathConfig(
    0, None, Portal("192.0.2.9"), "iqn.2001-04.com.example:disk0", bytes([0, 1, 0, 0, 0, 0, 0, 0]), None
)


def test_the_path_is_named_as_the_kernels_initiator_names_it() -> None:
    words = udev.properties(LUN, PATH, 128)
    assert words["ID_PATH"] == "ip-192.0.2.9:3260-iscsi-iqn.2001-04.com.example:disk0-lun-1"


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("00ff000000000000", "255"),
        ("412c000000000000", "0x412c000000000000"),  # path_id of systemd: only method 0, bus 0 is a number
        ("0001000200000000", "0x0001000200000000"),
        ("d200400000000000", "0xd200400000000000"),
    ],
)
def test_a_lun_is_named_as_path_id_names_it(raw: str, name: str) -> None:
    path = replace(PATH, lun=bytes.fromhex(raw))
    assert udev.properties(LUN, path, 128)["ID_PATH"].endswith(f"-lun-{name}")


def test_only_the_boot_lun_is_marked() -> None:
    assert "ISBOOT_BOOT" not in udev.properties(LUN, PATH, 128)
    assert udev.properties(LUN, PATH, 128, is_boot_lun=True)["ISBOOT_BOOT"] == "1"


def test_the_serial_is_what_scsi_id_would_say() -> None:
    words = udev.properties(LUN, PATH, 128)
    assert words["ID_SERIAL"] == "360000000000000000e00000000010001"
    assert words["ID_WWN_WITH_EXTENSION"] == "0x60000000000000000e00000000010001"


def test_without_designators_the_serial_number_serves() -> None:
    words = udev.properties(replace(LUN, designators=()), PATH, 128)
    assert words["ID_SERIAL"] == "SIET_VIRTUAL-DISK_beaf11"


def test_one_tag_is_kept_from_the_block_layer() -> None:
    assert udev.properties(LUN, PATH, 128)["ISBOOT_NR_REQUESTS"] == "127"


def test_words_of_a_target_cannot_leave_the_link_directory(tmp_path: Path) -> None:
    facts = replace(LUN, serial='../../x"\n', vendor="a/b", designators=("t10.a b/../c",))
    udev.write("ublkb0", udev.properties(facts, PATH, 128), tmp_path)
    text = (tmp_path / "ublkb0").read_text()
    assert "/" not in text
    assert '"' not in text
    assert all(line.count("=") >= 1 for line in text.splitlines())


def test_writing_leaves_no_partial_file(tmp_path: Path) -> None:
    udev.write("ublkb0", {"A": "1"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ublkb0"]
