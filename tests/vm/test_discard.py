"""Blocks nobody needs go back to the target; zeroes are written by the target. On tgt, and on LIO."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.guest import Guest
from tests.vm.rig import Rig
from tests.vm.target import Lun

pytestmark = pytest.mark.guest

MIB = 1 << 20
THIN = {"thin_provisioning": "1"}


def allocated_mib(file: Path) -> float:
    return file.stat().st_blocks * 512 / MIB


def attach(guest: Guest, url: str, name: str) -> str:
    initiator = f"iqn.2026-11.org.example:{name}"
    attach = f"modprobe ublk_drv; python3 -m isboot attach --initiator {initiator} {url}"
    return guest.channel.run(attach, 60).output.strip()


def limit(guest: Guest, device: str, name: str) -> int:
    return int(guest.channel.run(f"cat /sys/block/{device.removeprefix('/dev/')}/queue/{name}").output)


def fill(guest: Guest, device: str) -> None:
    guest.channel.run(f"dd if=/dev/urandom of={device} bs=1M count=32 oflag=direct conv=fsync 2>&1", 60)


def check_zeroes(guest: Guest, device: str, start_mib: int, count_mib: int) -> None:
    read = f"dd if={device} bs=1M skip={start_mib} count={count_mib} iflag=direct 2>/dev/null"
    guest.channel.run(f"{read} | cmp -n {count_mib * MIB} - /dev/zero", 60)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One kernel, or with --all each of them."""
    if "label" in metafunc.fixturenames:
        metafunc.parametrize("label", ["6.12", "7.2"] if metafunc.config.getoption("--all") else ["7.2"])


def test_blocks_nobody_needs_are_given_back(rig: Rig, label: str) -> None:
    disk = rig.empty_disk(64)
    guest = rig.quick(label)
    run = guest.channel.run

    device = attach(guest, rig.target(Lun(disk, parameters=THIN)).url(), "tgt")
    fill(guest, device)
    assert allocated_mib(disk) >= 32
    run(f"blkdiscard -o 0 -l {16 * MIB} {device}", 60)
    assert allocated_mib(disk) < 17
    run(f"blkdiscard -z -o {16 * MIB} -l {8 * MIB} {device}", 60)
    check_zeroes(guest, device, 16, 8)
    run(
        f"mkfs.ext4 -q {device} && mount {device} /mnt && dd if=/dev/urandom of=/mnt/f bs=1M count=24 2>&1",
        60,
    )
    run("sync")
    before = allocated_mib(disk)
    trimmed = run("rm /mnt/f && sync && fstrim -v /mnt && umount /mnt", 60).output
    assert "trimmed" in trimmed
    assert allocated_mib(disk) < before - 20
    run(f"e2fsck -fn {device}", 60)

    lio = rig.lio(Lun(parameters=THIN), guest=guest, name="iqn.2001-04.com.example:lio")
    device = attach(guest, lio.url(), "lio")
    assert limit(guest, device, "discard_max_bytes") > 0
    assert limit(guest, device, "write_zeroes_max_bytes") > 0
    fill(guest, device)
    held = "du -sk /dev/shm/lio | cut -f1"
    assert int(run(held).output) >= 32 << 10
    run(f"blkdiscard -o 0 -l {16 * MIB} {device}", 60)
    assert int(run(held).output) < 17 << 10
    run(f"blkdiscard -z -o {16 * MIB} -l {8 * MIB} {device}", 60)
    check_zeroes(guest, device, 16, 8)

    device = attach(guest, rig.target(name="iqn.2001-04.com.example:thick", port=3261).url(), "thick")
    assert limit(guest, device, "discard_max_bytes") == 0
    refused = run(f"blkdiscard {device}", is_checked=False)
    assert (refused.status != 0, "not supported" in refused.output) == (True, True)
    run("for name in ublkb0 ublkb1 ublkb2; do python3 -m isboot detach $name || exit; done", 60)
