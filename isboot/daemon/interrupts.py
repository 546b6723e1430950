"""^C and SIGTERM in the foreground: a wish to detach, which a disk in use refuses."""

from __future__ import annotations

import os
import signal
from typing import Any

from isboot.daemon.control import Client
from isboot.daemon.log import Level, Log
from isboot.errors import ExitStatus

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """
    Readable once somebody wants us to end.

    To be made before the first fork: the children ignore these signals, for the disk ends with the launcher's
    word and in order.
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for number in SIGNALS:
            signal.signal(number, lambda number, frame: os.eventfd_write(self._fd, 1))

    def fileno(self) -> int:
        return self._fd

    def take(self) -> None:
        """Be unreadable until the next one."""
        os.eventfd_read(self._fd)

    def ignore_in_child(self) -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        os.close(self._fd)


class Terminal(Client):
    """Who interrupted: an answer needs no words, a refusal is said."""

    def __init__(self, log: Log) -> None:
        self.word = "detach"
        self._log = log

    def answer(self, **values: Any) -> None:
        if values.get("warning"):
            self._log.say(str(values["warning"]), Level.WARNING)
        if not values.get("ok"):
            hint = f" (hint: {values['hint']})" if values.get("hint") else ""
            stays = "; the device stays" if values.get("exit_status") == ExitStatus.TRY_AGAIN else ""
            self._log.say(f"{values['message']}{stays}{hint}", Level.ERROR)

    def close_in_child(self) -> None:
        pass
