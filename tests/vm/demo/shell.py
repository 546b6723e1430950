"""A terminal on the guest's console, for `tools/demo --shell`."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from pathlib import Path

from tests.vm.progress import RigError
from tests.vm.qemu import connect

#: Ctrl-], as telnet has it
LEAVE = b"\x1d"


def attach(console: Path) -> None:
    """
    Connect this terminal to the guest's until Ctrl-] is typed or the guest ends.

    :param console: QEMU's socket of ttyS0
    :raises RigError: standard input is no terminal
    """
    if not sys.stdin.isatty():
        raise RigError("--shell needs a terminal")
    print("        root has no password; Ctrl-] leaves and goes on with the power-off", flush=True)
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    before = termios.tcgetattr(keyboard)
    with connect(console) as guest:
        guest.sendall(b"\r")
        tty.setraw(keyboard)
        try:
            while True:
                ready = select.select([keyboard, guest], [], [])[0]
                if guest in ready:
                    data = guest.recv(4096)
                    if not data:
                        return
                    os.write(screen, data)
                if keyboard in ready:
                    typed = os.read(keyboard, 4096)
                    if LEAVE in typed:
                        return
                    guest.sendall(typed)
        finally:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
            print(flush=True)
