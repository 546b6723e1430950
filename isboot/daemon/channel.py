"""
What launcher and children say to each other: one pickled value a packet, over a socket pair.

Both ends are forks of one process and nobody else can reach the socket, so pickle is as safe as memory.
"""

from __future__ import annotations

import pickle
import socket
from dataclasses import dataclass

from isboot.errors import DaemonError, ExitStatus, IsbootError
from isboot.values import LunFacts

PACKET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Live:
    """
    The device is served by the sender.

    :param retries: how often START_USER_RECOVERY was answered EBUSY; 0 for a first start
    :param seconds: from the death of the worker before (its pidfd) to END_USER_RECOVERY; 0 for a first start
    :param is_shutdown_near: the sender was told "shutdown"
    """

    device_id: int
    queues: int
    depth: int
    facts: LunFacts
    retries: int = 0
    seconds: float = 0.0
    is_shutdown_near: bool = False


@dataclass(frozen=True, slots=True)
class Others:
    """:param luns: of the boot LUN's target, to be attached beside it"""

    luns: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Connected:
    """A lane has a session."""

    lane: int
    portal: str
    nic: str
    isid: str
    header_digest: bool
    data_digest: bool


@dataclass(frozen=True, slots=True)
class Grown:
    """The disk is larger than it was, and the kernel knows."""

    facts: LunFacts


@dataclass(frozen=True, slots=True)
class Failed:
    """
    The sender ends because of this.

    :param stage: where it went wrong, "" for the daemon itself
    :param is_told: the console has it already
    """

    message: str
    hint: str
    exit_status: int
    stage: str = ""
    is_told: bool = False

    @classmethod
    def of(cls, error: IsbootError) -> Failed:
        return cls(error.message, error.hint, int(error.exit_status), error.stage, error.is_told)

    def as_error(self) -> IsbootError:
        """Give the error as whoever started the sender raises it: its stage is the one that failed."""
        error = DaemonError(self.message, self.hint, ExitStatus(self.exit_status))
        error.stage = self.stage or error.stage
        error.is_told = self.is_told
        return error


@dataclass(frozen=True, slots=True)
class Refused:
    """A request was not carried out, and nothing was changed: `word` says which."""

    word: str
    message: str
    hint: str
    exit_status: int


@dataclass(frozen=True, slots=True)
class Done:
    """
    A request was carried out: `word` says which.

    :param warning: what whoever asked should know all the same
    """

    word: str
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """
    From the launcher: "claim" (is the disk unused?), "flush", "finish" (stop, flush, log out, remove, end),
    "shutdown" (with every path down, give up soon), "no-shutdown".
    """

    word: str


Message = Live | Others | Connected | Grown | Failed | Refused | Done | Request


class Channel:
    """One end of the pair. `receive` gives None when the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @staticmethod
    def pair() -> tuple[Channel, Channel]:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Channel(one), Channel(other)

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, message: Message) -> None:
        """Send; a launcher that is gone is no reason to stop serving."""
        try:
            # a launcher that is stopped must not stop the lane that has news for it
            self._end.send(pickle.dumps(message), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except OSError:
            pass

    def receive(self) -> Message | None:
        try:
            packet = self._end.recv(PACKET_BYTES)
        except OSError:
            return None
        message: Message | None = pickle.loads(packet) if packet else None  # noqa: S301 (see above)
        return message

    def close(self) -> None:
        self._end.close()


def wait_readable(fds: list[int], timeout_s: float | None) -> list[int]:
    """Wait until one of these is readable or hung up; the fds that are."""
    import select

    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if timeout_s is None else timeout_s * 1000)]
