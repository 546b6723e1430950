"""What the target's side saw of the power-off: a Logout, and a clean file system."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.vm.disk import MIB, ROOT_MIB
from tests.vm.progress import RigError
from tests.vm.target import Target

#: tgtd logs no Logout as such, but with debugging on the opcode of each request that waits for its turn
#: (iscsi_task_queue: CmdSN, expected CmdSN, opcode); 06 is Logout, 46 an immediate one (RFC 7143 §11.2.1)
LOGOUT = re.compile(rb"iscsi_task_queue\(\d+\) [0-9a-f]+ [0-9a-f]+ (4?6)\n")
SESSION_ENDED = re.compile(rb"it_nexus_destroy\(\d+\)[^\n]*")


class Watch:
    """tgtd's log from now on, every request in it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        target.admin("--op", "update", "--mode", "sys", "--name", "debug", "--value", "on")
        self._position = target.service.log.stat().st_size

    def check_logout(self) -> list[str]:
        """
        Give the lines that tell of the session's end.

        :raises RigError: there was no Logout, or the session outlived it
        """
        log = self.target.service.log.read_bytes()[self._position :]
        logout = LOGOUT.search(log)
        if not logout:
            raise RigError(f"no Logout in the target's log, {self.target.service.log}")
        ended = SESSION_ENDED.search(log, logout.end())
        if not ended:
            raise RigError(f"the target's session outlived its Logout: {self.target.service.log}")
        lines = [line.decode(errors="replace").strip() for line in (logout[0], ended[0])]
        return [f"tgtd: {lines[0]}    (opcode 0x{logout[1].decode():0>2}, a Logout)", f"tgtd: {lines[1]}"]


def check_file_system(disk: Path) -> str:
    """
    Give e2fsck's verdict on the root file system; nothing is mended.

    :raises RigError: it is not clean, or its journal still has something to be replayed
    """
    where = f"{disk}?offset={ROOT_MIB * MIB}"
    head = _run("dumpe2fs", "-h", where)
    if "needs_recovery" in head or not re.search(r"^Filesystem state: +clean$", head, re.MULTILINE):
        raise RigError(f"the root file system was not unmounted cleanly:\n{head}")
    return _run("e2fsck", "-fn", where).splitlines()[-1]


def _run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RigError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}")
    return done.stdout
