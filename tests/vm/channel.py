"""The harness's end of the agent in a guest (inside/agent.py): one JSON document a line, both ways."""

from __future__ import annotations

import base64
import itertools
import json
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.vm.progress import RigError

#: seconds the agent gets on top of a command's own bound before we stop believing in it
GRACE_S = 10


@dataclass(frozen=True)
class Result:
    """How a command in the guest ended; negative status: the signal that killed it."""

    command: str
    status: int
    output: str


class Pending:
    """A request on its way."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self.name = name
        self.deadline = time.monotonic() + timeout_s + GRACE_S
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._pieces: list[bytes] = []
        self._is_late = False
        self._status: int | None = None

    def wait(self, on_output: Callable[[bytes], None] | None = None) -> tuple[int, bytes]:
        """
        Wait for the end: exit status, and what it wrote.

        :param on_output: called with each piece as it comes
        :raises RigError: the agent refused, or the time is up
        """
        while self._status is None:
            self._take(on_output)
        if self._is_late:
            raise RigError(f"{self.name}: killed, its time was up\n{_text(self._pieces)[-4000:]}")
        return self._status, b"".join(self._pieces)

    def wait_for(self, word: str) -> None:
        """
        Wait until it has written that.

        :raises RigError: it ended before, the agent refused, or the time is up
        """
        while word not in _text(self._pieces):
            if self._status is not None:
                text = _text(self._pieces)[-4000:]
                raise RigError(f"{self.name}: ended ({self._status}) without {word!r}\n{text}")
            self._take(None)

    @property
    def output(self) -> bytes:
        """What of its output `wait_for` has seen."""
        return b"".join(self._pieces)

    def _take(self, on_output: Callable[[bytes], None] | None) -> None:
        try:
            answer = self.answers.get(timeout=max(self.deadline - time.monotonic(), 0))
        except queue.Empty:
            raise RigError(f"{self.name}: the agent in the guest is silent") from None
        if "error" in answer:
            raise RigError(f"{self.name}: {answer['error']}")
        self._is_late = self._is_late or "late" in answer
        if "output" in answer:
            self._pieces.append(base64.b64decode(answer["output"]))
            if on_output:
                on_output(self._pieces[-1])
        self._status = answer.get("status", self._status)


class Channel:
    """
    A connection to the agent.

    :param connected: a socket connected to QEMU's virtio-serial port
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._numbers = itertools.count(1)
        self._pending: dict[int, Pending] = {0: Pending("hello", 0)}
        self._sending = threading.Lock()
        threading.Thread(target=self._receive, daemon=True).start()

    def wait_hello(self, timeout_s: float) -> str:
        """
        Wait for the agent; gives the kernel's release.

        :raises RigError: it did not speak within timeout_s
        """
        try:
            return str(self._pending[0].answers.get(timeout=timeout_s)["hello"])
        except queue.Empty:
            raise RigError(f"the agent in the guest said nothing within {timeout_s:g} s") from None

    def request(self, verb: str, name: str, timeout_s: float, **arguments: object) -> Pending:
        """Send a request; several may be under way."""
        number = next(self._numbers)
        pending = self._pending[number] = Pending(name, timeout_s)
        document = {"id": number, "verb": verb, "timeout_s": timeout_s, **arguments}
        with self._sending:
            self._socket.sendall(json.dumps(document).encode() + b"\n")
        return pending

    def start(
        self,
        command: str | Sequence[str],
        timeout_s: float = 60,
        environment: dict[str, str] | None = None,
        directory: str | None = None,
    ) -> Pending:
        """Start a command; a text is a shell's."""
        arguments = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        name = command if isinstance(command, str) else " ".join(command)
        settings = {"environment": environment or {}, "directory": directory}
        return self.request("run", name, timeout_s, command=arguments, **settings)

    def run(
        self,
        command: str | Sequence[str],
        timeout_s: float = 60,
        *,
        is_checked: bool = True,
        environment: dict[str, str] | None = None,
        directory: str | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> Result:
        """
        Run a command to its end; stdout and stderr come together.

        :param is_checked: an exit status other than 0 is an error
        :raises RigError: exit status, the agent is silent, the time is up (the command is killed then)
        """
        pending = self.start(command, timeout_s, environment, directory)
        status, output = pending.wait(on_output)
        text = output.decode(errors="replace")
        if is_checked and status:
            raise RigError(f"in the guest: {pending.name}: exit {status}\n{text[-4000:]}")
        return Result(pending.name, status, text)

    def read(self, path: str, timeout_s: float = 30) -> bytes:
        """A file's content, read by the agent itself: no program is started."""
        return self.request("read", f"read {path}", timeout_s, path=path).wait()[1]

    def write(self, path: str, data: bytes, timeout_s: float = 30) -> None:
        """Write a file; the agent does it itself."""
        for offset in range(0, max(len(data), 1), 32768):
            piece = base64.b64encode(data[offset : offset + 32768]).decode()
            self.request("write", f"write {path}", timeout_s, path=path, append=offset > 0, data=piece).wait()

    def kill(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; the agent does it itself."""
        self.request("kill", f"kill {pid}", 10, pid=pid, signal=int(number)).wait()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _receive(self) -> None:
        pending = b""
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                return
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                waiting = self._pending.get(answer["id"])
                if waiting:
                    waiting.answers.put(answer)


def _text(pieces: Sequence[bytes]) -> str:
    return b"".join(pieces).decode(errors="replace")
