"""Boots with an initramfs that initramfs-tools made: there is no systemd in it. The first story, or --all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial

import pytest

from tests.vm import disk, rootfs
from tests.vm.guest import Guest
from tests.vm.kernel import KERNELS, kernel
from tests.vm.kills import SCRIPT, check_load, fio
from tests.vm.package import package
from tests.vm.progress import say
from tests.vm.rig import Rig
from tests.vm.target import Target
from tests.vm.test_boot import BOOT_S, WAIT_FOR_HOST, boot, live_on_its_lun, power_off
from tests.vm.test_without_table import is_left_alone

pytestmark = pytest.mark.guest

TOOL = "initramfs-tools"
KILLS = 3


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "story" in metafunc.fixturenames:
        is_all = metafunc.config.getoption("--all")
        names = list(STORIES) if is_all else ["bios-6.12"]
        metafunc.parametrize("story", [STORIES[name] for name in names], ids=names)


def harm(guest: Guest, _target: Target, file: str, what: str) -> int:
    """
    Have systemd do what ends or moves others, for isboot was there before it; then kill workers under a load.

    Every state of the queue a worker may die in is the matter of the boot with dracut's initramfs.
    """
    pids = guest.channel.run("pgrep -f '^@isboot'").output
    guest.channel.run("systemctl daemon-reexec && systemctl isolate multi-user.target", 120)
    assert guest.channel.run("pgrep -f '^@isboot'").output == pids
    launcher = guest.channel.run("systemctl show -P MainPID isboot.service").output.strip()
    assert launcher in pids.split()
    # Python's own hashes are enough: OpenSSL's would be locked in memory
    assert "libcrypto" not in guest.channel.run(f"cat /proc/{launcher}/maps").output
    guest.channel.write("/run/kill_workers.py", SCRIPT.read_bytes())
    load = guest.channel.start(f"timeout --preserve-status -s INT 12 sh -c '{fio(file, 32)}'", 120)
    kills = json.loads(guest.channel.run(f"python3 /run/kill_workers.py {KILLS} 1", 120).output)
    say(f"{what}: workers replaced in {[round(row['ms']) for row in kills]} ms")
    check_load(*load.wait())
    return len(kills)


def lives_on_its_lun(rig: Rig, firmware: str, label: str) -> None:
    live_on_its_lun(rig, firmware, label, initramfs=TOOL, harm=harm)


def boots_from_its_own_initramfs(rig: Rig) -> None:
    """One that was made on the disk isboot serves, with the modules of this machine only, boots as well."""
    guest, target, image = boot(rig, "bios", "6.12", initramfs=TOOL, may_reboot=True)
    run = guest.channel.run
    size = "stat -c %s /boot/initrd.img-*"
    before = int(run(size).output)
    run("sed -i s/^MODULES=.*/MODULES=dep/ /etc/initramfs-tools/initramfs.conf; update-initramfs -u", 600)
    assert int(run(size).output) < before
    run("systemctl reboot")
    guest.wait_agent(BOOT_S)
    run(WAIT_FOR_HOST, BOOT_S)
    assert run("findmnt -no SOURCE /").output.strip() == "/dev/ublkb0p3"
    power_off(guest, target, image)
    for words in ("isboot: device: /dev/ublkb0", "shutdown: root unmounted", "logged out of"):
        assert guest.qemu.text().count(words) == 2, words


def comes_and_goes(rig: Rig) -> None:
    """In every initramfs the package comes and goes, it leaves nothing, and apt keeps initramfs-tools."""
    root = disk.copy(kernel("6.12"), rig.directory / "root.img", TOOL)
    script = f"""
    image=/boot/initrd.img-{root.release}
    lsinitramfs $image > /rig-with
    for part in world/usr/bin/python3 /ublk_drv.ko local-top/isboot isboot/run/initramfs/shutdown; do
        grep -q $part /rig-with
    done
    test -z "$(dpkg -V isboot)"
    dpkg --purge isboot
    lsinitramfs $image > /rig-without
    grep -q /ublk_drv.ko /rig-without
    test -z "$(grep isboot /rig-without)"
    test -z "$(find /usr /etc /var/lib -name '*isboot*' -not -name 'isboot-rig*')"
    apt-get install -s /rig-package/isboot_*.deb > /rig-plan
    grep -q '^Inst isboot' /rig-plan
    test -z "$(grep -E '^(Remv|Inst (dracut|initramfs))' /rig-plan)"
    """
    built = package()
    rootfs.run_inside_image(
        root.file, disk.ROOT_MIB * disk.MIB, script, binds=[(built.parent, "/rig-package")]
    )


STORIES: Mapping[str, Callable[[Rig], None]] = {
    **{
        f"{firmware}-{label}": partial(lives_on_its_lun, firmware=firmware, label=label)
        for firmware in ("bios", "uefi")
        for label in KERNELS
    },
    "no-table": partial(is_left_alone, initramfs=TOOL),
    "switched-off": partial(is_left_alone, command_line="rd.isboot=0", has_table=True, initramfs=TOOL),
    "own-initramfs": boots_from_its_own_initramfs,
    "comes-and-goes": comes_and_goes,
}


def test_initramfs_without_systemd_does_as_well(rig: Rig, story: Callable[[Rig], None]) -> None:
    story(rig)
