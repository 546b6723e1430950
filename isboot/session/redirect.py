"""
Where targets send a login: followed within limits, remembered where it is for good (RFC 7143 §11.13.5).

A temporary redirection holds for one login: the next begins at the portal of the configuration again.  A
permanent one is remembered once a login has succeeded there; while the place it leads to fails, every other
attempt begins at the configured portal, so that neither a wrong word nor a move back locks us out.

After a loss no resolver may be asked, its files may be on the root.  So where a target redirects to a name,
the address that was reached is remembered with it, and a name that is not known by then is not followed.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TypeVar

from isboot.errors import ExitStatus, RedirectError, SessionError
from isboot.values import Policy, Portal

ROW_BYTES = 512
ROWS = 16
MEMORY_BYTES = ROWS * ROW_BYTES


def is_address(host: str) -> bool:
    """Say whether this is a numeric address, as against a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def peer_of(sock: socket.socket) -> Portal:
    """Give the address a connection reached."""
    host, port = sock.getpeername()[:2]
    return Portal(host, port)


@dataclass(frozen=True, slots=True)
class _Row:
    asked: Portal
    reached: Portal

    def encode(self) -> bytes:
        text = "\n".join(
            [self.asked.host, str(self.asked.port), self.reached.host, str(self.reached.port)]
        ).encode()
        return zlib.crc32(text).to_bytes(4, "big") + len(text).to_bytes(2, "big") + text

    @classmethod
    def decode(cls, raw: bytes) -> _Row | None:
        # A process may have been killed while it wrote this.
        length_bytes = int.from_bytes(raw[4:6], "big")
        text = raw[6 : 6 + length_bytes]
        if not length_bytes or zlib.crc32(text).to_bytes(4, "big") != raw[:4]:
            return None
        asked, asked_port, reached, reached_port = text.decode().split("\n")
        return cls(Portal(asked, int(asked_port)), Portal(reached, int(reached_port)))


class Memory:
    """
    Which portal stands for which: "moved for good to", and "the name whose address is".

    :param storage: MEMORY_BYTES that the processes of a device share, so that who takes over a disk knows
        where it is; None for bytes of this process alone
    """

    def __init__(self, storage: memoryview | None = None) -> None:
        self._storage = memoryview(bytearray(MEMORY_BYTES)) if storage is None else storage
        #: whose last login began at the place remembered, and has not succeeded
        self._is_doubtful: set[Portal] = set()

    def begin(self, configured: Portal) -> Portal:
        """
        Give where a login that is meant for this portal begins.

        Until it has succeeded() the place is in doubt, and the next login begins at the other of both.
        """
        reached = self.lookup(configured)
        if reached is None or configured in self._is_doubtful:
            self._is_doubtful.discard(configured)
            return configured
        self._is_doubtful.add(configured)
        return reached

    def lookup(self, asked: Portal) -> Portal | None:
        for row in self._rows():
            if row is not None and row.asked == asked:
                return row.reached
        return None

    def remember(self, asked: Portal, reached: Portal) -> None:
        """Put it in the place of what was known of this portal, else in a free one, else in the first."""
        rows = list(self._rows())
        row = _Row(asked, reached)
        if row in rows:
            return
        index = next((n for n, known in enumerate(rows) if known is not None and known.asked == asked), None)
        if index is None:
            index = next((n for n, known in enumerate(rows) if known is None), 0)
        raw = row.encode()
        if len(raw) <= ROW_BYTES:
            self._storage[index * ROW_BYTES : index * ROW_BYTES + len(raw)] = raw

    def succeeded(self, configured: Portal) -> None:
        self._is_doubtful.discard(configured)

    def forget(self, asked: Portal) -> None:
        for index, row in enumerate(self._rows()):
            if row is not None and row.asked == asked:
                self._storage[index * ROW_BYTES : index * ROW_BYTES + 4] = bytes(4)

    def _rows(self) -> Iterator[_Row | None]:
        for index in range(ROWS):
            yield _Row.decode(bytes(self._storage[index * ROW_BYTES : (index + 1) * ROW_BYTES]))


class SameAgain(RedirectError):  # noqa: N818 - what to do
    """Connect to the same portal again and log in otherwise: login() knows how. No turn of a trail."""

    def __init__(self, message: str, portal: Portal) -> None:
        super().__init__(message, host=portal.host, port=portal.port, is_permanent=False)


@dataclass(slots=True)
class Trail:
    """
    The way of one login from portal to portal.

    :param doing: "login to NAME", the start of messages
    :param limit: how often it may be sent elsewhere
    :param is_after_loss: no name may be resolved
    """

    configured: Portal
    doing: str
    limit: int
    memory: Memory
    is_after_loss: bool = False
    portal: Portal = field(init=False)  #: where to connect to now
    _visited: list[Portal] = field(init=False)  #: as configured, then as the targets wrote them
    _moved_to: Portal | None = field(init=False)  #: where the permanent redirections it began with lead
    _is_permanent: bool = True  #: so far

    def __post_init__(self) -> None:
        self.portal = self.memory.begin(self.configured)
        self._visited = [self.portal]
        self._moved_to = self.portal if self.portal != self.configured else None

    def turn(self, redirection: RedirectError) -> None:
        """
        Go where the target sends us.

        :raises SessionError: too often, in a circle, or to a name while none may be resolved (all exit 75)
        """
        if isinstance(redirection, SameAgain):
            return
        asked = Portal(redirection.host, redirection.port)
        way = " -> ".join(str(portal) for portal in [*self._visited, asked])
        if asked in self._visited:
            raise _lost(
                f"{self.doing}: redirected in a circle: {way}",
                "the targets send each other's initiators on: see their configuration",
            ) from redirection
        if len(self._visited) > self.limit:
            raise _lost(
                f"{self.doing}: more than {self.limit} redirections: {way}",
                "name the last portal itself, or allow more of them: redirect_max",
            ) from redirection
        known = self.memory.lookup(asked) if self.is_after_loss else None
        if known is None and self.is_after_loss and not is_address(asked.host):
            raise _lost(
                f"{self.doing}: redirected to {asked}: a name cannot be resolved while the root file system"
                " may stand still, and it was not reached before",
                "let the target redirect to an address",
            ) from redirection
        self._visited.append(asked)
        self.portal = known or asked
        self._is_permanent = self._is_permanent and redirection.is_permanent
        if self._is_permanent:
            self._moved_to = self.portal

    def arrived(self, peer: Portal) -> None:
        """
        Note that the login succeeded.

        :param peer: the address the connection reached
        """
        asked = self._visited[-1]
        if not is_address(asked.host) and len(self._visited) > 1:
            self.memory.remember(asked, peer)
        if self._moved_to is None:
            self.memory.forget(self.configured)
        else:
            end = peer if self._is_permanent else self._moved_to
            if is_address(end.host):
                self.memory.remember(self.configured, end)
        self.memory.succeeded(self.configured)


def _lost(message: str, hint: str) -> SessionError:
    return SessionError(message, hint, ExitStatus.TRY_AGAIN)


Result = TypeVar("Result")


def follow(
    portal: Portal,
    connect: Callable[[Portal], socket.socket],
    use: Callable[[socket.socket, Portal], Result],
    *,
    limit: int = Policy().redirect_max,
) -> Result:
    """
    Connect and log in, and do so again where a target sends us.

    :param use: logs in over the socket and gives what is wanted; if it raises, the socket is closed
    :raises SessionError: more redirections than the limit, or a circle (exit 75)
    """
    trail = Trail(portal, f"login at {portal}", limit, Memory())
    while True:
        sock = connect(trail.portal)
        try:
            return use(sock, trail.portal)
        except RedirectError as redirection:
            sock.close()
            trail.turn(redirection)
        except BaseException:
            sock.close()
            raise
