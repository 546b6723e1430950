"""How a session ends well: what the target holds in a volatile cache goes to the medium, then the Logout."""

from __future__ import annotations

from collections.abc import Mapping

from isboot import boot
from isboot.block import udev
from isboot.block.device import Device
from isboot.daemon.channel import Done
from isboot.daemon.log import Level, Log
from isboot.daemon.shared import Shared
from isboot.errors import DaemonError, ExitStatus, IsbootError
from isboot.session import commands as scsi
from isboot.session.control import Control
from isboot.values import BootConfig, LunFacts, NicState


def flush_and_log_out(control: Control, facts: LunFacts, log: Log) -> None:
    """:raises IsbootError: one of the two was not answered as it should be"""
    if facts.has_volatile_cache:
        scsi.expect_good(control.execute(scsi.synchronize_cache()), "SYNCHRONIZE CACHE(16)")
        log.say("flushed: SYNCHRONIZE CACHE(16) answered", Level.NOTICE)
    control.logout()
    log.say(f"logged out of {control.session.target_name}", Level.NOTICE)


def over_a_new_session(
    config: BootConfig, nics: Mapping[int, NicState], facts: LunFacts, shared: Shared, log: Log
) -> None:
    """
    Flush and log out where no session is left: by the first path that works.

    :raises IsbootError: none does
    """
    problem: IsbootError | None = None
    for path in config.paths:
        try:
            again = boot.connect(config, path, nics, 0, log.say, expected=facts, portals=shared.portals)
        except IsbootError as error:
            problem = error
            continue
        try:
            flush_and_log_out(Control(again.sock, again.session), facts, log)
        finally:
            again.sock.close()
        return
    if problem is not None:
        raise problem


def without_target(device: str, why: str, shared: Shared, log: Log) -> Done:
    """
    Give the answer for a device that is gone while no flush and no logout reached the target.

    :param why: they did not
    :raises DaemonError: it had been written to since the last flush (exit status 1)
    """
    doing = f"ending {device}: it is gone, but no flush and no logout reached the target: {why}"
    if shared.counters.written_since_flush:
        raise DaemonError(
            f"{doing}; it was written to since the last flush",
            "let the target write its cache to the medium before it is switched off; check the file systems",
            ExitStatus.FAILED,
        )
    warning = f"{doing}; all that was written had been flushed before"
    log.say(warning, Level.WARNING)
    return Done("finish", warning)


def remove(device: Device) -> None:
    """DEL_DEV of a device that nobody serves, and its names."""
    device.delete()
    udev.remove(device.name)
