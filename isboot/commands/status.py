"""isboot status: devices, sessions, counters."""

from __future__ import annotations

import argparse
import json
from typing import Any

from isboot import __version__
from isboot.errors import DaemonError, ExitStatus
from isboot.units import format_bytes

NAME = "status"
HELP = "devices, sessions, counters"
EXAMPLE = "isboot status --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEV", nargs="?", help="only this one")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(arguments: argparse.Namespace) -> ExitStatus:
    from isboot.daemon import control

    devices: list[dict[str, Any]] = []
    for path in control.launchers():
        devices += control.devices_of(path)
    # launchers come in the order of their process ids, which a replacement changes
    devices.sort(key=lambda row: (not row["boot"], len(row["device"]), row["device"]))
    if arguments.device:
        name = arguments.device.removeprefix("/dev/")
        devices = [row for row in devices if row["device"] == name]
        if not devices:
            raise DaemonError(
                f"looking for {name}: no isboot device of that name", "", ExitStatus.NOTHING_THERE
            )
    if arguments.json:
        print(json.dumps({"version": __version__, "devices": devices}, indent=1))
    elif not devices:
        print("no device")
    else:
        print("\n\n".join(describe(row) for row in devices))
    return ExitStatus.FINE


def describe(row: dict[str, Any]) -> str:
    """Give a device as people read it."""
    digests = [kind for kind in ("header", "data") if row[f"{kind}_digest"]]
    lines = [
        f"{row['device']}: {row['state']}{', boot' if row['boot'] else ''}",
        f"  target     {row['target']}, LUN {row['lun']}",
        f"  size       {format_bytes(row['size_bytes'])}, {row['block_size_bytes']}-byte blocks",
        f"  identity   {row['serial'] or 'no serial'}, {', '.join(row['designators']) or 'no designator'}",
        f"  mode       {row['mode']}, profile {row['profile']}, digests: {', '.join(digests) or 'none'}",
        f"  processes  worker {row['worker_pid']}, standby {row['standby_pid']}, "
        f"{row['worker_replacements']} replacements",
    ]
    for lane in row["lanes"]:
        lines += describe_lane(lane)
    return "\n".join(lines)


def describe_lane(lane: dict[str, Any]) -> list[str]:
    by = f" by {lane['nic']}" if lane["nic"] else ""
    times = [f"{name} {value} us" for name, value in lane["latency_us"].items() if value is not None]
    moved = (
        f"{lane['reads']} reads ({format_bytes(lane['read_bytes'])})",
        f"{lane['writes']} writes ({format_bytes(lane['written_bytes'])})",
        f"{lane['in_flight']} in flight",
        *times,
    )
    state = f"{lane['state']}, {lane['portal']}{by}, ISID {lane['isid']}, {lane['reconnects']} reconnects"
    return [f"  lane {lane['index']}     {state}", f"             {', '.join(moved)}"]
