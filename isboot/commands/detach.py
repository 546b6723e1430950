"""isboot detach DEV: the clean end of a device."""

from __future__ import annotations

import argparse
import sys

from isboot.errors import ExitStatus

NAME = "detach"
HELP = "flush, log out and remove a device; one in use is refused"
EXAMPLE = "isboot detach /dev/ublkb0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("device", metavar="DEV", help="ublkb0 or /dev/ublkb0")


def run(arguments: argparse.Namespace) -> ExitStatus:
    from isboot.daemon import control

    answer = control.ask(control.find(arguments.device), "detach")
    if answer.get("warning"):
        print(f"isboot: warning: {answer['warning']}", file=sys.stderr)
    return ExitStatus.FINE
