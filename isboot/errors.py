"""
What can go wrong, in one vocabulary: one exception a stage, one exit status a kind of trouble.

An error is raised at the edge where data enters.  Its message says what was being done, to what, and what
came back; its hint says what to do next.  Only the command line prints it.
"""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit status of every command; the numbers from 65 on are those of sysexits.h."""

    FINE = 0
    FAILED = 1  #: the operation failed half way
    USAGE = 2  #: an option, a value out of range
    MALFORMED = 65  #: EX_DATAERR: checksum, truncated table, illegal name
    NOTHING_THERE = 66  #: EX_NOINPUT: no table, no NIC with that MAC, target unknown, LUN not mapped
    UNAVAILABLE = 69  #: EX_UNAVAILABLE: the other side lacks what is needed
    TRY_AGAIN = 75  #: EX_TEMPFAIL: no carrier, no route, refused, time-out, device in use
    NOT_PERMITTED = 77  #: EX_NOPERM: not root, authentication refused, ACL


class IsbootError(Exception):
    """
    An operation failed for a reason a user can be told.

    :param message: "what was being done, to what: what came back", one line, no secret in it
    :param hint: what to do next, or ""
    :param exit_status: what the command line exits with
    """

    stage = ""
    is_told = False  #: on the console, by whoever raised it: once is enough

    def __init__(self, message: str, hint: str = "", exit_status: ExitStatus = ExitStatus.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_status = exit_status


class UsageError(IsbootError):
    """An option, a URL or a value the user gave cannot be used."""

    stage = "usage"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitStatus.USAGE)


class FirmwareError(IsbootError):
    """No table, or a table that cannot be believed."""

    stage = "firmware"


class ConfigError(IsbootError):
    """The sources do not add up to something bootable."""

    stage = "config"


class NetworkError(IsbootError):
    """The NIC, its carrier, an address, a route or the connection to a portal."""

    stage = "network"


class SessionError(IsbootError):
    """Login, discovery or a control command of SCSI."""

    stage = "session"


class RedirectError(SessionError):
    """
    The target sent us elsewhere (login status class 1, RFC 7143 §11.13.5).

    :param host: address or name as the target gave it
    :param port: TCP port
    :param is_permanent: class 1 detail 2, as against temporary (detail 1)
    """

    def __init__(self, message: str, *, host: str, port: int, is_permanent: bool) -> None:
        super().__init__(message, exit_status=ExitStatus.TRY_AGAIN)
        self.host = host
        self.port = port
        self.is_permanent = is_permanent


class IdentityError(SessionError):
    """Another disk answers where ours was: a hard stop, never retried."""


class EngineError(IsbootError):
    """The I/O engine could not be set up."""

    stage = "engine"


class BlockError(IsbootError):
    """ublk: the driver, a control command, a device."""

    stage = "block"


class DaemonError(IsbootError):
    """The processes that keep a device alive, and their control socket."""

    stage = "daemon"


class TraceError(IsbootError):
    """bcc, a probe, a kernel that cannot be traced."""

    stage = "trace"
