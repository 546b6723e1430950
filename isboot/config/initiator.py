"""The name this machine logs in by where no table gives one."""

from __future__ import annotations

import re
from pathlib import Path

from isboot.errors import ConfigError, ExitStatus
from isboot.values import iscsi_name_fault

NAME_FILE = "etc/iscsi/initiatorname.iscsi"  #: open-iscsi's
MACHINE_ID_FILE = "etc/machine-id"
PRODUCT_UUID_FILE = "sys/class/dmi/id/product_uuid"  #: where there is no machine-id
PREFIX = "iqn.2026-11.org.isboot:"
# machine-id(5): the id itself is confidential and must be hashed before it goes over a network.
APPLICATION = b"isboot initiator name"
HINT = f"write InitiatorName=iqn... to /{NAME_FILE}, or name one"


def default_name(root: Path = Path("/")) -> str:
    """Give the name of `default_claim`."""
    return default_claim(root)[0]


def default_claim(root: Path = Path("/")) -> tuple[str, str]:
    """
    Give the name in open-iscsi's file, or else a stable one made from the machine's id, or its board's UUID.

    :param root: where etc and sys are
    :return: the name and where it came from
    :raises ConfigError: the file's name is no iSCSI name (65), or there is neither file nor id (66)
    """
    name = _file_name(root / NAME_FILE)
    if name is not None:
        return checked_name(name, f"reading the initiator name from {root / NAME_FILE}"), f"/{NAME_FILE}"
    for file in (MACHINE_ID_FILE, PRODUCT_UUID_FILE):
        key = _identifier(root / file)
        if key:
            return _derived(key), f"/{file}"
    message = f"making an initiator name: there is neither /{NAME_FILE} nor an id in /{MACHINE_ID_FILE}"
    raise ConfigError(message, HINT, ExitStatus.NOTHING_THERE)


def name_of_nic(mac: str) -> str:
    """Give a name made from a NIC's MAC, for a machine that tells nothing else of itself."""
    return _derived(bytes.fromhex(mac.replace(":", "")))


def _derived(key: bytes) -> str:
    import hashlib  # a boot from a table has no use for these
    import hmac

    return PREFIX + hmac.new(key, APPLICATION, hashlib.sha256).hexdigest()[:16]


def _identifier(path: Path) -> bytes:
    """Give 16 bytes that are this machine's alone, or b""; some boards have a UUID of one digit repeated."""
    try:
        digits = path.read_text(encoding="ascii", errors="replace").strip().lower().replace("-", "")
    except OSError:
        return b""
    return bytes.fromhex(digits) if re.fullmatch(r"[0-9a-f]{32}", digits) and len(set(digits)) > 2 else b""


def checked_name(name: str, doing: str) -> str:
    """
    Give the name back if it is an iSCSI name.

    :param doing: what was being done, for the message
    :raises ConfigError: it is none (65)
    """
    fault = iscsi_name_fault(name)
    if fault:
        message = f"{doing}: {name!r} is no iSCSI name: {fault}"
        raise ConfigError(message, "names look like iqn.2001-04.com.example:name", ExitStatus.MALFORMED)
    return name


def _file_name(path: Path) -> str | None:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    names = re.findall(r"^\s*InitiatorName\s*=\s*(\S+)\s*$", text, re.MULTILINE)
    return names[-1] if names else None
