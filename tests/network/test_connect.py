"""Connecting on loopback: the options that must be set, and what each failure reads like."""

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from isboot.errors import ExitStatus, NetworkError
from isboot.network import connect as connect_module
from isboot.network.connect import FAILURES, OPTIONS, Endpoint, connect, find_endpoints, resolve
from isboot.values import Portal


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port nobody listens on, kept from others by a socket that is only bound."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def fail_to_resolve(*arguments: object, **keywords: object) -> None:
    raise AssertionError("the resolver was called")


def portal_of(server: socket.socket) -> Portal:
    return Portal(*server.getsockname()[:2])


def test_connection_is_blocking_and_not_inherited(listener: socket.socket) -> None:
    with connect(portal_of(listener), timeout_s=5) as connection:
        assert connection.getblocking()
        assert connection.gettimeout() is None
        assert not connection.get_inheritable()
        assert connection.getpeername() == listener.getsockname()


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_is_set(listener: socket.socket, option: connect_module.Option) -> None:
    with connect(portal_of(listener), timeout_s=5) as connection:
        if isinstance(option.value, bytes):
            assert connection.getsockopt(option.level, option.number, len(option.value)) == option.value
        else:
            assert connection.getsockopt(option.level, option.number) == option.value


def test_close_resets_the_connection(listener: socket.socket) -> None:
    # Else our kernel would go on delivering what a dead worker had written.
    connection = connect(portal_of(listener), timeout_s=5)
    accepted, _ = listener.accept()
    with accepted:
        connection.close()
        with pytest.raises(ConnectionResetError):  # an orderly end would be b""
            accepted.recv(100)


def test_refused_names_portal_and_exits_75(closed_port: int) -> None:
    with pytest.raises(NetworkError) as caught:
        connect(Portal("127.0.0.1", closed_port), timeout_s=5)
    assert caught.value.message == f"connecting to 127.0.0.1:{closed_port}: connection refused"
    assert "listen on that port" in caught.value.hint
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_silence_ends_at_the_deadline() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        portal = portal_of(server)
        with connect(portal, timeout_s=5), pytest.raises(NetworkError) as caught:
            connect(portal, timeout_s=0.02)  # the backlog of one is full: the SYN gets no answer
    assert caught.value.message == f"connecting to {portal}: no answer within 0.02 s"
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_unknown_interface_is_named() -> None:
    with pytest.raises(NetworkError) as caught:
        connect(Portal("127.0.0.1", 3260), interface="nonesuch0", timeout_s=5)
    assert caught.value.message == "connecting to 127.0.0.1:3260 through nonesuch0: no such NIC"
    assert caught.value.exit_status is ExitStatus.NOTHING_THERE


@pytest.mark.parametrize("number", sorted(FAILURES), ids=errno.errorcode.__getitem__)
def test_every_failure_has_its_own_words(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(number, "the kernel's words")

    monkeypatch.setattr(socket.socket, "connect", fail)
    with pytest.raises(NetworkError) as caught:
        connect(Portal("2001:db8::9"), timeout_s=5)
    assert caught.value.message.startswith(f"connecting to [2001:db8::9]:3260: {FAILURES[number].text}")
    assert caught.value.exit_status is FAILURES[number].exit_status
    assert caught.value.exit_status is not ExitStatus.FAILED


def test_failed_socket_is_closed(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    made: list[socket.socket] = []

    class Noted(socket.socket):
        def __init__(self, *arguments: int) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(socket, "socket", Noted)
    with pytest.raises(NetworkError):
        connect(Portal("127.0.0.1", closed_port), timeout_s=5)
    assert [each.fileno() for each in made] == [-1]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%1"])
def test_literal_never_reaches_the_resolver(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", fail_to_resolve)
    assert len(find_endpoints(Portal(host), interface="lo")) == 1


def test_name_is_refused_on_the_recovery_road(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", fail_to_resolve)
    with pytest.raises(NetworkError, match="a name cannot be resolved"):
        connect(Portal("storage.example"), timeout_s=5, resolve_names=False)


@pytest.mark.parametrize(
    ("number", "exit_status"),
    [(socket.EAI_NONAME, ExitStatus.NOTHING_THERE), (socket.EAI_AGAIN, ExitStatus.TRY_AGAIN)],
)
def test_unknown_name_is_told_from_a_resolver_that_is_down(
    monkeypatch: pytest.MonkeyPatch, number: int, exit_status: ExitStatus
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise socket.gaierror(number, "the resolver's words")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(NetworkError, match=r"^resolving storage\.example: the resolver's words$") as caught:
        connect(Portal("storage.example"), timeout_s=5)
    assert caught.value.exit_status is exit_status


def test_next_address_of_a_name_is_tried(
    monkeypatch: pytest.MonkeyPatch, listener: socket.socket, closed_port: int
) -> None:
    port = listener.getsockname()[1]
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, given, **keywords: [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", closed_port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
        ],
    )
    with connect(Portal("storage.example", port), timeout_s=5) as connection:
        assert connection.getpeername() == ("127.0.0.1", port)


def test_name_becomes_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::9", 3261, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.9", 3261)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.9", 3261)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port, **keywords: found)
    assert resolve(Portal("storage.example", 3261)) == (
        Portal("2001:db8::9", 3261),
        Portal("192.0.2.9", 3261),
    )


@pytest.mark.parametrize("host", ["192.0.2.9", "2001:db8::9", "fe80::9%eth0"])
def test_literal_resolves_to_itself(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", fail_to_resolve)
    assert resolve(Portal(host)) == (Portal(host),)


def test_link_local_address_without_a_zone_is_told() -> None:
    with pytest.raises(NetworkError, match=r"fe80::9\]:3260: not an address to connect to$") as caught:
        connect(Portal("fe80::9"), timeout_s=5)
    assert "fe80::1%eth0" in caught.value.hint


def test_link_local_address_gets_the_zone_of_the_interface() -> None:
    index = socket.if_nametoindex("lo")
    assert find_endpoints(Portal("fe80::1"), interface="lo") == (
        Endpoint(socket.AF_INET6, ("fe80::1", 3260, 0, index)),
    )


def test_linger_option_is_on_with_zero_seconds() -> None:
    (linger,) = [option for option in OPTIONS if option.name == "SO_LINGER"]
    assert linger.value == struct.pack("ii", 1, 0)
