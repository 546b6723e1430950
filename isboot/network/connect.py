"""
A TCP connection to a portal, made the way a session that carries a root file system needs it.

The same function serves the first connection and every one after a loss.  On the recovery road the root
file system stands still, so nothing here may read a file of it: an address literal never reaches the
resolver, and `resolve_names=False` turns a name into an error instead of a hang.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

from isboot.errors import ExitStatus, NetworkError
from isboot.values import Portal

USER_TIMEOUT_MS = 20_000

TCP = socket.IPPROTO_TCP


class Option(NamedTuple):
    """A socket option set before connect(), with its unit and its reason's source."""

    name: str
    level: int
    number: int
    value: int | bytes
    unit: str
    source: str


OPTIONS = (
    # Commands are small and wait for nothing: never hold one back for an acknowledgement.
    Option("TCP_NODELAY", TCP, socket.TCP_NODELAY, 1, "flag", "RFC 9293 §3.7.4"),
    # A target that vanished while nothing was in flight is found by keepalive within 10 + USER_TIMEOUT ...
    Option("SO_KEEPALIVE", socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1, "flag", "RFC 9293 §3.8.4"),
    Option("TCP_KEEPIDLE", TCP, socket.TCP_KEEPIDLE, 10, "s", "tcp(7)"),
    Option("TCP_KEEPINTVL", TCP, socket.TCP_KEEPINTVL, 5, "s", "tcp(7)"),
    Option("TCP_KEEPCNT", TCP, socket.TCP_KEEPCNT, 4, "probes", "tcp(7)"),
    # ... and under load by unacknowledged data.  The default, tcp_retries2, would take 15 minutes.
    Option("TCP_USER_TIMEOUT", TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS, "ms", "RFC 5482"),
    # close() and death reset the connection: else our kernel goes on delivering a dead worker's writes.
    Option("SO_LINGER", socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0), "s", "socket(7)"),
)


class Failure(NamedTuple):
    """How one errno of socket(), setsockopt() or connect() reads, and what to do about it."""

    text: str
    hint: str
    exit_status: ExitStatus


FAILURES = {
    errno.ECONNREFUSED: Failure(
        "connection refused", "is the target running, and does it listen on that port?", ExitStatus.TRY_AGAIN
    ),
    errno.ETIMEDOUT: Failure(
        "no answer", "is the target up, and does a firewall drop the packets?", ExitStatus.TRY_AGAIN
    ),
    errno.EHOSTUNREACH: Failure(
        "no route to host",
        "nobody answers ARP or neighbour discovery for it: check the address, the cable and the VLAN",
        ExitStatus.TRY_AGAIN,
    ),
    errno.ENETUNREACH: Failure(
        "network unreachable", "no route leads there: check address, prefix and gateway", ExitStatus.TRY_AGAIN
    ),
    errno.ENETDOWN: Failure("the NIC is down", "bring the NIC up", ExitStatus.TRY_AGAIN),
    errno.ECONNRESET: Failure(
        "connection reset", "the target or a firewall cut it: see the target's log", ExitStatus.TRY_AGAIN
    ),
    errno.ECONNABORTED: Failure("connection aborted", "see the target's log", ExitStatus.TRY_AGAIN),
    errno.EADDRNOTAVAIL: Failure(
        "no usable source address", "does the NIC have an address of this family?", ExitStatus.TRY_AGAIN
    ),
    errno.ENOBUFS: Failure("out of memory for sockets", "", ExitStatus.TRY_AGAIN),
    errno.ENOMEM: Failure("out of memory", "", ExitStatus.TRY_AGAIN),
    errno.EINVAL: Failure(
        "not an address to connect to",
        "a link-local address needs its NIC: fe80::1%eth0",
        ExitStatus.USAGE,
    ),
    errno.ENODEV: Failure("no such NIC", "see the NICs present: ip link", ExitStatus.NOTHING_THERE),
    errno.EAFNOSUPPORT: Failure(
        "the kernel lacks this address family", "is IPv6 switched off?", ExitStatus.UNAVAILABLE
    ),
    errno.EPERM: Failure(
        "not permitted",
        "run as root; if you are, this machine's firewall forbids it",
        ExitStatus.NOT_PERMITTED,
    ),
    errno.EACCES: Failure(
        "forbidden by a route or a firewall of this machine",
        "see ip route get and nft list ruleset",
        ExitStatus.NOT_PERMITTED,
    ),
}

RESOLVER_FAILURES = {
    socket.EAI_NONAME: ExitStatus.NOTHING_THERE,
    socket.EAI_NODATA: ExitStatus.NOTHING_THERE,
    socket.EAI_AGAIN: ExitStatus.TRY_AGAIN,
}


class Endpoint(NamedTuple):
    """An address as connect(2) takes it."""

    family: socket.AddressFamily
    address: tuple[str, int] | tuple[str, int, int, int]


def connect(
    portal: Portal, *, interface: str | None = None, timeout_s: float, resolve_names: bool = True
) -> socket.socket:
    """
    Connect to a portal; a name's addresses are tried in turn, within the one deadline.

    :param interface: the NIC to bind to (SO_BINDTODEVICE), None for whatever the routes say
    :param timeout_s: seconds for all addresses together, without the resolver's own time
    :param resolve_names: False on the recovery road: a name is refused, the resolver never called
    :return: a connected, blocking socket; whoever gets it closes it, and closing it resets the connection
    :raises NetworkError: naming portal and NIC; TRY_AGAIN where waiting may help
    """
    deadline = time.monotonic() + timeout_s
    endpoints = find_endpoints(portal, interface=interface, resolve_names=resolve_names)
    for position, endpoint in enumerate(endpoints):
        left_s = deadline - time.monotonic()
        share_s = max(left_s / (len(endpoints) - position), 0.001)
        try:
            return _connect_one(endpoint, interface, share_s)
        except OSError as error:
            if position + 1 < len(endpoints):
                continue
            raise _explain(error, portal, interface, timeout_s) from error
    raise AssertionError("find_endpoints gives one at least")


def resolve(portal: Portal) -> tuple[Portal, ...]:
    """
    Give a portal by its addresses, in the order to be tried; one named by address as it is, zone included.

    Done once, before there is a device: afterwards the resolver's files may lie on the root.

    :raises NetworkError: the name is unknown (66), or the resolver is out of reach (75)
    """
    try:
        ip_address(portal.host)
    except ValueError:
        hosts = dict.fromkeys(str(endpoint.address[0]) for endpoint in _resolve(portal, True))
        return tuple(Portal(host, portal.port) for host in hosts)
    return (portal,)


def find_endpoints(
    portal: Portal, *, interface: str | None, resolve_names: bool = True
) -> tuple[Endpoint, ...]:
    """
    Give the addresses of a portal, in the order to be tried.

    A link-local IPv6 address without a zone gets the interface's.

    :raises NetworkError: the name is unknown, or names are not to be resolved here
    """
    try:
        literal = ip_address(portal.host)
    except ValueError:
        return _resolve(portal, resolve_names)
    if not isinstance(literal, IPv6Address):
        return (Endpoint(socket.AF_INET, (str(literal), portal.port)),)
    zone = literal.scope_id or (interface if literal.is_link_local else None)
    host = portal.host.partition("%")[0]
    try:
        scope = 0 if zone is None else int(zone) if zone.isdecimal() else socket.if_nametoindex(zone)
    except OSError as error:
        raise _explain(OSError(errno.ENODEV, ""), portal, zone, 0) from error
    return (Endpoint(socket.AF_INET6, (host, portal.port, 0, scope)),)


def _resolve(portal: Portal, resolve_names: bool) -> tuple[Endpoint, ...]:
    if not resolve_names:
        raise NetworkError(
            f"connecting to {portal}: a name cannot be resolved while the root file system may stand still",
            hint="name the target by its address",
            exit_status=ExitStatus.USAGE,
        )
    try:
        found = socket.getaddrinfo(portal.host, portal.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        number = error.errno if isinstance(error, socket.gaierror) else socket.EAI_NONAME
        text = error.strerror if isinstance(error, socket.gaierror) else "not a legal name"
        raise NetworkError(
            f"resolving {portal.host}: {text}",
            hint="check the name, or give the target's address",
            exit_status=RESOLVER_FAILURES.get(number or 0, ExitStatus.TRY_AGAIN),
        ) from error
    return tuple(Endpoint(family, address) for family, _, _, _, address in found)  # type: ignore[arg-type]


def _connect_one(endpoint: Endpoint, interface: str | None, timeout_s: float) -> socket.socket:
    connection = socket.socket(endpoint.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        for option in OPTIONS:
            connection.setsockopt(option.level, option.number, option.value)
        if interface is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        connection.settimeout(timeout_s)
        connection.connect(endpoint.address)
        connection.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return connection


def _explain(error: OSError, portal: Portal, interface: str | None, timeout_s: float) -> NetworkError:
    # A time-out of ours (settimeout) comes without an errno, one of the kernel's with ETIMEDOUT.
    number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or 0
    failure = FAILURES.get(number) or Failure(os.strerror(number), "", ExitStatus.FAILED)
    through = f" through {interface}" if interface else ""
    within = f" within {timeout_s:g} s" if number == errno.ETIMEDOUT else ""
    return NetworkError(
        f"connecting to {portal}{through}: {failure.text}{within}",
        hint=failure.hint,
        exit_status=failure.exit_status,
    )
