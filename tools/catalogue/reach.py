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
#: that pass on what the engine says in C
PASSED_ON = ("isboot/block/device.py: __init__", "isboot/engine/lane.py: check")
#: what to do where the message brings no hint: pattern of "stage: text", advice; the first that fits counts
ADVICE = (
    (r"^boot: copying into memory|^boot: making a world .*(entering|running|copying)",
     "is there memory for 30 MiB more? else make the initramfs anew: dracut -f, or update-initramfs -u"),
    (r"^boot: making a world .*(reading a pid|opening|joining)", "isboot has ended: restart the machine"),
    (r"^boot: making a world", "isboot has to be root on the machine itself, not in a container"),
    (r"^boot: starting: it ended", "see the lines before it"),
    (r"^boot: starting", "is there memory left? see the kernel's log"),
    (r"^usage: reading .*it takes", "write one of the values named, or leave the option out"),
    (r"^usage: reading .*\{message\}", "see isboot attach --param help"),
    (r"^firmware: looking for an iBFT", "run it as root; if the kernel is locked down: modprobe iscsi_ibft"),
    (r"^config: reading the MAC", "a MAC is six pairs of hexadecimal digits with colons"),
    (r"^config: booting: rd\.isboot=0", "take rd.isboot=0 from the kernel command line"),
    (r"^network: .*out of memory", "give the machine more memory"),
    (r"^session: .*logout refused", "nothing: the session is over all the same"),
    (r"^session: .*READ CAPACITY\(16\)$|more than Linux can address", "make the LUN smaller"),
    (r"^session: .*RESET is answered", "the target's log may say why"),
    (r"was redirected|MD5 alone", "nothing: it is followed"),
    (r"^session: .*(broke|closed the connection|the target \{)", "see the target's log, and what is between"),
    (r"^engine: (sending|fetching|mapping|making)", "is memory short, or open files? see the kernel's log"),
    (r"^engine:", "a defect of isboot: please report it with the lines before it"),
    (r"^block: opening /dev/ublk-control", "modprobe ublk_drv; the kernel needs CONFIG_BLK_DEV_UBLK"),
    (r"^block: making the control ring", "is io_uring forbidden? sysctl kernel.io_uring_disabled"),
    (r"^block: (SET_PARAMS|START_USER|opening|\{name\})",
     "see the kernel's log for ublk; isboot is tested on Linux 6.12 and 7.2"),
    (r"^block: (writing|allocating)", "is memory left for /run?"),
    (r"^daemon: serving", "find out who did: nothing of isboot stops its own device"),
    (r"^daemon: adopting", "no worker is left to be adopted: restart the machine"),
    (r"^daemon: attaching: no path", "isboot boot --dry-run shows the paths, and why a target is left out"),
)  # fmt: skip
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


def advice(row: Row) -> str:
    """What to do where the message itself does not say it, or ""."""
    return next((words for pattern, words in ADVICE if re.search(pattern, row.key)), "")


def without(rows: Iterable[Row], proven: Iterable[str]) -> list[Row]:
    """Give the messages a boot can meet that have neither a test nor a reason for having none."""
    known = set(proven)
    return [row for row in rows if not elsewhere(row) and row.key not in known and not excuse(row)]
