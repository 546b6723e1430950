"""
Messages of the daemon's processes.

They go to the kernel's log, which needs no disk and no journald (both may hang with the root), and to a ring
in memory that `status` and a failed boot read.  A message that repeats is said once, and again when it
changes.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from enum import IntEnum

REPEAT_S = 30.0
PRINTK = "/proc/sys/kernel/printk"
RING_LINES = 256
#: the kernel takes ten lines in five seconds from an open file (printk.devkmsg=ratelimit), and drops others
KMSG_BURST = 8


class Level(IntEnum):
    """syslog(3)'s numbers, as /dev/kmsg takes them."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


def _open_kmsg() -> int:
    try:
        # non-blocking: a full log must not stop the process that serves the root
        return os.open("/dev/kmsg", os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return -1


class Log:
    """
    :param to_kernel: write to /dev/kmsg (else standard error)
    :param show: the lowest importance that is said
    """

    def __init__(self, *, to_kernel: bool = True, show: Level = Level.INFO) -> None:
        self.ring: deque[str] = deque(maxlen=RING_LINES)
        self._show = show
        self._said: dict[str, tuple[str, float]] = {}
        self._repeat_s = REPEAT_S
        self._has_traces = False
        self._console_fd = -1
        self._console_level = 0  #: the kernel itself puts what is more important on the console
        self._fd = -1
        if to_kernel:
            self._fd = _open_kmsg()

    @property
    def is_kernels(self) -> bool:
        """Whether it goes to the kernel's log, and so to the console."""
        return self._fd >= 0

    def turn_up(
        self, *, to_console: bool, debug: int, console: str = "/dev/console", printk: str = PRINTK
    ) -> None:
        """
        Say more.

        :param to_console: also what the kernel keeps from its console, as it does when it is "quiet"
        :param debug: 1: what only developers ask for; 2: what repeats as well; 3: where errors came up
        :param printk: the file with the kernel's level for its console
        """
        if debug >= 1:
            self._show = Level.DEBUG
        if debug >= 2:
            self._repeat_s = 0.0
        self._has_traces = debug >= 3
        if to_console and self._fd >= 0:
            try:
                with open(printk, encoding="ascii") as file:
                    self._console_level = int(file.read().split()[0])
                # non-blocking: a terminal that is stopped must not stop us
                flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
                self._console_fd = os.open(console, flags)
            except (OSError, ValueError, IndexError):
                self._console_fd = -1

    def trace(self, error: BaseException) -> None:
        """Say where an error came up, if that was asked for."""
        if self._has_traces:
            import traceback

            for line in "".join(traceback.format_exception(error)).splitlines():
                self.say(line, Level.DEBUG, is_row=True)

    def say(self, text: str, level: Level = Level.INFO, *, is_row: bool = False) -> None:
        """
        Say one line; newlines become spaces, so that a peer's words cannot forge a line.

        :param is_row: its columns are set with blanks, which stay
        """
        self._say(" ".join(text.splitlines() if is_row else text.split()), level)

    def say_table(self, lines: Sequence[str], level: Level) -> None:
        """Say rows that belong together, none of which the kernel may drop."""
        ours = self._fd
        try:
            for number, line in enumerate(lines):
                if ours >= 0 and number % KMSG_BURST == 0:
                    if number:
                        os.close(self._fd)
                    self._fd = _open_kmsg()
                self.say(line, level, is_row=True)
        finally:
            if self._fd != ours:
                if self._fd >= 0:
                    os.close(self._fd)
                self._fd = ours

    def _say(self, line: str, level: Level) -> None:
        self.ring.append(line)
        if level > self._show:
            return
        if self._fd < 0:
            try:
                sys.stderr.write(f"isboot: {line}\n")
                sys.stderr.flush()
            except OSError:
                pass  # a terminal that went away is no reason to stop serving
            return
        try:
            os.write(self._fd, f"<{int(level)}>isboot: {line}\n".encode("utf-8", "replace")[:900])
            if self._console_fd >= 0 and level >= self._console_level:
                os.write(self._console_fd, f"isboot: {line}\n".encode("utf-8", "replace")[:900])
        except OSError:
            pass  # a lost line is better than a lost root

    def say_once(self, subject: str, text: str, level: Level = Level.INFO) -> None:
        """Say a line about a subject unless it is the same as the last one, at most REPEAT_S ago."""
        now = time.monotonic()
        last, when = self._said.get(subject, ("", 0.0))
        if last == text and now - when < self._repeat_s:
            return
        self._said[subject] = (text, now)
        self.say(text, level)

    def forget(self, subject: str) -> None:
        self._said.pop(subject, None)
