"""
What bad input gets, for real: what was being done, to what, what came back, what to do next, and a status.

Rows of damages, one quick guest for all of them; and one diskless boot for what only a boot can show: that
the console tells every step, each cause once, and that what waiting can mend is tried until it is mended.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from isboot.errors import ExitStatus
from isboot.firmware.spec import build
from tests.vm.channel import Result
from tests.vm.guest import Guest
from tests.vm.progress import say
from tests.vm.rig import Rig
from tests.vm.target import Account, Lun, Target

pytestmark = pytest.mark.guest

ISBOOT = "python3 -m isboot"
ACPI = "/sys/firmware/acpi/tables"
OTHER_MAC = "52:54:00:99:00:77"
SHORT_WAIT = "rd.isboot.param=carrier_timeout_ms=2000 rd.isboot.param=nic_timeout_ms=2000"
FORKER = Path(__file__).parent / "inside" / "forker.py"
STEPS = ("table", "NIC", "carrier", "address", "connect", "login", "LUN", "device", "root")
#: the step at which a boot fails, by what its message names
AT = {"usage": "table", "config": "table", "network": "NIC", "session": "login", "block": "device"}

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
ONE_SECRET = """chap = "mutual"
chap_name = "guest"
chap_secret = "the-right-secret"
reverse_chap_name = "target"
reverse_chap_secret = "the-right-secret"
"""
MUTUAL = ONE_SECRET[: ONE_SECRET.rindex("the-right")] + 'not-the-right-one"\n'
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

    def isboot(self, line: str, damage: Damage | None = None) -> Result:
        """Run isboot: by the forker, where it is not to be another user's."""
        if "{isboot}" in line:
            return self.guest.channel.run(line.format(isboot=ISBOOT), 90, is_checked=False)
        request = {"arguments": line.split(), **(damage or Damage()).request()}
        self.guest.channel.write("/run/forker.in", json.dumps(request).encode())
        answer = json.loads(self.guest.channel.read("/run/forker.out", 90))
        return Result(line, answer["status"], answer["output"])


@dataclass(frozen=True)
class Damage:
    """
    What is wrong in the guest while a command runs.

    :ivar raw: the table in place of the good one
    :ivar words: more of them on the kernel command line
    :ivar before: a shell line, and one that makes it good
    """

    raw: bytes | None = None
    words: str = ""
    is_without_tables: bool = False
    before: str = ""
    after: str = ""

    def request(self) -> dict[str, object]:
        """Give it as forker.py takes it: files, and what they are mounted upon."""
        files: dict[str, str] = {}
        mounts: list[tuple[str, str]] = []
        if self.raw is not None:
            files["/run/table"] = base64.b64encode(self.raw).decode()
            mounts.append(("/run/table", f"{ACPI}/iBFT"))
        if self.is_without_tables:
            mounts.append(("/run/empty", ACPI))
        return {
            "files": files, "mounts": mounts, "words": self.words, "before": self.before, "after": self.after
        }  # fmt: skip


def table(**changes: str) -> bytes:
    return build(TABLE.format(**{**GOOD, **changes}))


def without(structure: str) -> str:
    """Give the good table's specification without one of its structures."""
    parts = re.split(r"(?m)^(?=\[)", TABLE.format(**GOOD))
    return "".join(part for part in parts if structure not in part.partition("\n")[0])


@dataclass(frozen=True)
class Row:
    """
    :ivar command: after `isboot`, or a whole shell line where it holds {isboot}, which takes a second more
    :ivar message: what the first line must match, after `isboot: `
    :ivar hint: what the hint must match; "" for none at all
    :ivar stage: which the console of a boot must name
    """

    what: str
    command: str
    status: ExitStatus
    message: str
    hint: str
    damage: Damage = field(default_factory=Damage)
    stage: str = ""
    step: str = ""  #: at which the summary says it failed, where that is not what AT says
    is_without_target: bool = False


WITHOUT_DRIVER = Damage(before="rmmod ublk_drv", after="modprobe ublk_drv")
WITHOUT_ID = Damage(before="mv /etc/machine-id /run/machine-id", after="mv /run/machine-id /etc/machine-id")
WITHOUT_RING = Damage(
    before="sysctl -q kernel.io_uring_disabled=2", after="sysctl -q kernel.io_uring_disabled=0"
)


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
        damage=WITHOUT_DRIVER),
    Row("not root", f"{NOBODY} attach {URL}/1", ExitStatus.NOT_PERMITTED, "attaching: not permitted",
        "run it as root"),
    Row("no initiator name", f"attach {URL}/1", ExitStatus.NOTHING_THERE, "making an initiator name: .+",
        "write InitiatorName=", damage=WITHOUT_ID),
    Row("target stopped", f"attach {URL}/1", ExitStatus.TRY_AGAIN,
        f"connecting to {HERE}:3260: connection refused", "is the target running",
        is_without_target=True),
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
    Row("io_uring forbidden", "boot", ExitStatus.NOT_PERMITTED,
        "making the control ring: Operation not permitted", "sysctl kernel.io_uring_disabled",
        damage=WITHOUT_RING, stage="block"),
    Row("checksum", "boot", ExitStatus.MALFORMED,
        r"reading the iBFT \(acpi\): table.checksum_ok: the bytes sum up to", "isboot ibft",
        damage=Damage(build("checksum_ok = false\n" + TABLE.format(**GOOD))), stage="config"),
    Row("truncated", "boot", ExitStatus.MALFORMED, r"reading the iBFT \(acpi\): table.*: .*100",
        "isboot ibft", damage=Damage(table()[:100]), stage="config"),
    Row("no table", "boot", ExitStatus.NOTHING_THERE,
        "looking for what to boot from: there is no iBFT in ACPI, low memory or sysfs", "netroot=iscsi:",
        damage=Damage(is_without_tables=True), stage="config"),
    Row("no initiator", "boot", ExitStatus.MALFORMED, r"reading the iBFT \(acpi\): .*initiator",
        "isboot ibft", damage=Damage(build(without("initiator"))), stage="config"),
    Row("no target", "boot", ExitStatus.MALFORMED, r"reading the iBFT \(acpi\): .*target",
        "isboot ibft", damage=Damage(build(without("targets"))), stage="config"),
    Row("forbidden", "boot", ExitStatus.NOTHING_THERE, "booting: rd.isboot=0 forbids it", "",
        damage=Damage(words="rd.isboot=0"), stage="config"),
    Row("empty secret", "boot", ExitStatus.NOT_PERMITTED,
        f"login to {NAME} at {HERE}:3260 refused: a CHAP name but an empty secret", "give the secret",
        damage=Damage(table(chap='chap = "chap"\nchap_name = "guest"\nchap_secret = ""')),
        stage="session"),
    Row("one secret for both", "boot", ExitStatus.MALFORMED,
        r"reading the iBFT \(acpi\): target0 .*both directions of its CHAP have the same secret",
        "isboot ibft", damage=Damage(table(chap=ONE_SECRET)), stage="config"),
    Row("target proves another secret", "boot", ExitStatus.NOT_PERMITTED, ".*the target's proof is wrong",
        "secret",
        damage=Damage(table(name=LOCKED, port=str(LOCKED_PORT), chap=MUTUAL)), stage="session"),
    Row("no such table", "boot", ExitStatus.NOTHING_THERE, "taking iBFT number 4 .*there are 1",
        "isboot ibft --list", damage=Damage(words="rd.isboot.acpi_table=4"), stage="config"),
    Row("rd.isboot", "boot", ExitStatus.USAGE,
        r"reading rd\.isboot of the kernel command line: it takes 0 \| 1, not 'yes'", "",
        damage=Damage(words="rd.isboot=yes"), stage="usage"),
    Row("boot not as root", f"{NOBODY} boot", ExitStatus.NOT_PERMITTED, ".*not permitted", "run it as root"),
    Row("no NIC with that MAC", "boot", ExitStatus.NOTHING_THERE,
        rf"looking for the NIC with MAC {OTHER_MAC}: none after 2 s; "
        r"present: eth0 52:54:00:99:00:00 \(virtio_net\)", "compare with isboot ibft",
        damage=Damage(table(mac=OTHER_MAC), SHORT_WAIT), stage="network"),
    Row("secret wrong", "boot", ExitStatus.NOT_PERMITTED, REFUSED_SECRET, "check CHAP name and secret",
        damage=Damage(table(name=LOCKED, port=str(LOCKED_PORT), chap=WRONG_CHAP)), stage="session"),
    Row("no ublk driver", "boot", ExitStatus.UNAVAILABLE, NO_DRIVER, "modprobe ublk_drv",
        damage=WITHOUT_DRIVER, stage="block"),
)
# fmt: on


def check(scene: Scene, row: Row) -> str:
    """Give what is wrong with what a row got, or ""."""
    before = len(scene.guest.qemu.text())
    if row.is_without_target:
        scene.target.kill()
    done = scene.isboot(row.command, row.damage)
    if row.is_without_target:
        scene.target.start()
    console = wait_for_mark(scene.guest, before) if row.stage else ""
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
    if row.stage:
        faults += summary_faults(console, row.step or AT[row.stage], row.status)
    if re.search("Traceback|internal error|unexpected", done.output + console):
        faults.append("a traceback")
    if re.search("the-right-secret|not-the-right-one", done.output + console):
        faults.append("a secret")
    return f"{row.what}: {'; '.join(faults)}\n{done.output}" if faults else ""


def summary_faults(console: str, failed: str, status: ExitStatus) -> list[str]:
    """Say what is wrong with the steps a failed boot tells: those before the failure ok, the others not."""
    said = dict(re.findall(r"isboot:   (\w+) +(ok|FAILED|-)", console))
    place = STEPS.index(failed)
    wanted = {step: "ok" if number < place else "-" for number, step in enumerate(STEPS)} | {failed: "FAILED"}
    faults = [] if said == wanted else [f"the steps are told as {said}"]
    if f"isboot: exit status {int(status)} " not in console:
        faults.append("the console does not tell the exit status")
    if console.count("boot failed at") != 1:
        faults.append("the console tells it more than once")
    return faults


def wait_for_mark(guest: Guest, before: int) -> str:
    """Give what the console says from a place on, once it has caught up with the end of a command."""
    mark = f"end of row at {before}"
    # without its newline the kernel keeps the line back, in case there is more of it to come
    guest.channel.write("/dev/kmsg", f"{mark}\n".encode())
    deadline = time.monotonic() + 10
    while mark not in guest.qemu.text()[before:] and time.monotonic() < deadline:
        time.sleep(0.02)
    return guest.qemu.text()[before:]


@pytest.fixture
def scene(rig: Rig) -> Scene:
    target = rig.target()
    locked = rig.target(
        Lun(rig.empty_disk(64, "locked.img")),
        name=LOCKED,
        port=LOCKED_PORT,
        accounts=[
            Account("guest", "the-right-secret"),
            Account("target", "of-the-target-alone", is_outgoing=True),
        ],
    )
    file = rig.directory / "table.bin"
    file.write_bytes(table())
    guest = rig.quick("6.12", extra=["-acpitable", f"file={file}"])
    made = Scene(guest, target, locked)
    made.run(PREPARE)
    guest.channel.write("/run/forker.py", FORKER.read_bytes())
    guest.channel.start("PYTHONPATH=. python3 /run/forker.py", 900)
    made.run("until test -p /run/forker.out; do sleep 0.1; done")
    return made


def test_bad_input_gets_a_message_a_hint_and_a_status(scene: Scene) -> None:
    faults = [fault for row in (*ATTACH, *BOOT) if (fault := check(scene, row))]
    say(f"{len(ATTACH) + len(BOOT)} rows, {len(faults)} faults")
    assert not faults, "\n".join(faults)
    # after all that nothing is left behind, and what is right still works
    assert scene.guest.channel.run("ls /dev | grep ublk[bc]", is_checked=False).output == ""
    assert scene.isboot(f"attach {LOCKED_URL} --chap-file /run/right").status == 0
    again = Row("attached twice", f"attach {LOCKED_URL} --chap-file /run/right", ExitStatus.TRY_AGAIN,
                f"attaching {LOCKED}, LUN 0001000000000000: ublkb0 is that disk already",
                "isboot detach ublkb0")  # fmt: skip
    assert not check(scene, again)
    assert scene.isboot("detach ublkb0").status == 0
    serving = scene.guest.channel.start(f"{ISBOOT} attach {URL}/1 --foreground", 90)
    scene.run("until test -e /dev/ublkb0; do sleep 0.1; done")
    scene.run(f"PYTHONPATH=. python3 -c '{STOP}'")
    _, output = serving.wait()
    assert b"serving ublkb0: somebody stopped the device from outside" in output

    # what waiting may mend is tried again, and said to be, until it is mended
    scene.run(f"(tr -d '\\n' < /proc/cmdline; echo ' {SHORT_WAIT}') > /run/cmdline")
    scene.run("mount --bind /run/cmdline /proc/cmdline")
    scene.guest.qemu.set_link(0, False)
    scene.target.kill()
    boot = scene.guest.channel.start(f"{ISBOOT} boot", 120)
    console = scene.guest.qemu.wait_for
    console(r"boot failed at network: waiting for the carrier of eth0 \(\S+\): none after 2 s", 20)
    console("isboot: hint: check cable", 5)
    console("isboot:   carrier +FAILED", 5)
    console("isboot: trying again", 5)
    console(r"isboot: waiting for the carrier of eth0 \(\S+\): none after [2-9.]+ s; trying again", 20)
    scene.guest.qemu.set_link(0, True)
    console("isboot: NIC: eth0", 20)
    console("connecting to .* eth0: connection refused; trying again .hint: is the target running", 20)
    scene.target.start()
    console("isboot: device: /dev/ublkb0", 20)
    assert scene.isboot("detach ublkb0").status == 0
    assert boot.wait() == (0, b"")


#: what another program with the rights may do to a device
STOP = 'from isboot.block.device import Control; Control().run("STOP_DEV", 0)'


@dataclass(frozen=True)
class Trouble:
    """
    What a boot meets, in the order of these rows: each is mended when it has been told.

    :ivar said: the cause on the console
    :ivar step: at which the summary says it failed; "" where none is due yet
    """

    begin: Callable[[Guest, Target], None]
    said: str
    hint: str
    step: str


def unplug(guest: Guest, target: Target) -> None:
    guest.qemu.set_link(0, False)
    target.kill()


def plug(guest: Guest, _target: Target) -> None:
    guest.qemu.set_link(0, True)


def serve_another(_guest: Guest, target: Target) -> None:
    target.name, target.luns = OTHER, []
    target.start()


def serve_no_lun(_guest: Guest, target: Target) -> None:
    target.kill()
    target.name = NAME
    target.start()


TROUBLES = (
    Trouble(unplug, r"boot failed at network: waiting for the carrier of \w+ \(\S+\): none after 3 s",
            "check cable", "carrier"),
    Trouble(plug, "connecting to .*: connection refused; trying again .hint: is the target running", "", ""),
    Trouble(serve_another, f"boot failed at session: login to {NAME} at .* refused: target not found",
            "compare the target name", "login"),
    Trouble(serve_no_lun, "boot failed at session: .*LUN 1 is not there", "the target has LUN 0", "LUN"),
)  # fmt: skip
#: a boot that fails in a service whose standard error is the console, as in the initramfs
AGAIN = """
(tr -d '\\n' < /proc/cmdline; echo ' rd.isboot.acpi_table=7') > /run/cmdline
mount --bind /run/cmdline /proc/cmdline
systemd-run --quiet --wait -p StandardError=kmsg bash -c 'exec -a @isboot python3 -m isboot boot'
status=$?
umount /proc/cmdline
exit $status
"""


def test_a_boot_goes_on_once_what_holds_it_is_mended(rig: Rig) -> None:
    root = rig.disk_copy("6.12")
    target = rig.target(Lun(root.file))
    lun = target.luns[0]
    words = "rd.isboot.param=carrier_timeout_ms=3000 rd.isboot.param=login_jitter_ms=0"
    guest = rig.boot("bios", "6.12", root=root, target=target, command_line=words)
    console = guest.qemu.wait_for
    console("Linux version", 120)  # firmware and boot loader have had their use of them
    for trouble in TROUBLES:
        trouble.begin(guest, target)
        console(f"isboot: {trouble.said}", 90)
        if trouble.step:
            console(f"isboot: hint: {trouble.hint}", 5)
            console(f"isboot:   {trouble.step} +FAILED", 5)
            console("isboot: trying again", 5)
    target.add_lun(lun)
    guest.wait_agent(120)
    run = guest.channel.run
    assert run("findmnt -no SOURCE /").output == "/dev/ublkb0p3\n"
    text = guest.qemu.text()
    told = {trouble.said: len(re.findall(f"isboot: {trouble.said}", text)) for trouble in TROUBLES}
    assert set(told.values()) == {1}, told

    # the report has all of it
    report = json.loads(run("isboot boot-report --json").output)
    assert (report["unreached"], report["failures"]) == ([], [])
    failed = {row["step"]: [one["message"] for one in row["failures"]] for row in report["steps"]}
    for step, words in (
        ("carrier", "carrier"),
        ("connect", "refused"),
        ("login", "not found"),
        ("lun", "LUN 1"),
    ):
        assert any(words in message for message in failed[step]), failed
    say(run("isboot boot-report").output)

    # one that ends tells it once, though its standard error is the console as well
    before = len(guest.qemu.text())
    done = run(AGAIN, 60, is_checked=False)
    assert done.status == ExitStatus.NOTHING_THERE, done.output
    console_text = wait_for_mark(guest, before)
    assert summary_faults(console_text, "table", ExitStatus.NOTHING_THERE) == [], console_text
    assert console_text.count("taking iBFT number 7") == 1, console_text
    assert json.loads(run("isboot boot-report --json").output) == report
    guest.power_off(120)
