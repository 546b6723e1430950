"""LUNs of every kind in a guest: each a disk of its own, the boot LUN marked, companions that live on."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from isboot.firmware.spec import build
from tests.vm.guest import Guest
from tests.vm.progress import RigError, say
from tests.vm.rig import Rig
from tests.vm.target import Lun, Target

pytestmark = pytest.mark.guest

INITIATOR = "iqn.2001-04.com.example:diskless"
TIB = 1 << 40
GIB = 1 << 30
MARK = b"isboot was here!"
TABLE = """
[initiator]
name = "iqn.2001-04.com.example:diskless"
[[nics]]
mac = "52:54:00:99:00:00"
ip = "10.99.0.2"
prefix = 24
[[targets]]
name = "iqn.2001-04.com.example:rig"
ip = "10.99.0.1"
lun = "0001000000000000"
nic = 0
"""
#: writes a mark into the last block of a disk and reads it back past every cache
MARK_THE_END = """
import fcntl, mmap, os, sys
device, length = sys.argv[1], int(sys.argv[2])
disk = os.open(device, os.O_RDWR | os.O_DIRECT)
size = os.lseek(disk, 0, os.SEEK_END)
page = mmap.mmap(-1, length)
page[:16] = b"isboot was here!"
assert os.pwrite(disk, page, size - length) == length
os.fsync(disk)
page[:16] = bytes(16)
assert os.preadv(disk, [page], size - length) == length
print(size, bytes(page[:16]).decode())
"""
STATUS = """
import glob, json, socket
rows = []
for path in glob.glob("/run/isboot/control/*"):
    end = socket.socket(socket.AF_UNIX)
    try:
        end.connect(path)
    except OSError:
        continue
    end.sendall(b'{"do": "status"}\\n')
    rows += json.loads(b"".join(iter(lambda: end.recv(65536), b"")))["devices"]
print(json.dumps(rows))
"""
#: a daemon of udev's for one moment: the quick guest has none
UDEV = """
set -e
mkdir -p /run/udev/rules.d; cp tools/systemd/61-isboot.rules /run/udev/rules.d/
pgrep -x systemd-udevd >/dev/null || /usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --settle --action=add --subsystem-match=block
ls -l /dev/disk/by-id /dev/disk/by-path
"""


@dataclass(frozen=True)
class Kind:
    """A LUN, and what its disk must be."""

    lun: int
    size_bytes: int
    block_bytes: int = 512
    physical_bytes: int = 512
    is_read_only: bool = False


KINDS = (
    Kind(1, 2 * TIB - 512),
    Kind(2, 2 * TIB + 512),
    Kind(3, 16 * TIB - GIB, 4096, 4096),
    Kind(4, 64 << 20, 512, 4096),
    Kind(5, 64 << 20, is_read_only=True),
    Kind(300, 64 << 20),
)


def target_of(rig: Rig, kinds: tuple[Kind, ...]) -> Target:
    luns = []
    for kind in kinds:
        file = rig.directory / f"lun{kind.lun}.img"
        with file.open("wb") as stream:
            stream.truncate(kind.size_bytes)
        exponent = (kind.physical_bytes // kind.block_bytes).bit_length() - 1
        words = {"lbppbe": str(exponent), "scsi_sn": f"serial{kind.lun}"}
        if kind.is_read_only:
            words["readonly"] = "1"
        luns.append(Lun(file, kind.lun, kind.block_bytes, words))
    return rig.target(*luns)


def devices(guest: Guest) -> list[dict[str, Any]]:
    """What `isboot status --json` says, in a fifth of the time."""
    said = guest.channel.run(["python3", "-I", "-S", "-c", STATUS]).output
    return sorted(json.loads(said), key=lambda row: str(row["device"]))


def detach_all(guest: Guest) -> None:
    """All at a time, and in order: it must not matter."""
    names = " ".join(row["device"] for row in devices(guest))
    one = "python3 -m isboot detach $name || echo $name"
    assert guest.channel.run(f"for name in {names}; do ({one}) & done; wait", 120).output == ""
    assert devices(guest) == []


def until(what: str, is_true: Callable[[], bool], timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > end:
            raise RigError(f"{what}: not within {timeout_s:g} s")
        time.sleep(0.1)


def test_every_lun_is_a_disk_of_its_own(rig: Rig) -> None:
    target = target_of(rig, KINDS)
    file = rig.directory / "table.bin"
    file.write_bytes(build(TABLE))
    guest = rig.quick("6.12", extra=["-acpitable", f"file={file}"], memory_mib=4096)
    run = guest.channel.run
    run("modprobe ublk_drv")
    guest.channel.write("/run/mark", MARK_THE_END.encode())

    # all of them by one command
    began = time.monotonic()
    attach = f"python3 -m isboot attach --initiator {INITIATOR} --depth 8"
    rows = json.loads(run(f"{attach} --luns all --json {target.url()}", 120).output)["devices"]
    say(f"{len(rows)} disks within {time.monotonic() - began:.1f} s")
    by_lun = {int(row["lun"][:4], 16) & 0x3FFF: row["device"] for row in rows}
    assert set(by_lun) == {kind.lun for kind in KINDS}
    faults = []
    for kind in KINDS:
        device = f"/dev/{by_lun[kind.lun]}"
        said = run(f"blockdev --getsize64 --getss --getpbsz --getro {device}").output.split()
        wanted = [kind.size_bytes, kind.block_bytes, kind.physical_bytes, int(kind.is_read_only)]
        if said != [str(number) for number in wanted]:
            faults.append(f"{kind}: {said}")
        marked = run(f"python3 /run/mark {device} {kind.block_bytes}", is_checked=False)
        with (rig.directory / f"lun{kind.lun}.img").open("rb") as stream:
            stream.seek(kind.size_bytes - kind.block_bytes)
            at_the_end = stream.read(len(MARK))
        if kind.is_read_only:
            refused = "Read-only file system" in marked.output or "Operation not permitted" in marked.output
            sysfs = run(f"cat /sys/block/{by_lun[kind.lun]}/ro").output
            if not refused or at_the_end.strip(b"\0") or sysfs != "1\n":
                faults.append(f"{kind}: {marked.output} {at_the_end!r} {sysfs}")
        elif marked.output != f"{kind.size_bytes} {MARK.decode()}\n" or at_the_end != MARK:
            faults.append(f"{kind}: {marked.output} {at_the_end!r}")
    assert not faults, "\n".join(faults)
    again = run(f"{attach} --luns 300,9 {target.url()}", 60, is_checked=False)
    assert again.status == 75
    assert "is that disk already" in again.output
    assert "LUN 9 is not there" in again.output
    assert "the target has LUN 0, 1, 2, 3, 4, 5, 300" in again.output
    detach_all(guest)
    assert not re.search(r"I_T nexus: \d", target.sessions()), target.sessions()

    boot_with_companions(guest)
    assert not re.search(r"I_T nexus: \d", target.sessions()), target.sessions()


def boot_with_companions(guest: Guest) -> None:
    """`isboot boot` with rd.isboot.luns=: the table's LUN first and marked, the others beside it."""
    run = guest.channel.run
    words = "rd.isboot.luns=300,4 rd.isboot.param=depth=8 rd.isboot.param=login_jitter_ms=0"
    run(f"(tr -d '\\n' < /proc/cmdline; echo ' {words}') > /run/cmdline")
    run("mount --bind /run/cmdline /proc/cmdline")
    boot = guest.channel.start("exec python3 -m isboot boot", 120)
    until("three devices", lambda: len(devices(guest)) == 3)
    rows = devices(guest)
    kinds = [(row["boot"], int(row["lun"][:4], 16) & 0x3FFF) for row in rows]
    assert kinds[0] == (True, 1)
    assert set(kinds[1:]) == {(False, 300), (False, 4)}

    # its names
    links = run(UDEV, 60).output
    assert re.search(r"isboot-boot -> ../../ublkb0\b", links), links
    assert links.count("isboot-boot") == 1, links
    assert re.search(r"-lun-0x412c000000000000 -> ../../ublkb", links), links
    assert re.search(r"-lun-1 -> ../../ublkb0\b", links), links

    # who loses its launcher gets another, which finds worker and standby; who loses its worker as well
    companion = next(row for row in rows if not row["boot"])
    name, worker = companion["device"], companion["worker_pid"]
    launcher = int(run(f"ls -l /run/isboot/control >&2; ps -o ppid= -p {worker}").output.split()[-1])
    guest.channel.kill(launcher)
    console = guest.qemu.wait_for
    console(rf"launcher {launcher} of LUN \d+ ended, worker {worker} lives: another is made", 20)
    console(rf"adopted worker {worker}", 20)

    def row_now() -> dict[str, Any]:
        return next((row for row in devices(guest) if row["device"] == name), {})

    until("the adopted device", lambda: row_now().get("standby_pid", 0) != 0)
    assert row_now()["worker_pid"] == worker
    guest.channel.kill(worker)
    until(
        "another worker", lambda: row_now().get("worker_replacements") == 1 and row_now()["state"] == "live"
    )
    run(f"dd if=/dev/{name} of=/dev/null bs=4k count=8 iflag=direct 2>&1", 30)

    # the end of all, as a shutdown asks for it
    detach_all(guest)
    assert boot.wait() == (0, b"")
    until(
        "an end of all processes",
        lambda: "isboot" not in run("ps -e -o args= | grep '[i]sboot' || true").output,
    )
    assert run("ls /dev | grep ublk[bc]", is_checked=False).output == ""
    run("umount /proc/cmdline")


KEY = "abc1230000000001"


def test_what_lio_says_of_a_lun_is_told(rig: Rig) -> None:
    guest = rig.quick("7.2")
    run = guest.channel.run
    run("modprobe ublk_drv")
    # LIO's numbers are Linux's: the words of the wire from the last to the first, address method and all
    numbers = {1: 1, 300: 0x412C, 20000: 0x4E20_D200}
    read_only = Lun(number=3, block_size_bytes=4096, back_end="block", parameters={"readonly": "1"})
    lio = rig.lio(*(Lun(number=number) for number in numbers.values()), read_only, guest=guest)

    def isboot(words: str, lun: object = 1, status: int = 0) -> str:
        url = f"{lio.url().rpartition('/')[0]}/{lun}"
        done = run(f"python3 -m isboot {words} --initiator {INITIATOR} {url}", 60, is_checked=False)
        assert done.status == status, done.output
        return str(done.output)

    # there is no LUN 0, and every form of a number finds its LUN
    assert "hint: the target has LUN 1, 3, 300, 20000" in isboot("inquiry", 9, 66)
    rows = json.loads(isboot("attach --luns all --depth 8 --json"))["devices"]
    assert [row["lun"][:8] for row in rows] == ["00010000", "00030000", "412c0000", "d2004e20"]
    by_lun = {row["lun"][:8]: row["device"] for row in rows}
    assert run(f"cat /sys/block/{by_lun['00030000']}/ro").output == "1\n"
    assert run(f"blockdev --getss /dev/{by_lun['00030000']}").output == "4096\n"
    run(f"dd if=/dev/urandom of=/dev/{by_lun['d2004e20']} bs=64k count=8 oflag=direct conv=fsync")
    detach_all(guest)

    # the state of its port group
    for state, command in (("standby", "attach"), ("unavailable", "inquiry")):
        lio.set_alua_state(1, state)
        said = isboot(command, 1, 75)
        assert f"LUN 1 cannot be reached here: its port group 0 is {state}: NOT READY, target port in" in said
        assert "hint: make this port group active at the target" in said
    lio.set_alua_state(1, "transitioning")
    url = lio.url()
    pending = guest.channel.start(f"python3 -m isboot attach --initiator {INITIATOR} {url}", 60)
    guest.qemu.wait_for(
        r"LUN 1 of \S+ is not ready: .*asymmetric access state transition.*waiting up to 30 s", 20
    )
    lio.set_alua_state(1, "active/optimized")
    assert pending.wait() == (0, b"/dev/ublkb0\n")
    run("python3 -m isboot detach ublkb0")

    # who holds it
    holder = guest.channel.start(f"exec python3 -m tests.native.reserve {url} {KEY} 3", 60)
    until("the reservation", lambda: "reserved" in inquiry_of(guest, url))
    said = isboot("attach", 1, 75)
    assert "LUN 1 is reserved by iqn.2026-11.org.example:holder (ISID 80" in said
    assert f": exclusive access, key 0x{KEY}" in said
    assert "hint: release it where it is held" in said
    run("touch /run/release")
    assert holder.wait()[0] == 0
    assert "LIO-ORG" in isboot("inquiry")
    lio.wait_logged_out()


def inquiry_of(guest: Guest, url: str) -> str:
    command = f"python3 -m isboot inquiry --initiator {INITIATOR} {url}"
    return str(guest.channel.run(command, 30, is_checked=False).output)
