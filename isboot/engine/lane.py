"""
A lane of the engine, as Python sees it: made, started, given sessions, run; see cdefs/engine.h for the story.

All calls but stop() and the exchanges belong to the thread that called start().
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from isboot._engine import ffi, lib
from isboot.errors import EngineError, ExitStatus
from isboot.values import NegotiatedSession, ScsiAnswer

#: what waits longer than this for the lane's own deadlines is a fault of ours
EXCHANGE_TIMEOUT_S = 300.0


class Reason(IntEnum):
    """Why run() came back."""

    IDLE = 1
    LOST = 2
    LOGGED_OUT = 3
    STOPPED = 4
    ABANDONED = 5


class Cause(IntEnum):
    """What ended a connection."""

    NONE = 0
    CLOSED = 1
    SOCKET = 2
    NOP_TIMEOUT = 3
    COMMAND_TIMEOUT = 4
    HEADER_DIGEST = 5
    DATA_DIGEST = 6
    PROTOCOL = 7
    ASYNC_LOGOUT = 8
    ASYNC_DROP = 9
    REJECT = 10
    LUN_CHANGED = 11


CAUSE_TEXTS = {
    Cause.NONE: "nothing",
    Cause.CLOSED: "closed by the target",
    Cause.SOCKET: "socket error",
    Cause.NOP_TIMEOUT: "no answer to a NOP-Out",
    Cause.COMMAND_TIMEOUT: "no answer to a command",
    Cause.HEADER_DIGEST: "header digest error",
    Cause.DATA_DIGEST: "data digest error",
    Cause.PROTOCOL: "the target breaks the standard",
    Cause.ASYNC_LOGOUT: "the target asked for a logout",
    Cause.ASYNC_DROP: "the target dropped it",
    Cause.REJECT: "the target rejected a PDU",
    Cause.LUN_CHANGED: "the LUN has to be looked at again",
}


class Operation(IntEnum):
    READ = 0
    WRITE = 1
    FLUSH = 2
    DISCARD = 3
    WRITE_ZEROES = 4


class Discard(IntEnum):
    """The command that serves a DISCARD."""

    NONE = 0
    UNMAP = 1
    WRITE_SAME = 2


@dataclass(frozen=True, slots=True)
class Loss:
    """
    :param code: negative errno of the socket, or 0
    :param time2wait_s: to be kept before the next login
    :param in_flight: commands that wait to be issued again
    :param lost_ns: CLOCK_MONOTONIC
    :param detail: which rule was broken, or what was being done
    """

    cause: Cause
    code: int
    time2wait_s: int
    in_flight: int
    lost_ns: int
    detail: str

    @property
    def cause_text(self) -> str:
        return CAUSE_TEXTS[self.cause]


def make_error() -> Any:
    return ffi.new("struct isboot_error *")


def check(code: int, error: Any) -> int:
    """
    Give a code that is not negative, else raise what the engine says.

    :raises EngineError: with the engine's own text
    """
    if code < 0:
        raise EngineError(ffi.string(error.text).decode(), exit_status=_exit_status(code))
    return code


def _exit_status(code: int) -> ExitStatus:
    import errno

    if -code in (errno.EPERM, errno.EACCES):
        return ExitStatus.NOT_PERMITTED
    if -code in (errno.ENOSYS, errno.EOPNOTSUPP):
        return ExitStatus.UNAVAILABLE
    return ExitStatus.FAILED


def check_code(code: int, doing: str) -> int:
    """
    Give a code that is not negative.

    :raises EngineError: "doing: text of the errno"
    """
    if code < 0:
        raise EngineError(f"{doing}: {os.strerror(-code)}", exit_status=_exit_status(code))
    return code


def make_session(session: NegotiatedSession) -> Any:
    """Give struct isboot_session * of a session."""
    result = ffi.new("struct isboot_session *")
    for name in (
        "fd",
        "lun",
        "cmd_sn",
        "exp_stat_sn",
        "max_cmd_sn",
        "header_digest",
        "data_digest",
        "initial_r2t",
        "immediate_data",
        "max_recv_data_segment_length_bytes",
        "max_send_data_segment_length_bytes",
        "first_burst_length_bytes",
        "max_burst_length_bytes",
        "max_outstanding_r2t",
        "cid",
    ):
        setattr(result, name, getattr(session, name))
    return result


class Lane:
    """
    :param depth: tags of all queues of the lane together
    :param discard: NONE refuses DISCARD; without has_write_same WRITE_ZEROES is refused (EOPNOTSUPP)
    :param buffers: depth * max_io_bytes, page aligned; None for the local front end
    :param shared: struct isboot_shared *
    :raises EngineError: a value out of range, no memory
    """

    def __init__(
        self,
        *,
        index: int,
        device_id: int,
        depth: int,
        max_io_bytes: int,
        block_size_bytes: int,
        command_timeout_ms: int,
        nop_interval_ms: int,
        nop_timeout_ms: int,
        has_fua: bool,
        has_write_same: bool = False,
        discard: Discard = Discard.NONE,
        buffers: Any,
        shared: Any,
    ) -> None:
        setup = ffi.new("struct isboot_lane_setup *")
        setup.index = index
        setup.device_id = device_id
        setup.depth = depth
        setup.max_io_bytes = max_io_bytes
        setup.block_size_bytes = block_size_bytes
        setup.command_timeout_ms = command_timeout_ms
        setup.nop_interval_ms = nop_interval_ms
        setup.nop_timeout_ms = nop_timeout_ms
        setup.has_fua = has_fua
        setup.has_write_same = has_write_same
        setup.discard = int(discard)
        setup.buffers = ffi.NULL if buffers is None else buffers
        setup.shared = shared
        self._keep = (buffers, shared)  # the engine's pointers do not keep them alive
        self._requests: Any = None
        self._error = make_error()
        self._loss = ffi.new("struct isboot_loss *")  # made now: run() allocates as little as it can
        self.counters = shared.lanes[index]
        self._lane = lib.isboot_lane_create(setup, self._error)
        if not self._lane:
            check(self._error.code, self._error)

    def close(self) -> None:
        """Free everything. Nothing may run any more."""
        if self._lane:
            lib.isboot_lane_destroy(self._lane)
            self._lane = ffi.NULL

    def start(self) -> None:
        """:raises EngineError: the kernel gives no ring"""
        check(lib.isboot_lane_start(self._lane, self._error), self._error)

    def open_ublk(self, ublkc_fd: int, first_queue: int, queues: int, queue_depth: int) -> None:
        """
        Fetch every tag of the queues.

        :raises EngineError: mapping or fetching failed
        """
        code = lib.isboot_lane_open_ublk(self._lane, ublkc_fd, first_queue, queues, queue_depth, self._error)
        check(code, self._error)

    def close_ublk(self) -> None:
        lib.isboot_lane_close_ublk(self._lane)

    def open_local(self, requests: Any, count: int) -> None:
        """
        Serve a list of this process.

        :param requests: struct isboot_request [count]; the caller keeps alive what it points to
        :raises EngineError: a request that is not in blocks, or a list that is not done
        """
        check(lib.isboot_lane_open_local(self._lane, requests, count, self._error), self._error)
        self._requests = requests

    def attach(self, session: NegotiatedSession) -> None:
        """:raises EngineError: a session stands already, or a limit is out of range"""
        check(lib.isboot_lane_attach(self._lane, make_session(session), self._error), self._error)

    def detach(self) -> tuple[int, int, int]:
        """
        Take the session back.

        :return: cmd_sn, exp_stat_sn, max_cmd_sn to go on with
        :raises EngineError: something is still under way
        """
        session = ffi.new("struct isboot_session *")
        check_code(lib.isboot_lane_detach(self._lane, session), "taking the session back from the engine")
        return session.cmd_sn, session.exp_stat_sn, session.max_cmd_sn

    def run(self) -> tuple[Reason, Loss]:
        """
        Move blocks until there is a reason not to; the GIL is free meanwhile.

        :raises EngineError: the ring failed, or there is no session
        """
        code = check_code(lib.isboot_lane_run(self._lane, self._loss), "moving blocks")
        loss = self._loss
        return Reason(code), Loss(
            cause=Cause(loss.cause),
            code=loss.code,
            time2wait_s=loss.time2wait_s,
            in_flight=loss.in_flight,
            lost_ns=loss.lost_ns,
            detail=ffi.string(loss.detail).decode(),
        )

    def fail(self, code: int) -> Reason:
        """
        Without a session: end every request that waits, and every new one, with an error, until the device is
        gone or somebody stops the lane.

        :param code: negative errno
        :raises EngineError: a session is attached, or the ring failed
        """
        return Reason(check_code(lib.isboot_lane_fail(self._lane, code), "ending I/O without a session"))

    def stop(self, *, drain: bool) -> None:
        """
        Make run() return STOPPED; any thread.

        :param drain: after what is in flight is done; else at once
        """
        lib.isboot_lane_stop(self._lane, drain)

    def probe_attempt(self, attempt: int, code: int) -> None:
        """Tell tracers of an attempt to connect: 0, or a negative number."""
        lib.isboot_lane_probe_attempt(self._lane, attempt, code)

    # --- exchanges: any thread, one at a time; run() has to be running ---

    def exchange_scsi(self, cdb: bytes, length_bytes: int, data: bytes | None = None) -> ScsiAnswer:
        """
        Send a SCSI command beside the I/O and wait for its answer.

        :param cdb: at most 16 bytes
        :param length_bytes: of data that may come, at most 4096
        :param data: what goes to the target instead
        :raises EngineError: the connection was lost, or the lane is not running
        """
        exchange = ffi.new("struct isboot_exchange *")
        exchange.kind = lib.ISBOOT_EXCHANGE_SCSI
        ffi.memmove(exchange.cdb, cdb, len(cdb))
        exchange.length_bytes = length_bytes
        if data is not None:
            exchange.is_write = True
            exchange.length_bytes = len(data)
            ffi.memmove(exchange.data, data, len(data))
        self._exchange(exchange, "a SCSI command")
        return ScsiAnswer(
            response=exchange.response,
            status=exchange.status,
            sense=bytes(ffi.buffer(exchange.sense)[: exchange.sense_bytes]),
            data=bytes(ffi.buffer(exchange.data)[: exchange.received_bytes]) if data is None else b"",
        )

    def exchange_task_management(self, function: int, referenced_tag: int = 0) -> int:
        """
        Send a Task Management request and wait.

        :param function: RFC 7143 §11.5.1: 5 is LOGICAL UNIT RESET
        :return: the response: 0 is "function complete" (RFC 7143 §11.6.1)
        :raises EngineError: the connection was lost, or the lane is not running
        """
        exchange = ffi.new("struct isboot_exchange *")
        exchange.kind = lib.ISBOOT_EXCHANGE_TASK_MANAGEMENT
        exchange.function = function
        exchange.referenced_tag = referenced_tag
        self._exchange(exchange, "a Task Management request")
        return int(exchange.response)

    def exchange_logout(self) -> int:
        """
        Close the session once what is in flight is done; run() returns LOGGED_OUT.

        :return: the response: 0 is "closed" (RFC 7143 §11.15.1)
        :raises EngineError: the connection was lost, or the lane is not running
        """
        exchange = ffi.new("struct isboot_exchange *")
        exchange.kind = lib.ISBOOT_EXCHANGE_LOGOUT
        self._exchange(exchange, "a Logout")
        return int(exchange.response)

    def exchange_ping(self) -> None:
        """:raises EngineError: the connection was lost, or the lane is not running"""
        exchange = ffi.new("struct isboot_exchange *")
        exchange.kind = lib.ISBOOT_EXCHANGE_PING
        self._exchange(exchange, "a NOP-Out")

    def _exchange(self, exchange: Any, what: str) -> None:
        doing = f"sending {what} on a running lane"
        exchange.done_fd = os.eventfd(0, os.EFD_CLOEXEC)
        is_done = False
        try:
            code = lib.isboot_lane_exchange(self._lane, exchange)
            is_done = code < 0  # it was not even taken
            check_code(code, doing)
            poll = select.poll()
            poll.register(exchange.done_fd, select.POLLIN)
            if not poll.poll(EXCHANGE_TIMEOUT_S * 1000):
                raise EngineError(f"{doing}: the lane does not answer", exit_status=ExitStatus.TRY_AGAIN)
            os.eventfd_read(exchange.done_fd)
            is_done = True
        finally:
            if is_done:
                os.close(exchange.done_fd)
            else:
                # The lane may still write to both: to memory in use again, to a number that is a disk by now.
                _lost_exchanges.append(exchange)
        check_code(exchange.result, doing)


#: kept for ever, their descriptors open; the lane has one at a time, so they are few
_lost_exchanges: list[Any] = []
