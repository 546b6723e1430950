"""Which messages a boot can meet, and which of them no test can make happen: rows with their reasons."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tools.catalogue.rows import Row

#: where a place begins, and which command it belongs to instead of a boot
ELSEWHERE = (
    ("isboot/trace/", "isboot trace"),
    ("isboot/cli.py", "any command"),
    ("isboot/commands/boot.py", ""),
    ("isboot/commands/boot_report.py", "isboot boot-report"),
    ("isboot/commands/", "other commands"),
    ("isboot/config/attach.py", "isboot attach"),
    ("isboot/config/url.py", "commands that take a URL"),
    ("isboot/config/credentials.py", "--chap-file"),
    ("isboot/config/lun.py", "commands that take a URL"),
    ("isboot/daemon/control.py", "commands that ask a running device"),
    ("isboot/daemon/start.py: in_background", "isboot attach"),
    ("isboot/daemon/start.py: _be_launcher", "isboot attach"),
    ("isboot/engine/local.c", "isboot bench"),
    ("isboot/engine/requests.py", "isboot bench"),
    ("isboot/firmware/encode.py", "isboot ibft make"),
    ("isboot/firmware/spec.py", "isboot ibft make"),
    ("isboot/firmware/find.py: read_file", "isboot ibft"),
    ("isboot/firmware/find.py: pick", "isboot ibft"),
    ("isboot/firmware/find.py: choose", "isboot ibft"),
    ("isboot/session/discovery.py", "isboot discover"),
)
#: what the device says when it ends or after it lived, not while it is made
AFTERWARDS = (
    "isboot/daemon/heritage.py",
    "isboot/session/identity.py",
    "isboot/session/fence.py",
    "isboot/block/device.py: start_recovery",
    "isboot/session/control.py: logout",
    "tools/boot/world.c: join_world",
)
#: that cannot be made to happen in a test without changing the code: pattern of the text, and why
UNPROVEN = (
    (r"^internal error", "a defect of isboot's: those that are known are mended"),
    (r"^starting: setting NOTIFY_SOCKET", "memory for a few bytes has to run out"),
    (r"^allocating the control ring", "memory for a few bytes has to run out"),
)


def elsewhere(row: Row) -> str:
    """Give the command a message belongs to, "" where a boot can meet it."""
    commands = [_command(place) for place in row.places]
    return "" if "" in commands else commands[0]


def _command(place: str) -> str:
    return next((command for start, command in ELSEWHERE if place.startswith(start)), "")


def is_afterwards(row: Row) -> bool:
    """Whether only a device that was live can say it."""
    return all(place.startswith(AFTERWARDS) for place in row.places)


def excuse(row: Row) -> str:
    """Why no test makes it happen, or ""."""
    return next((why for pattern, why in UNPROVEN if re.search(pattern, row.text)), "")


def without(rows: Iterable[Row], proven: Iterable[str]) -> list[Row]:
    """Give the messages a boot can meet that have neither a test nor a reason for having none."""
    known = set(proven)
    return [row for row in rows if not elsewhere(row) and row.key not in known and not excuse(row)]
