"""One connection of the scripted target: numbers, tasks, transfers; I/O stands at its edge."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from isboot.session import keys, pdu
from isboot.session.pdu import (
    RESERVED_TAG,
    DataIn,
    DataOut,
    LoginRequest,
    LogoutRequest,
    LogoutResponse,
    NopIn,
    NopOut,
    Pdu,
    ReadyToTransfer,
    Reject,
    ScsiCommand,
    ScsiResponse,
    TaskManagementRequest,
    TaskManagementResponse,
    TextRequest,
    TextResponse,
)
from tests.fakes.disk import CHECK_CONDITION, GOOD, LUN_NOT_SUPPORTED, Answer, Disk, failure, fixed_sense
from tests.fakes.login import LoginSide

if TYPE_CHECKING:
    from tests.fakes.target import FakeTarget


class Closed(Exception):  # noqa: N818 - not an error: the end of a connection
    """The connection is over."""


@dataclass(frozen=True)
class Corrupted:
    message: Pdu
    byte: int
    bit: int


@dataclass
class WriteTask:
    """A WRITE whose data is still coming; the data is taken in order, as DataPDUInOrder=Yes has it."""

    command: ScsiCommand
    data: bytearray = field(default_factory=bytearray)
    burst_end: int = 0  #: where the R2T that is open ends; 0: unsolicited data is coming
    r2t_sn: int = 0
    answer: Answer = field(default_factory=Answer)


class TargetConnection:
    def __init__(self, target: FakeTarget, sock: socket.socket, index: int) -> None:
        self.target = target
        self.index = index
        self.isid = bytes(6)
        self._sock = sock
        self._login: LoginSide | None = None
        self._values: dict[str, str] = {}
        self._is_full_feature = False
        self._stat_sn = target.first_stat_sn
        self.exp_cmd_sn = 0
        self._tasks: dict[int, WriteTask] = {}
        self._held: dict[int, float | None] = {}
        self._attentions = list(target.unit_attentions)
        self._text = b""
        self._is_closed = False
        self._is_polite = False

    # --- the wire ---

    def _digests(self) -> dict[str, bool]:
        return {
            "header_digest": self._is_full_feature and self._values.get("HeaderDigest") == "CRC32C",
            "data_digest": self._is_full_feature and self._values.get("DataDigest") == "CRC32C",
        }

    def receive(self) -> Pdu:
        header = self._read(pdu.BHS_BYTES)
        rest = self._read(pdu.layout(header, **self._digests()).total_bytes)
        return pdu.decode(header + rest, **self._digests())

    def _read(self, count: int) -> bytes:
        received = bytearray()
        allowed = self.target.allowance("receive", count)
        while len(received) < allowed:
            part = self._sock.recv(allowed - len(received))
            if not part:
                raise Closed
            received += part
        if allowed < count:
            raise Closed
        return bytes(received)

    def send(self, message: Pdu) -> None:
        """Put the numbers in and send it, as the scripts will have it."""
        with self.target.lock:
            for item in self.target.altered(self._numbered(message)):
                if isinstance(item, bytes):
                    wire = item
                elif isinstance(item, Corrupted):
                    changed = bytearray(pdu.encode(item.message, **self._digests()))
                    changed[item.byte] ^= 1 << item.bit
                    wire = bytes(changed)
                else:
                    wire = pdu.encode(item, **self._digests())
                allowed = self.target.allowance("send", len(wire))
                try:
                    self._sock.sendall(wire[:allowed])
                except OSError:
                    return  # the initiator has left; a held command is answered into the void
                if allowed < len(wire):
                    self.close()
                    return

    def _numbered(self, message: Pdu) -> Pdu:
        # RFC 7143 §4.2.2.2: an unsolicited NOP-In, an R2T and a Data-In without status do not advance StatSN.
        is_status = not (
            isinstance(message, ReadyToTransfer)
            or (isinstance(message, NopIn) and message.initiator_task_tag == RESERVED_TAG)
            or (isinstance(message, DataIn) and not message.has_status)
        )
        changes: dict[str, Any] = {
            "stat_sn": self._stat_sn if is_status or not isinstance(message, DataIn) else 0,
            "exp_cmd_sn": self.exp_cmd_sn,
            "max_cmd_sn": (self.exp_cmd_sn + self.target.window - 1) & 0xFFFFFFFF,
        }
        if is_status:
            self._stat_sn = (self._stat_sn + 1) & 0xFFFFFFFF
        return replace(message, **changes)

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    def close(self) -> None:
        """Reset it, or after a last answer that has to arrive: close it."""
        if not self._is_closed:
            self._is_closed = True
            try:
                if not self._is_polite:
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._sock.close()

    # --- what is done with a PDU ---

    def take_number(self, message: Pdu) -> None:
        """Count the CmdSN of a PDU that is not immediate."""
        if hasattr(message, "cmd_sn") and not message.immediate:  # type: ignore[attr-defined]
            self.exp_cmd_sn = (message.cmd_sn + 1) & 0xFFFFFFFF

    def hold(self, message: Pdu, seconds: float | None = None) -> None:
        """Keep a command once its data has come: until the target's release(), or for so long."""
        if isinstance(message, ScsiCommand):
            self._held[message.initiator_task_tag] = seconds

    def proceed(self, message: Pdu) -> None:
        """Do the usual."""
        self.take_number(message)
        actions = {
            LoginRequest: self._take_login, TextRequest: self._take_text, NopOut: self._take_nop,
            ScsiCommand: self._take_command, DataOut: self._take_data, LogoutRequest: self._take_logout,
            TaskManagementRequest: self._take_task_management,
        }  # fmt: skip
        actions[type(message)](message)  # type: ignore[operator]

    def _take_login(self, request: LoginRequest) -> None:
        target = self.target
        if self._login is None:
            self.exp_cmd_sn = request.cmd_sn
            self.isid = request.isid
            self._login = LoginSide(target.limits, target.account, known_targets=(target.name,))
            for other in target.connections:  # RFC 7143 §6.3.5: session reinstatement
                if other is not self and other.isid == request.isid:
                    other.close()
        response = self._login.receive(request)
        refusal = target.refuse or ((2, 6) if self._is_one_too_many() else None)
        if refusal is not None:
            response = replace(response, status_class=refusal[0], status_detail=refusal[1], data=b"")
        elif target.redirect is not None:
            address, is_permanent = target.redirect
            text = keys.encode_text([("TargetAddress", address)])
            response = replace(response, status_class=1, status_detail=2 if is_permanent else 1, data=text)
        self.send(response)
        if response.status_class:
            self._is_polite = True
            raise Closed
        if self._login.is_over:
            self._values = self._login.values
            self._is_full_feature = True

    def _is_one_too_many(self) -> bool:
        names = [
            other._login.said.get("InitiatorName")
            for other in self.target.connections
            if other._login is not None and not other._is_closed and other.isid != self.isid
        ]
        assert self._login is not None
        limit = self.target.max_sessions
        return limit is not None and names.count(self._login.said.get("InitiatorName")) >= limit

    def _take_text(self, request: TextRequest) -> None:
        if request.target_transfer_tag == RESERVED_TAG:
            pairs = dict(keys.decode_text(request.data))
            listed = self.target.targets or [(self.target.name, [f"127.0.0.1:{self.target.port},1"])]
            answers = []
            for name, addresses in listed if "SendTargets" in pairs else []:
                answers.append(("TargetName", name))
                answers += [("TargetAddress", address) for address in addresses]
            self._text = keys.encode_text(answers)
        size = self.target.limits.segment_bytes
        part, self._text = self._text[:size], self._text[size:]
        self.send(TextResponse(
            final=not self._text, is_continued=bool(self._text), data=part,
            initiator_task_tag=request.initiator_task_tag,
            target_transfer_tag=1 if self._text else RESERVED_TAG,
        ))  # fmt: skip

    def _take_nop(self, ping: NopOut) -> None:
        if ping.initiator_task_tag != RESERVED_TAG:
            self.send(NopIn(initiator_task_tag=ping.initiator_task_tag, data=ping.data))

    def _take_logout(self, request: LogoutRequest) -> None:
        self.send(LogoutResponse(initiator_task_tag=request.initiator_task_tag, time2wait_s=2))
        self._is_polite = True
        raise Closed

    def _take_task_management(self, request: TaskManagementRequest) -> None:
        if request.function in (1, 2, 5, 6, 7) and self.target.answers_tmf == 0:
            if request.function == 1:
                self._tasks.pop(request.referenced_task_tag, None)
            else:
                self._tasks.clear()
            if request.function == 5:  # LOGICAL UNIT RESET: nothing of before it is carried out after it
                self.target.forget_held()
                if (disk := self.target.luns.get(request.lun)) is not None:
                    disk.resets += 1
                self._attentions = [(6, 0x29, 0x00)]
        self.send(TaskManagementResponse(
            initiator_task_tag=request.initiator_task_tag, response=self.target.answers_tmf))  # fmt: skip

    # --- commands ---

    def _take_command(self, command: ScsiCommand) -> None:
        disk = self.target.luns.get(command.lun)
        if command.cdb[0] == 0xA0 and (disk is not None or command.lun == bytes(8)):
            self._finish(command, Answer(data=self._report_luns(command.cdb)))
        elif disk is None:
            absent = Answer(data=(b"\x7f" + bytes(95))[: command.cdb[4]])
            self._finish(command, absent if command.cdb[0] == 0x12 else failure(*LUN_NOT_SUPPORTED))
        elif self._attentions and command.cdb[0] != 0x12:
            self._finish(command, failure(*self._attentions.pop(0)))
        elif disk.is_write(command.cdb):
            task = WriteTask(command, bytearray(command.data), answer=disk.check_write(command.cdb))
            self._tasks[command.initiator_task_tag] = task
            if command.final:
                self._advance(task, disk)
        else:
            self._execute(command, lambda: disk.execute(command.cdb))

    def _report_luns(self, cdb: bytes) -> bytes:
        listed = b"".join(sorted(self.target.luns))
        return (struct.pack(">II", len(listed), 0) + listed)[: int.from_bytes(cdb[6:10], "big")]

    def _execute(self, command: ScsiCommand, carry_out: Any) -> None:
        if command.initiator_task_tag not in self._held:
            self._finish(command, carry_out())
            return
        seconds = self._held.pop(command.initiator_task_tag)
        self.target.keep(lambda: self._finish(command, carry_out()), seconds)

    def _take_data(self, message: DataOut) -> None:
        task = self._tasks.get(message.initiator_task_tag)
        if task is None:
            return
        if message.buffer_offset != len(task.data):
            self.send(Reject(reason=4, data=pdu.encode(message)[:48]))
            return
        task.data += message.data
        if message.final:
            self._advance(task, self.target.luns[task.command.lun])

    def _advance(self, task: WriteTask, disk: Disk) -> None:
        """Ask for the next burst, or carry the WRITE out."""
        length = min(task.command.expected_data_transfer_length, disk.write_length(task.command.cdb))
        if task.answer.status == GOOD and len(task.data) < length:
            burst = min(int(self._values.get("MaxBurstLength", "262144")), length - len(task.data))
            task.burst_end = len(task.data) + burst
            self.send(ReadyToTransfer(
                lun=task.command.lun, initiator_task_tag=task.command.initiator_task_tag,
                target_transfer_tag=0x1000 + task.command.initiator_task_tag % 0x1000, r2t_sn=task.r2t_sn,
                buffer_offset=len(task.data), desired_data_transfer_length=burst,
            ))  # fmt: skip
            task.r2t_sn += 1
            return
        self._tasks.pop(task.command.initiator_task_tag, None)
        self._execute(task.command, lambda: self._written(task, disk))

    def _written(self, task: WriteTask, disk: Disk) -> Answer:
        return disk.write(task.command.cdb, bytes(task.data)) if task.answer.status == GOOD else task.answer

    def _finish(self, command: ScsiCommand, answer: Answer) -> None:
        wanted = command.expected_data_transfer_length if command.read else 0
        data = answer.data[:wanted]
        residual = (len(answer.data) if command.read else wanted) - wanted if answer.status == GOOD else 0
        if data and answer.status == GOOD:
            self._send_data(command, data, residual)
            if not self.target.separate_status:
                return
        self.respond(command, answer.status, answer.sense, residual)

    def _send_data(self, command: ScsiCommand, data: bytes, residual: int) -> None:
        segment = int(self._values.get("MaxRecvDataSegmentLength", "8192"))
        burst = int(self._values.get("MaxBurstLength", "262144"))
        offset = number = 0
        while offset < len(data):
            part = data[offset : offset + min(segment, burst - offset % burst)]
            end = offset + len(part)
            has_status = end == len(data) and not self.target.separate_status
            self.send(DataIn(
                final=end == len(data) or end % burst == 0, has_status=has_status, status=GOOD,
                has_underflow=has_status and residual < 0, has_overflow=has_status and residual > 0,
                residual_count=abs(residual) if has_status else 0, lun=command.lun, data_sn=number,
                initiator_task_tag=command.initiator_task_tag, buffer_offset=offset, data=part,
            ))  # fmt: skip
            offset, number = end, number + 1

    def respond(self, command: ScsiCommand, status: int, sense: bytes = b"", residual: int = 0) -> None:
        """Answer with a SCSI Response; sense data goes with its length before it (RFC 7143 §11.4.7)."""
        if status == CHECK_CONDITION and not sense:
            sense = fixed_sense(5, 0x20, 0)
        self.take_number(command)
        self.send(ScsiResponse(
            status=status, initiator_task_tag=command.initiator_task_tag,
            has_underflow=residual < 0, has_overflow=residual > 0, residual_count=abs(residual),
            data=len(sense).to_bytes(2, "big") + sense if sense else b"",
        ))  # fmt: skip
