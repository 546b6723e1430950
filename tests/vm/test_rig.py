"""The rig itself: does it boot, run, notice."""

from __future__ import annotations

import re

import pytest

from tests.vm import ibft, qemu
from tests.vm.guest import Guest
from tests.vm.progress import RigError
from tests.vm.rig import Rig
from tests.vm.target import TARGET_NAME

pytestmark = pytest.mark.guest


def test_quick_guest_runs_the_working_tree_beside_ublk(rig: Rig, kernel_label: str) -> None:
    target = rig.target()
    guest = rig.quick(kernel_label)
    run = guest.channel.run
    assert run("uname -r").output.startswith(f"{kernel_label}.")
    run("modprobe ublk_drv && test -c /dev/ublk-control")
    assert run(["python3", "-c", "import isboot; print(isboot.__file__)"]).output.startswith("/run/rig/tree/")
    connect = f"import socket; socket.create_connection(('10.99.0.1', {target.port}), 5)"
    run(["python3", "-c", connect])
    guest.power_off(20)


def test_firmware_reaches_the_initramfs_of_the_lun(rig: Rig, boot_case: tuple[str, str]) -> None:
    firmware, label = boot_case
    guest = rig.boot(firmware, label, command_line="rig.seen=1")
    found = guest.qemu.wait_for(r"Linux version (\S+)", 90)
    assert found[1].startswith(f"{label}.")
    guest.qemu.wait_for(r"Command line: .*root=LABEL=root .*rig\.seen=1", 10)
    guest.qemu.wait_for(r"systemd\[1\]: Running in initrd", 60)


@pytest.mark.parametrize(
    ("firmware", "place"),
    [("bios", "/sys/firmware/ibft/target0"), ("uefi", "/sys/firmware/acpi/tables/iBFT")],
)
def test_firmware_leaves_an_ibft_for_the_quick_guest(rig: Rig, firmware: str, place: str) -> None:
    rig.target(accounts=ibft.MUTUAL)
    run = rig.quick("6.12", firmware=firmware).channel.run
    run("modprobe iscsi_ibft")
    run(f"test -e {place}")
    assert run("cat /sys/firmware/ibft/target0/target-name").output == f"{TARGET_NAME}\n"
    assert run("cat /sys/firmware/ibft/target0/chap-type").output == "2\n"


def test_a_fault_of_the_emulator_is_powered_on_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_agent = Guest.wait_agent

    def end_first(guest: Guest, timeout_s: float) -> str:
        guest.qemu.wait_for("Linux version", 30)
        guest.qemu.service.stop()
        return wait_agent(guest, timeout_s)

    monkeypatch.setattr(Guest, "wait_agent", end_first)
    monkeypatch.setattr(qemu, "EMULATOR_FAULT", re.compile("Linux version"))
    guest = rig.quick("6.12")
    assert guest.channel.run("echo up").output == "up\n"
    assert (rig.directory / "console-emulator-fault.log").exists()


def test_agent_reports_status_output_and_time_out(rig: Rig) -> None:
    channel = rig.quick("6.12").channel
    ended = channel.run("echo out; echo err >&2; exit 3", is_checked=False)
    assert (ended.status, sorted(ended.output.split())) == (3, ["err", "out"])
    with pytest.raises(RigError, match="exit 4"):
        channel.run("exit 4")
    with pytest.raises(RigError, match="time was up"):
        channel.run("echo before; sleep 100", 1)
    # a daemon that keeps the pipe does not keep the command
    channel.run("sleep 100 & echo started", 5)
    slow = channel.start("sleep 0.5; echo slow")
    assert channel.run("echo fast").output == "fast\n"
    assert slow.wait() == (0, b"slow\n")
    data = bytes(range(256)) * 1000
    channel.write("/tmp/data", data)
    assert channel.read("/tmp/data") == data


def test_complaint_of_the_kernel_is_noticed(rig: Rig) -> None:
    guest = rig.quick("6.12")
    guest.channel.run("echo 'rig: BUG: unable to handle nothing at all' > /dev/kmsg")
    guest.qemu.wait_for("unable to handle nothing", 5)
    with pytest.raises(RigError, match="unable to handle nothing"):
        rig.check_kernels()
    rig.guests.clear()


def test_console_wait_is_bounded_and_shows_the_console(rig: Rig) -> None:
    guest = rig.quick("6.12")
    with pytest.raises(RigError, match=r"(?s)did not appear within 0\.2 s.*Run /init"):
        guest.qemu.wait_for("never to be seen", 0.2)
