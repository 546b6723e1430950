"""
Which engines run: the files that isboot processes have mapped, each once, however many processes share it.

Probes are attached to a file, so that the process that replaces a dead worker is traced like the one before.
The file is named by /proc/PID/map_files: that leads to the very file in use, also when it lies in the private
mount namespace of the boot's service, was replaced by an upgrade, or is deleted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from isboot.errors import ExitStatus, TraceError

PROC = Path("/proc")

#: range, protection, offset, device, inode, path: of the cffi extension isboot._engine
_MAPPING = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) \S+ [0-9a-f]+ (\S+) (\d+) +(\S.*/isboot/_engine[^/]*\.so)( \(deleted\))?$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Engine:
    """
    :param path: opens the file
    :param name: what its users call it
    :param pids: the processes that use it, the oldest first
    """

    path: Path
    name: str
    pids: tuple[int, ...]


def find(only_pids: Collection[int] = (), proc: Path = PROC) -> list[Engine]:
    """
    Give the engines in use.

    :param only_pids: engines none of these processes uses are left out; empty: all are wanted
    :raises TraceError: there is none (exit status 66)
    """
    found: dict[tuple[str, str], list[tuple[int, Path, str]]] = {}
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()):
        if pid == os.getpid():
            continue
        try:
            # a process that left meanwhile, or a kernel thread
            text = (proc / str(pid) / "maps").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            continue
        mapping = _MAPPING.search(text)
        if mapping:
            first, last, device, inode, name, _ = mapping.groups()
            path = proc / str(pid) / "map_files" / f"{int(first, 16):x}-{int(last, 16):x}"
            found.setdefault((device, inode), []).append((pid, path, name))
    engines = [
        Engine(users[0][1], users[0][2], tuple(pid for pid, _, _ in users)) for users in found.values()
    ]
    if only_pids:
        engines = [engine for engine in engines if set(engine.pids) & set(only_pids)]
    if not engines:
        raise TraceError(
            "looking for isboot's engine: no process uses it",
            "attach a device first: isboot attach URL; `isboot status` shows what there is",
            ExitStatus.NOTHING_THERE,
        )
    return engines
