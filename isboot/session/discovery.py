"""SendTargets: which targets a portal knows, and where they listen (RFC 7143 appendix C)."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from isboot.errors import ExitStatus, SessionError
from isboot.session import keys
from isboot.session.connection import login_for_discovery
from isboot.session.control import Control
from isboot.session.keys import shown
from isboot.session.pdu import RESERVED_TAG, ProtocolError
from isboot.session.status import parse_target_address
from isboot.values import Credentials, Policy, Portal, iscsi_name_fault

MAX_TEXT_BYTES = 1 << 20  #: of the whole list; the standard names no limit
MAX_REQUESTS = 4096


@dataclass(frozen=True, slots=True)
class TargetPortal:
    """:param group_tag: portals with the same tag belong together; None where the target does not say"""

    portal: Portal
    group_tag: int | None


@dataclass(frozen=True, slots=True)
class DiscoveredTarget:
    """:param portals: those named, else the portal that was asked"""

    name: str
    portals: tuple[TargetPortal, ...]


def discover(
    sock: socket.socket,
    portal: Portal,
    initiator_name: str,
    policy: Policy,
    isid: bytes,
    credentials: Credentials | None = None,
) -> tuple[DiscoveredTarget, ...]:
    """
    Log in for discovery, ask for all targets, log out.

    :param portal: where the socket is connected to
    :raises RedirectError: the portal sends us elsewhere
    :raises SessionError: refused, broken, or an answer that cannot be read
    """
    session = login_for_discovery(sock, portal, credentials, initiator_name, policy, isid)
    control = Control(sock, session, timeout_ms=policy.login_timeout_ms)
    text = fetch(control)
    control.logout()
    try:
        return parse(text, portal)
    except ProtocolError as error:
        raise SessionError(
            f"discovery at {portal}: the target breaks the standard: {error.message}",
            "the target's log may say more",
            ExitStatus.MALFORMED,
        ) from error


def fetch(control: Control) -> bytes:
    """Give the answer to SendTargets=All, put together from as many PDUs as it takes (C bit, F bit)."""
    tag = control.new_tag()
    received = bytearray()
    answer = control.text(keys.encode_text([("SendTargets", "All")]), tag)
    for _ in range(MAX_REQUESTS):
        received += answer.data
        if len(received) > MAX_TEXT_BYTES:
            break
        # RFC 7143 §11.11.4: a tag says that there is more to fetch, also where F is set by mistake.
        if answer.is_final or answer.target_transfer_tag == RESERVED_TAG:
            return bytes(received)
        answer = control.text(b"", tag, answer.target_transfer_tag)
    raise SessionError(
        f"{control.doing}: no end of the list of targets after {len(received)} bytes",
        "the target's log may say more",
        ExitStatus.MALFORMED,
    )


def parse(text: bytes, portal: Portal) -> tuple[DiscoveredTarget, ...]:
    """
    Read the answer to SendTargets.

    :param portal: the one that was asked; where a target names no address it is there
    :raises ProtocolError: an address before a name, a name that is no iSCSI name, an address that is none
    """
    found: list[tuple[str, list[TargetPortal]]] = []
    for name, value in keys.decode_text(text, may_repeat=frozenset(("TargetName", "TargetAddress"))):
        if name == "TargetName":
            # The name comes from the network: what is no name may be a path or an escape sequence.
            if fault := iscsi_name_fault(value):
                raise ProtocolError(f"TargetName={shown(value)}: {fault}")
            found.append((value, []))
        elif name == "TargetAddress":
            if not found:
                raise ProtocolError(f"TargetAddress={shown(value)} before any TargetName")
            host, port, tag = parse_target_address(value)
            found[-1][1].append(TargetPortal(Portal(host, port), tag))
    here = TargetPortal(portal, None)
    return tuple(DiscoveredTarget(name, tuple(portals) or (here,)) for name, portals in found)
