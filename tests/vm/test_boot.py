"""
Diskless boots, power-on to power-off: iPXE, the table, isboot in the initramfs, Debian on ublkb0.

A boot costs half a minute and more, so each one shows many things, in the order a machine meets them.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isboot.daemon.timeline import NAMES
from tests.vm import disk
from tests.vm.disk import ROOT_MIB
from tests.vm.guest import Guest
from tests.vm.kernel import kernel
from tests.vm.kills import kill_all_over, kill_when_full
from tests.vm.progress import say
from tests.vm.rig import Rig
from tests.vm.target import Account, Lun, Target

pytestmark = pytest.mark.guest

BOOT_S = 300
#: secrets of 96 bits and more, different ones (RFC 7143 §9.2.1); for tests only
ACCOUNTS = (Account("boot", "secret-of-the-boot"), Account("disk", "secret-of-the-disk", is_outgoing=True))
SOURCES = {"bios": "memory", "uefi": "acpi"}
FIO = (
    "fio --name=v --filename=/var/tmp/fio.data --direct=1 --ioengine=libaio --rw=randrw --bs=4k "
    "--size=64m --iodepth=32 --verify=crc32c --verify_backlog=512 --verify_fatal=1 --time_based "
    "--runtime={runtime} --output-format=json"
)
WAIT_FOR_HOST = "until systemctl is-active -q multi-user.target; do sleep 1; done"
#: every file that a process of isboot has mapped from, or stands on, the root file system
ON_ROOT = """
import os, pathlib
root = os.stat("/").st_dev
major_minor = f"{os.major(root):02x}:{os.minor(root):02x}"
seen = 0
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        line = (entry / "cmdline").read_bytes()
        maps = (entry / "maps").read_text()
    except OSError:
        continue
    if not line.startswith(b"@isboot"):
        continue
    seen += 1
    for row in maps.splitlines():
        if row.split()[3] == major_minor:
            print(entry.name, row)
    for link in ("root", "cwd", "exe"):
        if os.stat(entry / link).st_dev == root:
            print(entry.name, link)
print("processes", seen)
"""


def boot(rig: Rig, firmware: str, label: str, **options: object) -> tuple[Guest, Target, Path]:
    root = disk.copy(kernel(label), rig.directory / "root.img", str(options.pop("initramfs", "dracut")))
    command_line = options.pop("command_line", "")
    if command_line:
        root.set_command_line(f"{disk.COMMAND_LINE} {command_line}")
    edit = options.pop("edit", "")
    if edit:
        root.edit(str(edit))
    accounts = ACCOUNTS if options.pop("has_chap", False) else ()
    target = rig.target(Lun(root.file), accounts=accounts)
    guest = rig.boot(
        firmware,
        label,
        root=root,
        target=target,
        accounts=accounts,
        **options,  # type: ignore[arg-type]
    )
    guest.wait_agent(BOOT_S)
    # the agent is there long before the rest of the system
    guest.channel.run(WAIT_FOR_HOST, BOOT_S)
    return guest, target, root.file


def check_file_system(image: Path) -> None:
    """The root partition as the target has it, after the machine is off."""
    offset = ROOT_MIB << 20
    done = subprocess.run(
        ["e2fsck", "-fn", f"{image}?offset={offset}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recovering journal" not in done.stdout


def power_off(guest: Guest, target: Target, image: Path) -> None:
    guest.power_off(120)
    text = guest.qemu.text()
    order = ["shutdown: root unmounted", "flushed: SYNCHRONIZE CACHE", "logged out of"]
    places = [text.find(line) for line in order]
    assert -1 not in places, f"{dict(zip(order, places, strict=True))}\n{guest.qemu.tail()}"
    assert places == sorted(places)
    assert not re.search(r"I_T nexus: \d", target.sessions()), target.sessions()
    check_file_system(image)


def check_report(report: dict[str, Any], console: str, *, has_systemd: bool = True) -> None:
    """Every step once and in order, sums that are right, and the same times as kernel and systemd have."""
    at = {row["step"]: row["at_s"] for row in report["steps"]}
    assert tuple(at) == NAMES, report
    assert (report["unreached"], report["failures"]) == ([], [])
    assert list(at.values()) == sorted(at.values())
    assert sum(row["took_s"] for row in report["steps"]) == pytest.approx(at["root"], abs=1e-3)
    assert report["isboot_s"] == pytest.approx(at["device"] - at["start"], abs=1e-3)
    assert report["root_s"] == at["root"]
    words = {row["step"]: row["words"] for row in report["steps"]}
    assert "/dev/ublkb0p3 on /" in words["root"]
    # the initramfs' systemd starts isboot, and the root's own begins once it is mounted
    assert at["root"] < report["systemd"]["userspace_s"]
    assert (report["systemd"]["initrd_s"] or 0.0) < at["start"]
    assert (report["systemd"]["initrd_s"] is not None) == has_systemd
    mounted = re.search(r"\[ *([\d.]+)\] EXT4-fs \(ublkb0p3\): mounted", console)
    assert mounted
    assert at["root"] == pytest.approx(float(mounted[1]), abs=2.0)
    size = report["initramfs"]
    assert 5 << 20 < size["packed_bytes"] < size["bytes"] < 64 << 20, size
    assert size["files"] > 100


def test_a_diskless_machine_lives_on_its_lun(
    rig: Rig, boot_case: tuple[str, str], request: pytest.FixtureRequest
) -> None:
    # idle and half full queues take a minute more; attached, test_daemon.py has them on each kernel
    live_on_its_lun(
        rig, *boot_case, harm=kill_all_over if request.config.getoption("--all") else kill_when_full
    )


def live_on_its_lun(
    rig: Rig,
    firmware: str,
    label: str,
    initramfs: str = "dracut",
    harm: Callable[[Guest, Target, str, str], int] = kill_all_over,
) -> None:
    """
    Boot, work, lose workers, target and launcher, power off.

    :param initramfs: what made it, as in `disk.image`
    :param harm: what it must live through, working on a file; gives how many workers were killed
    """
    # under UEFI iPXE runs a script with the secrets of mutual CHAP, under BIOS it follows DHCP's root-path
    has_chap = firmware == "uefi"
    guest, target, image = boot(rig, firmware, label, has_chap=has_chap, initramfs=initramfs)
    run = guest.channel.run
    for line in (
        "isboot: table: iBFT found",
        "isboot: NIC: ",
        "isboot: login: ",
        "isboot: device: /dev/ublkb0",
    ):
        assert line in guest.qemu.text()

    # where it stands
    assert run("findmnt -no SOURCE /").output.strip() == "/dev/ublkb0p3"
    assert run("lsblk -dno NAME").output.split() == ["ublkb0"]
    queue = run("cd /sys/block/ublkb0/queue; cat scheduler nr_requests io_timeout").output
    assert queue.splitlines()[1:] == ["127", "1000"]
    assert "[none]" in queue
    links = run("ls /dev/disk/by-id /dev/disk/by-path").output
    assert f"iscsi-{target.name}-lun-1-part3" in links
    assert "scsi-3" in links or "scsi-1" in links
    table = json.loads(run("isboot ibft --json").output)
    assert (table["source"], table["verdict"]) == (SOURCES[firmware], "accept")
    row = json.loads(run("isboot status --json").output)["devices"][0]
    assert (row["boot"], row["state"], row["target"]) == (True, "live", target.name)
    assert run("dpkg -V isboot").output == ""
    report = json.loads(run("isboot boot-report --json").output)
    check_report(report, guest.qemu.text(), has_systemd=initramfs == "dracut")
    say(run("isboot boot-report").output)
    assert table["targets"][0]["chap"] == ("mutual" if has_chap else "none")
    for account in ACCOUNTS:
        seen = run(
            f"grep -rlF {account.secret} /run /var/log /proc/[0-9]*/cmdline /proc/[0-9]*/environ",
            is_checked=False,
        )
        assert [
            line for line in seen.output.splitlines() if "grep" not in line and line.startswith("/run")
        ] == []
        assert account.secret not in guest.qemu.text()
    on_root = run(["python3", "-c", ON_ROOT]).output
    assert on_root == "processes 3\n", on_root
    assert run("systemctl is-system-running", is_checked=False).output.strip() in ("running", "degraded")
    assert run("systemctl is-active isboot.service isboot-guard.service").output.split() == [
        "active",
        "active",
    ]

    # all of it is the unit's
    groups = run("cat $(printf '/proc/%s/cgroup ' $(pgrep -f '^@isboot')) | sort -u").output
    assert groups == "0::/system.slice/isboot.service\n"

    # a session of work with faults in it
    kills = harm(guest, target, "/var/tmp/fio.data", f"{firmware} {label} after switch_root")
    load = guest.channel.start(FIO.format(runtime=10), 180)
    target.restart()
    run("sync; echo 3 > /proc/sys/vm/drop_caches; cat /usr/bin/* > /dev/null", 120)
    code, output = load.wait()
    assert code == 0, output.decode(errors="replace")[-3000:]
    row = json.loads(run("isboot status --json").output)["devices"][0]
    assert row["worker_replacements"] == kills
    assert row["lanes"][0]["reconnects"] >= 1

    # a launcher that dies is replaced by one that adopts
    before = run("systemctl show -P MainPID isboot.service").output.strip()
    run(f"kill -9 {before}")
    run("for i in $(seq 100); do isboot status --json | grep -q worker_pid && break; sleep 0.1; done")
    adopted = json.loads(run("isboot status --json").output)["devices"][0]
    assert adopted["worker_pid"] == row["worker_pid"]
    assert run("systemctl show -P MainPID isboot.service").output.strip() not in (before, "0")

    # power-off with a cold cache all the way
    guest.channel.start("while :; do echo 3 > /proc/sys/vm/drop_caches; sleep 0.02; done", 300)
    power_off(guest, target, image)


def test_a_root_without_isboot_lives_as_well(rig: Rig) -> None:
    remove = "rm -rf $ROOT/usr/lib/python3/dist-packages/isboot* $ROOT/usr/bin/isboot $ROOT/usr/lib/isboot "
    remove += "$ROOT/usr/lib/dracut $ROOT/usr/bin/dracut $ROOT/usr/lib/udev/rules.d/61-isboot.rules"
    guest, target, image = boot(rig, "bios", "6.12", edit=remove)
    run = guest.channel.run
    pids = run("pgrep -f '^@isboot'").output.split()
    assert len(pids) == 3
    assert "-part3" in run("ls /dev/disk/by-path").output
    for _ in range(2):
        worker = run("cat /run/isboot/worker").output.strip()
        run(f"kill -9 {worker}")
        run("echo 3 > /proc/sys/vm/drop_caches; cat /usr/bin/* > /dev/null; touch /root/alive; sync", 120)
        assert run("cat /run/isboot/worker").output.strip() != worker
    power_off(guest, target, image)
