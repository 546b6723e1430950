"""A LUN that grows under a running machine, and one that shrinks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.vm.guest import Guest
from tests.vm.rig import Rig
from tests.vm.target import Lun, Target

pytestmark = pytest.mark.guest

MIB = 1 << 20
#: named by somebody: a default serial would not tell a grown disk from another one
NAMED = {"scsi_sn": "GROWS-1"}


def size_mib(guest: Guest) -> int:
    return int(guest.channel.run("blockdev --getsize64 /dev/ublkb0").output) // MIB


def set_size(target: Target, disk: Path, mib: int) -> None:
    """Make the target come back with another size."""
    target.kill()
    os.truncate(disk, mib * MIB)
    target.start()


def read_all(guest: Guest) -> None:
    guest.channel.run("dd if=/dev/ublkb0 of=/dev/null bs=1M count=8 iflag=direct 2>&1", 60)


def test_a_lun_that_grows_is_passed_on_where_the_kernel_can_hear_it(rig: Rig, kernel_label: str) -> None:
    disk = rig.empty_disk(64)
    target = rig.target(Lun(disk, parameters=NAMED))
    guest = rig.quick(kernel_label)
    run = guest.channel.run
    run(
        f"modprobe ublk_drv; python3 -m isboot attach --initiator iqn.2026-11.org.example:g {target.url()}",
        60,
    )
    run("mkfs.ext4 -q /dev/ublkb0 && mount /dev/ublkb0 /mnt && echo before > /mnt/file && sync", 60)
    set_size(target, disk, 96)
    guest.qemu.wait_for(r"isboot: ublkb0: the LUN has grown to 196608 blocks", 30)
    if kernel_label == "6.12":
        guest.qemu.wait_for(r"after the next boot", 5)
        assert size_mib(guest) == 64
    else:
        run("until test $(blockdev --getsize64 /dev/ublkb0) = 100663296; do sleep 0.1; done", 20)
        run("resize2fs /dev/ublkb0 && dd if=/dev/urandom of=/mnt/big bs=1M count=70 conv=fsync 2>&1", 90)
        # a standby made before must not bring the old size back
        run("until python3 -m isboot status --json | grep -q 'standby_pid\": [1-9]'; do sleep 0.1; done", 20)
        worker = json.loads(run("python3 -m isboot status --json").output)["devices"][0]["worker_pid"]
        guest.channel.kill(worker)
        read_all(guest)
        assert size_mib(guest) == 96
        set_size(target, disk, 64)
        guest.qemu.wait_for(r"another disk: capacity was 196608 blocks, is 131072", 30)
        set_size(target, disk, 96)
    read_all(guest)
    run("grep before /mnt/file && umount /mnt", 60)
    status = json.loads(run("python3 -m isboot status --json").output)["devices"][0]
    assert status["size_bytes"] == (64 if kernel_label == "6.12" else 96) * MIB
    run("python3 -m isboot detach ublkb0", 60)
