"""How devices end when something dies at that very moment, or somebody is impatient. One guest for all."""

from __future__ import annotations

import json
import re
import signal
import threading
from typing import Any

import pytest

from tests.vm.guest import Guest
from tests.vm.rig import Rig
from tests.vm.target import Lun, Target
from tests.vm.test_luns import devices, until

pytestmark = pytest.mark.guest

INITIATOR = "iqn.2026-11.org.example:guest"
ASK = "from isboot.daemon import control; print(control.ask(control.find('ublkb0'), '{}')['ok'])"
STOP = "from isboot.block.device import Control; Control().run('STOP_DEV', 0)"
ATTACH = f"python3 -m isboot attach --initiator {INITIATOR} --depth 8"


class Scene:
    """A guest with a device of one of two LUNs."""

    def __init__(self, rig: Rig) -> None:
        luns = [
            Lun(rig.empty_disk(64, f"lun{n}.img"), n, parameters={"scsi_sn": f"serial{n}"}) for n in (1, 2)
        ]
        self.target: Target = rig.target(*luns)
        self.guest: Guest = rig.quick("7.2")
        self.run = self.guest.channel.run
        self.run("modprobe ublk_drv")

    def attach(self, lun: int = 1) -> dict[str, Any]:
        assert self.run(f"{ATTACH} {self.target.url(lun=lun)}", 60).output == "/dev/ublkb0\n"
        until("a standby", lambda: bool(devices(self.guest)[0]["standby_pid"]))
        return devices(self.guest)[0]

    def gone(self) -> None:
        """Insist that nothing is left: no device, no process, no session."""
        until("the end of all processes", lambda: not self.run("pgrep -f '[i]sboot attach' || true").output)
        assert self.run("ls /dev | grep ublk[bc]", is_checked=False).output == ""
        assert not re.search(r"I_T nexus: \d", self.target.sessions()), self.target.sessions()


def test_every_device_ends_in_order(rig: Rig) -> None:
    scene = Scene(rig)
    a_worker_that_dies_before_the_stop(scene)
    a_worker_that_dies_before_the_flush(scene)
    a_standby_that_wakes_up_late(scene)
    an_interrupt_in_the_foreground(scene)


def a_worker_that_dies_before_the_stop(scene: Scene) -> None:
    row = scene.attach()
    scene.run("dd if=/dev/urandom of=/dev/ublkb0 bs=4k count=8 oflag=direct 2>/dev/null")
    scene.guest.channel.kill(row["worker_pid"], signal.SIGSTOP)
    ending = scene.guest.channel.start(["python3", "-c", ASK.format("finish")])
    until("the standby's dismissal", lambda: devices(scene.guest)[0]["standby_pid"] == 0)
    before = len(scene.guest.qemu.text())
    scene.guest.channel.kill(row["worker_pid"])
    assert ending.wait() == (0, b"True\n")
    said = scene.guest.qemu.text()[before:]
    assert re.search(rf"worker {row['worker_pid']} ended \(signal 9\) before its work: another ends it", said)
    assert "flushed: SYNCHRONIZE CACHE(16) answered" in said
    scene.gone()


def a_worker_that_dies_before_the_flush(scene: Scene) -> None:
    row = scene.attach()
    scene.run("dd if=/dev/urandom of=/dev/ublkb0 bs=4k count=8 oflag=direct 2>/dev/null")
    scene.target.freeze()
    ending = scene.guest.channel.start("python3 -m isboot detach ublkb0")
    until("the end of the disk", lambda: scene.run("ls /dev/ublkb0", is_checked=False).status != 0)
    before = len(scene.guest.qemu.text())
    scene.guest.channel.kill(row["worker_pid"])
    scene.target.thaw()
    assert ending.wait() == (0, b"")
    assert "flushed: SYNCHRONIZE CACHE(16) answered" in scene.guest.qemu.text()[before:]
    scene.gone()


def a_standby_that_wakes_up_late(scene: Scene) -> None:
    row = scene.attach()
    scene.guest.channel.kill(row["standby_pid"], signal.SIGSTOP)
    launcher = int(scene.run(f"ps -o ppid= -p {row['worker_pid']}").output)
    scene.guest.channel.kill(launcher)
    scene.run(["python3", "-c", STOP])
    until("the end of the device", lambda: scene.run("ls /dev/ublkc0", is_checked=False).status != 0)
    other = scene.attach(lun=2)  # of the same number
    scene.guest.channel.kill(row["standby_pid"], signal.SIGCONT)
    late = rf"standby of worker {row['worker_pid']}: ublkb0 is not its device any more: leaving"
    scene.guest.qemu.wait_for(late, 20)
    until("its end", lambda: scene.run(f"kill -0 {row['standby_pid']}", is_checked=False).status != 0)
    # and the other device is looked after by its own standby alone
    scene.guest.channel.kill(other["worker_pid"])
    until("the takeover", lambda: devices(scene.guest)[0]["worker_pid"] == other["standby_pid"])
    scene.run("dd if=/dev/ublkb0 of=/dev/null bs=4k count=8 iflag=direct 2>&1")
    scene.run("python3 -m isboot detach ublkb0")
    scene.gone()


def an_interrupt_in_the_foreground(scene: Scene) -> None:
    def start(words: str = "") -> Any:
        return scene.guest.channel.start(f"exec {ATTACH} --foreground {words} {scene.target.url()} 2>&1")

    def interrupt() -> None:
        scene.run("kill -INT $(pgrep -of '[-]-foreground')")

    pending = start()
    until("the device", lambda: len(devices(scene.guest)) == 1)
    scene.run("mkfs.ext4 -q /dev/ublkb0 && mount /dev/ublkb0 /mnt")
    interrupt()
    # refused, and served on: the second request is heard only after the first has its answer
    assert json.loads(scene.run("python3 -m isboot status --json").output)["devices"][0]["state"] == "live"
    scene.run("dd if=/dev/urandom of=/mnt/x bs=4k count=8 oflag=direct 2>/dev/null; umount /mnt")
    interrupt()
    status, output = pending.wait()
    assert status == 0, output
    assert b"detaching /dev/ublkb0: Device or resource busy; the device stays (hint: it is mounted" in output
    assert b"flushed: SYNCHRONIZE CACHE(16) answered" in output
    scene.gone()

    # before there is a device: once its worker has said that it tries again
    scene.target.kill()
    said = bytearray()
    pending = start("--retry 100")
    watcher = threading.Thread(target=lambda: result.append(pending.wait(said.extend)))
    result: list[tuple[int, bytes]] = []
    watcher.start()
    until("an attempt", lambda: b"connection refused; trying again" in said)
    interrupt()
    watcher.join(30)
    assert result[0][0] == 130
    scene.target.start()
    scene.gone()
