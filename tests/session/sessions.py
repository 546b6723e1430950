"""Sessions with the scripted target for tests: logged in, closed at the end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from isboot.session import connection
from isboot.session.control import Control
from isboot.values import Credentials, NegotiatedSession, PathConfig, Policy, Portal
from tests.fakes.target import LUN_1, FakeTarget

INITIATOR = "iqn.2026-11.org.example:host"
ISID = bytes([0x80, 0, 0, 0, 0, 1])
QUICK = Policy(login_timeout_ms=2000)


def path_to(
    target: FakeTarget, *, lun: bytes = LUN_1, name: str = "", credentials: Credentials | None = None
) -> PathConfig:
    return PathConfig(0, None, Portal("127.0.0.1", target.port), name or target.name, lun, credentials)


@contextmanager
def connected(target: FakeTarget) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", target.port), timeout=5) as sock:
        sock.settimeout(None)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as isboot.network.connect does
        yield sock


def log_in(
    sock: socket.socket, path: PathConfig, policy: Policy = QUICK, isid: bytes = ISID
) -> NegotiatedSession:
    return connection.login(sock, path, INITIATOR, policy, isid, path.portal)


@contextmanager
def session_with(
    target: FakeTarget, *, lun: bytes = LUN_1, policy: Policy = QUICK, timeout_ms: int = 2000
) -> Iterator[Control]:
    """Log in to the target; give the session as Python drives it."""
    with connected(target) as sock:
        yield Control(sock, log_in(sock, path_to(target, lun=lun), policy), timeout_ms=timeout_ms)
