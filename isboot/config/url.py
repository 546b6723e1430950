"""iscsi://[CHAPNAME@]HOST[:PORT]/TARGETNAME/LUN"""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv6Address

from isboot.config import initiator
from isboot.config.credentials import weaknesses
from isboot.config.lun import parse_lun
from isboot.errors import UsageError
from isboot.values import BootConfig, Credentials, PathConfig, Policy, Portal, iscsi_name_fault

SCHEME = "iscsi://"
PORT = 3260
HINT = "iscsi://[CHAPNAME@]HOST[:PORT]/TARGETNAME/LUN, IPv6 hosts in brackets, LUN decimal or 16 hex digits"

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")  #: RFC 1123 names and IPv4


def from_url(url: str, *, initiator_name: str, credentials: Credentials | None, policy: Policy) -> BootConfig:
    """
    Give a configuration with the one path a URL names.

    :param credentials: of a CHAP file; its name, if empty, is the URL's
    :raises UsageError: the URL is none, carries a secret, or its CHAP name and the credentials do not fit
    :raises ConfigError: the initiator name is no iSCSI name
    """
    if not url.startswith(SCHEME):
        raise UsageError(f"reading the URL {_without_secret(url)!r}: it does not begin with {SCHEME}", HINT)
    doing = f"reading the URL {_without_secret(url)!r}"
    authority, _, path = url.removeprefix(SCHEME).partition("/")
    chap_name, at, host_port = authority.rpartition("@")
    target_name, _, lun_text = path.partition("/")
    fault = iscsi_name_fault(target_name)
    if fault:
        raise UsageError(f"{doing}: {target_name!r} is no target name: {fault}", HINT)
    if not lun_text:
        raise UsageError(f"{doing}: it names no LUN", HINT)
    if at:
        credentials = _named(chap_name, credentials, doing)
    elif credentials is not None and not credentials.name:
        raise UsageError(f"{doing}: neither it nor the CHAP file gives a CHAP name", HINT)
    portal, unit = parse_portal(host_port, doing), parse_lun(lun_text)
    paths = (PathConfig(0, None, portal, target_name, unit, credentials),)
    return BootConfig(
        source="URL",
        initiator_name=initiator.checked_name(initiator_name, "taking the initiator name"),
        nics=(),
        paths=paths,
        policy=policy,
        is_boot=False,
        warnings=weaknesses(paths),
    )


def parse_portal(text: str, doing: str = "") -> Portal:
    """
    Read HOST[:PORT].

    :param text: an address, an IPv6 address in brackets, or a name
    :raises UsageError: it is none of these, or the port is not 1 to 65535
    """
    doing = doing or f"reading the portal {text!r}"
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise UsageError(f"{doing}: the brackets around the IPv6 address are not closed", HINT)
        port_text = rest[1:] if rest else str(PORT)
        try:
            IPv6Address(host)
        except ValueError:
            raise UsageError(f"{doing}: {host!r} is no IPv6 address", HINT) from None
    else:
        host, colon, rest = text.partition(":")
        port_text = rest if colon else str(PORT)
        if ":" in rest:
            raise UsageError(f"{doing}: an IPv6 address stands in brackets", HINT)
        if not _HOST.fullmatch(host) or len(host) > 253:
            raise UsageError(f"{doing}: {host!r} is no host", HINT)
    if not re.fullmatch(r"[0-9]{1,5}", port_text) or not 0 < int(port_text) < 65536:
        raise UsageError(f"{doing}: {port_text!r} is no port (1 to 65535)", HINT)
    return Portal(host, int(port_text))


def _named(chap_name: str, credentials: Credentials | None, doing: str) -> Credentials:
    hint = "give the secret in a file of mode 0600: --chap-file"
    if ":" in chap_name:
        raise UsageError(f"{doing}: a secret must not stand in a URL, where every user can read it", hint)
    from urllib.parse import unquote  # a boot has no use for it

    name = unquote(chap_name)
    if not name.isprintable() or not name:
        raise UsageError(f"{doing}: {name!r} is no CHAP name", HINT)
    if credentials is None:
        raise UsageError(f"{doing}: its CHAP name needs a secret", hint)
    if credentials.name and credentials.name != name:
        message = f"{doing}: the CHAP file is for {credentials.name!r}"
        raise UsageError(message, "give the name in one of them only")
    return replace(credentials, name=name)


def _without_secret(url: str) -> str:
    """Star what might be a password, for messages."""
    head, at, tail = url.rpartition("@")
    scheme, slashes, user = head.partition("//")
    name, colon, _ = user.partition(":")
    return f"{scheme}{slashes}{name}{colon}{'***' if colon else ''}{at}{tail}" if at else url
