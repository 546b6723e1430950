"""
When the root file system is mounted, seen from a world that does not hold it.

PID 1's list of mounts can be waited for (proc_pid_mountinfo(5)): a change shows as POLLPRI.  It is open for
as long as the initramfs has no root, and never after: an open list holds on to the mounts it lists.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

MOUNTINFO = Path("/proc/1/mountinfo")
#: where the initramfs of dracut, and that of initramfs-tools, mount the root
ROOTS = ("/sysroot", "/root")
#: types of an initramfs' own "/"
EARLY_TYPES = ("rootfs", "ramfs", "tmpfs")


def find_root(mountinfo: str) -> str:
    """Give "SOURCE on PLACE" of the root file system, "" while there is none."""
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if not dash or len(fields) < 5 or len(kinds) < 2:
            continue
        place, kind, source = fields[4], kinds[0], kinds[1]
        if place in ROOTS or (place == "/" and kind not in EARLY_TYPES):
            return f"{source} on {place}"
    return ""


class RootWatch:
    """Waits for the root: `fileno` is ready (POLLPRI) when something was mounted; -1 once it is over."""

    def __init__(self, path: Path = MOUNTINFO) -> None:
        self._file: BinaryIO | None = None
        try:
            self._file = path.open("rb", buffering=0)
        except OSError:
            return
        if self.look():
            self.close()  # no initramfs: there was a root all the time

    def fileno(self) -> int:
        return self._file.fileno() if self._file else -1

    def look(self) -> str:
        """Give the root as find_root does."""
        if self._file is None:
            return ""
        self._file.seek(0)
        return find_root(self._file.read().decode(errors="replace"))

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
