"""
The other LUNs of a boot (rd.isboot.luns=): a launcher each, and one process that looks after these launchers.

systemd looks after the launcher of the boot LUN alone.  Its companions are forked by a keeper, which holds
nothing of any device, and which makes a launcher that died anew: that one adopts the worker it finds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

from isboot.daemon import armour, heritage
from isboot.daemon.channel import Channel, Others, wait_readable
from isboot.daemon.launcher import Launcher
from isboot.daemon.log import Level, Log
from isboot.errors import DaemonError, ExitStatus, IsbootError
from isboot.values import BootConfig, NicState, format_lun

MAX_COMPANIONS = 63  #: ublk's default limit is 64 devices (ublks_max)
ADOPT_S = 1.0  #: a worker takes a moment to see that its launcher is gone
ORPHAN_S = 60.0  #: for a standby to take over from a worker that died, too: Linux 6.12 may need 30 s for that
FOR_EVER_S = 10.0 * 365 * 86400


def of_lun(config: BootConfig, lun: bytes) -> BootConfig:
    """
    Give the configuration of another LUN of the same target.

    Paths to another target, or to the disk by another number, are left out: nobody says that LUNs of one
    number are one disk there.  NICs are the boot LUN's affair.
    """
    first = config.paths[0]
    same = [one for one in config.paths if (one.target_name, one.lun) == (first.target_name, first.lun)]
    paths = tuple(replace(path, lun=lun) for path in same)
    return replace(config, paths=paths, luns="boot", is_companion=True, warnings=())


def start(config: BootConfig, nics: Mapping[int, NicState], log: Log) -> Channel:
    """Fork the keeper. It waits for `Others`; if none come, or nobody is left to send them, it ends."""
    ours, theirs = Channel.pair()
    if os.fork() == 0:
        status = int(ExitStatus.FAILED)
        try:
            ours.close()
            armour.ignore_endings()
            armour.put_on(log, is_armed=False)  # who is stopped at shutdown has nothing to do then
            message = theirs.receive()
            theirs.close()
            if isinstance(message, Others):
                Keeper(config, nics, log).keep(message.luns)
            status = int(ExitStatus.FINE)
        finally:
            os._exit(status)
    theirs.close()
    return ours


@dataclass(slots=True)
class Keeper:
    """Keeps a launcher for each LUN until its device is ended."""

    config: BootConfig
    nics: Mapping[int, NicState]
    log: Log
    _launchers: dict[int, tuple[int, bytes]] = field(default_factory=dict)  #: pidfd -> pid, LUN
    _orphans: dict[bytes, tuple[int, float]] = field(default_factory=dict)  #: LUN -> pid of its last, until

    def keep(self, luns: tuple[bytes, ...]) -> None:
        if len(luns) > MAX_COMPANIONS:
            self.log.say(f"{len(luns)} more LUNs: only {MAX_COMPANIONS} are attached", Level.WARNING)
        for lun in luns[:MAX_COMPANIONS]:
            self._launch(lun, must_adopt=False)
        while self._launchers or self._orphans:
            for pidfd in wait_readable(list(self._launchers), ADOPT_S if self._orphans else None):
                self._bury(pidfd)
            for lun in list(self._orphans):
                self._replace(lun)

    def _launch(self, lun: bytes, *, must_adopt: bool) -> None:
        pid = os.fork()
        if pid == 0:
            self._be_launcher(lun, must_adopt=must_adopt)
        self._launchers[os.pidfd_open(pid)] = (pid, lun)

    def _bury(self, pidfd: int) -> None:
        """A launcher ended: with its device, or it is to be made anew."""
        pid, lun = self._launchers.pop(pidfd)
        how = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        is_clean = how is not None and how.si_code == os.CLD_EXITED and how.si_status == 0
        self._orphans[lun] = (pid, time.monotonic() + (0.0 if is_clean else ORPHAN_S))

    def _replace(self, lun: bytes) -> None:
        """Make another launcher once there is a worker for it; let the LUN go when none comes."""
        pid, until = self._orphans[lun]
        try:
            left = heritage.find(lun)
        except DaemonError:
            if time.monotonic() >= until:
                del self._orphans[lun]
            return
        del self._orphans[lun]
        self.log.say(
            f"launcher {pid} of LUN {format_lun(lun)} ended, worker {left.pid} lives: another is made",
            Level.WARNING,
        )
        time.sleep(ADOPT_S)
        self._launch(lun, must_adopt=True)

    def _be_launcher(self, lun: bytes, *, must_adopt: bool) -> NoReturn:
        status = int(ExitStatus.FAILED)
        try:
            launcher = Launcher(
                of_lun(self.config, lun), self.nics, self.log, lambda device: None, FOR_EVER_S, is_armed=True
            )
            error = launcher.adopt(heritage.find(lun)) if must_adopt else launcher.run()
            status = int(ExitStatus.FINE if error is None else error.exit_status)
        except Exception as error:
            said = error.message if isinstance(error, IsbootError) else f"internal error: {error!r}"
            self.log.say(f"LUN {format_lun(lun)}: {said}", Level.ERROR)
        finally:
            os._exit(status)
