"""
A connected socket that speaks PDUs, with deadlines; and the login driven over it.

The socket stays in blocking mode and nothing is read beyond a PDU: the engine goes on with the same socket
where Python stopped.
"""

from __future__ import annotations

import select
import socket
import time
from dataclasses import dataclass

from isboot.errors import ExitStatus, SessionError
from isboot.session import chap, pdu
from isboot.session.authenticate import AlgorithmsRefused
from isboot.session.login import Login, LoginOutcome, LoginParameters, offers_of
from isboot.session.pdu import Pdu, ProtocolError
from isboot.session.redirect import SameAgain
from isboot.session.redirect import follow as follow  # for those who connect, log in and follow in one go
from isboot.session.status import LoginRefused
from isboot.values import Credentials, NegotiatedSession, PathConfig, Policy, Portal

LOGIN_DATA_BYTES = 8192  #: RFC 7143 §13.12: what holds until the full feature phase, whatever is declared


class ConnectionLost(SessionError):  # noqa: N818 - what happened, in the project's words
    """The connection ended, or its deadline passed: the same may work later."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitStatus.TRY_AGAIN)


class ConnectionClosed(ConnectionLost):
    """The target closed the connection in good order: it did not break."""


@dataclass(slots=True)
class Deadline:
    """A moment on the monotonic clock by which something has to be done."""

    ends_at: float
    text: str

    @classmethod
    def within(cls, timeout_ms: int) -> Deadline:
        return cls(time.monotonic() + timeout_ms / 1000, f"{timeout_ms / 1000:g} s")

    def left_ms(self) -> int:
        return max(0, int((self.ends_at - time.monotonic()) * 1000))


@dataclass(slots=True)
class Connection:
    """
    PDUs over a socket.

    :param doing: "login to NAME at PORTAL": the start of every message
    :param max_data_bytes: the longest data segment the peer may send; a longer one is an error before a byte
        of it is read
    """

    sock: socket.socket
    doing: str
    header_digest: bool = False
    data_digest: bool = False
    max_data_bytes: int = LOGIN_DATA_BYTES

    def send(self, message: Pdu, deadline: Deadline) -> None:
        """:raises ConnectionLost: the socket fails, or the deadline passes"""
        wire = memoryview(pdu.encode(message, header_digest=self.header_digest, data_digest=self.data_digest))
        while wire:
            self._wait(select.POLLOUT, deadline)
            try:
                wire = wire[self.sock.send(wire, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(f"{self.doing}: the connection broke: {error.strerror}") from error

    def receive(self, deadline: Deadline) -> Pdu:
        """
        Give the next PDU.

        :raises ConnectionLost: closed, failed, or the deadline passed
        :raises SessionError: bytes that are no legal PDU (exit 65), a digest that does not fit (75)
        """
        try:
            header = self._read(pdu.BHS_BYTES, deadline)
            digests = {"header_digest": self.header_digest, "data_digest": self.data_digest}
            shape = pdu.layout(header, **digests)
            if shape.data_bytes > self.max_data_bytes:
                raise ProtocolError(
                    f"a data segment of {shape.data_bytes} bytes, more than {self.max_data_bytes}"
                )
            return pdu.decode(header + self._read(shape.total_bytes, deadline), **digests)
        except ProtocolError as error:
            raise self.blame(error) from error

    def blame(self, error: ProtocolError) -> SessionError:
        """Give the error of a peer that breaks the standard, with what was being done."""
        return SessionError(
            f"{self.doing}: the target breaks the standard: {error.message}",
            hint=error.hint or "is this an iSCSI target? its log may say more",
            exit_status=error.exit_status,
        )

    def _wait(self, events: int, deadline: Deadline) -> None:
        poll = select.poll()
        poll.register(self.sock, events)
        left_ms = deadline.left_ms()
        # over is over: a peer that sends without end always has something to read
        if not left_ms or not poll.poll(left_ms):
            raise ConnectionLost(
                f"{self.doing}: no answer within {deadline.text}",
                hint="the target's log may say what it waits for",
            )

    def _read(self, count: int, deadline: Deadline) -> bytes:
        received = bytearray()
        while len(received) < count:
            self._wait(select.POLLIN, deadline)
            try:
                part = self.sock.recv(count - len(received), socket.MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLost(f"{self.doing}: the connection broke: {error.strerror}") from error
            if not part:
                raise ConnectionClosed(f"{self.doing}: the target closed the connection")
            received += part
        return bytes(received)


def run_login(connection: Connection, parameters: LoginParameters, deadline: Deadline) -> LoginOutcome:
    """
    Drive a login to its end.

    :raises RedirectError: the target is elsewhere
    :raises LoginRefused: with the target's status
    :raises SessionError: authentication or negotiation failed, or the peer breaks the standard
    """
    machine = Login(parameters)
    try:
        request: pdu.LoginRequest | None = machine.first()
        while request is not None:
            connection.send(request, deadline)
            message = connection.receive(deadline)
            _look_for_farewell(message, parameters.doing)
            request = machine.next(pdu.expect(message, pdu.LoginResponse))
    except ProtocolError as error:
        raise connection.blame(error) from error
    except ConnectionLost as error:
        if parameters.credentials is None and machine.is_in_security:
            # So does LIO of 6.12 and 7.2 where it asks for CHAP: no status, the connection ends.
            error.hint = "the target may ask for CHAP: no CHAP name is configured for it"
        raise
    assert machine.outcome is not None  # noqa: S101 - set before next() gives None
    return machine.outcome


def _look_for_farewell(message: Pdu, doing: str) -> None:
    """
    Say what a target means that answers a Login Request with something else; it ends the login in any case.

    :source: RFC 7143 §6.3: whatever is no Login Response ends the connection
    """
    hint = "the target's log may say why"
    if isinstance(message, pdu.AsyncMessage) and message.event in pdu.ENDING_EVENTS:
        raise ConnectionLost(f"{doing}: the target {pdu.ENDING_EVENTS[message.event]} during the login", hint)
    if isinstance(message, pdu.Reject):
        raise SessionError(f"{doing}: the target rejected the Login Request: {message.reason_text}", hint)


class TryMd5Alone(SameAgain):
    """
    The target refused a list of CHAP algorithms: connect to the same portal again and log in once more.

    login() remembers, and offers MD5 alone the next time; if that is refused, too, it is the secret.
    """


_takes_md5_alone: set[tuple[str, Portal]] = set()  #: who refused a list


def login(
    sock: socket.socket,
    path: PathConfig,
    initiator_name: str,
    policy: Policy,
    isid: bytes,
    portal: Portal,
) -> NegotiatedSession:
    """
    Log in over a connected socket.

    :param portal: where the socket is connected to: after a redirection not the path's
    :return: the session in full feature phase; the socket is in blocking mode with nothing read ahead
    :raises RedirectError: connect to where it says and log in there; see follow()
    :raises SessionError: as run_login()
    """
    doing = f"login to {path.target_name} at {portal}"
    return _login(
        sock, path.target_name, path.lun, path.credentials, initiator_name, policy, isid, portal, doing
    )


def login_for_discovery(
    sock: socket.socket,
    portal: Portal,
    credentials: Credentials | None,
    initiator_name: str,
    policy: Policy,
    isid: bytes,
) -> NegotiatedSession:
    """Log in to ask for targets: a session without a target name. Raises as login()."""
    doing = f"discovery login at {portal}"
    return _login(sock, "", bytes(8), credentials, initiator_name, policy, isid, portal, doing)


def _login(
    sock: socket.socket, target_name: str, lun: bytes, credentials: Credentials | None,
    initiator_name: str, policy: Policy, isid: bytes, portal: Portal, doing: str,
) -> NegotiatedSession:  # fmt: skip
    offers = offers_of(policy, is_discovery=not target_name)
    required = {
        name
        for name, is_wanted in (("HeaderDigest", policy.header_digest), ("DataDigest", policy.data_digest))
        if is_wanted
    }
    algorithms = tuple(chap.BY_WORD[word] for word in policy.chap_algorithms)
    is_md5_alone = (target_name, portal) in _takes_md5_alone and chap.MD5 in algorithms
    parameters = LoginParameters(
        initiator_name=initiator_name,
        target_name=target_name,
        isid=isid,
        doing=doing,
        credentials=credentials,
        offers=offers,
        required=frozenset(required if target_name else ()),
        algorithms=(chap.MD5,) if is_md5_alone else algorithms,
        auth_required=policy.auth_required,
        takes_short_secrets=policy.short_secrets,
    )
    # more than holds for a login does no harm, the whole text is bounded
    max_data_bytes = max(int(offers["MaxRecvDataSegmentLength"]), LOGIN_DATA_BYTES)
    connection = Connection(sock, doing, max_data_bytes=max_data_bytes)
    try:
        outcome = run_login(connection, parameters, Deadline.within(policy.login_timeout_ms))
    except (LoginRefused, AlgorithmsRefused) as error:
        if is_md5_alone:
            _takes_md5_alone.discard((target_name, portal))
        elif credentials is not None and _may_mean_algorithms(error, algorithms):
            _takes_md5_alone.add((target_name, portal))
            raise TryMd5Alone(f"{error.message}; trying again with CHAP's MD5 alone", portal) from error
        elif credentials is None and isinstance(error, LoginRefused) and error.status.detail == 1:
            error.hint = "the target may ask for CHAP: no CHAP name is configured for it"
        raise
    warnings = outcome.warnings
    if credentials is not None and is_md5_alone and len(algorithms) > 1:
        warnings += (
            f"{doing}: the target refused the CHAP algorithms {','.join(policy.chap_algorithms)} as a list:"
            " MD5 alone is used",
        )
    values = outcome.values
    return NegotiatedSession(
        fd=sock.fileno(),
        portal=portal,
        target_name=target_name,
        isid=isid,
        tsih=outcome.tsih,
        target_portal_group_tag=outcome.target_portal_group_tag,
        cid=parameters.cid,
        lun=lun,
        cmd_sn=outcome.cmd_sn,
        exp_stat_sn=outcome.exp_stat_sn,
        max_cmd_sn=outcome.max_cmd_sn,
        header_digest=values["HeaderDigest"] == "CRC32C",
        data_digest=values["DataDigest"] == "CRC32C",
        max_recv_data_segment_length_bytes=int(offers["MaxRecvDataSegmentLength"]),
        max_send_data_segment_length_bytes=values["MaxRecvDataSegmentLength"],
        first_burst_length_bytes=values["FirstBurstLength"],
        max_burst_length_bytes=values["MaxBurstLength"],
        initial_r2t=values["InitialR2T"],
        immediate_data=values["ImmediateData"],
        max_outstanding_r2t=values["MaxOutstandingR2T"],
        time2wait_s=values["DefaultTime2Wait"],
        time2retain_s=values["DefaultTime2Retain"],
        warnings=warnings,
    )


def _may_mean_algorithms(error: SessionError, algorithms: tuple[chap.Algorithm, ...]) -> bool:
    """Say whether MD5 alone may do better. Who does not allow MD5 at all has no such second attempt."""
    if chap.MD5 not in algorithms or len(algorithms) == 1:
        return False
    # tgt 1.0.85 takes CHAP_A=7 for SHA-1, and ends with class 2 detail 0 (not 1) for the response's length.
    return not isinstance(error, LoginRefused) or (error.status.status_class, error.status.detail) in (
        (2, 0),
        (2, 1),
    )
