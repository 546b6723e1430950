"""
Machines whose firmware leaves no table, or one that is not to be read.  With --all the longer stories, too:
rd.isboot=0 in spite of a table, and a root found by DHCP's root-path.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.vm import disk
from tests.vm import guest as guests
from tests.vm.disk import COMMAND_LINE
from tests.vm.kernel import kernel
from tests.vm.qemu import Drive, Machine
from tests.vm.rig import Rig
from tests.vm.target import Lun
from tests.vm.test_boot import BOOT_S, WAIT_FOR_HOST, power_off

pytestmark = pytest.mark.guest

TABLE = Path("tests/data/ibft/ipxe-uefi.bin").resolve()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "story" in metafunc.fixturenames:
        is_all = metafunc.config.getoption("--all")
        names = list(STORIES) if is_all else ["no-table"]
        metafunc.parametrize("story", [STORIES[name] for name in names], ids=names)


def is_left_alone(
    rig: Rig, command_line: str = "", *, has_table: bool = False, initramfs: str = "dracut"
) -> None:
    """A machine with a disk of its own boots from it, and Python is never started."""
    root = disk.copy(kernel("6.12"), rig.directory / "root.img", initramfs)
    if command_line:
        root.set_command_line(f"{COMMAND_LINE} {command_line}")
    extra = []
    if has_table:
        extra = ["-acpitable", f"file={TABLE}"]
    machine = Machine(firmware="bios", drives=[Drive(root.file)], network=None, extra=extra)
    rig._lock()
    with guests.running(machine, rig.directory) as guest:
        guest.wait_agent(BOOT_S)
        run = guest.channel.run
        assert re.match(r"/dev/[sv]da3$", run("findmnt -no SOURCE /").output.strip())
        if initramfs == "dracut":
            journal = run("journalctl -b -o short-monotonic --no-pager", 60).output
            assert re.search(r"isboot.service.*(skipped|condition)", journal), journal[-4000:]
        assert run("ls -d /run/isboot /run/initramfs/shutdown", is_checked=False).status == 2
        assert "isboot: " not in guest.qemu.text()
        assert run("pgrep -f '^@isboot'", is_checked=False).status == 1
        if has_table:
            assert run("ls /sys/firmware/acpi/tables").output.count("iBFT") == 1
            assert run("lsmod | grep iscsi_ibft", is_checked=False).status == 1
        guest.power_off(120)


def finds_its_root_by_dhcp(rig: Rig) -> None:
    """netroot=dhcp: address and root-path by DHCP, the lease renewed while the root lives."""
    root = rig.disk_copy("6.12")
    target = rig.target(Lun(root.file))
    guest = rig.boot(
        "bios", "6.12", root=root, target=target, is_described=False,
        command_line="netroot=dhcp rd.isboot.verbose=1 rd.isboot.debug=1 quiet",
    )  # fmt: skip
    guest.wait_agent(BOOT_S)
    run = guest.channel.run
    run(WAIT_FOR_HOST, BOOT_S)
    for words in ("lease: 10.99.0.", "target +.* <- root-path of DHCP", "login: ", "device: /dev/ublkb0"):
        assert re.search(f"isboot: {words}", guest.qemu.text()), words
    assert run("findmnt -no SOURCE /").output.strip() == "/dev/ublkb0p3"
    assert not re.search("found", run("isboot ibft --list", is_checked=False).output)
    row = json.loads(run("isboot status --json").output)["devices"][0]
    assert (row["boot"], row["state"], row["target"]) == (True, "live", target.name)
    (address,) = re.findall(r"inet (\S+) .*\n +valid_lft (\S+)", run("ip address show dev eth0").output)
    assert address[1] == "forever"
    keeper = run("pgrep -f '^@/busybox udhcpc'").output.split()
    assert len(keeper) == 1
    run(f"kill -USR1 {keeper[0]}; sleep 3; kill -0 {keeper[0]}")
    run("dmesg -n 7")  # the last words of a shutdown are the kernel's to show
    power_off(guest, target, root.file)


STORIES: Mapping[str, Callable[[Rig], None]] = {
    "no-table": is_left_alone,
    "switched-off": lambda rig: is_left_alone(rig, "rd.isboot=0", has_table=True),
    "root-path": finds_its_root_by_dhcp,
}


def test_a_machine_without_a_table_to_read_does_as_it_is_told(rig: Rig, story: Callable[[Rig], None]) -> None:
    story(rig)
