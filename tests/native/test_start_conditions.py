"""What starts isboot in an initramfs and what keeps it from even looking: systemd's units, a script."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

DRACUT = Path("tools/dracut/90isboot")
SCRIPT = Path("tools/initramfs-tools/scripts/local-top/isboot")
TABLE_PLACES = ("acpi/tables/iBFT*", "acpi/tables/IBFT*", "acpi/tables/BIFT*", "ibft")

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd: apt install systemd"),
]

#: command line, where a table is, is isboot started, is the kernel asked to look for a table
CASES = [
    ("quiet", "", False, True),
    ("quiet", "acpi/tables/iBFT", True, True),
    ("quiet", "acpi/tables/IBFT", True, True),
    ("quiet", "acpi/tables/BIFT", True, True),
    # Of several tables the kernel numbers all; where the first is broken its own iscsi_ibft shows none.
    ("quiet", "acpi/tables/iBFT2", True, True),
    ("quiet", "ibft", True, True),
    ("rd.isboot=1", "", True, True),
    ("rd.isboot", "", True, True),
    ("netroot=iscsi:192.0.2.9::::iqn.2009-06.dracut:target0", "", True, True),
    ("netroot=dhcp", "", True, True),
    ("root=dhcp", "", True, True),
    ("root=UUID=1 ip=dhcp", "", False, True),
    ("rd.iscsi.target.name=iqn.2009-06.dracut:target0", "", True, True),
    ("rd.isboot=0", "", False, False),
    ("rd.isboot=0", "acpi/tables/iBFT", False, False),
    ("rd.isboot=0", "ibft", False, False),
    ("rd.isboot=0 netroot=dhcp", "", False, False),
    ("rd.isboot=1 rd.isboot=0", "acpi/tables/iBFT", False, False),
    ("rd.isboot=0 rd.isboot=1", "acpi/tables/iBFT", False, False),
    ("xrd.isboot=0 rd.isboot=01", "ibft", True, True),
]


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    """A /sys/firmware of a test."""
    (tmp_path / "acpi/tables").mkdir(parents=True)
    return tmp_path


def is_started(unit: str, command_line: str, firmware: Path) -> bool:
    """Have systemd say whether a unit's conditions hold."""
    conditions = [
        line.replace("/sys/firmware/", f"{firmware}/")
        for line in (DRACUT / unit).read_text().splitlines()
        if line.startswith("Condition")
    ]
    assert conditions
    done = subprocess.run(
        ["systemd-analyze", "condition", *conditions],
        env=os.environ | {"SYSTEMD_PROC_CMDLINE": command_line},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Conditions " in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize(("command_line", "table", "starts", "looks"), CASES)
def test_systemd_starts_isboot_where_it_has_something_to_do(
    firmware: Path, command_line: str, table: str, starts: bool, looks: bool
) -> None:
    if table:
        (firmware / table).touch()
    assert is_started("isboot.service", command_line, firmware) == starts
    assert is_started("isboot-table.service", command_line, firmware) == looks


@pytest.mark.parametrize(("command_line", "table", "starts", "looks"), CASES)
def test_initramfs_tools_starts_it_in_the_same_cases(
    firmware: Path, command_line: str, table: str, starts: bool, looks: bool
) -> None:
    if table:
        (firmware / table).touch()
    (firmware / "cmdline").write_text(command_line + "\n")
    stub = firmware / "stub"
    stub.write_text('#!/bin/sh\necho "${0##*/}" "$@"\n')
    stub.chmod(0o755)
    for name in ("modprobe", "isboot-boot"):
        (firmware / name).symlink_to(stub)
    script = SCRIPT.read_text()
    for old, new in (
        ("/proc/cmdline", f"{firmware}/cmdline"),
        ("/sys/firmware/", f"{firmware}/"),
        ("/usr/lib/isboot/isboot-boot", f"{firmware}/isboot-boot"),
    ):
        assert old in script
        script = script.replace(old, new)
    done = subprocess.run(
        ["sh", "-c", script],
        env={"PATH": f"{firmware}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("isboot-boot start" in done.stdout) == starts
    assert ("modprobe -q iscsi_ibft" in done.stdout) == looks
    assert looks or done.stdout == ""


def test_every_place_of_a_table_is_a_condition() -> None:
    unit = (DRACUT / "isboot.service").read_text()
    for place in TABLE_PLACES:
        glob = "Glob" if "*" in place else ""
        assert f"ConditionPathExists{glob}=|/sys/firmware/{place}\n" in unit
