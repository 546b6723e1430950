"""
A small machine whose swap and whose root are the same disk, ours: memory must be freed by writing to it.

What serves the disk can then wait for memory that only the disk can free.  Seen without the measures of
isboot.daemon.armour: it stands still for ever within 20 s.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.vm.guest import Guest
from tests.vm.progress import RigError, say
from tests.vm.rig import Rig
from tests.vm.target import Lun, Target

pytestmark = pytest.mark.guest

BOOT_S = 240
MEMORY_MIB = 384
SWAP_MIB = 768
WINDOW_S = 20.0  #: in each of them there must be progress
FLOOD_S = float(os.environ.get("ISBOOT_PRESSURE_S", "180"))
OUTAGE_S = 5.0  #: of the target, in the middle
SAMPLE_S = 2.0
SWAPPED_PAGES = 4096  #: what must have gone to the swap at least: 16 MiB
SCRIPT = Path(__file__).parent / "inside" / "pressure.py"
PIDS = "/run/pressure.pids"

MIN_FREE_KIB = 16384
MIN_LOCKED_KIB = 20000  #: an interpreter with isboot in it takes more
SCHED_FIFO = 1
PF_IO_FLUSHER = 0x00180000  #: include/linux/sched.h: PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE


@dataclass(frozen=True)
class Sample:
    """
    What /proc said at a moment, read by the agent, which is locked in memory.

    :ivar flood_bytes: what the writers wrote, all together
    :ivar written_sectors: of the device
    :ivar read_s: how long the agent took to read it
    """

    seconds: float
    flood_bytes: int
    written_sectors: int
    read_s: float


def boot(rig: Rig, label: str) -> tuple[Guest, Target]:
    root = rig.disk_copy(label)
    root.edit(
        f"dd if=/dev/zero of=$ROOT/swapfile bs=1M count={SWAP_MIB} status=none; "
        f"chmod 600 $ROOT/swapfile; mkswap -q $ROOT/swapfile; install -m 644 {SCRIPT} $ROOT/root/pressure.py"
    )
    target = rig.target(Lun(root.file))
    guest = rig.boot("bios", label, root=root, target=target, memory_mib=MEMORY_MIB)
    guest.wait_agent(BOOT_S)
    return guest, target


def isboot_pids(guest: Guest) -> list[int]:
    return [int(word) for word in guest.channel.run("pgrep -f '^@isboot'").output.split()]


def check_armour(guest: Guest) -> None:
    """What isboot.daemon.armour promises, as the kernel sees it."""
    read = guest.channel.read
    assert int(read("/proc/sys/vm/min_free_kbytes")) >= MIN_FREE_KIB
    pids = isboot_pids(guest)
    assert len(pids) == 3
    for pid in pids:
        status = dict(
            line.split(":", 1) for line in read(f"/proc/{pid}/status").decode().splitlines() if ":" in line
        )
        assert int(status["VmLck"].split()[0]) > MIN_LOCKED_KIB, (pid, status["VmLck"])
        assert int(status["VmSwap"].split()[0]) == 0, (pid, status["VmSwap"])
        assert int(read(f"/proc/{pid}/oom_score_adj")) == -1000
        threads = guest.channel.run(f"ls /proc/{pid}/task").output.split()
        for thread in threads:
            # from the state on, field 3 of proc_pid_stat(5): flags are 9, rt_priority 40, policy 41
            fields = read(f"/proc/{pid}/task/{thread}/stat").decode().rpartition(")")[2].split()
            flags, priority, policy = (int(fields[number - 3]) for number in (9, 40, 41))
            assert (policy, priority) == (SCHED_FIFO, 1), (pid, thread, policy, priority)
            assert flags & PF_IO_FLUSHER == PF_IO_FLUSHER, (pid, thread, hex(flags))


def vmstat(guest: Guest, name: str) -> int:
    rows = dict(line.split() for line in guest.channel.read("/proc/vmstat").decode().splitlines())
    return int(rows[name])


def sample(guest: Guest, pids: list[int], began: float) -> Sample:
    start = time.monotonic()
    flood_bytes = 0
    for pid in pids:
        rows = dict(line.split(": ") for line in guest.channel.read(f"/proc/{pid}/io").decode().splitlines())
        flood_bytes += int(rows["wchar"])
    disks = [line.split() for line in guest.channel.read("/proc/diskstats").decode().splitlines()]
    sectors = next(int(row[9]) for row in disks if row[2] == "ublkb0")
    now = time.monotonic()
    return Sample(now - began, flood_bytes, sectors, now - start)


def show_stall(guest: Guest, pids: list[int]) -> None:
    """Where everybody waits, onto the console; by the agent alone, for programs come from the root."""
    for letter in (b"w", b"m"):
        try:
            guest.channel.write("/proc/sysrq-trigger", letter, 10)
        except RigError as error:
            say(f"sysrq {letter!r}: {error}")
    for pid in pids:
        for name in ("stack", "wchan", "status"):
            try:
                say(f"{pid} {name}: {guest.channel.read(f'/proc/{pid}/{name}', 10).decode()}")
            except RigError as error:
                say(f"{pid} {name}: {error}")
    time.sleep(5)


def windows(samples: list[Sample]) -> list[tuple[float, int, int]]:
    """Give the progress in every window: its start in seconds, bytes of the flood, sectors of the device."""
    rows = []
    first = samples[0]
    for one in samples[1:]:
        if one.seconds - first.seconds >= WINDOW_S:
            rows.append(
                (
                    first.seconds,
                    one.flood_bytes - first.flood_bytes,
                    one.written_sectors - first.written_sectors,
                )
            )
            first = one
    return rows


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One kernel, or with --all each of them: it takes four minutes."""
    if "pressure_label" in metafunc.fixturenames:
        is_all = metafunc.config.getoption("--all")
        metafunc.parametrize("pressure_label", ["6.12", "7.2"] if is_all else ["6.12"])


def test_root_and_swap_go_on_under_memory_pressure(rig: Rig, pressure_label: str) -> None:
    guest, target = boot(rig, pressure_label)
    run = guest.channel.run
    check_armour(guest)
    run("sysctl -q vm.swappiness=100; swapon /swapfile", 60)
    worker = int(guest.channel.read("/run/isboot/worker"))
    processes = isboot_pids(guest)
    swapped = vmstat(guest, "pswpout")

    flood = guest.channel.start(f"python3 /root/pressure.py {FLOOD_S:g} /root {PIDS}", FLOOD_S + 180)
    began = time.monotonic()
    while time.monotonic() - began < 60:
        words = guest.channel.run(f"cat {PIDS}", 60, is_checked=False).output.split()
        if words and words[0].isdigit():
            break
        time.sleep(0.5)
    writers = [int(word) for word in words[:-1]]
    began = time.monotonic()
    samples = [sample(guest, writers, began)]
    deeds = [(FLOOD_S / 3, "kill"), (FLOOD_S * 2 / 3, "outage")]
    try:
        # the writers read their files again at the end, which is no progress of the flood
        while time.monotonic() - began < FLOOD_S - 5:
            if deeds and time.monotonic() - began >= deeds[0][0]:
                if deeds.pop(0)[1] == "kill":
                    guest.channel.kill(worker)
                else:
                    # no question to the guest meanwhile: the agent's memory may have to be freed by this disk
                    target.kill()
                    time.sleep(OUTAGE_S)
                    target.start()
            time.sleep(SAMPLE_S)
            samples.append(sample(guest, writers, began))
            moved = [one for one in samples if one.seconds > samples[-1].seconds - WINDOW_S]
            if (
                len(moved) > 2
                and moved[-1].seconds > WINDOW_S
                and moved[0].flood_bytes == moved[-1].flood_bytes
            ):
                raise RigError(f"no progress for {WINDOW_S:g} s: {moved[0]} {moved[-1]}")
    except RigError:
        show_stall(guest, processes + writers)
        raise
    code, output = flood.wait()
    assert code == 0, output.decode(errors="replace")[-3000:]
    results = json.loads(output)
    say(f"{pressure_label}: {results}; windows {windows(samples)}")
    say(f"agent's slowest reading {max(one.read_s for one in samples):.1f} s")
    for result in (*results["writers"], results["eater"]):
        assert result.get("wrong") == 0, results
    for start, flood_bytes, sectors in windows(samples):
        assert min(flood_bytes, sectors) > 0, (start, windows(samples))
    swapped = vmstat(guest, "pswpout") - swapped
    say(f"{pressure_label}: {swapped} pages swapped out")
    assert swapped > SWAPPED_PAGES
    check_armour(guest)
    row = json.loads(run("isboot status --json").output)["devices"][0]
    assert (row["state"], row["worker_replacements"]) == ("live", 1)
    assert row["worker_pid"] != worker
    assert row["lanes"][0]["reconnects"] >= 1
    run("swapoff /swapfile", 120)
    guest.power_off(180)
