"""
What a worker leaves for a launcher that comes later.

A launcher that dies takes nothing with it, but its successor must find the device instead of making a second
one.  The worker writes what it knows into its own world: a ramfs in a mount namespace that only isboot's
processes share, so the secrets in it are where they were already, in isboot's memory.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isboot.daemon.channel import Channel, Live
from isboot.errors import DaemonError, ExitStatus
from isboot.values import BootConfig, NicState

WORLD = Path("/")  #: as isboot's processes see it
#: in the world, each followed by the number of the device
HERITAGE, STANDBY, DOOR = "isboot-heritage-", "isboot-standby-", "isboot-door-"
PID_FILE = Path("/run/isboot/worker")  #: whose namespace is the world


@dataclass(frozen=True, slots=True)
class Heritage:
    """
    :param began: the worker's start time in clock ticks since boot: a pid alone may be another process by now
    :param shared_fd: number of the shared memory's descriptor in the worker
    """

    config: BootConfig
    nics: Mapping[int, NicState]
    live: Live
    pid: int
    began: int
    shared_fd: int


def start_time(pid: int) -> int:
    """Give field 22 of /proc/PID/stat, or 0 when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return int(text[text.rindex(")") + 2 :].split()[19])


def leave(heritage: Heritage) -> None:
    """Write it, whole or not at all."""
    file = WORLD / f"{HERITAGE}{heritage.live.device_id}"
    partial = file.with_name(f".{file.name}.new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(pickle.dumps(heritage))
    os.replace(partial, file)
    if heritage.config.is_boot_lun:
        partial = PID_FILE.with_name(PID_FILE.name + ".new")
        partial.write_text(f"{heritage.pid}\n", encoding="ascii")
        os.replace(partial, PID_FILE)


def find(lun: bytes | None = None) -> Heritage:
    """
    Read what the living worker of a LUN left.

    :param lun: None for the boot LUN
    :raises DaemonError: nothing was left, or whoever left it is dead (exit status 66)
    """
    dead: Heritage | None = None
    for file in sorted(WORLD.glob(f"{HERITAGE}*")):
        heritage: Heritage = pickle.loads(file.read_bytes())  # noqa: S301 - written by a worker, root's alone
        config = heritage.config
        if config.paths[0].lun == lun if lun is not None else config.is_boot_lun:
            if start_time(heritage.pid) == heritage.began:
                return heritage
            dead = heritage
    if dead is None:
        raise DaemonError(
            f"adopting a worker: nothing was left in {WORLD / HERITAGE}*", "", ExitStatus.NOTHING_THERE
        )
    raise DaemonError(
        f"adopting worker {dead.pid}: it is dead", "nothing serves the device", ExitStatus.NOTHING_THERE
    )


def open_door(device_id: int) -> socket.socket:
    """Listen for a new launcher, in a worker whose launcher is gone; in the world only."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    place = WORLD / f"{DOOR}{device_id}"
    place.unlink(missing_ok=True)
    door.bind(str(place))
    door.listen(1)
    return door


def knock(device_id: int, timeout_s: float = 10.0) -> Channel:
    """
    Reach the worker.

    :raises DaemonError: it does not listen: its launcher lives
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.settimeout(timeout_s)
    try:
        end.connect(str(WORLD / f"{DOOR}{device_id}"))
    except OSError as error:
        end.close()
        raise DaemonError(
            f"adopting a worker: {error.strerror}", "its launcher is alive", ExitStatus.TRY_AGAIN
        ) from error
    end.settimeout(None)
    return Channel(end)


def note_standby(device_id: int, pid: int) -> None:
    (WORLD / f"{STANDBY}{device_id}").write_text(f"{pid} {start_time(pid)}\n", encoding="ascii")


def end_standby(device_id: int, serving_pid: int) -> set[int]:
    """
    End the standby of the launcher before: the next cannot talk to it, and two would both take over.

    :param serving_pid: never this one: the standby that was noted may have become the worker since
    :return: pid of the one that was noted: it may have taken over before its end; empty if none was
    """
    try:
        pid, began = map(int, (WORLD / f"{STANDBY}{device_id}").read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return set()
    if pid == serving_pid:
        return set()
    if began and start_time(pid) == began:
        os.kill(pid, signal.SIGKILL)
    return {pid}
