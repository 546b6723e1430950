"""Redirections: followed, limited, remembered where they are for good, without a resolver after a loss."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import ExitStatus, RedirectError, SessionError
from isboot.session import connection, redirect
from isboot.session.redirect import MEMORY_BYTES, ROWS, Memory, SameAgain, Trail
from isboot.values import Portal
from tests.fakes.target import FakeTarget
from tests.session.sessions import INITIATOR, ISID, QUICK, log_in, path_to

A, B, C, D = (Portal(f"192.0.2.{number}") for number in range(1, 5))
NAME = Portal("storage.example.org", 3261)


def to(portal: Portal, *, is_permanent: bool = False) -> RedirectError:
    return RedirectError("sent on", host=portal.host, port=portal.port, is_permanent=is_permanent)


def trail(memory: Memory, *, limit: int = 4, is_after_loss: bool = False) -> Trail:
    return Trail(A, "login to disk", limit, memory, is_after_loss)


def walk(memory: Memory, *redirections: RedirectError, is_after_loss: bool = False) -> Portal:
    """Follow these and log in; give where that was."""
    way = trail(memory, is_after_loss=is_after_loss)
    for redirection in redirections:
        way.turn(redirection)
    way.arrived(way.portal if redirect.is_address(way.portal.host) else D)
    return way.portal


def test_a_temporary_redirection_holds_for_one_login() -> None:
    memory = Memory()
    assert walk(memory, to(B)) == B
    assert trail(memory).portal == A


def test_a_permanent_redirection_is_remembered() -> None:
    memory = Memory()
    walk(memory, to(B, is_permanent=True))
    assert [walk(memory) for _ in range(3)] == [B, B, B]
    assert walk(memory, to(C, is_permanent=True)) == C  # and it moves on
    assert [walk(memory) for _ in range(3)] == [C, C, C]


def test_of_a_chain_the_permanent_beginning_is_remembered() -> None:
    memory = Memory()
    assert walk(memory, to(B, is_permanent=True), to(C)) == C
    assert trail(memory).portal == B
    memory = Memory()
    assert walk(memory, to(B), to(C, is_permanent=True)) == C
    assert trail(memory).portal == A


def test_a_permanent_redirection_to_where_no_login_succeeds_is_not_remembered() -> None:
    memory = Memory()
    trail(memory).turn(to(B, is_permanent=True))
    assert trail(memory).portal == A


def test_while_the_place_remembered_fails_both_are_tried_in_turn() -> None:
    memory = Memory()
    walk(memory, to(B, is_permanent=True))
    assert [trail(memory).portal for _ in range(4)] == [B, A, B, A]


def test_a_target_that_moved_back_is_found_there() -> None:
    memory = Memory()
    walk(memory, to(B, is_permanent=True))
    assert trail(memory).portal == B  # and fails there
    assert walk(memory) == A
    assert trail(memory).portal == A
    assert memory.lookup(A) is None


def test_redirections_in_a_circle_end() -> None:
    way = trail(Memory())
    way.turn(to(B))
    with pytest.raises(
        SessionError, match=r"in a circle: 192.0.2.1:3260 -> 192.0.2.2:3260 -> 192.0.2.1"
    ) as caught:
        way.turn(to(A))
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    assert not isinstance(caught.value, RedirectError)


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_redirections_are_limited_by_the_policy(limit: int) -> None:
    way = trail(Memory(), limit=limit)
    for number in range(limit):
        way.turn(to(Portal(f"198.51.100.{number}")))
    with pytest.raises(
        SessionError, match=f"more than {limit} redirections: .* -> 203.0.113.1:3260"
    ) as caught:
        way.turn(to(Portal("203.0.113.1")))
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    assert "redirect_max" in caught.value.hint


def test_the_same_once_more_is_no_redirection() -> None:
    way = trail(Memory(), limit=0)
    for _ in range(3):
        way.turn(SameAgain("otherwise", A))
    assert way.portal == A


def test_an_ipv6_portal_is_followed_and_remembered() -> None:
    memory = Memory()
    there = Portal("2001:db8::5", 3261)
    assert walk(memory, to(there, is_permanent=True)) == there
    assert trail(memory).portal == there


def test_after_a_loss_a_name_is_followed_only_to_the_address_it_had() -> None:
    memory = Memory()
    with pytest.raises(SessionError, match=r"storage.example.org:3261: a name cannot be resolved") as caught:
        trail(memory, is_after_loss=True).turn(to(NAME))
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    assert caught.value.hint == "let the target redirect to an address"
    assert walk(memory, to(NAME)) == NAME  # at boot a resolver may be asked
    assert walk(memory, to(NAME), is_after_loss=True) == D
    assert walk(memory, to(NAME)) == NAME  # and again: it may have another address by now
    assert trail(memory).portal == A


def test_a_permanent_redirection_to_a_name_is_remembered_by_its_address() -> None:
    memory = Memory()
    walk(memory, to(NAME, is_permanent=True))
    assert trail(memory, is_after_loss=True).portal == D
    memory = Memory()
    walk(memory, to(NAME, is_permanent=True), to(C))  # reached on the way, its address is not known
    assert trail(memory, is_after_loss=True).portal == A


def test_who_takes_over_knows_where_the_disk_is() -> None:
    storage = memoryview(bytearray(MEMORY_BYTES))
    walk(Memory(storage), to(B, is_permanent=True))
    assert trail(Memory(storage)).portal == B


hosts = st.ip_addresses().map(str) | st.from_regex(r"[a-z0-9.-]{1,255}", fullmatch=True)
portals = st.builds(Portal, hosts, st.integers(1, 65535))


@given(st.lists(st.tuples(portals, portals), max_size=ROWS, unique_by=lambda pair: pair[0]))
def test_what_is_remembered_is_what_was_said(pairs: list[tuple[Portal, Portal]]) -> None:
    memory = Memory()
    for asked, reached in pairs:
        memory.remember(asked, reached)
    for asked, reached in pairs:
        fits = len(asked.host) + len(reached.host) < redirect.ROW_BYTES - 20
        assert memory.lookup(asked) == (reached if fits else None)


def test_a_full_memory_remembers_the_newest() -> None:
    memory = Memory()
    for number in range(ROWS + 3):
        memory.remember(Portal("a", number + 1), B)
    assert memory.lookup(Portal("a", ROWS + 3)) == B


@given(st.integers(0, 60), st.integers(0, 255))
def test_a_row_that_was_written_half_is_no_row(place: int, value: int) -> None:
    storage = memoryview(bytearray(MEMORY_BYTES))
    Memory(storage).remember(A, B)
    storage[place] = value
    assert Memory(storage).lookup(A) in (None, B)


# --- with the scripted target ------------------------------------------------------------------------------


def connect(portal: Portal) -> socket.socket:
    sock = socket.create_connection((portal.host, portal.port), timeout=5)
    sock.settimeout(None)
    return sock


def test_a_redirection_is_followed_with_the_same_target_name() -> None:
    with FakeTarget() as there, FakeTarget(redirect=(f"127.0.0.1:{there.port},1", False)) as here:
        path = path_to(here)

        def use(sock: socket.socket, portal: Portal) -> Portal:
            with sock:
                return connection.login(sock, path, INITIATOR, QUICK, ISID, portal).portal

        assert redirect.follow(path.portal, connect, use).port == there.port


def test_a_target_that_sends_to_itself_is_left() -> None:
    with FakeTarget() as target:
        target.redirect = (f"127.0.0.1:{target.port}", True)
        path = path_to(target)
        with pytest.raises(SessionError, match="in a circle"):
            redirect.follow(path.portal, connect, lambda sock, portal: log_in(sock, path))
        assert len(target.connections) == 1
