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

from isboot.errors import ExitStatus, IsbootError, SessionError
from isboot.session import chap, pdu
from isboot.session.login import Login, LoginOutcome, LoginParameters, offers_of
from isboot.session.pdu import Pdu, ProtocolError
from isboot.values import NegotiatedSession, PathConfig, Policy, Portal


class ConnectionLost(SessionError):  # noqa: N818 - what happened, in the project's words
    """The connection ended, or its deadline passed: the same may work later."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint, ExitStatus.TRY_AGAIN)


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
    max_data_bytes: int = 8192

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
        :raises SessionError: bytes that are no legal PDU (exit 65)
        """
        try:
            header = self._read(pdu.BHS_BYTES, deadline)
            digests = {"header_digest": self.header_digest, "data_digest": self.data_digest}
            shape = pdu.layout(header, **digests)
            if shape.data_bytes > self.max_data_bytes:
                raise ProtocolError(
                    f"a data segment of {shape.data_bytes} bytes, more than the {self.max_data_bytes} declared"
                )
            return pdu.decode(header + self._read(shape.total_bytes, deadline), **digests)
        except ProtocolError as error:
            raise self.blame(error) from error

    def blame(self, error: ProtocolError) -> SessionError:
        """Give the error of a peer that breaks the standard, with what was being done."""
        return SessionError(
            f"{self.doing}: the target breaks the standard: {error.message}",
            hint="is this an iSCSI target? its log may say more",
            exit_status=ExitStatus.MALFORMED,
        )

    def _wait(self, events: int, deadline: Deadline) -> None:
        poll = select.poll()
        poll.register(self.sock, events)
        if not poll.poll(deadline.left_ms()):
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
                raise ConnectionLost(f"{self.doing}: the target closed the connection")
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
            response = pdu.expect(connection.receive(deadline), pdu.LoginResponse)
            request = machine.next(response)
    except ProtocolError as error:
        raise connection.blame(error) from error
    if machine.outcome is None:
        raise IsbootError(f"{parameters.doing}: the login ended without a result")
    return machine.outcome


def login(
    sock: socket.socket,
    path: PathConfig,
    initiator_name: str,
    policy: Policy,
    isid: bytes,
    portal: Portal,
    *,
    algorithms: tuple[chap.Algorithm, ...] = chap.ALGORITHMS,
) -> NegotiatedSession:
    """
    Log in over a connected socket.

    :param portal: where the socket is connected to: after a redirection not the path's
    :param algorithms: of CHAP, in the order they are offered
    :return: the session in full feature phase; the socket is in blocking mode with nothing read ahead
    :raises RedirectError: connect to where it says and log in there
    :raises SessionError: as run_login()
    """
    doing = f"login to {path.target_name} at {portal}"
    offers = offers_of(policy)
    required = {
        name
        for name, is_wanted in (("HeaderDigest", policy.header_digest), ("DataDigest", policy.data_digest))
        if is_wanted
    }
    parameters = LoginParameters(
        initiator_name=initiator_name,
        target_name=path.target_name,
        isid=isid,
        doing=doing,
        credentials=path.credentials,
        offers=offers,
        required=frozenset(required),
        algorithms=algorithms,
    )
    # RFC 7143 §13.12: what we declare holds for the full feature phase; until then 8192. Targets that send
    # more during the login have been seen, and the whole text is bounded anyway.
    connection = Connection(sock, doing, max_data_bytes=int(offers["MaxRecvDataSegmentLength"]))
    outcome = run_login(connection, parameters, Deadline.within(policy.login_timeout_ms))
    values = outcome.values
    return NegotiatedSession(
        fd=sock.fileno(),
        portal=portal,
        target_name=path.target_name,
        isid=isid,
        tsih=outcome.tsih,
        target_portal_group_tag=outcome.target_portal_group_tag,
        cid=parameters.cid,
        lun=path.lun,
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
    )
