"""Login over a socket: deadlines, lengths, closed connections, redirections, the second try with MD5."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from isboot.errors import ExitStatus, SessionError
from isboot.session import connection, pdu
from isboot.session.connection import ConnectionLost, TryMd5Alone
from isboot.session.pdu import LoginRequest, LoginResponse
from isboot.session.status import STATUSES, LoginRefused, Status
from isboot.values import Credentials, NegotiatedSession, PathConfig, Policy, Portal, Secret
from tests.fakes.login import Account, Limits
from tests.fakes.target import FakeTarget, corrupt, drop, ignore
from tests.session.sessions import ISID, connected, log_in, path_to

SECRET = b"alice-has-a-secret"
ALICE = Credentials("alice", Secret(SECRET))
ACCOUNT = Account("alice", SECRET)


@contextmanager
def answering(wire: bytes) -> Iterator[socket.socket]:
    """Give a socket whose other end reads the first request, says these bytes and closes."""
    ours, theirs = socket.socketpair()

    def answer() -> None:
        theirs.recv(65536)
        theirs.sendall(wire)
        theirs.close()

    thread = threading.Thread(target=answer)
    thread.start()
    with ours:
        yield ours
    thread.join()


def test_a_flood_does_not_outlast_a_deadline() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(pdu.encode(pdu.NopIn()) * 8)
        flooded = connection.Connection(ours, "login to a flood")
        with pytest.raises(ConnectionLost, match="login to a flood: no answer within 2 s"):
            flooded.receive(connection.Deadline(time.monotonic() - 1, "2 s"))
        assert isinstance(flooded.receive(connection.Deadline.within(1000)), pdu.NopIn)  # none was read


def test_the_session_is_what_both_sides_agreed_on() -> None:
    limits = Limits(max_recv_data_segment_length=16384, max_burst_length=131072, first_burst_length=32768)
    with FakeTarget(limits=limits) as target, connected(target) as sock:
        path = path_to(target)
        session = log_in(sock, path, Policy(header_digest=True, data_digest=True))
        assert session.fd == sock.fileno()
        assert os.get_blocking(session.fd)
    assert (session.target_name, session.lun, session.isid) == (target.name, path.lun, ISID)
    assert (session.header_digest, session.data_digest) == (True, True)
    assert session.max_send_data_segment_length_bytes == 16384
    assert session.max_recv_data_segment_length_bytes == 262144
    assert (session.max_burst_length_bytes, session.first_burst_length_bytes) == (131072, 32768)
    assert (session.initial_r2t, session.immediate_data) == (False, True)
    assert (session.cmd_sn, session.exp_stat_sn, session.max_cmd_sn) == (1, 3, 32)


def test_first_burst_never_exceeds_max_burst() -> None:
    limits = Limits(max_burst_length=65536, first_burst_length=262144)
    with FakeTarget(limits=limits) as target, connected(target) as sock:
        assert log_in(sock, path_to(target)).first_burst_length_bytes == 65536


def test_a_target_that_never_answers_ends_in_a_timeout() -> None:
    with FakeTarget() as target, connected(target) as sock:
        target.on(LoginRequest, ignore())
        with pytest.raises(ConnectionLost, match=r"login to .* at .*: no answer within 0.05 s") as caught:
            log_in(sock, path_to(target), Policy(login_timeout_ms=50))
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


@pytest.mark.parametrize("sent_bytes", [0, 1, 47, 48, 60, 130])
def test_a_connection_dropped_within_the_login_is_lost(sent_bytes: int) -> None:
    with FakeTarget() as target, connected(target) as sock:
        target.drop_after(sent_bytes)
        with pytest.raises(ConnectionLost, match=r"closed the connection|connection broke"):
            log_in(sock, path_to(target))


def test_a_connection_dropped_at_any_request_is_lost() -> None:
    for skip in (0, 1):
        with FakeTarget() as target, connected(target) as sock:
            target.on(LoginRequest, drop(), skip=skip)
            with pytest.raises(ConnectionLost):
                log_in(sock, path_to(target))


def test_something_else_listening_there_is_named() -> None:
    path = path_to(FakeTarget(port=80))
    with (
        answering(b"HTTP/1.1 400 Bad Request\r\nServer: nginx/1.22.1\r\nContent-Length: 0\r\n\r\n") as sock,
        pytest.raises(SessionError, match="breaks the standard") as caught,
    ):
        log_in(sock, path)
    assert caught.value.exit_status is ExitStatus.MALFORMED
    assert "is this an iSCSI target?" in caught.value.hint


def test_an_enormous_segment_is_refused_before_it_is_read() -> None:
    header = bytearray(pdu.encode(LoginResponse()))
    header[5:8] = b"\xff\xff\xff"
    with (
        answering(bytes(header)) as sock,
        pytest.raises(SessionError, match="a data segment of 16777215 bytes"),
    ):
        log_in(sock, path_to(FakeTarget()))


def test_a_short_segment_that_is_offered_holds_after_the_login_only() -> None:
    account = replace(ACCOUNT, challenge=bytes(range(256)) * 4)  # more than 2 KiB of text
    with FakeTarget(account=account) as target, connected(target) as sock:
        path = path_to(target, credentials=ALICE)
        session = log_in(sock, path, Policy(max_recv_data_segment_length_bytes=512))
    assert session.max_recv_data_segment_length_bytes == 512


def test_a_pdu_of_another_kind_is_refused() -> None:
    with FakeTarget() as target, connected(target) as sock:
        target.alter(LoginResponse, lambda response: pdu.NopIn())
        with pytest.raises(SessionError, match="a NOP-In came where a Login Response was due"):
            log_in(sock, path_to(target))


@pytest.mark.parametrize("byte", range(0, 48, 3))
def test_a_flipped_bit_in_a_header_never_gives_a_traceback(byte: int) -> None:
    with FakeTarget() as target, connected(target) as sock:
        target.alter(LoginResponse, corrupt(byte, bit=byte % 8))
        complaint = "login to "
        try:
            log_in(sock, path_to(target), Policy(login_timeout_ms=50))
        except SessionError as error:
            complaint = error.message
        assert complaint.startswith("login to ")


@pytest.mark.parametrize("row", STATUSES, ids=lambda row: f"{row.status_class}-{row.detail}")
def test_every_status_of_a_login_is_told_with_what_to_do(row: Status) -> None:
    with (
        FakeTarget(refuse=(row.status_class, row.detail)) as target,
        connected(target) as sock,
        pytest.raises(LoginRefused) as caught,
    ):
        log_in(sock, path_to(target))
    assert caught.value.message == (
        f"login to {target.name} at 127.0.0.1:{target.port} refused: {row.text}"
        f" (class {row.status_class}, detail {row.detail})"
    )
    assert caught.value.exit_status is row.exit_status
    assert caught.value.hint


def test_a_connection_that_breaks_while_we_speak_is_lost() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(ConnectionLost, match="the connection broke: Broken pipe") as caught:
        log_in(ours, path_to(FakeTarget(port=3260)))
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_an_unknown_target_name_is_told() -> None:
    with (
        FakeTarget() as target,
        connected(target) as sock,
        pytest.raises(LoginRefused, match="target not found") as caught,
    ):
        log_in(sock, path_to(target, name="iqn.2026-11.org.example:other"))
    assert caught.value.exit_status is ExitStatus.NOTHING_THERE


def test_without_credentials_the_hint_speaks_of_chap() -> None:
    with (
        FakeTarget(refuse=(2, 1)) as target,
        connected(target) as sock,
        pytest.raises(LoginRefused) as caught,
    ):
        log_in(sock, path_to(target))
    assert "no CHAP name is configured" in caught.value.hint


def connect(portal: Portal) -> socket.socket:
    sock = socket.create_connection((portal.host, portal.port), timeout=5)
    sock.settimeout(None)
    return sock


def followed(path: PathConfig) -> NegotiatedSession:
    """Log in and out as far as it takes; the connection is closed then."""

    def use(sock: socket.socket, portal: Portal) -> NegotiatedSession:
        with sock:
            return log_in(sock, path)

    return connection.follow(path.portal, connect, use)


def test_a_refused_list_of_algorithms_is_followed_by_md5_alone_once() -> None:
    # As tgt 1.0.85 does it: it takes what it misreads, and refuses the response.
    def offers(target: FakeTarget) -> list[bytes]:
        return [
            request.data for request in target.received(LoginRequest) if request.data.startswith(b"CHAP_A")
        ]

    with FakeTarget(account=ACCOUNT) as target:
        path = path_to(target, credentials=ALICE)
        target.on(
            LoginRequest,
            lambda there, request: there.send(LoginResponse(status_class=2)),
            when=lambda request: request.data.startswith(b"CHAP_A=8"),
        )
        with connected(target) as sock, pytest.raises(TryMd5Alone, match="MD5 alone") as caught:
            log_in(sock, path)
        assert (caught.value.host, caught.value.port) == ("127.0.0.1", target.port)
        for _ in range(2):  # and it is remembered
            with connected(target) as sock:
                log_in(sock, path)
        assert offers(target) == [b"CHAP_A=8,7,6,5\0", b"CHAP_A=5\0", b"CHAP_A=5\0"]


@pytest.mark.parametrize("words", [("sha256", "sha1"), ("sha256",), ("md5",)])
def test_without_md5_or_without_a_list_there_is_no_second_attempt(words: tuple[str, ...]) -> None:
    with FakeTarget(account=replace(ACCOUNT, secret=b"something else")) as target, connected(target) as sock:
        path = path_to(target, credentials=ALICE)
        with pytest.raises(LoginRefused):
            log_in(sock, path, Policy(chap_algorithms=words))


def test_after_a_failure_with_md5_alone_the_list_is_offered_again() -> None:
    with FakeTarget(account=replace(ACCOUNT, secret=b"something else")) as target:
        path = path_to(target, credentials=ALICE)
        for _ in range(2):
            with pytest.raises(LoginRefused):
                followed(path)
        offers = [
            request.data for request in target.received(LoginRequest) if request.data.startswith(b"CHAP_A")
        ]
        assert offers == [b"CHAP_A=8,7,6,5\0", b"CHAP_A=5\0"] * 2
        target.account = ACCOUNT  # the secret is right again
        session = followed(path)
        assert session.warnings == ()


def test_md5_alone_is_told_with_the_session() -> None:
    with FakeTarget(account=ACCOUNT) as target:
        path = path_to(target, credentials=ALICE)
        target.on(
            LoginRequest,
            lambda there, request: there.send(LoginResponse(status_class=2)),
            when=lambda request: request.data.startswith(b"CHAP_A=8"),
        )
        session = followed(path)
    (warning,) = session.warnings
    assert "refused the CHAP algorithms sha3-256,sha256,sha1,md5 as a list: MD5 alone is used" in warning


@pytest.mark.parametrize(
    ("credentials", "skip", "is_hinted"), [(None, 0, True), (None, 1, False), (ALICE, 0, False)]
)
def test_a_connection_that_ends_instead_of_a_status_may_mean_chap(
    credentials: Credentials | None, skip: int, is_hinted: bool
) -> None:
    with FakeTarget(account=ACCOUNT if credentials else None) as target, connected(target) as sock:
        target.on(LoginRequest, drop(), skip=skip)
        with pytest.raises(ConnectionLost) as caught:
            log_in(sock, path_to(target, credentials=credentials))
    assert ("no CHAP name is configured" in caught.value.hint) is is_hinted


def test_a_wrong_secret_is_a_refusal_after_the_second_try() -> None:
    with FakeTarget(account=replace(ACCOUNT, secret=b"something else")) as target:
        path = path_to(target, credentials=ALICE)
        with pytest.raises(LoginRefused, match="authentication failure") as caught:
            followed(path)
        assert len(target.connections) == 2
    assert caught.value.exit_status is ExitStatus.NOT_PERMITTED


def test_the_secret_is_nowhere_on_the_wire_or_in_an_error() -> None:
    with FakeTarget(account=replace(ACCOUNT, secret=b"something else")) as target:
        path = path_to(target, credentials=ALICE)
        with pytest.raises(LoginRefused) as caught:
            followed(path)
        sent = b"".join(request.data for request in target.received(LoginRequest))
    assert SECRET not in sent
    assert SECRET.hex().encode() not in sent
    assert SECRET.decode() not in caught.value.message + caught.value.hint + repr(caught.value) + repr(path)


def test_what_a_lax_target_answered_is_told_with_the_session() -> None:
    def lax(response: LoginResponse) -> LoginResponse:
        return replace(response, data=response.data.replace(b"DefaultTime2Wait=2", b"DefaultTime2Wait=0"))

    with FakeTarget() as target, connected(target) as sock:
        target.alter(LoginResponse, lax, times=None)
        session = log_in(sock, path_to(target))
    assert session.time2wait_s == 2
    (warning,) = session.warnings
    assert warning == (
        f"login to {target.name} at 127.0.0.1:{target.port}: the target answers DefaultTime2Wait=0"
        " to an offer of 2: 2 is used"
    )
