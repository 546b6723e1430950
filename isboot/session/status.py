"""What a target says when it ends a login: one row a status (RFC 7143 §11.13.5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from isboot.errors import ExitStatus, RedirectError, SessionError
from isboot.session.keys import parse_number, shown
from isboot.session.pdu import ProtocolError
from isboot.values import Portal

SUCCESS = 0
REDIRECTION = 1
INITIATOR_ERROR = 2
TARGET_ERROR = 3

DEFAULT_PORT = 3260


@dataclass(frozen=True, slots=True)
class Status:
    status_class: int
    detail: int
    text: str
    hint: str
    exit_status: ExitStatus

    @property
    def is_retryable(self) -> bool:
        """Say whether the same login may succeed later, with nothing changed on our side."""
        return self.exit_status is ExitStatus.TRY_AGAIN


# fmt: off
STATUSES = (
    Status(2, 0x00, "initiator error", "the target's log says what it did not like", ExitStatus.FAILED),
    Status(2, 0x01, "authentication failure",
           "check CHAP name and secret on both sides, and that the target asks for CHAP",
           ExitStatus.NOT_PERMITTED),
    Status(2, 0x02, "not authorized", "allow this initiator name (and its address) in the target's ACL",
           ExitStatus.NOT_PERMITTED),
    Status(2, 0x03, "target not found", "compare the target name with `isboot discover PORTAL`",
           ExitStatus.NOTHING_THERE),
    Status(2, 0x04, "target removed", "the target was taken away for good: find where it went",
           ExitStatus.NOTHING_THERE),
    Status(2, 0x05, "unsupported version", "the target speaks another version of iSCSI",
           ExitStatus.UNAVAILABLE),
    Status(2, 0x06, "too many connections",
           "another session of this initiator is open, the firmware's for example: it ends when the target"
           " misses it, or end it there", ExitStatus.TRY_AGAIN),
    Status(2, 0x07, "missing parameter", "the target's log says which one", ExitStatus.FAILED),
    Status(2, 0x08, "cannot include in session", "the target's log says why", ExitStatus.FAILED),
    Status(2, 0x09, "session type not supported", "the target has no discovery: name the target itself",
           ExitStatus.UNAVAILABLE),
    Status(2, 0x0A, "session does not exist", "the target's log says why", ExitStatus.FAILED),
    Status(2, 0x0B, "invalid request during login", "the target's log says why", ExitStatus.FAILED),
    Status(3, 0x00, "target error", "the target's log says what happened", ExitStatus.TRY_AGAIN),
    Status(3, 0x01, "service unavailable", "the target is not ready yet", ExitStatus.TRY_AGAIN),
    Status(3, 0x02, "out of resources", "the target has no room for another session now",
           ExitStatus.TRY_AGAIN),
)
# fmt: on
BY_CODE: Mapping[tuple[int, int], Status] = {(row.status_class, row.detail): row for row in STATUSES}


class LoginRefused(SessionError):  # noqa: N818 - the standard's word for what happened
    """
    The target ended the login with a status of class 2 or 3.

    :param status: the row; a detail that is not in the table has the row of its class with that number
    """

    def __init__(self, message: str, status: Status) -> None:
        super().__init__(message, status.hint, status.exit_status)
        self.status = status


def lookup(status_class: int, detail: int) -> Status:
    """Give the row of a status. :raises ProtocolError: a class the standard does not know"""
    if (row := BY_CODE.get((status_class, detail))) is not None:
        return row
    if (general := BY_CODE.get((status_class, 0))) is None:
        raise ProtocolError(f"a login status of the unknown class {status_class} (detail {detail})")
    return Status(status_class, detail, general.text, general.hint, general.exit_status)


def parse_target_address(text: str) -> tuple[str, int, int | None]:
    """
    Read domainname[:port][,portal-group-tag]; an IPv6 address stands in brackets.

    :return: host without brackets, port, portal group tag
    :raises ProtocolError: not of this form
    :source: RFC 7143 §13.8
    """
    address, comma, tag_text = text.partition(",")
    try:
        tag = parse_number("portal group tag", tag_text, 0, 65535) if comma else None
        if address.startswith("["):
            host, bracket, rest = address[1:].partition("]")
            if not bracket:
                raise ValueError
        else:
            host, colon, port_text = address.partition(":")
            rest = colon + port_text
        if rest and not rest.startswith(":"):
            raise ValueError
        port = parse_number("port", rest[1:], 1, 65535) if rest else DEFAULT_PORT
        if not 0 < len(host) <= 255 or not host.isascii() or not host.isprintable() or " " in host:
            raise ValueError
    except (ValueError, ProtocolError):
        raise ProtocolError(f"the address {shown(text)}, which is not HOST[:PORT][,TAG]") from None
    return host, port, tag


def raise_for_status(status_class: int, detail: int, keys: Mapping[str, str], doing: str) -> None:
    """
    Raise what a login status means; return if it means success.

    :param keys: of the same response: a redirection names the new address there
    :param doing: "login to NAME at PORTAL"
    :raises RedirectError: class 1
    :raises LoginRefused: class 2 and 3
    """
    if status_class == SUCCESS:
        return
    if status_class == REDIRECTION:
        if "TargetAddress" not in keys:
            raise ProtocolError("a redirection that does not say where to")
        host, port, _ = parse_target_address(keys["TargetAddress"])
        kind = "for good" if detail == 2 else "for now"
        raise RedirectError(
            f"{doing} was redirected {kind} to {Portal(host, port)}",
            host=host, port=port, is_permanent=detail == 2,
        )  # fmt: skip
    row = lookup(status_class, detail)
    raise LoginRefused(f"{doing} refused: {row.text} (class {status_class}, detail {detail})", row)
