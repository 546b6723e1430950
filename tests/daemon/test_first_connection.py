"""The first connection of a boot: which path is tried again, and which is not."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from isboot.daemon import first_connection
from isboot.daemon.channel import Channel
from isboot.daemon.log import Level, Log
from isboot.daemon.shared import Shared
from isboot.daemon.worker import Task
from isboot.errors import ExitStatus
from isboot.session.pdu import LoginRequest, LoginResponse
from isboot.session.status import LoginRefused
from isboot.values import BootConfig, Credentials, PathConfig, Policy, Secret
from tests.fakes.connection import TargetConnection
from tests.fakes.login import Account
from tests.fakes.target import FakeTarget
from tests.session.sessions import INITIATOR, QUICK, connected, log_in, path_to

ALICE = Credentials("alice", Secret(b"alice-has-a-secret"))
ELSE = Account("alice", b"something-else-entirely")


class Listener(Log):
    """Does something once when a word is said."""

    def __init__(self, word: str = "", act: object = None) -> None:
        super().__init__(to_kernel=False)
        self._word, self._act = word, act

    def say(self, text: str, level: Level = Level.INFO) -> None:
        super().say(text, level)
        if self._act is not None and self._word in text:
            act, self._act = self._act, None
            act()  # type: ignore[operator]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_connection, "RETRY_S", (0.0,))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def task_of(stack: ExitStack, *paths: PathConfig, log: Log, retry_s: float = 5.0) -> Task:
    policy = Policy(login_timeout_ms=2000, login_jitter_ms=0)
    config = BootConfig("test", INITIATOR, (), paths, policy, is_boot=True)
    ours, theirs = Channel.pair()
    shared = Shared.make(depth=1, max_io_bytes=4096)
    stack.callback(ours.close)
    stack.callback(theirs.close)
    stack.callback(os.close, shared.fd)
    return Task(config, {}, shared, log, ours, is_armed=False, retry_s=retry_s)


def refuse(status_class: int, detail: int) -> object:
    def act(connection: TargetConnection, request: LoginRequest) -> None:
        connection.send(LoginResponse(isid=request.isid, status_class=status_class, status_detail=detail))

    return act


def test_a_path_with_a_wrong_secret_is_given_up_while_the_other_is_waited_for(stack: ExitStack) -> None:
    wrong = stack.enter_context(FakeTarget(account=ELSE))
    busy = stack.enter_context(FakeTarget())
    busy.on(LoginRequest, refuse(3, 1), times=5)  # type: ignore[arg-type]
    log = Listener()
    paths = (path_to(wrong, credentials=ALICE), replace(path_to(busy), index=1))
    found = first_connection.connect(task_of(stack, *paths, log=log))
    found.sock.close()
    assert found.session.portal == paths[1].portal
    assert len(busy.connections) == 6
    assert len(wrong.connections) == 2  # the list of algorithms, then MD5 alone: and never again
    assert sum("authentication failure" in line and "hint: check CHAP" in line for line in log.ring) == 1


def test_with_nothing_but_wrong_secrets_the_boot_ends_at_once(stack: ExitStack) -> None:
    targets = [stack.enter_context(FakeTarget(account=ELSE)) for _ in range(2)]
    paths = [replace(path_to(target, credentials=ALICE), index=n) for n, target in enumerate(targets)]
    with pytest.raises(LoginRefused, match="authentication failure") as caught:
        first_connection.connect(task_of(stack, *paths, log=Listener(), retry_s=1e9))
    assert caught.value.exit_status is ExitStatus.NOT_PERMITTED
    assert [len(target.connections) for target in targets] == [2, 2]


def test_the_firmwares_session_is_waited_for_and_named(stack: ExitStack) -> None:
    target = stack.enter_context(FakeTarget(max_sessions=1))
    firmware: socket.socket = stack.enter_context(connected(target))
    log_in(firmware, path_to(target), QUICK, bytes([0x80, 0xF1, 0, 0, 0, 1]))
    log = Listener("too many connections", firmware.close)
    found = first_connection.connect(task_of(stack, path_to(target), log=log))
    found.sock.close()
    said = next(line for line in log.ring if "too many connections" in line)
    assert "class 2, detail 6" in said
    assert "the firmware's for example" in said


def test_a_permanent_redirection_of_a_boot_is_known_to_all_processes(stack: ExitStack) -> None:
    there = stack.enter_context(FakeTarget())
    here = stack.enter_context(FakeTarget(redirect=(f"127.0.0.1:{there.port}", True)))
    path = path_to(here)
    made = task_of(stack, path, log=Listener())
    first_connection.connect(made).sock.close()
    shared = made.shared
    again = Shared.open(shared.fd, depth=1, max_io_bytes=4096)  # as a launcher does that comes later
    assert again.portals.lookup(path.portal) == path_to(there).portal


def test_the_first_login_of_a_boot_is_spread(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    target = stack.enter_context(FakeTarget())
    made = task_of(stack, path_to(target), log=Listener())
    policy = replace(made.config.policy, login_jitter_ms=600_000)
    made = replace(made, config=replace(made.config, policy=policy))
    first_connection.connect(made).sock.close()
    assert 0 <= slept[0] < 600
