"""Where Debian packages come from: the machine's own apt settings, read at run time."""

from __future__ import annotations

import re
from pathlib import Path

from tests.vm.progress import RigError

APT = Path("/etc/apt")

#: Debian 12's debian-archive-keyring knows Debian 13's keys
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def mirror() -> str:
    """
    Base URL of the Debian archive this machine installs from.

    Both formats of apt are read.  The archive of security updates and those of other vendors are not it:
    ours is the one whose suite is a Debian release itself, with the component main.

    :raises RigError: no such source on this machine
    """
    release = "bookworm|trixie|forky|sid|stable|testing|unstable"
    for file in sorted(APT.glob("sources.list.d/*.sources")):
        for stanza in file.read_text().split("\n\n"):
            field = dict(re.findall(r"^([\w-]+):\s*(.*?)\s*$", stanza, re.MULTILINE))
            suites = field.get("Suites", "").split()
            if any(re.fullmatch(release, suite) for suite in suites) and "main" in field.get(
                "Components", ""
            ):
                return str(field["URIs"].split()[0]).rstrip("/")
    for file in [APT / "sources.list", *sorted(APT.glob("sources.list.d/*.list"))]:
        if file.exists():
            for line in file.read_text().splitlines():
                found = re.match(rf"deb\s+(?:\[.*?\]\s+)?(\S+)\s+(?:{release})\s.*\bmain\b", line)
                if found:
                    return found[1].rstrip("/")
    raise RigError(f"no Debian archive in {APT}/sources.list and {APT}/sources.list.d")


def options() -> list[Path]:
    """Files of the machine's apt.conf.d a chroot wants too: those that run no program of this machine."""
    files = sorted((APT / "apt.conf.d").glob("*"))
    return [file for file in files if file.is_file() and "Invoke" not in file.read_text()]
