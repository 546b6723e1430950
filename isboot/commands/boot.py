"""isboot boot: from the firmware's table and the kernel command line to a device, and its keeper after."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from isboot.errors import ExitStatus, IsbootError, NetworkError
from isboot.values import BootConfig, NicState

if TYPE_CHECKING:
    from isboot.config.cmdline import KernelOptions
    from isboot.daemon.log import Log
    from isboot.daemon.timeline import Timeline
    from isboot.network.lease import Lease

Result = TypeVar("Result")

AS_SERVICE = "@isboot"  #: our argv[0] where tools/boot/world.c has started us
COMMAND_LINE = Path("/proc/cmdline")
RETRY_S = 1.0  #: on top of what was waited for in vain

NAME = "boot"
HELP = "boot from the firmware's table (run by the initramfs)"
EXAMPLE = "isboot boot --dry-run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the plan, change nothing")
    parser.add_argument("--adopt", action="store_true", help="keep the device of a launcher that died")


def run(arguments: argparse.Namespace) -> ExitStatus:
    from isboot.daemon.log import Level, Log

    log = Log(to_kernel=not arguments.dry_run)
    if arguments.adopt:
        from isboot.config import cmdline
        from isboot.daemon import start

        with suppress(IsbootError):  # what the command line has wrong, the boot has told
            options = cmdline.parse(COMMAND_LINE.read_text(encoding="utf-8", errors="replace"))
            log.turn_up(to_console=options.verbose, debug=options.debug)
        start.adopt(log)
        return ExitStatus.FINE
    from isboot.daemon.timeline import Timeline, tell

    stage = "firmware"
    timeline = Timeline() if arguments.dry_run else Timeline.of_boot()
    try:
        from isboot import boot
        from isboot.config import cmdline
        from isboot.firmware import find

        options = cmdline.parse(COMMAND_LINE.read_text(encoding="utf-8", errors="replace"))
        log.turn_up(to_console=options.verbose, debug=options.debug)
        for warning in options.warnings:
            log.say(warning, Level.WARNING)
        tables = boot.find_table(options)
        for table in tables:
            log.say(f"table: {find.told(table)}", Level.NOTICE)
        if options.is_for_others and not tables:
            from isboot.daemon import start

            log.say(f"there is no iBFT, and {options.foreign} is not for isboot", Level.NOTICE)
            start.notify("READY=1")  # a unit that ends before it is ready has failed
            return ExitStatus.FINE
        stage = "config"
        config = boot.configure(tables, options)
        for warning in config.warnings:
            if warning not in options.warnings:
                log.say(warning, Level.WARNING)
        if arguments.dry_run:
            print(plan(config))
            return ExitStatus.FINE
        for line in origin_lines(config):
            log.say(line, Level.DEBUG, is_row=True)
        timeline.reach("table", f"{config.source}, {len(config.paths)} paths")
        if os.geteuid() != 0:
            raise IsbootError("booting: not permitted", "run it as root", ExitStatus.NOT_PERMITTED)
        stage = "network"
        config, leases = lease(config, options, log, timeline)
        nics, config = reach(config, log, timeline)
        stage = "session"
        from isboot.daemon import armour, start

        with kept(leases):
            armour.keep_memory_free(log)
            start.in_foreground(config, nics, log, is_armed=True, retry_s=start.FOR_EVER_S, timeline=timeline)
    except IsbootError as error:
        log.trace(error)
        if log.is_kernels and not error.is_told:
            tell(log, timeline, error, stage, is_final=True)
        if sys.orig_argv[0] == AS_SERVICE:
            return error.exit_status  # its standard error is the console, which has been told
        raise
    return ExitStatus.FINE


def reach(config: BootConfig, log: Log, timeline: Timeline) -> tuple[dict[int, NicState], BootConfig]:
    """
    Bring the NICs up and give them, and the paths by address.

    What waiting may mend, a cable above all, is tried again for ever: a boot has nothing better to do.

    :raises NetworkError: what waiting does not mend
    """
    from isboot import boot
    from isboot.daemon.log import Level

    def bring_up() -> tuple[dict[int, NicState], BootConfig]:
        nics = boot.bring_up(config, log.say, timeline)
        for nic in nics.values():
            log.say(f"NIC: {nic.name} ({nic.driver}) {nic.mac} has {nic.address}", Level.NOTICE)
        return nics, boot.resolve(config, nics)

    return _until_it_works(bring_up, log, timeline)


def lease(
    config: BootConfig, options: KernelOptions, log: Log, timeline: Timeline
) -> tuple[BootConfig, list[Lease]]:
    """
    Ask by DHCP for what is not known, for as long as it takes, and give the configuration with it.

    :raises IsbootError: what waiting does not mend
    """
    from isboot import boot
    from isboot.daemon.log import Level

    if all(nic.address is not None or nic.origin != "dhcp" for nic in config.nics):
        return config, []
    before = config
    config, leases = _until_it_works(lambda: boot.lease(before, options, log.say, timeline), log, timeline)
    for warning in config.warnings:
        if warning not in before.warnings:
            log.say(warning, Level.WARNING)
    for row, line in zip(config.origins, origin_lines(config), strict=True):
        if row not in before.origins:
            log.say(line, Level.DEBUG, is_row=True)
    return config, leases


@contextmanager
def kept(leases: Sequence[Lease]) -> Iterator[None]:
    """Have the leases renewed: until the end of the device, and on when this process is killed."""
    if not leases:
        yield
        return
    from isboot.network.lease import keep

    keepers = [keep(one) for one in leases]
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.terminate()


def _until_it_works(work: Callable[[], Result], log: Log, timeline: Timeline) -> Result:
    """
    Do something of the network until it works.

    :raises IsbootError: what waiting does not mend
    """
    from isboot.daemon.log import Level
    from isboot.daemon.timeline import tell

    while True:
        timeline.end_round()
        try:
            return work()
        except NetworkError as error:
            if error.exit_status is not ExitStatus.TRY_AGAIN:
                raise
            if timeline.is_worth_telling(error.message):
                tell(log, timeline, error, "network", is_final=False)
            else:
                log.say(f"{error.message}; trying again", Level.WARNING)
            time.sleep(RETRY_S)


def plan(config: BootConfig) -> str:
    """Give what a boot would do, as people read it."""
    lines = [f"source     {config.source}", f"initiator  {config.initiator_name}"]
    for nic in config.nics:
        which = nic.mac or nic.name or "any"
        without = "an address by DHCP" if nic.origin == "dhcp" else "no address"
        lines.append(
            f"NIC {nic.index}      {which}, {nic.address or without}, gateway {nic.gateway or 'none'}"
        )
    for path in config.paths:
        chap = "none"
        if path.credentials:
            chap = "mutual" if path.credentials.is_mutual else "one way"
        by = f" by NIC {path.nic.index}" if path.nic else ""
        where = f"{path.target_name} at {path.portal}{by}"
        lines.append(f"path {path.index}     {where}, LUN {path.lun.hex()}, CHAP {chap}")
    if not config.paths:
        lines.append("path 0     by DHCP's root-path")
    return "\n".join([*lines, "", "value, and the source it comes from", *origin_lines(config)])


def origin_lines(config: BootConfig) -> list[str]:
    """Give which source won for each value, a line each."""
    return [
        f"{row.what:<16}  {row.value} <- {row.source}{f', over {row.overruled}' if row.overruled else ''}"
        for row in config.origins
    ]
