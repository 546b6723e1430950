"""Programs the rig starts: each with a log, none that outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.vm.progress import RigError


class Service:
    """
    A program in the background.

    :param command: what to run; the kernel kills it when this process dies (PR_SET_PDEATHSIG)
    :param log: what it writes goes there, appended
    """

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.command = list(command)
        self.log = log
        self.environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; setpriv and `ip netns exec` become the program, so it is the program's own."""
        if self._process is None:
            raise RigError(f"{self.command[0]} is not running")
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Started and not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it."""
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> int:
        """
        Wait for its end and give its exit status.

        :raises RigError: it is still running after timeout_s
        """
        if self._process is None:
            return 0
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise RigError(f"{self.command[0]} still runs after {timeout_s:g} s (log: {self.log})") from None

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 5) -> None:
        """End it: the signal first, SIGKILL after timeout_s."""
        if not self.is_alive:
            return
        self.send(number)
        try:
            self.wait(timeout_s)
        except RigError:
            self.send(signal.SIGKILL)
            self.wait(timeout_s)
