"""
A scripted iSCSI target: a real one for those who behave, a liar on demand.

    with FakeTarget() as target:                       # one target, one LUN (1), 1 MiB, no authentication
        sock = socket.create_connection(("127.0.0.1", target.port))
        ...
        target.disk.data[0:512]                        # what is on the disk
        target.received(ScsiCommand)                   # every PDU of a kind, over all connections

`FakeTarget(disk=Disk(...), limits=Limits(...), account=Account(...))` say what it is and what it negotiates;
`luns` maps 8-byte LUNs to disks. Attributes may be changed while it runs: `window` (commands it lets in),
`separate_status` (SCSI Response after Data-In, or status in the last Data-In), `unit_attentions` (sense a new
session finds pending), `answers_tmf` (TMF response code), `redirect`, `refuse` (status of the next logins).

Scripts, two kinds; both take `times` (how often, None: always) and `skip` (how many to let pass first):

    target.on(ScsiCommand, action, times=1, skip=0, when=lambda pdu: pdu.cdb[0] == 0x8A)
        in place of what it does with a PDU it received. Ready actions:
        status(0x08)         answer with this SCSI status          sense(6, 0x29, 0)   with this sense
        drop()               close the connection (RST)            ignore()            never answer
        hold()               take its data, but do not carry it out until target.release(): also after the
                             connection ended, as a slow disk would; a WRITE then lands over newer data
        delay(seconds)       take its data, carry it out so much later; others overtake it meanwhile
        before(pdu, ...)     send these PDUs first, then do the usual
        or any function (connection, pdu) -> None; connection.proceed(pdu) does the usual.

    target.alter(DataIn, function, times=1, skip=0)
        what it is about to send, after the sequence numbers are in: function(pdu) -> a PDU, bytes (sent as
        they are), a list of both, or None for nothing. dataclasses.replace(pdu, buffer_offset=1 << 20) is a
        lie.
        corrupt(k) flips a bit of byte k of the wire, digests included.

    target.drop_after(k)      close after k more bytes were sent, in the middle of a PDU if it falls so
    target.drop_received(k)   close after k more bytes were received
    target.send(pdu)          now, on the latest connection: NopIn(...), AsyncMessage(event=1), Reject(...)
    target.drop_connections() reset what is connected
    target.wait(lambda: ...)  until true, at most 5 s; fails otherwise
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from isboot.session.pdu import Pdu
from tests.fakes.connection import Closed, Corrupted, TargetConnection
from tests.fakes.disk import CHECK_CONDITION, POWER_ON, Disk, fixed_sense
from tests.fakes.login import Account, Limits

TARGET_NAME = "iqn.2026-11.org.example:fake"
LUN_1 = bytes([0, 1, 0, 0, 0, 0, 0, 0])

Action = Callable[[TargetConnection, Any], None]
Sendable = Pdu | bytes | Corrupted
Altered = Sendable | list[Sendable] | None
AnyPdu = TypeVar("AnyPdu", bound=Pdu)


@dataclass
class _Rule:
    kind: type[Pdu]
    function: Callable[..., Any]
    times: int | None
    skip: int
    when: Callable[[Any], bool]
    used: int = 0  #: how often it acted

    def applies(self, message: Pdu) -> bool:
        if not isinstance(message, self.kind) or not self.when(message):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None and self.used >= self.times:
            return False
        self.used += 1
        return True


@dataclass
class FakeTarget:
    disk: Disk = field(default_factory=Disk)
    limits: Limits = field(default_factory=Limits)
    account: Account | None = None
    name: str = TARGET_NAME
    luns: dict[bytes, Disk] = field(default_factory=dict)
    window: int = 32
    separate_status: bool = False
    unit_attentions: list[tuple[int, int, int]] = field(default_factory=lambda: [POWER_ON])
    answers_tmf: int = 0
    refuse: tuple[int, int] | None = None  #: class and detail every login ends with
    redirect: tuple[str, bool] | None = None  #: TargetAddress, is_permanent
    max_sessions: int | None = None  #: of one initiator; one more, by another ISID, gets class 2 detail 6
    targets: list[tuple[str, list[str]]] = field(default_factory=list)  #: for SendTargets; default: itself
    first_stat_sn: int = 1
    port: int = 0

    def __post_init__(self) -> None:
        self.luns = self.luns or {LUN_1: self.disk}
        self.lock = threading.RLock()
        self.connections: list[TargetConnection] = []
        self.problems: list[BaseException] = []  #: of its threads; the end of the with block raises the first
        self._log: list[Pdu] = []
        self._on: list[_Rule] = []
        self._alter: list[_Rule] = []
        self._held: list[Callable[[], None]] = []
        self._limits: dict[str, int | None] = {"send": None, "receive": None}
        self._threads: list[threading.Thread] = []
        self._stopping = False

    # --- life ---

    def __enter__(self) -> FakeTarget:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self.problems and error is None:
            raise self.problems[0]

    def start(self) -> None:
        """Listen on 127.0.0.1; after a stop() again on the same port."""
        self._stopping = False
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(16)
        self.port = self._listener.getsockname()[1]
        self._wake_read, self._wake_write = socket.socketpair()
        self._spawn(self._accept)

    def stop(self) -> None:
        """Stop listening and reset every connection; the disk stays as it is."""
        self._stopping = True
        self._wake_write.close()
        self.drop_connections()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()
        self._listener.close()
        self._wake_read.close()

    def _spawn(self, function: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping:
            ready, _, _ = select.select([self._listener, self._wake_read], [], [])
            if self._wake_read in ready:
                return
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = TargetConnection(self, sock, index=len(self.connections))
            self.connections.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: TargetConnection) -> None:
        try:
            while True:
                message = connection.receive()
                with self.lock:
                    self._log.append(message)
                    rule = next((rule for rule in self._on if rule.applies(message)), None)
                    if rule is not None:
                        rule.function(connection, message)
                    else:
                        connection.proceed(message)
        except (Closed, OSError):
            pass
        except BaseException as problem:
            self.problems.append(problem)
        finally:
            connection.close()

    # --- scripts ---

    def on(
        self, kind: type[Pdu], action: Action, *, times: int | None = 1, skip: int = 0,
        when: Callable[[Any], bool] = lambda pdu: True,
    ) -> None:  # fmt: skip
        with self.lock:
            self._on.append(_Rule(kind, action, times, skip, when))

    def alter(
        self, kind: type[Pdu], function: Callable[[Any], Altered], *, times: int | None = 1, skip: int = 0,
        when: Callable[[Any], bool] = lambda pdu: True,
    ) -> None:  # fmt: skip
        with self.lock:
            self._alter.append(_Rule(kind, function, times, skip, when))

    def clear(self) -> None:
        """Forget all scripts."""
        with self.lock:
            self._on.clear()
            self._alter.clear()

    def altered(self, message: Pdu) -> list[Sendable]:
        rule = next((rule for rule in self._alter if rule.applies(message)), None)
        result: Altered = message if rule is None else rule.function(message)
        if result is None:
            return []
        return result if isinstance(result, list) else [result]

    def drop_after(self, sent_bytes: int) -> None:
        with self.lock:
            self._limits["send"] = sent_bytes

    def drop_received(self, received_bytes: int) -> None:
        with self.lock:
            self._limits["receive"] = received_bytes

    def allowance(self, direction: str, wanted: int) -> int:
        """Say how many of these bytes may still pass before the connection is to be dropped."""
        limit = self._limits[direction]
        if limit is None:
            return wanted
        allowed = min(limit, wanted)
        self._limits[direction] = None if allowed < wanted else limit - allowed
        return allowed

    def send(self, message: Pdu) -> None:
        with self.lock:
            self.connections[-1].send(message)

    def release(self) -> int:
        """Do what was held back, in its order; give how many that were."""
        with self.lock:
            held, self._held = self._held, []
            for act in held:
                act()
            return len(held)

    def forget_held(self) -> None:
        self._held.clear()

    def keep(self, act: Callable[[], None], seconds: float | None = None) -> None:
        """Keep what is to be done until release(), or do it after so many seconds."""
        if seconds is None:
            self._held.append(act)
            return

        def late() -> None:
            with self.lock:
                act()

        timer = threading.Timer(seconds, late)
        self._threads.append(timer)
        timer.start()

    @property
    def held(self) -> int:
        return len(self._held)

    def drop_connections(self) -> None:
        for connection in list(self.connections):
            connection.close()

    def received(self, kind: type[AnyPdu]) -> list[AnyPdu]:
        with self.lock:
            return [message for message in self._log if isinstance(message, kind)]

    def wait(self, is_true: Callable[[], bool], timeout_s: float = 5.0) -> None:
        end = time.monotonic() + timeout_s
        while not is_true():
            if time.monotonic() > end:
                raise AssertionError(f"it did not come true within {timeout_s} s")
            time.sleep(0.002)


# --- ready actions -----------------------------------------------------------------------------------------


def status(code: int) -> Action:
    return lambda connection, command: connection.respond(command, code)


def sense(key: int, code: int, qualifier: int) -> Action:
    return lambda connection, command: connection.respond(
        command, CHECK_CONDITION, fixed_sense(key, code, qualifier)
    )


def raw_sense(data: bytes) -> Action:
    return lambda connection, command: connection.respond(command, CHECK_CONDITION, data)


def drop() -> Action:
    def act(connection: TargetConnection, message: Pdu) -> None:
        raise Closed

    return act


def ignore() -> Action:
    def act(connection: TargetConnection, message: Pdu) -> None:
        connection.take_number(message)

    return act


def hold() -> Action:
    def act(connection: TargetConnection, message: Pdu) -> None:
        connection.hold(message)
        connection.proceed(message)

    return act


def delay(seconds: float) -> Action:
    def act(connection: TargetConnection, message: Pdu) -> None:
        connection.hold(message, seconds)
        connection.proceed(message)

    return act


def before(*messages: Pdu) -> Action:
    def act(connection: TargetConnection, message: Pdu) -> None:
        for extra in messages:
            connection.send(extra)
        connection.proceed(message)

    return act


def corrupt(byte: int, bit: int = 1) -> Callable[[Pdu], Corrupted]:
    """Flip a bit of the wire of a PDU; a negative byte counts from its end."""
    return lambda message: Corrupted(message, byte, bit)
