"""
What bad input gets, for real: what was being done, to what, what came back, what to do next, and a status.

Rows of damages, one quick guest for all of them; and diskless boots for what only a boot can show: that the
console tells the stage, and that what waiting can mend is tried again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from isboot.errors import ExitStatus
from isboot.firmware.spec import build
from tests.vm.demo.damage import broken_table
from tests.vm.guest import Guest
from tests.vm.progress import say
from tests.vm.rig import Rig
from tests.vm.target import Account, Lun, Target

pytestmark = pytest.mark.guest

ISBOOT = "python3 -m isboot"
ACPI = "/sys/firmware/acpi/tables"
OTHER_MAC = "52:54:00:99:00:77"
SHORT_WAIT = "rd.isboot.param=carrier_timeout_ms=2000"

TABLE = """
[initiator]
name = "iqn.2001-04.com.example:diskless"
[[nics]]
mac = "{mac}"
ip = "10.99.0.2"
prefix = 24
[[targets]]
name = "{name}"
ip = "{ip}"
port = {port}
lun = "{lun}"
nic = 0
{chap}
"""
GOOD = {
    "mac": "52:54:00:99:00:00",
    "name": "iqn.2001-04.com.example:rig",
    "ip": "10.99.0.1",
    "port": "3260",
    "lun": "0001000000000000",
    "chap": "",
}
WRONG_CHAP = 'chap = "chap"\nchap_name = "guest"\nchap_secret = "not-the-right-one"'
LOCKED = "iqn.2001-04.com.example:locked"
LOCKED_PORT = 3261


@dataclass
class Scene:
    """A quick guest with a table in its ACPI, a target, and one that demands CHAP."""

    guest: Guest
    target: Target
    locked: Target

    def run(self, script: str) -> None:
        self.guest.channel.run(script, 60)


def table(**changes: str) -> bytes:
    return build(TABLE.format(**{**GOOD, **changes}))


def put_table(raw: bytes, words: str = "") -> Callable[[Scene], None]:
    """Have a table in place of the good one, and words on the kernel command line."""

    def put(scene: Scene) -> None:
        say_to_kernel(words)(scene)
        scene.guest.channel.write("/run/table", raw)
        scene.run(f"mount --bind /run/table {ACPI}/iBFT")

    return put


def hide_tables(scene: Scene) -> None:
    scene.run(f"mkdir -p /run/empty; mount --bind /run/empty {ACPI}")


def say_to_kernel(words: str) -> Callable[[Scene], None]:
    def put(scene: Scene) -> None:
        scene.run(f"(cat /proc/cmdline | tr -d '\\n'; echo ' {words}') > /run/cmdline")
        scene.run("mount --bind /run/cmdline /proc/cmdline")

    return put


def hide_id(scene: Scene) -> None:
    scene.run("mv /etc/machine-id /etc/machine-id.away")


def show_id(scene: Scene) -> None:
    scene.run("mv /etc/machine-id.away /etc/machine-id")


def undo_mounts(scene: Scene) -> None:
    for path in (f"{ACPI}/iBFT", ACPI, "/proc/cmdline"):
        scene.guest.channel.run(f"umount {path}", is_checked=False)


@dataclass(frozen=True)
class Row:
    """
    :ivar command: after `isboot`, or a whole shell line where it holds {isboot}
    :ivar message: what the first line must match, after `isboot: `
    :ivar hint: what the hint must match; "" for none at all
    :ivar stage: which the console of a boot must name
    """

    what: str
    command: str
    status: ExitStatus
    message: str
    hint: str
    damage: Callable[[Scene], None] = lambda scene: None
    repair: Callable[[Scene], None] = undo_mounts
    stage: str = ""


def load_driver(scene: Scene) -> None:
    scene.run("modprobe ublk_drv")


def unload_driver(scene: Scene) -> None:
    scene.run("rmmod ublk_drv")


def stop_target(scene: Scene) -> None:
    scene.target.kill()


def start_target(scene: Scene) -> None:
    scene.target.start()


HERE = "10.99.0.1"
NAME = GOOD["name"]
OTHER = "iqn.2001-04.com.example:other"
URL = f"iscsi://{HERE}:3260/{NAME}"
LOCKED_URL = f"iscsi://{HERE}:{LOCKED_PORT}/{LOCKED}/1"
NOBODY = "setpriv --reuid 1000 --clear-groups --inh-caps=-all {isboot}"
#: the machine's id and the secrets are for tests only
PREPARE = """
modprobe ublk_drv
echo 6f1c7d0f5c8f4f7f9d5e2b1a0c3d4e5f > /etc/machine-id
printf 'name = "guest"\\nsecret = "the-right-secret"\\n' > /run/right
printf 'name = "guest"\\nsecret = "not-the-right-one"\\n' > /run/wrong
printf 'name = "guest"\\nsecret = "the-right-secret"\\n' > /run/open
chmod 600 /run/right /run/wrong; chmod 644 /run/open
"""
NO_DRIVER = "opening /dev/ublk-control: No such file or directory"
REFUSED_SECRET = rf"login to {LOCKED} at {HERE}:{LOCKED_PORT} refused: authentication failure"

# fmt: off
ATTACH = (
    Row("no ublk driver", f"attach {URL}/1", ExitStatus.UNAVAILABLE, NO_DRIVER, "modprobe ublk_drv",
        damage=unload_driver, repair=load_driver),
    Row("not root", f"{NOBODY} attach {URL}/1", ExitStatus.NOT_PERMITTED, "attaching: not permitted",
        "run it as root"),
    Row("no initiator name", f"attach {URL}/1", ExitStatus.NOTHING_THERE, "making an initiator name: .+",
        "write InitiatorName=", damage=hide_id, repair=show_id),
    Row("target stopped", f"attach {URL}/1", ExitStatus.TRY_AGAIN,
        f"connecting to {HERE}:3260: connection refused", "is the target running",
        damage=stop_target, repair=start_target),
    Row("nobody has the address", f"attach iscsi://10.99.0.66/{NAME}/1", ExitStatus.TRY_AGAIN,
        "connecting to 10.99.0.66:3260: no route to host", "check the address, the cable"),
    Row("no route", f"attach iscsi://192.0.2.1/{NAME}/1", ExitStatus.TRY_AGAIN,
        "connecting to 192.0.2.1:3260: network unreachable", "gateway"),
    Row("no resolver", f"attach iscsi://nowhere.invalid/{NAME}/1", ExitStatus.TRY_AGAIN,
        "resolving nowhere.invalid: .+", "check the name"),
    Row("target name unknown", f"attach {URL}x/1", ExitStatus.NOTHING_THERE,
        f"login to {NAME}x at {HERE}:3260 refused: target not found", "isboot discover"),
    Row("no secret given", f"attach {LOCKED_URL}", ExitStatus.NOT_PERMITTED,
        f"login to {LOCKED} at {HERE}:{LOCKED_PORT}.+",
        "the target may ask for CHAP: no CHAP name is configured"),
    Row("secret wrong", f"attach {LOCKED_URL} --chap-file /run/wrong", ExitStatus.NOT_PERMITTED,
        REFUSED_SECRET, "check CHAP name and secret"),
    Row("secret readable by others", f"attach {LOCKED_URL} --chap-file /run/open", ExitStatus.NOT_PERMITTED,
        "reading the CHAP file /run/open: its mode is 0644", "chmod 600 /run/open"),
    Row("LUN missing", f"attach {URL}/5", ExitStatus.NOTHING_THERE, ".*LUN 5 is not there",
        "the target has LUN 0, 1"),
    Row("no URL", f"attach {HERE}", ExitStatus.USAGE, f"reading the URL '{HERE}'", "iscsi://.*HOST"),
    Row("depth out of range", f"attach {URL}/1 --depth 5000", ExitStatus.USAGE,
        "setting depth to '5000': it takes 1 to 4096", "--param help"),
    Row("no such device", "detach ublkb7", ExitStatus.NOTHING_THERE, "looking for ublkb7: no isboot device",
        "no isboot device is attached"),
)
BOOT = (
    Row("checksum", "boot", ExitStatus.MALFORMED,
        r"reading the iBFT \(acpi\): table.checksum_ok: the bytes sum up to", "isboot ibft",
        damage=put_table(build("checksum_ok = false\n" + TABLE.format(**GOOD))), stage="config"),
    Row("truncated", "boot", ExitStatus.MALFORMED, r"reading the iBFT \(acpi\): table.*: .*100",
        "isboot ibft", damage=put_table(table()[:100]), stage="config"),
    Row("no table", "boot", ExitStatus.NOTHING_THERE,
        "looking for what to boot from: there is no iBFT in ACPI, low memory or sysfs", "netroot=iscsi:",
        damage=hide_tables, stage="config"),
    Row("no such table", "boot", ExitStatus.NOTHING_THERE, "taking iBFT number 4 .*there are 1",
        "isboot ibft --list", damage=say_to_kernel("rd.isboot.acpi_table=4"), stage="config"),
    Row("rd.isboot", "boot", ExitStatus.USAGE,
        r"reading rd\.isboot of the kernel command line: it takes 0 \| 1, not 'yes'", "",
        damage=say_to_kernel("rd.isboot=yes"), stage="usage"),
    Row("boot not as root", f"{NOBODY} boot", ExitStatus.NOT_PERMITTED, ".*not permitted", "run it as root"),
    Row("no NIC with that MAC", "boot", ExitStatus.NOTHING_THERE,
        rf"looking for the NIC with MAC {OTHER_MAC}: none after 2 s; "
        r"present: eth0 52:54:00:99:00:00 \(virtio_net\)", "driver in the initramfs",
        damage=put_table(table(mac=OTHER_MAC), SHORT_WAIT), stage="network"),
    Row("target name unknown", "boot", ExitStatus.NOTHING_THERE,
        f"login to {OTHER} at {HERE}:3260 refused: target not found", "isboot discover",
        damage=put_table(table(name=OTHER)), stage="session"),
    Row("secret wrong", "boot", ExitStatus.NOT_PERMITTED, REFUSED_SECRET, "check CHAP name and secret",
        damage=put_table(table(name=LOCKED, port=str(LOCKED_PORT), chap=WRONG_CHAP)), stage="session"),
    Row("LUN missing", "boot", ExitStatus.NOTHING_THERE, ".*LUN 7 is not there", "the target has LUN 0, 1",
        damage=put_table(table(lun="0007000000000000")), stage="session"),
    Row("no ublk driver", "boot", ExitStatus.UNAVAILABLE, NO_DRIVER, "modprobe ublk_drv",
        damage=unload_driver, repair=load_driver, stage="block"),
)
# fmt: on


def check(scene: Scene, row: Row) -> str:
    """Give what is wrong with what a row got, or ""."""
    row.damage(scene)
    try:
        before = len(scene.guest.qemu.text())
        line = row.command if "{isboot}" in row.command else "{isboot} " + row.command
        done = scene.guest.channel.run(line.format(isboot=ISBOOT), 90, is_checked=False)
        console = wait_for_hint(scene, before) if row.stage else ""
    finally:
        row.repair(scene)
    lines = done.output.splitlines()
    told = [one.removeprefix("isboot: ") for one in lines if one.startswith("isboot: ")]
    hints = [one.strip().removeprefix("hint: ") for one in lines if one.strip().startswith("hint: ")]
    faults = []
    if done.status != row.status:
        faults.append(f"exit status {done.status} instead of {int(row.status)}")
    if not told or not re.match(row.message, told[-1]):
        faults.append(f"the message does not match {row.message!r}")
    if bool(hints) != bool(row.hint) or (hints and not re.search(row.hint, hints[-1])):
        faults.append(f"the hint does not match {row.hint!r}")
    if row.stage and not re.search(rf"isboot: boot failed at {row.stage}: {row.message}", console):
        faults.append(f"the console does not name the stage {row.stage}: {console}")
    if row.stage and row.hint and not re.search(rf"isboot: hint: .*({row.hint})", console):
        faults.append(f"the console gives no hint: {console}")
    if re.search("Traceback|internal error|unexpected", done.output + console):
        faults.append("a traceback")
    if re.search("the-right-secret|not-the-right-one", done.output + console):
        faults.append("a secret")
    return f"{row.what}: {'; '.join(faults)}\n{done.output}" if faults else ""


def wait_for_hint(scene: Scene, before: int) -> str:
    """Give what the console says from a place on, once it has caught up with the end of a command."""
    mark = f"end of row at {before}"
    scene.guest.channel.write("/dev/kmsg", mark.encode())
    deadline = time.monotonic() + 10
    while mark not in scene.guest.qemu.text()[before:] and time.monotonic() < deadline:
        time.sleep(0.02)
    return scene.guest.qemu.text()[before:]


@pytest.fixture
def scene(rig: Rig) -> Scene:
    target = rig.target()
    locked = rig.target(
        Lun(rig.empty_disk(64, "locked.img")),
        name=LOCKED,
        port=LOCKED_PORT,
        accounts=[Account("guest", "the-right-secret")],
    )
    file = rig.directory / "table.bin"
    file.write_bytes(table())
    guest = rig.quick("6.12", extra=["-acpitable", f"file={file}"])
    made = Scene(guest, target, locked)
    made.run(PREPARE)
    return made


def test_bad_input_gets_a_message_a_hint_and_a_status(scene: Scene) -> None:
    faults = [fault for row in (*ATTACH, *BOOT) if (fault := check(scene, row))]
    say(f"{len(ATTACH) + len(BOOT)} rows, {len(faults)} faults")
    assert not faults, "\n".join(faults)
    # after all that nothing is left behind, and what is right still works
    assert scene.guest.channel.run("ls /dev | grep ublk[bc]", is_checked=False).output == ""
    scene.run(f"{ISBOOT} attach {LOCKED_URL} --chap-file /run/right")
    again = Row("attached twice", f"attach {LOCKED_URL} --chap-file /run/right", ExitStatus.TRY_AGAIN,
                f"attaching {LOCKED}, LUN 0001000000000000: ublkb0 is that disk already",
                "isboot detach ublkb0")  # fmt: skip
    assert not check(scene, again)
    scene.run(f"{ISBOOT} detach ublkb0")

    # what waiting may mend is tried again, and said to be, until it is mended
    say_to_kernel(SHORT_WAIT)(scene)
    scene.guest.qemu.set_link(0, False)
    scene.target.kill()
    boot = scene.guest.channel.start(f"{ISBOOT} boot", 120)
    console = scene.guest.qemu.wait_for
    for _ in range(2):
        console(r"boot failed at network: waiting for the carrier of eth0 \(\S+\): none after 2 s", 20)
        console("isboot: hint: check cable", 5)
        console("isboot: trying again", 5)
    scene.guest.qemu.set_link(0, True)
    console("isboot: NIC: eth0", 20)
    console("connecting to .* eth0: connection refused; trying again .hint: is the target running", 20)
    scene.target.start()
    console("isboot: device: /dev/ublkb0", 20)
    scene.run(f"{ISBOOT} detach ublkb0")
    assert boot.wait() == (0, b"")


def test_a_boot_waits_for_cable_and_target(rig: Rig) -> None:
    root = rig.disk_copy("6.12")
    target = rig.target(Lun(root.file))
    words = "rd.isboot.param=carrier_timeout_ms=3000"
    guest = rig.boot("bios", "6.12", root=root, target=target, command_line=words)
    console = guest.qemu.wait_for
    console("Linux version", 120)  # firmware and boot loader have had their use of them
    guest.qemu.set_link(0, False)
    target.kill()
    console(r"isboot: boot failed at network: waiting for the carrier of \w+ \(\S+\): none after 3 s", 90)
    console("isboot: hint: check cable", 5)
    console("isboot: trying again", 5)
    guest.qemu.set_link(0, True)
    console("isboot: NIC: ", 30)
    console("isboot: connecting to .*: connection refused; trying again .hint: is the target running", 30)
    target.start()
    guest.wait_agent(120)
    assert guest.channel.run("findmnt -no SOURCE /").output == "/dev/ublkb0p3\n"
    guest.power_off(120)


def test_a_boot_from_a_broken_table_says_so(rig: Rig) -> None:
    root = rig.disk_copy("6.12")
    target = rig.target(Lun(root.file))
    # QEMU makes the checksum of its ACPI tables right, so this one is wrong further in
    damage = broken_table(rig.network(), target, rig.directory / "table.bin")
    guest = rig.boot("bios", "6.12", root=root, target=target, is_described=False, extra=damage)
    console = guest.qemu.wait_for
    console(r"isboot: boot failed at config: reading the iBFT \(acpi\): target0", 180)
    console("isboot: hint: isboot ibft shows the table", 5)
    console("Failed to start .*isboot", 30)
