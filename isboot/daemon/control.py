"""
The control socket: one line of JSON in, one line out, then it is closed.

Every launcher listens on /run/isboot/control/PID; the directory is root's alone.  Both ends check who is
there (SO_PEERCRED): a file system permission says who may connect, not who answers.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isboot.errors import DaemonError, ExitStatus

DIRECTORY = Path("/run/isboot/control")
MAX_LINE_BYTES = 1 << 20
TIMEOUT_S = 60.0
ENDING_S = 5.0  #: from a launcher's hanging up to its end, at most
ENDING_PAUSE_S = 0.05


def _peer_uid(end: socket.socket) -> int:
    credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


class Server:
    """The listening end. `accept` gives a client whose request has been read."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = directory / str(os.getpid())
        self.path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self._socket.bind(str(self.path))
        finally:
            os.umask(mask)
        self._socket.listen(8)

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> Client | None:
        """Give the next client, or None if it may not ask or asked nothing readable."""
        end, _ = self._socket.accept()
        end.settimeout(1.0)  # whoever connects and stays silent must not hold the launcher
        try:
            if _peer_uid(end) != os.geteuid():
                raise PermissionError
            line = b""
            while not line.endswith(b"\n") and len(line) < 4096:
                part = end.recv(4096)
                if not part:
                    break
                line += part
            request = json.loads(line)
            word = str(request["do"])
        except (OSError, ValueError, KeyError, TypeError):
            end.close()
            return None
        return Client(end, word)

    def close_in_child(self) -> None:
        """After a fork: let go of the socket, leave its file to the parent."""
        self._socket.close()

    def remove(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


class Client:
    """Somebody who asked for `word` and waits."""

    def __init__(self, end: socket.socket, word: str) -> None:
        self._end = end
        self.word = word

    def answer(self, **values: Any) -> None:
        """Answer and hang up; a client that went away is no trouble of ours."""
        try:
            self._end.sendall(json.dumps(values).encode() + b"\n")
        except OSError:
            pass
        self._end.close()

    def refuse(self, message: str, hint: str = "", exit_status: int = ExitStatus.FAILED) -> None:
        self.answer(ok=False, message=message, hint=hint, exit_status=int(exit_status))

    def close_in_child(self) -> None:
        self._end.close()


def ask(path: Path, word: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """
    Ask one launcher.

    :raises DaemonError: it refused (with its own exit status), is gone, or does not answer in time
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(timeout_s)
        try:
            end.connect(str(path))
            if _peer_uid(end) not in (0, os.geteuid()):
                raise DaemonError(f"asking {path}: another user listens there", "", ExitStatus.NOT_PERMITTED)
            end.sendall(json.dumps({"do": word}).encode() + b"\n")
            line = b""
            while part := end.recv(65536):
                line += part
                if len(line) > MAX_LINE_BYTES:
                    break
            answer: dict[str, Any] = json.loads(line)
        except TimeoutError as error:
            raise DaemonError(
                f"asking {path} to {word}: no answer within {timeout_s:g} s", "", ExitStatus.TRY_AGAIN
            ) from error
        except (OSError, ValueError) as error:
            raise DaemonError(f"asking {path} to {word}: {error}", "", ExitStatus.TRY_AGAIN) from error
    if not answer.get("ok"):
        raise DaemonError(
            str(answer.get("message", "refused")),
            str(answer.get("hint", "")),
            ExitStatus(answer.get("exit_status", 1)),
        )
    return answer


def launchers(directory: Path = DIRECTORY) -> Iterator[Path]:
    """
    Give the sockets of the launchers that live; what a dead one left behind is skipped.

    :raises DaemonError: not root
    """
    try:
        paths = sorted(directory.iterdir(), key=lambda path: path.name)
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise DaemonError(
            f"reading {directory}: not permitted", "run it as root", ExitStatus.NOT_PERMITTED
        ) from error
    yield from filter(_listens, paths)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        try:
            end.connect(str(path))
        except OSError:
            return False
    return True


def devices_of(path: Path) -> list[dict[str, Any]]:
    """
    Give the rows of a launcher's devices; none if it ends meanwhile, as one does whose device is detached.

    :raises DaemonError: as ask()
    """
    end = time.monotonic() + ENDING_S
    while True:
        try:
            rows: list[dict[str, Any]] = ask(path, "status")["devices"]
            return rows
        except DaemonError as error:
            if not _listens(path):
                return []
            # it may have hung up and not be gone yet
            if isinstance(error.__cause__, TimeoutError) or time.monotonic() > end:
                raise
        time.sleep(ENDING_PAUSE_S)


def find(device: str, directory: Path = DIRECTORY) -> Path:
    """
    Give the socket of the launcher that keeps a device.

    :param device: "ublkb0" or "/dev/ublkb0"
    :raises DaemonError: none does (exit status 66)
    """
    name = device.removeprefix("/dev/")
    known = []
    for path in launchers(directory):
        for row in devices_of(path):
            if row["device"] == name:
                return path
            known.append(row["device"])
    raise DaemonError(
        f"looking for {name}: no isboot device of that name",
        f"there are: {', '.join(known)}" if known else "no isboot device is attached",
        ExitStatus.NOTHING_THERE,
    )
