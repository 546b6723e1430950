"""isboot attach URL: a disk from any target; returns when the device is live."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from isboot.errors import ExitStatus, IsbootError, UsageError
from isboot.values import BootConfig, PathConfig, format_lun

NAME = "attach"
HELP = "make a disk of a LUN"
EXAMPLE = "isboot attach --chap-file /etc/isboot/chap iscsi://192.0.2.1/iqn.2001-04.com.example:disk0/1"
PAUSE_S = 1.0  #: between two attempts to ask for the LUNs
SESSIONS = Path("/sys/class/iscsi_session")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="iscsi://[CHAPNAME@]HOST[:PORT]/TARGETNAME/LUN")
    parser.add_argument(
        "--chap-file", type=Path, metavar="F", help="TOML, mode 0600: name, secret, reverse_..."
    )
    parser.add_argument("--initiator", metavar="NAME", help="initiator name (default: this machine's)")
    parser.add_argument("--digests", default="", metavar="LIST", help="header, data or header,data")
    parser.add_argument("--depth", type=int, metavar="N", help="commands in flight, 1 to 4096")
    parser.add_argument(
        "--param", action="append", default=[], metavar="KEY=VALUE", help="`--param help` lists them"
    )
    parser.add_argument(
        "--luns", default="boot", metavar="LIST", help="boot (the URL's), all, or numbers: N,N; a disk each"
    )
    parser.add_argument("--retry", type=float, default=0.0, metavar="SECONDS", help="keep trying to connect")
    parser.add_argument("--foreground", action="store_true", help="stay, and end with the device")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def refuse_second_initiator(target_name: str, sessions: Path = SESSIONS) -> None:
    """
    Two initiators on one LUN destroy its file systems: the kernel's own must not be there.

    :raises IsbootError: the kernel's initiator has a session with this target (exit status 75)
    """
    for entry in sorted(sessions.glob("session*/targetname")):
        try:
            name = entry.read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if name.lower() == target_name.lower():
            raise IsbootError(
                f"attaching {target_name}: the kernel's initiator has it already ({entry.parent.name})",
                f"log it out first: iscsiadm -m node -T {target_name} --logout",
                ExitStatus.TRY_AGAIN,
            )


def refuse_second_device(path: PathConfig, launchers: Iterable[Path] | None = None) -> None:
    """
    The same for ourselves: two devices of one LUN would also end each other's session for ever, by its ISID.

    :param launchers: their sockets; None for those of this machine
    :raises IsbootError: there is a device of this LUN already (exit status 75)
    """
    from isboot.daemon import control

    for launcher in control.launchers() if launchers is None else launchers:
        for row in control.devices_of(launcher):
            if row["target"].lower() == path.target_name.lower() and row["lun"] == path.lun.hex():
                raise IsbootError(
                    f"attaching {path.target_name}, LUN {row['lun']}: {row['device']} is that disk already",
                    f"use it, or end it first: isboot detach {row['device']}",
                    ExitStatus.TRY_AGAIN,
                )


def run(arguments: argparse.Namespace) -> ExitStatus:
    from isboot.config import attach as config_attach
    from isboot.config.lun import parse_boot_luns

    if "help" in arguments.param:
        print(config_attach.parameter_help())
        return ExitStatus.FINE
    if os.geteuid() != 0:
        raise IsbootError("attaching: not permitted", "run it as root", ExitStatus.NOT_PERMITTED)
    if not arguments.retry >= 0:  # nor NaN
        raise UsageError(f"--retry {arguments.retry:g}: not a number of seconds from 0 on")
    config = config_attach.from_arguments(
        arguments.url,
        chap_file=arguments.chap_file,
        initiator_name=arguments.initiator,
        digests=arguments.digests,
        depth=arguments.depth,
        parameters=arguments.param,
    )
    luns = parse_boot_luns(arguments.luns)
    if arguments.foreground and luns != "boot":
        raise UsageError(
            f"--foreground --luns {arguments.luns}: one disk at a time stays in the foreground",
            "name the LUN in the URL, or leave out --foreground",
        )
    for warning in config.warnings:
        print(f"isboot: warning: {warning}", file=sys.stderr)
    for path in config.paths:
        refuse_second_initiator(path.target_name)
    from isboot import boot
    from isboot.daemon import start
    from isboot.daemon.log import Log

    config = boot.resolve(config)
    if arguments.foreground:
        refuse_second_device(config.paths[0])
        log = Log(to_kernel=False)
        start.in_foreground(config, {}, log, is_armed=False, retry_s=arguments.retry)
        return ExitStatus.FINE
    done, fault = attach_all(
        configs_of(config, luns, arguments.retry), arguments.retry, is_json=arguments.json
    )
    if arguments.json and done:
        print(json.dumps({"device": done[0]["device"], "devices": done}))
    if fault is not None:
        raise fault
    return ExitStatus.FINE


def configs_of(config: BootConfig, luns: str | tuple[bytes, ...], retry_s: float = 0.0) -> list[BootConfig]:
    """
    Give a configuration for each LUN that is to be attached.

    :param luns: "boot" is the URL's
    :raises IsbootError: the target does not tell its LUNs, or has no disk
    """
    if luns == "boot":
        return [config]
    if luns == "all":
        said = all_disks(config, retry_s)
        if not said:
            raise IsbootError(
                f"attaching all LUNs of {config.paths[0].target_name}: it shows this initiator no disk",
                "see the target's mapping for this initiator name",
                ExitStatus.NOTHING_THERE,
            )
        luns = tuple(said)
    return [
        replace(config, paths=tuple(replace(path, lun=lun) for path in config.paths))
        for lun in dict.fromkeys(luns)
        if isinstance(lun, bytes)
    ]


def all_disks(config: BootConfig, retry_s: float) -> list[bytes]:
    """Ask the target for its disks, for as long as somebody wants it tried."""
    from isboot.session import inventory
    from isboot.visit import visit

    def say(line: str) -> None:
        print(f"isboot: {line}", file=sys.stderr)

    give_up_at = time.monotonic() + retry_s
    while True:
        try:
            return visit(config, inventory.list_disks, say)
        except IsbootError as error:
            if error.exit_status is not ExitStatus.TRY_AGAIN or time.monotonic() + PAUSE_S > give_up_at:
                raise
            say(f"{error.message}; trying again")
            time.sleep(PAUSE_S)


def attach_all(
    configs: list[BootConfig], retry_s: float, *, is_json: bool
) -> tuple[list[dict[str, str]], IsbootError | None]:
    """
    Make a device of each; one that cannot be had does not keep the others away.

    :return: a row for each device; the first error, the others having been said
    """
    from isboot.daemon import start
    from isboot.daemon.log import Level

    done: list[dict[str, str]] = []
    fault: IsbootError | None = None
    for config in configs:
        lun = config.paths[0].lun
        try:
            refuse_second_device(config.paths[0])
            device = start.in_background(config, {}, Level.INFO, retry_s=retry_s)
        except IsbootError as error:
            if fault is not None:
                print(f"isboot: {error.message}\n        hint: {error.hint}", file=sys.stderr)
            fault = fault or error
            continue
        done.append({"device": device, "lun": lun.hex()})
        if not is_json:
            print(f"/dev/{device}" if len(configs) == 1 else f"/dev/{device} {format_lun(lun)}", flush=True)
    return done, fault
