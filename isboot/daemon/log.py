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
RING_LINES = 256
#: the kernel takes ten lines in five seconds from an open file (printk.devkmsg=ratelimit), and drops others
KMSG_BURST = 8


class Level(IntEnum):
    """syslog(3)'s numbers, as /dev/kmsg takes them."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


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
        self._fd = -1
        if to_kernel:
            self._fd = _open_kmsg()

    @property
    def is_kernels(self) -> bool:
        """Whether it goes to the kernel's log, and so to the console."""
        return self._fd >= 0

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
        except OSError:
            pass  # a lost line is better than a lost root

    def say_once(self, subject: str, text: str, level: Level = Level.INFO) -> None:
        """Say a line about a subject unless it is the same as the last one, at most REPEAT_S ago."""
        now = time.monotonic()
        last, when = self._said.get(subject, ("", 0.0))
        if last == text and now - when < REPEAT_S:
            return
        self._said[subject] = (text, now)
        self.say(text, level)

    def forget(self, subject: str) -> None:
        self._said.pop(subject, None)
