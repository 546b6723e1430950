"""
The full feature phase as Python uses it, before the engine has the socket: one request at a time.

NOP-Ins are answered meanwhile, numbers are kept, and negotiated() gives the session as it then stands.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from isboot.errors import ExitStatus, SessionError
from isboot.session import pdu
from isboot.session.commands import Answer
from isboot.session.connection import Connection, ConnectionClosed, ConnectionLost, Deadline
from isboot.session.pdu import RESERVED_TAG, Pdu, ProtocolError, StatusGap
from isboot.values import NegotiatedSession

DEFAULT_TIMEOUT_MS = 15_000
LOGICAL_UNIT_RESET = 5  #: RFC 7143 §11.5.1
_CLOSE_SESSION = 0  #: RFC 7143 §11.14.1

#: waits for some seconds, whether the disk is ready already; False if the end was asked for
Wait = Callable[[float, bool], bool]

Outcome = TypeVar("Outcome")


def is_after(left: int, right: int) -> bool:
    """Compare two sequence numbers: left > right in serial arithmetic of 32 bits (RFC 1982)."""
    return 0 < ((left - right) & 0xFFFFFFFF) < 0x80000000


def sleep(seconds: float, _is_ready: bool) -> bool:
    """Wait; nobody asks for an end."""
    time.sleep(seconds)
    return True


@dataclass(frozen=True, slots=True)
class TextAnswer:
    """One Text Response: what it carries and whether more is to be fetched."""

    data: bytes
    target_transfer_tag: int
    is_final: bool


@dataclass(slots=True)
class _Transfer:
    """What came of one command's data so far."""

    tag: int
    length_bytes: int
    data_sn: int = 0
    received: bytearray = field(default_factory=bytearray)

    def expect(self, what: str, came: int, due: int) -> None:
        if came != due:
            raise ProtocolError(f"a Data-In with {what} {came} where {due} was due")


class Control:
    """
    A session, driven from Python.

    :param sock: connected, blocking; stays so
    :param timeout_ms: for each exchange
    :param say: told what takes time
    :param wait: makes the pauses

    Every method raises ConnectionLost (exit 75: closed, broken, late, the target takes its leave) or
    SessionError (exit 65: bytes that break the standard; 75: bytes damaged or lost, which a new session
    cures). After either the socket is of no use.
    """

    def __init__(
        self,
        sock: socket.socket,
        session: NegotiatedSession,
        *,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        say: Callable[[str], None] = lambda line: None,
        wait: Wait = sleep,
    ) -> None:
        self._wait = wait
        self.session = session
        self.say = say
        self.timeout_ms = timeout_ms
        self._connection = Connection(
            sock,
            f"session with {session.target_name or 'the discovery service'} at {session.portal}",
            header_digest=session.header_digest,
            data_digest=session.data_digest,
            max_data_bytes=session.max_recv_data_segment_length_bytes,
        )
        self._cmd_sn = session.cmd_sn
        self._exp_stat_sn = session.exp_stat_sn
        self._max_cmd_sn = session.max_cmd_sn
        self._tag = 0

    @property
    def doing(self) -> str:
        """The start of messages: "session with NAME at PORTAL"."""
        return self._connection.doing

    def negotiated(self) -> NegotiatedSession:
        """Give the session with the numbers to be used next."""
        return replace(
            self.session, cmd_sn=self._cmd_sn, exp_stat_sn=self._exp_stat_sn, max_cmd_sn=self._max_cmd_sn
        )

    def pause(self, seconds: float, *, is_ready: bool = False) -> None:
        """
        Wait, unless the end is asked for.

        :param is_ready: the disk would do what is asked: it is not the disk that is waited for
        :raises SessionError: it is (exit 75)
        """
        if not self._wait(seconds, is_ready):
            raise SessionError(
                f"{self.doing}: given up while waiting",
                "it was to end meanwhile; see what the target does with this LUN",
                ExitStatus.TRY_AGAIN,
            )

    # --- requests ---

    def execute(self, cdb: bytes, length_bytes: int = 0, *, lun: bytes | None = None) -> Answer:
        """
        Run one SCSI command that reads, or moves no data.

        :param length_bytes: how much may come; the answer never has more
        :param lun: 8 bytes; that of the session if None
        """
        deadline = Deadline.within(self.timeout_ms)
        tag = self._next_tag()
        self._wait_for_window(deadline)
        request = pdu.ScsiCommand(
            read=length_bytes > 0,
            lun=self.session.lun if lun is None else lun,
            initiator_task_tag=tag,
            expected_data_transfer_length=length_bytes,
            cmd_sn=self._cmd_sn,
            exp_stat_sn=self._exp_stat_sn,
            cdb=cdb,
        )
        self._cmd_sn = (self._cmd_sn + 1) & 0xFFFFFFFF
        self._connection.send(request, deadline)
        transfer = _Transfer(tag, length_bytes)
        return self._until(lambda message: self._take_scsi(message, transfer), deadline)

    def task_management(self, function: int, lun: bytes) -> int:
        """Send a task management function; give the response code (RFC 7143 §11.6.1) once it came."""
        tag = self._next_tag()
        request = pdu.TaskManagementRequest(
            immediate=True, function=function, lun=lun, initiator_task_tag=tag,
            cmd_sn=self._cmd_sn, exp_stat_sn=self._exp_stat_sn,
        )  # fmt: skip
        return self._exchange(request, pdu.TaskManagementResponse, tag).response

    def ping(self) -> None:
        """Send a NOP-Out and wait for its answer."""
        tag = self._next_tag()
        request = pdu.NopOut(
            immediate=True, initiator_task_tag=tag, cmd_sn=self._cmd_sn, exp_stat_sn=self._exp_stat_sn
        )
        self._exchange(request, pdu.NopIn, tag)

    def text(self, data: bytes, tag: int, target_transfer_tag: int = RESERVED_TAG) -> TextAnswer:
        """
        Send one Text Request; give its response.

        :param tag: the same for all requests of one exchange, see new_tag()
        :param target_transfer_tag: of the response before, to fetch what follows it
        """
        request = pdu.TextRequest(
            immediate=True, initiator_task_tag=tag, target_transfer_tag=target_transfer_tag,
            cmd_sn=self._cmd_sn, exp_stat_sn=self._exp_stat_sn, data=data,
        )  # fmt: skip
        answer = self._exchange(request, pdu.TextResponse, tag)
        return TextAnswer(answer.data, answer.target_transfer_tag, answer.final and not answer.is_continued)

    def new_tag(self) -> int:
        """Give an initiator task tag that was not used yet."""
        return self._next_tag()

    def logout(self) -> None:
        """
        End the session and wait for the target's word, or for it to hang up: the session is over then, too.

        :raises SessionError: it refuses
        """
        tag = self._next_tag()
        request = pdu.LogoutRequest(
            immediate=True, reason=_CLOSE_SESSION, initiator_task_tag=tag, cid=self.session.cid,
            cmd_sn=self._cmd_sn, exp_stat_sn=self._exp_stat_sn,
        )  # fmt: skip
        try:
            answer = self._exchange(request, pdu.LogoutResponse, tag)
        except ConnectionClosed:
            return  # istgt 0.4, in 4 of 100 logouts
        if answer.response:
            raise SessionError(f"{self.doing}: logout refused with response {answer.response}")

    # --- what comes ---

    def _exchange(self, request: Pdu, kind: type[pdu.AnyPdu], tag: int) -> pdu.AnyPdu:
        deadline = Deadline.within(self.timeout_ms)
        self._connection.send(request, deadline)

        def take(message: Pdu) -> pdu.AnyPdu | None:
            answer = pdu.expect(message, kind)
            if getattr(answer, "initiator_task_tag") != tag:  # noqa: B009 - Pdu itself has no tag
                raise ProtocolError(f"a {answer.NAME} to a task that is not ours")
            return answer

        return self._until(take, deadline)

    def _until(self, take: Callable[[Pdu], Outcome | None], deadline: Deadline) -> Outcome:
        """Receive until `take` has its result; what is none of its business is dealt with here."""
        try:
            while True:
                message = self._connection.receive(deadline)
                self._take_numbers(message)
                if not self._take_unsolicited(message, deadline) and (result := take(message)) is not None:
                    return result
        except ProtocolError as error:
            raise self._connection.blame(error) from error

    def _wait_for_window(self, deadline: Deadline) -> None:
        # RFC 7143 §4.2.2.1: no command beyond MaxCmdSN; a NOP-In opens the window.
        try:
            while is_after(self._cmd_sn, self._max_cmd_sn):
                message = self._connection.receive(deadline)
                self._take_numbers(message)
                if not self._take_unsolicited(message, deadline):
                    raise ProtocolError(f"a {message.NAME} while nothing was asked")
        except ProtocolError as error:
            raise self._connection.blame(error) from error

    def _take_numbers(self, message: Pdu) -> None:
        if not isinstance(message, pdu.TargetPdu):
            raise ProtocolError(f"a {message.NAME}, which no target sends in the full feature phase")
        # RFC 7143 §4.2.2.2: these carry no status of their own and do not advance StatSN.
        has_status = not (
            isinstance(message, pdu.ReadyToTransfer)
            or (isinstance(message, pdu.NopIn) and message.initiator_task_tag == RESERVED_TAG)
            or (isinstance(message, pdu.DataIn) and not message.has_status)
        )
        if has_status:
            if message.stat_sn != self._exp_stat_sn:
                raise StatusGap(f"StatSN {message.stat_sn} where {self._exp_stat_sn} was due")
            self._exp_stat_sn = (self._exp_stat_sn + 1) & 0xFFFFFFFF
        # RFC 7143 §4.2.2.1: a MaxCmdSN below ExpCmdSN - 1 is ignored, as is one that goes back.
        if not is_after(message.exp_cmd_sn - 1, message.max_cmd_sn) and is_after(
            message.max_cmd_sn, self._max_cmd_sn
        ):
            self._max_cmd_sn = message.max_cmd_sn

    def _take_unsolicited(self, message: Pdu, deadline: Deadline) -> bool:
        """Deal with what the target sends of its own accord; say whether this was such."""
        if isinstance(message, pdu.NopIn) and message.initiator_task_tag == RESERVED_TAG:
            if message.target_transfer_tag != RESERVED_TAG:
                reply = pdu.NopOut(
                    immediate=True, lun=message.lun, target_transfer_tag=message.target_transfer_tag,
                    cmd_sn=self._cmd_sn, exp_stat_sn=self._exp_stat_sn,
                    data=message.data[: self.session.max_send_data_segment_length_bytes],
                )  # fmt: skip
                self._connection.send(reply, deadline)
            return True
        if isinstance(message, pdu.AsyncMessage):
            if message.event in pdu.ENDING_EVENTS:
                raise ConnectionLost(f"{self.doing}: the target {pdu.ENDING_EVENTS[message.event]}")
            return True
        if isinstance(message, pdu.Reject):
            raise SessionError(
                f"{self.doing}: the target rejected a PDU: {message.reason_text}",
                "the target's log may say why",
                ExitStatus.FAILED,
            )
        return False

    def _take_scsi(self, message: Pdu, transfer: _Transfer) -> Answer | None:
        received = transfer.received
        if isinstance(message, pdu.DataIn):
            self._check_tag(message, transfer.tag)
            # DataPDUInOrder=Yes, one command: what comes continues what came.
            transfer.expect("DataSN", message.data_sn, transfer.data_sn)
            transfer.expect("offset", message.buffer_offset, len(received))
            transfer.data_sn += 1
            received += message.data
            if len(received) > transfer.length_bytes:
                raise ProtocolError(
                    f"{len(received)} bytes of data where {transfer.length_bytes} were asked for"
                )
            return Answer(message.status, bytes(received)) if message.has_status else None
        response = pdu.expect(message, pdu.ScsiResponse)
        self._check_tag(response, transfer.tag)
        if response.response != 0:
            raise SessionError(
                f"{self.doing}: a command failed at the target (iSCSI response {response.response})",
                "the target's log may say why",
            )
        # RFC 7143 §11.4.7: SenseLength, then that many bytes; believed as far as the segment goes.
        sense_bytes = int.from_bytes(response.data[:2], "big")
        return Answer(response.status, bytes(received), response.data[2 : 2 + sense_bytes])

    def _check_tag(self, message: pdu.TargetPdu, tag: int) -> None:
        if message.initiator_task_tag != tag:
            raise ProtocolError(
                f"a {message.NAME} to task {message.initiator_task_tag:#x}, which is not ours"
            )

    def _next_tag(self) -> int:
        self._tag = (self._tag + 1) % RESERVED_TAG
        return self._tag
