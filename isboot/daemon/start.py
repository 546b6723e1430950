"""
How a launcher begins: in the foreground for a service manager, or in the background for `isboot attach`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import NoReturn

from isboot.daemon import companions, heritage
from isboot.daemon.channel import Channel, Done, Failed, wait_readable
from isboot.daemon.interrupts import Interrupts
from isboot.daemon.launcher import Launcher
from isboot.daemon.log import Level, Log
from isboot.daemon.timeline import Timeline
from isboot.errors import DaemonError, ExitStatus
from isboot.values import BootConfig, NicState

FOR_EVER_S = 10.0 * 365 * 86400


def notify(words: str) -> None:
    """Tell the service manager (sd_notify(3)); without one nothing happens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        try:
            end.sendto(words.encode(), "\0" + path[1:] if path.startswith("@") else path)
        except OSError:
            pass  # a service manager that cannot hear us must not end the boot


def in_foreground(
    config: BootConfig,
    nics: Mapping[int, NicState],
    log: Log,
    *,
    is_armed: bool,
    retry_s: float,
    timeline: Timeline | None = None,
) -> None:
    """
    Keep the device until its end.

    :raises IsbootError: it could not be made
    """

    def on_live(device: str) -> None:
        notify(f"READY=1\nSTATUS=serving {device}")

    has_others = config.is_boot_lun and config.luns != "boot"
    launcher = Launcher(
        config, nics, log, on_live, retry_s, is_armed, timeline or Timeline(),
        companions=companions.start(config, nics, log) if has_others else None,
        interrupts=None if config.is_boot else Interrupts(),
    )  # fmt: skip
    error = launcher.run()
    if error is not None:
        raise error


def adopt(log: Log) -> None:
    """
    Keep the device of a launcher that died, in the foreground.

    :raises IsbootError: nothing to adopt, or its launcher lives
    """
    left = heritage.find()
    launcher = Launcher(
        left.config,
        left.nics,
        log,
        lambda device: notify(f"READY=1\nSTATUS=serving {device}"),
        FOR_EVER_S,
        is_armed=True,
    )
    error = launcher.adopt(left)
    if error is not None:
        raise error


def in_background(
    config: BootConfig, nics: Mapping[int, NicState], log_show: Level, *, retry_s: float
) -> str:
    """
    Start a launcher that outlives this process.

    :return: the device's name, once it serves
    :raises IsbootError: it could not be made; nothing is left behind
    """
    ours, theirs = Channel.pair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _be_launcher(config, nics, log_show, theirs, retry_s)
    theirs.close()
    # its children hold the other end as well, so the end of the launcher itself is what is waited for
    pidfd = os.pidfd_open(pid)
    wait_readable([ours.fileno(), pidfd], None)
    answer = ours.receive() if wait_readable([ours.fileno()], 0) else None
    os.close(pidfd)
    ours.close()
    if isinstance(answer, Done):
        return answer.word
    if isinstance(answer, Failed):
        raise answer.as_error()
    raise DaemonError("starting the launcher: it ended without a word", "see the kernel's log")


def _be_launcher(
    config: BootConfig, nics: Mapping[int, NicState], log_show: Level, end: Channel, retry_s: float
) -> NoReturn:
    status = int(ExitStatus.FAILED)
    try:
        os.setsid()  # nobody's terminal; when the parent ends it is init's child
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        # the caller's files are not ours to keep open: a lock would be held as long as the disk lives
        os.closerange(3, end.fileno())
        os.closerange(end.fileno() + 1, 4096)
        log = Log(show=log_show)
        launcher = Launcher(config, nics, log, lambda device: end.send(Done(device)), retry_s, is_armed=False)
        error = launcher.run()
        if error is not None:
            end.send(Failed.of(error))
        else:
            status = int(ExitStatus.FINE)
    except BaseException as error:
        end.send(Failed(f"internal error: {error!r}", "please report this", status))
    finally:
        os._exit(status)
