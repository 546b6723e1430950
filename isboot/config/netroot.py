"""
netroot=iscsi:... of the kernel command line, as RFC 4173 has it in DHCP's root-path, with dracut's additions.

    iscsi:[NAME:SECRET[:REVERSENAME:REVERSESECRET]@]HOST:[PROTOCOL]:[PORT]:[[IFACE:]NIC:][LUN]:TARGETNAME

:source: RFC 4173 §5; dracut.cmdline(7)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from isboot.config import url
from isboot.config.credentials import check_pair
from isboot.errors import ConfigError, ExitStatus, UsageError
from isboot.values import Credentials, Portal, Secret, iscsi_name_fault

PREFIX = "iscsi:"
PROTOCOL_TCP = "6"  #: IANA's number, the one RFC 4173 allows for iSCSI
HINT = "netroot=iscsi:HOST:6:PORT:LUN:TARGETNAME, where PROTOCOL (6), PORT and LUN may be empty"


@dataclass(frozen=True, slots=True)
class Netroot:
    """
    One target.

    :param shown: the text it came from, without CHAP names and secrets
    :param nic: the interface dracut would use, "" for any
    :param warnings: parts of it that isboot does not use, a line each
    """

    shown: str
    portal: Portal
    target_name: str
    lun: bytes
    credentials: Credentials | None
    warnings: tuple[str, ...]
    nic: str = ""


def parse_netroot(text: str, option: str = "netroot=") -> Netroot:
    """
    Read the value of one netroot=.

    :param text: begins with "iscsi:"
    :param option: what carried it, for messages
    :raises ConfigError: it has not that form, or a part of it is wrong (65)
    """
    # No iSCSI name has an @ in it, while a CHAP name may well be an iSCSI name.  With nothing before it an @
    # is dracut's way to say that there are no credentials.
    authority, at, rest = text.removeprefix(PREFIX).rpartition("@")
    at = at if authority else ""
    # The target's name comes next, for it may hold the colons that separate the fields.
    start = re.search(r":(?=(iqn|eui|naa)\.)", rest, re.IGNORECASE)
    before, target_name = (rest[: start.start()], rest[start.end() :]) if start else (rest, "")
    shown = f"{option}{PREFIX}{before}{':' if start else ''}{target_name}"
    doing = f"reading {shown}"
    if fault := iscsi_name_fault(target_name):
        raise _malformed(doing, f"{target_name!r} is no target name: {fault}")
    host, fields = _split_host(before, doing)
    protocol, port, *middle, lun = [*fields, "", "", ""][: max(3, len(fields))]
    if len(middle) > 2:
        raise _malformed(doing, f"it has {len(fields)} fields between host and target name, not 3 to 5")
    if protocol not in ("", PROTOCOL_TCP):
        raise _malformed(doing, f"the protocol is {protocol!r}, not {PROTOCOL_TCP} (TCP)")
    try:
        portal = url.parse_portal(f"{host}:{port}" if port else host, doing)
    except UsageError as error:
        raise ConfigError(error.message, HINT, ExitStatus.MALFORMED) from None
    nic = middle[-1] if middle else ""
    warnings = [f"{shown}: open-iscsi's interface {name!r} is not used" for name in middle[:-1] if name]
    if lun.isdigit() and int(lun) > 9 and not lun.startswith("0") and len(lun) <= 4:
        warnings.append(f"{shown}: the LUN {lun} is hexadecimal (RFC 4173 §5), in decimal {int(lun, 16)}")
    if at:
        # /proc/cmdline is readable by every user; dracut's form is taken all the same, but not silently.
        where = "kernel command line" if option == "netroot=" else "network"
        warnings.append(f"{shown}: the CHAP secret on the {where} can be read by every user")
    credentials = _credentials(authority, doing) if at else None
    return Netroot(shown, portal, target_name, _lun(lun, doing), credentials, tuple(warnings), nic)


def _malformed(doing: str, reason: str) -> ConfigError:
    return ConfigError(f"{doing}: {reason}", HINT, ExitStatus.MALFORMED)


def _split_host(text: str, doing: str) -> tuple[str, list[str]]:
    if text.startswith("["):
        host, closed, rest = text.partition("]")
        if not closed:
            raise _malformed(doing, "the brackets around the IPv6 address are not closed")
        return host + closed, rest.removeprefix(":").split(":") if rest else []
    host, _, rest = text.partition(":")
    if not host:
        raise _malformed(doing, "it names no host")
    return host, rest.split(":") if rest else []


def _lun(text: str, doing: str) -> bytes:
    """Read a LUN as RFC 4173 has it: up to four words of 16 bits in hexadecimal, dashes between them."""
    if not text:
        return bytes(8)
    if re.fullmatch(r"[0-9a-fA-F]{16}", text):
        return bytes.fromhex(text)
    if not re.fullmatch(r"[0-9a-fA-F]{1,4}(-[0-9a-fA-F]{1,4}){0,3}", text):
        raise _malformed(doing, f"{text!r} is no LUN: 1 to 4 hexadecimal digits, or four such with dashes")
    return b"".join(int(word, 16).to_bytes(2, "big") for word in text.split("-")).ljust(8, b"\0")


def _credentials(text: str, doing: str) -> Credentials:
    parts = text.split(":")
    if len(parts) not in (2, 4) or not parts[0] or not parts[1]:
        raise _malformed(doing, "before the @ stand NAME:SECRET or NAME:SECRET:REVERSENAME:REVERSESECRET")
    name, secret, reverse_name, reverse_secret = [*parts, "", ""][:4]
    pair = Credentials(name, Secret(secret.encode()), reverse_name, Secret(reverse_secret.encode()))
    return check_pair(pair, doing)
