"""The story of a boot, from consoles that stopped at each place; no guest runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from isboot.firmware import find
from tests.vm import ipxe
from tests.vm.demo import damage, target_side
from tests.vm.diskless import BOOT, BootError, Reached, follow

#: a console as it is: escape sequences before a stamp, lines of systemd without one, an unfinished end
CONSOLE = (
    "\x1b[2J\x1b[01;01HBooting from SAN device 0x80\n"
    "[    0.000000] Linux version 6.12.107+deb13-amd64 (debian) #1 SMP\n"
    "\x1b[!p\x1b]104\x07\x1b[?7h[    4.528687] systemd[1]: systemd 257.13 running in system mode (+PAM)\n"
    "[\x1b[0;32m  OK  \x1b[0m] Reached target initrd-usr-fs.target\n"
    "[   17.424170] isboot: table: iBFT found (memory), FENSYS iPXE\n"
    "[   20.293606] isboot: NIC: eth0 (e1000) 52:54:00:99:00:00 has 10.99.0.2/24\n"
    "[   21.309021] isboot: login: iqn.2001-04.com.example:rig at 10.99.0.1:3260\n"
    "[   21.900000] isboot: device: /dev/ublkb0, 4.1 GiB, 512-byte blocks, IET VIRTUAL-DISK\n"
    "[   24.100000] EXT4-fs (ublkb0p3): mounted filesystem 0c37 r/w with ordered data mode.\n"
    "[   25.200000] systemd[1]: systemd 257.13 running in system mode (+PAM)\n"
    "[   25.3"
)


def machine(console: str, *, is_alive: bool = False) -> Any:
    """Give what `follow` needs of a machine: its console, and whether it runs."""
    return SimpleNamespace(text=lambda: console, service=SimpleNamespace(is_alive=is_alive))


def console_before(stage: str) -> str:
    """Give the console up to where that landmark would come."""
    lines = CONSOLE.splitlines(keepends=True)
    first = {"kernel": 1, "table": 4, "nic": 5, "target": 6, "lun": 7, "root": 8, "switch_root": 9}
    return "".join(lines[: first[stage]])


def test_every_landmark_comes_in_order_with_the_guests_time() -> None:
    reached = list(follow(machine(CONSOLE)))
    assert [one.landmark for one in reached] == list(BOOT)
    assert [one.seconds for one in reached] == [0.0, 17.42417, 20.293606, 21.309021, 21.9, 24.1, 25.2]
    assert reached[5].words == "ublkb0p3"


@pytest.mark.parametrize("stage", [landmark.stage for landmark in BOOT])
def test_boot_that_stops_is_named_by_the_landmark_that_did_not_come(stage: str) -> None:
    reached: list[Reached] = []
    with pytest.raises(BootError) as caught:
        reached.extend(follow(machine(console_before(stage))))
    assert caught.value.stage == stage


@pytest.mark.parametrize(
    ("before", "own_stage", "stage"),
    [
        ("nic", "config", "table"),
        ("table", "firmware", "table"),
        ("nic", "network", "nic"),
        ("target", "session", "target"),
        ("lun", "session", "lun"),
        ("lun", "daemon", "lun"),
        ("target", "daemon", "target"),
    ],
)
def test_boot_given_up_is_named_by_what_isboot_says(before: str, own_stage: str, stage: str) -> None:
    said = "[   30.000000] isboot: something on the way\n"
    end = f"[   31.000000] isboot: boot failed at {own_stage}: it did not work\n"
    with pytest.raises(BootError) as caught:
        list(follow(machine(console_before(before) + said + end, is_alive=True)))
    assert (caught.value.stage, caught.value.message) == (stage, "it did not work")
    assert caught.value.said[-1] == "isboot: something on the way"


def test_damaged_table_of_the_demo_has_no_target_left(tmp_path: Path) -> None:
    network: Any = SimpleNamespace(
        guest_address=lambda: "10.99.0.2", address=lambda: "10.99.0.1", mac=lambda: "52:54:00:99:00:00"
    )
    target: Any = SimpleNamespace(
        name="iqn.2001-04.com.example:rig", port=3260, luns=[SimpleNamespace(number=1)]
    )
    file = tmp_path / "broken.ibft"
    assert damage.broken_table(network, target, file) == ["-acpitable", f"file={file}"]
    table = find.read_file(file)
    assert not table.is_bootable
    assert [problem.where for problem in table.problems if problem.severity == "error"] == ["target0"]
    assert table.nics[0].mac == "52:54:00:99:00:00"


def test_firmware_keeps_its_own_table_back_when_told_to() -> None:
    path = "iscsi:10.99.0.1::3260:1:iqn.2001-04.com.example:rig"
    assert f"sanboot {path}" in ipxe.script([path])
    assert f"sanboot --no-describe {path}" in ipxe.script([path], is_described=False)


def test_every_damage_is_of_a_stage_of_the_boot() -> None:
    stages = {landmark.stage for landmark in BOOT}
    assert {row.stage for row in damage.DAMAGES} <= stages
    assert [row.stage for row in damage.DAMAGES if row.inflict is None] == ["table"]


@pytest.mark.parametrize("opcode", [b"6", b"46"])
def test_logout_in_the_targets_log_is_told_from_other_requests(opcode: bytes) -> None:
    log = b"tgtd: iscsi_task_queue(1595) 5dc2 5dc2 %s\n"
    assert target_side.LOGOUT.search(log % opcode)
    assert not target_side.LOGOUT.search(log % b"1")
    assert not target_side.LOGOUT.search(log % b"66")
