"""The control socket, both ends of it for real."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from isboot.daemon import control
from isboot.errors import DaemonError, ExitStatus


def serve_one(server: control.Server, **answer: object) -> threading.Thread:
    def serve() -> None:
        client = server.accept()
        if client is not None:
            client.answer(word=client.word, **answer)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_an_answer_comes_back(tmp_path: Path) -> None:
    server = control.Server(tmp_path / "control")
    thread = serve_one(server, ok=True, devices=[])
    assert control.ask(server.path, "status") == {"ok": True, "devices": [], "word": "status"}
    thread.join()
    server.remove()


def test_a_refusal_keeps_message_hint_and_exit_status(tmp_path: Path) -> None:
    server = control.Server(tmp_path / "control")
    thread = serve_one(server, ok=False, message="in use", hint="unmount it", exit_status=75)
    with pytest.raises(DaemonError, match="in use") as caught:
        control.ask(server.path, "detach")
    thread.join()
    server.remove()
    assert (caught.value.hint, caught.value.exit_status) == ("unmount it", ExitStatus.TRY_AGAIN)


@pytest.mark.parametrize("bad", [b"\n", b"{}\n", b"[1]\n", b'"do"\n', b"\xff\xfe\n", b'{"do"\n'])
def test_a_request_that_is_none_is_hung_up_on(tmp_path: Path, bad: bytes) -> None:
    server = control.Server(tmp_path / "control")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.connect(str(server.path))
        end.sendall(bad)
        assert server.accept() is None
        assert end.recv(1) == b""
    server.remove()


def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    server = control.Server(tmp_path / "control")
    assert server.path.stat().st_mode & 0o777 == 0o600
    assert server.path.parent.stat().st_mode & 0o777 == 0o700
    server.remove()


def test_the_socket_of_a_dead_launcher_is_skipped(tmp_path: Path) -> None:
    living = control.Server(tmp_path)
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(str(tmp_path / "1"))
    dead.close()
    assert list(control.launchers(tmp_path)) == [living.path]
    living.remove()


def test_a_launcher_that_ends_while_it_is_asked_has_no_devices(tmp_path: Path) -> None:
    """Another detach was faster."""
    server = control.Server(tmp_path)

    def end() -> None:
        client = server.accept()
        assert client is not None
        client.close_in_child()  # no answer
        server.remove()

    thread = threading.Thread(target=end)
    thread.start()
    assert control.devices_of(server.path) == []
    thread.join()
    assert control.devices_of(tmp_path / "never") == []


def test_an_unknown_device_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DaemonError, match="ublkb7") as caught:
        control.find("/dev/ublkb7", tmp_path)
    assert caught.value.exit_status == ExitStatus.NOTHING_THERE
