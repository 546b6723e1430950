"""Launcher, worker and standby in a guest, with a real target beside it."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest

from tests.vm.guest import Guest
from tests.vm.kills import kill_all_over, report
from tests.vm.rig import Rig
from tests.vm.target import Target

pytestmark = pytest.mark.guest

INITIATOR = "iqn.2026-11.org.example:guest"
ATTACH = f"python3 -m isboot attach --initiator {INITIATOR}"
KILL = "python3 tests/vm/inside/kill_workers.py"
#: there is no udev in the quick guest: what our rule would set
QUEUE = (
    "cd /sys/block/ublkb0/queue; echo none > scheduler; "
    "echo 127 > nr_requests; echo 1000 > io_timeout; cat nr_requests"
)
FIO = (
    "fio --name=v --filename=/dev/ublkb0 --direct=1 --ioengine=libaio --rw=randrw --bs=4k --size=48m "
    "--verify=crc32c --verify_backlog=512 --verify_fatal=1 --time_based --runtime={runtime} "
    "--iodepth={depth} "
    "--output-format=json"
)


def attach(rig: Rig, label: str, options: str = "") -> tuple[Guest, Target]:
    target = rig.target()
    guest = rig.quick(label)
    guest.channel.run(f"modprobe ublk_drv && {ATTACH} {options} {target.url()}", 60)
    guest.channel.run(QUEUE)
    return guest, target


def status(guest: Guest) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(guest.channel.run("python3 -m isboot status --json").output)["devices"][
        0
    ]
    return row


def detach(guest: Guest) -> None:
    guest.channel.run("python3 -m isboot detach ublkb0", 60)
    assert guest.channel.run("ls /dev/ublkb0", is_checked=False).status != 0


def test_a_device_comes_serves_and_goes(rig: Rig, kernel_label: str) -> None:
    guest, target = attach(rig, kernel_label)
    run = guest.channel.run
    assert run("blockdev --getsize64 /dev/ublkb0").output == f"{64 << 20}\n"
    row = status(guest)
    assert (row["state"], row["target"]) == ("live", target.name)
    run("dd if=/dev/urandom of=/run/data bs=1M count=16 2>/dev/null")
    run("dd if=/run/data of=/dev/ublkb0 bs=1M oflag=direct conv=fsync 2>/dev/null", 60)
    run(
        "dd if=/dev/ublkb0 bs=1M count=16 iflag=direct 2>/dev/null | cmp - /run/data",
        60,
    )
    assert status(guest)["lanes"][0]["written_bytes"] == 16 << 20
    refused = run(
        "mkfs.ext4 -q /dev/ublkb0 && mount /dev/ublkb0 /mnt && python3 -m isboot detach ublkb0",
        60,
        is_checked=False,
    )
    assert refused.status == 75
    assert "in use" in refused.output
    run("umount /mnt")
    detach(guest)
    assert not re.search(r"I_T nexus: \d", target.sessions()), target.sessions()


def test_a_killed_worker_is_replaced_without_an_error(rig: Rig, kernel_label: str) -> None:
    guest, target = attach(rig, kernel_label)
    kills = kill_all_over(guest, target, "/dev/ublkb0", f"{kernel_label} attached")
    guest.channel.run("dd if=/dev/ublkb0 of=/dev/null bs=1M count=4 iflag=direct", 60)
    assert status(guest)["worker_replacements"] == kills
    detach(guest)


def test_a_killed_standby_is_replaced(rig: Rig) -> None:
    guest, _target = attach(rig, "6.12")
    before = status(guest)
    recoveries = json.loads(guest.channel.run(f"{KILL} 3 0.1 standby", 60).output)
    report("standby", recoveries)
    after = status(guest)
    assert after["worker_pid"] == before["worker_pid"]
    assert after["standby_pid"] not in (0, before["standby_pid"])
    a_segmentation_fault_leaves_no_core(guest)
    detach(guest)


def a_segmentation_fault_leaves_no_core(guest: Guest) -> None:
    """The kernel would start its handler from the root whose server has just died, and wait for it."""
    run = guest.channel.run
    handler = "#!/bin/sh\ncat > /run/cores/$1.$2\n"
    guest.channel.write("/run/handler", handler.encode())
    run("mkdir -p /run/cores; chmod +x /run/handler")
    run("echo '|/run/handler %e %p' > /proc/sys/kernel/core_pattern")
    # the handler itself works: this process may be dumped
    run("ulimit -c unlimited; python3 -c 'import os, signal; os.kill(os.getpid(), signal.SIGSEGV)' || true")
    assert "python3." in run("ls /run/cores").output
    run("rm /run/cores/*")
    before = status(guest)
    guest.channel.kill(before["worker_pid"], signal.SIGSEGV)
    run("dd if=/dev/ublkb0 of=/dev/null bs=4k count=8 iflag=direct", 60)
    after = status(guest)
    assert after["worker_pid"] not in (0, before["worker_pid"])
    assert after["worker_replacements"] == before["worker_replacements"] + 1
    assert run("ls /run/cores").output == ""


def test_a_shutdown_without_a_path_ends_in_errors_not_in_a_hang(rig: Rig) -> None:
    guest, target = attach(rig, "6.12", "--param shutdown_give_up_ms=3000")
    ask = "from isboot.daemon import control; print(control.ask(control.find('ublkb0'), '{}')['ok'])"
    assert guest.channel.run(["python3", "-c", ask.format("arm")]).output == "True\n"
    target.kill()
    read = guest.channel.run(
        "dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct", 60, is_checked=False
    )
    assert (read.status, "Link has been severed" in read.output) == (1, True)
    # nothing was written: nothing is lost, but it is said
    done = guest.channel.run("python3 -m isboot detach ublkb0", 60)
    assert "warning: ending ublkb0: it is gone, but no flush and no logout reached the target" in done.output
    assert "all that was written had been flushed before" in done.output

    # what was written and not flushed is told as lost, perhaps
    target.start()
    guest.channel.run(f"{ATTACH} --param shutdown_give_up_ms=1000 {target.url()}", 60)
    guest.channel.run("dd if=/dev/urandom of=/dev/ublkb0 bs=4k count=8 oflag=direct 2>/dev/null")
    target.kill()
    lost = guest.channel.run("python3 -m isboot detach ublkb0", 60, is_checked=False)
    assert lost.status == 1
    assert re.search(
        r"no flush and no logout reached the target: every path to it is down; it was written to since",
        lost.output,
    )
    assert "hint: let the target write its cache to the medium" in lost.output
    assert guest.channel.run("ls /dev | grep ublk[bc]", is_checked=False).output == ""


def test_io_waits_for_a_target_that_restarts(rig: Rig, kernel_label: str) -> None:
    guest, target = attach(rig, kernel_label)
    load = guest.channel.start(FIO.format(runtime=8, depth=32), 120)
    for _ in range(3):
        target.restart()
        guest.channel.run("dd if=/dev/ublkb0 of=/dev/null bs=4k count=64 iflag=direct", 60)
    code, output = load.wait()
    assert code == 0, output.decode(errors="replace")[-2000:]
    assert status(guest)["lanes"][0]["reconnects"] >= 3
    detach(guest)
