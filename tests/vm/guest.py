"""A guest as a test sees it: machine and agent together, and the check of its kernel's log at the end."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm import cache
from tests.vm.channel import Channel
from tests.vm.progress import RigError, say
from tests.vm.qemu import Machine, Qemu, connect

#: what a healthy kernel does not print
COMPLAINT = re.compile(
    r"\bBUG:|\bWARNING:|\bOops\b|blocked for more than \d+ seconds|Call Trace:|Kernel panic|soft lockup"
    r"|general protection fault|rcu_\w+ (self-)?detected|I/O error, dev|Buffer I/O error|EXT4-fs error"
    r"|Out of memory: Killed"
)

#: of those, what an emulated machine prints without harm
HARMLESS = re.compile(r"clocksource: |WARNING: CPU: \d+ PID: \d+ at arch/x86/kernel/tsc|PM-Timer")

#: run directories that are kept
KEPT_RUNS = 30

#: seconds in which a run directory is not removed whatever their number
YOUNG_S = 2 * 3600


def new_directory(name: str) -> Path:
    """A directory for the logs of one run, below `runs/` in the cache; the oldest go."""
    runs = cache.directory() / "runs"
    runs.mkdir(exist_ok=True)
    for old in sorted(runs.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_RUNS]:
        # a run that waits for its turn writes nothing for a while
        if time.time() - old.stat().st_mtime > YOUNG_S:
            shutil.rmtree(old, ignore_errors=True)
    safe = re.sub(r"[^\w.-]+", "-", name)
    for number in range(1000):
        path = runs / f"{time.strftime('%m%d-%H%M%S')}-{safe}{f'-{number}' if number else ''}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise RigError(f"no free name in {runs}")


class Guest:
    """A running guest; `channel` runs commands in it, `qemu` is the machine."""

    def __init__(self, qemu: Qemu) -> None:
        self.qemu = qemu
        self._channel: Channel | None = None
        self.is_ended = False

    @property
    def channel(self) -> Channel:
        """The agent; `wait_agent` first."""
        if self._channel is None:
            raise RigError("the agent of this guest has not been waited for")
        return self._channel

    def wait_agent(self, timeout_s: float = 60) -> str:
        """
        Wait until commands can be run; gives the kernel's release.

        :raises RigError: not within timeout_s; with the end of the console
        """
        if not self.qemu.service.is_alive:
            self.qemu.revive()
        if self._channel is None:
            self._channel = Channel(connect(self.qemu.socket_path("agent")))
        deadline = time.monotonic() + timeout_s
        while True:
            is_alive = self.qemu.service.is_alive
            try:
                return self._channel.wait_hello(1)
            except RigError as error:
                if not is_alive and self.qemu.revive():
                    self._channel.close()
                    self._channel = Channel(connect(self.qemu.socket_path("agent")))
                    deadline = time.monotonic() + timeout_s
                    continue
                if not is_alive or time.monotonic() > deadline:
                    raise RigError(f"no agent within {timeout_s:g} s: {error}\n{self.qemu.tail()}") from None

    def complaints(self) -> list[str]:
        """Lines of the console that a healthy kernel does not print."""
        lines = self.qemu.text().splitlines()
        return [line for line in lines if COMPLAINT.search(line) and not HARMLESS.search(line)]

    def power_off(self, timeout_s: float = 60) -> None:
        """
        Have systemd switch it off, or the quick guest's init, which ends with the agent; and wait.

        :raises RigError: it is not off after timeout_s
        """
        self.channel.request("power_off", "power off", 10)
        self.qemu.wait_end(timeout_s)
        self.is_ended = True


@contextmanager
def guest_lock() -> Iterator[None]:
    """
    One guest at a time: two emulated processors are all this needs from a small machine.

    Several may run beside each other, each with a lock of its own in $ISBOOT_RIG_LOCK (tests/conftest.py).
    """
    with cache.locked(os.environ.get("ISBOOT_RIG_LOCK", "guest")):
        yield


@contextmanager
def running(machine: Machine, directory: Path) -> Iterator[Guest]:
    """
    Run a machine while the block lasts; the caller holds `guest_lock`.

    Where the block fails, the end of the console is shown and the directory of logs is named.
    """
    with Qemu(machine, directory) as qemu:
        guest = Guest(qemu)
        try:
            yield guest
        except BaseException:
            say(f"failed; logs are in {directory}\n{qemu.tail()}")
            raise
        finally:
            if guest._channel:
                guest._channel.close()
