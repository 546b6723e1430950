"""The work in the running guest: its disks, data written and read, a broken connection, a killed worker."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

from tests.vm.channel import Pending
from tests.vm.demo.story import Story
from tests.vm.diskless import Console
from tests.vm.guest import COMPLAINT, HARMLESS, Guest
from tests.vm.progress import RigError
from tests.vm.target import Target

FILE = "/var/tmp/demo"
FILE_MIB = 64
OUTAGE_S = 5

#: writes, reads back and compares all the time; the disk may be gone for a while, but must not fail
LOAD = (
    "fio --name=load --filename=/var/tmp/load --size=32m --rw=randrw --bssplit=4k/50:16k/30:64k/20 --direct=1"
    " --ioengine=libaio --iodepth=16 --verify=crc32c --verify_backlog=256 --verify_fatal=1 --time_based"
    " --runtime={seconds} --output-format=json --output=/run/load.json"
)
LOAD_S = 25
LOAD_TIMEOUT_S = 60

TRACE_S = 6
TRACE = f"isboot trace latency --duration {TRACE_S}"

#: how long the disk may take to be served again; a recovery is to take less than 500 ms
RECOVERY_TIMEOUT_S = 30


class Work:
    """A running diskless guest, and the target behind its disk."""

    def __init__(self, story: Story, guest: Guest, target: Target) -> None:
        self.story = story
        self.guest = guest
        self.target = target
        self.console = Console(guest.qemu)
        list(self.console.lines())

    def run(self) -> None:
        """Everything, in order."""
        steps: tuple[tuple[str, Callable[[], object]], ...] = (
            ("disks", self.look_at_disks),
            ("root", self.look_at_root),
            ("ibft", lambda: self.show("isboot ibft")),
            ("status", lambda: self.show("isboot status")),
            ("inquiry", lambda: self.show(f"isboot inquiry {self.target.url()}")),
            ("data", self.write_and_read_back),
            ("load", self.break_and_recover),
            ("trace", self.trace_latency),
            ("dmesg", self.search_kernel_log),
        )
        for stage, step in steps:
            self.story.begin(stage)
            step()

    def tell(self, text: str) -> None:
        """Tell something with the guest's clock."""
        self.story.guest(self.clock(), text)

    def clock(self) -> float:
        """Seconds since the guest's kernel started."""
        return float(self.guest.channel.read("/proc/uptime").split()[0])

    def ask(self, command: str, timeout_s: float = 60) -> str:
        """Run a command and give its output."""
        return self.guest.channel.run(command, timeout_s).output

    def show(self, command: str, timeout_s: float = 60) -> str:
        """Run a command and show it with its output."""
        self.tell(f"$ {command}")
        output = self.ask(command, timeout_s)
        self.story.output(output)
        return output

    def status(self) -> dict[str, Any]:
        """Give isboot's own account of the disk."""
        devices: list[dict[str, Any]] = json.loads(self.ask("isboot status --json"))["devices"]
        if len(devices) != 1:
            raise RigError(f"isboot status: {len(devices)} devices, not one")
        return devices[0]

    def tell_log(self) -> None:
        """Tell what isboot has written to the kernel's log since the last time."""
        for seconds, text in self.console.log():
            if text.startswith("isboot: "):
                self.story.guest(seconds, text)

    def look_at_disks(self) -> None:
        self.show("lsblk -o NAME,TYPE,SIZE,FSTYPE,LABEL,MOUNTPOINTS")
        disks = self.ask("lsblk -dno NAME").split()
        if disks != ["ublkb0"]:
            raise RigError(f"the disks of this machine are {disks}, not ublkb0 alone")

    def look_at_root(self) -> None:
        self.show("findmnt /")
        source = self.ask("findmnt -no SOURCE /").strip()
        if not source.startswith("/dev/ublkb0"):
            raise RigError(f"the root file system is on {source}, not on ublkb0")

    def write_and_read_back(self) -> None:
        self.tell(f"{FILE_MIB} MiB of random data are written")
        written = self.ask(f"head -c {FILE_MIB}M /dev/urandom > {FILE}; sync; sha256sum < {FILE}", 120)
        before = self.read_bytes()
        self.ask("echo 3 > /proc/sys/vm/drop_caches")
        read = self.ask(f"sha256sum < {FILE}", 120)
        came_mib = (self.read_bytes() - before) >> 20
        if read != written:
            raise RigError(f"what was read back is not what was written: {read} and {written}")
        if came_mib < FILE_MIB:
            raise RigError(f"only {came_mib} MiB came from the disk: the caches were not dropped")
        self.tell(f"caches dropped, {came_mib} MiB read from the disk, the same: sha256 {read[:16]}...")
        self.ask(f"rm {FILE}")

    def disk_numbers(self) -> list[int]:
        """Give /sys/block/ublkb0/stat: I/Os, merges, sectors, ms of reads; the same of writes."""
        return [int(word) for word in self.guest.channel.read("/sys/block/ublkb0/stat").split()]

    def read_bytes(self) -> int:
        """Bytes read from the disk so far."""
        return self.disk_numbers()[2] * 512

    def wait_for_load(self) -> None:
        """
        Wait until fio has laid its file out and keeps the disk busy.

        :raises RigError: it does not within LOAD_TIMEOUT_S
        """
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        begun = self.disk_numbers()
        while True:
            now = self.disk_numbers()
            # loading fio itself takes 160 reads, laying out its file none
            if now[0] - begun[0] > 400:
                return
            if time.monotonic() > deadline:
                raise RigError(f"fio does not get going within {LOAD_TIMEOUT_S} s")
            time.sleep(0.2)

    def break_and_recover(self) -> None:
        self.tell(f"fio writes, reads and compares for {LOAD_S} s")
        load = self.guest.channel.start(LOAD.format(seconds=LOAD_S), LOAD_S + 120)
        self.wait_for_load()
        self.story.begin("outage")
        self.stop_target()
        self.story.begin("kill -9")
        self.kill_worker()
        self.story.begin("load")
        self.finish_load(load)

    def stop_target(self) -> None:
        before = self.status()
        self.tell(f"the target is killed, for {OUTAGE_S} s")
        self.target.kill()
        end = time.monotonic() + OUTAGE_S
        while time.monotonic() < end:
            time.sleep(0.2)
            self.tell_log()
        self.target.start()
        self.tell("the target is there again")
        state = self.wait_until(lambda now: now["state"] == "live" and _reconnects(now) > _reconnects(before))
        self.tell(f"live again, {_reconnects(state)} reconnect")
        time.sleep(2)

    def kill_worker(self) -> None:
        before = self.status()
        self.tell(f"the process that serves the disk, {before['worker_pid']}, gets SIGKILL")
        self.guest.channel.kill(before["worker_pid"])
        state = self.wait_until(
            lambda now: now["state"] == "live" and now["worker_replacements"] > before["worker_replacements"]
        )
        if state["worker_pid"] == before["worker_pid"]:
            raise RigError(f"isboot status still names worker {before['worker_pid']}, which was killed")
        self.tell(f"live again, served by {state['worker_pid']}")

    def wait_until(self, is_reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """
        Wait until isboot's status is as wanted, telling what its log says meanwhile.

        :raises RigError: it is not within RECOVERY_TIMEOUT_S
        """
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while True:
            state = self.status()
            self.tell_log()
            if is_reached(state):
                return state
            if time.monotonic() > deadline:
                raise RigError(f"not live again within {RECOVERY_TIMEOUT_S} s: {json.dumps(state)}")
            time.sleep(0.1)

    def finish_load(self, load: Pending) -> None:
        status, output = load.wait()
        self.tell_log()
        if status:
            raise RigError(f"fio: exit {status}\n{output.decode(errors='replace')[-3000:]}")
        job = json.loads(self.guest.channel.read("/run/load.json"))["jobs"][0]
        if job["error"]:
            raise RigError(f"fio: error {job['error']}")
        moved = [
            f"{job[way]['total_ios']} {way}s ({job[way]['io_bytes'] >> 20} MiB)" for way in ("read", "write")
        ]
        if not job["read"]["total_ios"] or not job["write"]["total_ios"]:
            raise RigError(f"fio moved nothing: {moved}")
        longest_s = max(job[way]["clat_ns"]["max"] for way in ("read", "write")) / 1e9
        self.tell(
            f"fio: {', '.join(moved)}, no error, all data as written; the longest took {longest_s:.3f} s"
        )
        self.ask("rm -f /var/tmp/load")

    def trace_latency(self) -> None:
        if "trace" not in self.ask("isboot --help"):
            self.tell("this isboot has no trace")
            return
        self.tell(f"$ {TRACE}")
        loads: list[Pending] = []

        def begin_load(output: bytes) -> None:
            # compiling and attaching takes a while in emulation
            if b"tracing" in output and not loads:
                loads.append(self.guest.channel.start(LOAD.format(seconds=TRACE_S), 120))

        output = self.guest.channel.run(TRACE, 120, on_output=begin_load).output
        self.story.output(output)
        if not loads or "no I/O" in output:
            raise RigError("the trace saw nothing of the load")
        status, words = loads[0].wait()
        if status:
            raise RigError(f"fio: exit {status}\n{words.decode(errors='replace')[-3000:]}")

    def search_kernel_log(self) -> None:
        lines = self.ask("dmesg").splitlines()
        bad = [line for line in lines if COMPLAINT.search(line) and not HARMLESS.search(line)]
        bad += [line for line in lines if re.search(r"I/O error|critical (target|medium) error", line)]
        if bad:
            raise RigError("the kernel's log has complaints:\n" + "\n".join(bad))
        self.tell(f"{len(lines)} lines of the kernel's log: no I/O error, no warning, no hung task")


def _reconnects(state: dict[str, Any]) -> int:
    return sum(lane["reconnects"] for lane in state["lanes"])
