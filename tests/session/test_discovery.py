"""SendTargets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import ExitStatus, RedirectError, SessionError
from isboot.session import discovery, isid, keys
from isboot.session.discovery import DiscoveredTarget, TargetPortal
from isboot.session.pdu import LogoutRequest, ProtocolError, TextRequest, TextResponse
from isboot.values import Credentials, Portal, Secret
from tests.fakes.login import Account, Limits
from tests.fakes.target import FakeTarget
from tests.session.sessions import INITIATOR, QUICK, connected

HERE = Portal("192.0.2.1", 3260)
MANY = [
    (f"iqn.2026-11.org.example:disk{n}", [f"192.0.2.{n}:3260,1", f"[2001:db8::{n}],2"]) for n in range(1, 200)
]


def discover(target: FakeTarget, credentials: Credentials | None = None) -> tuple[DiscoveredTarget, ...]:
    with connected(target) as sock:
        portal = Portal("127.0.0.1", target.port)
        return discovery.discover(sock, portal, INITIATOR, QUICK, isid.of_command(INITIATOR), credentials)


def test_targets_and_their_portals_are_listed() -> None:
    with FakeTarget() as target:
        assert discover(target) == (
            DiscoveredTarget(target.name, (TargetPortal(Portal("127.0.0.1", target.port), 1),)),
        )
        assert len(target.received(LogoutRequest)) == 1


def test_a_list_longer_than_a_pdu_arrives_whole() -> None:
    with FakeTarget(targets=MANY, limits=Limits(segment_bytes=1000)) as target:
        found = discover(target)
        assert len(target.received(TextRequest)) > 10
    assert [one.name for one in found] == [name for name, _ in MANY]
    assert found[4].portals == (
        TargetPortal(Portal("192.0.2.5", 3260), 1),
        TargetPortal(Portal("2001:db8::5", 3260), 2),
    )


def test_discovery_with_chap() -> None:
    with FakeTarget(account=Account("alice", b"alice-has-a-secret")) as target:
        assert discover(target, Credentials("alice", Secret(b"alice-has-a-secret")))
        with pytest.raises(SessionError, match=r"discovery login at .* refused"):
            discover(target)


def test_a_redirected_discovery_says_where_to() -> None:
    with FakeTarget(redirect=("192.0.2.7:3261", True)) as target, pytest.raises(RedirectError) as caught:
        discover(target)
    assert (caught.value.host, caught.value.port) == ("192.0.2.7", 3261)


def test_a_list_without_end_ends() -> None:
    more = {"final": False, "is_continued": True, "target_transfer_tag": 1, "data": b"A" * 8000}
    with FakeTarget() as target:
        target.alter(TextResponse, lambda said: replace(said, **more), times=None)
        with pytest.raises(SessionError, match="no end of the list") as caught:
            discover(target)
    assert caught.value.exit_status is ExitStatus.MALFORMED


def test_a_target_without_an_address_is_where_it_was_asked_for() -> None:
    assert discovery.parse(b"TargetName=iqn.2026-11.org.example:a\0", HERE) == (
        DiscoveredTarget("iqn.2026-11.org.example:a", (TargetPortal(HERE, None),)),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"TargetAddress=192.0.2.1,1\0", "before any TargetName"),
        (b"TargetName=../../etc/passwd\0", "TargetName='../../etc/passwd'"),
        (b"TargetName=iqn.2026-11.org.example:a\n\0", "TargetName="),
        (b"TargetName=iqn.2026-11.org.example:a\0TargetAddress=[::1\0", "TargetAddress|address"),
    ],
)
def test_names_and_addresses_from_the_network_are_checked(text: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        discovery.parse(text, HERE)


ports = st.integers(1, 65535).map(lambda port: f"192.0.2.{port % 256}:{port}")
names = st.integers(0, 10**6).map(lambda n: f"iqn.2026-11.org.example:d{n}")
targets = st.lists(st.tuples(names, st.lists(ports, min_size=1, max_size=3)), max_size=6)


@given(targets)
def test_a_list_decodes_to_what_was_encoded(listed: list[tuple[str, list[str]]]) -> None:
    pairs = []
    for name, portals in listed:
        pairs.append(("TargetName", name))
        pairs += [("TargetAddress", f"{portal},1") for portal in portals]
    found = discovery.parse(keys.encode_text(pairs), HERE)
    assert [(one.name, [str(place.portal) for place in one.portals]) for one in found] == listed


@given(st.binary(max_size=200))
def test_any_answer_is_read_or_refused(text: bytes) -> None:
    try:
        discovery.parse(text, HERE)
    except ProtocolError:
        pass
