"""A boot that is sent elsewhere by name: routes are made for addresses, after a loss no resolver is asked."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest

from isboot import boot
from isboot.network import connect as tcp
from isboot.session import redirect
from isboot.session.pdu import LoginRequest, LoginResponse
from isboot.values import BootConfig, Credentials, LunFacts, NicConfig, PathConfig, Policy, Portal, Secret
from tests.fakes.login import Account
from tests.fakes.target import FakeTarget
from tests.session.sessions import INITIATOR, path_to

NIC = NicConfig(0, "52:54:00:12:34:56", None, None, None, (), 0, "", "manual")


@pytest.fixture
def after_loss() -> list[str]:
    """Give the NICs that were given a route as it is done while the root stands still."""
    return []


@pytest.fixture
def routed(monkeypatch: pytest.MonkeyPatch, after_loss: list[str]) -> list[Portal]:
    """Give the portals a NIC is configured for; nothing is done to any NIC, and nothing bound to one."""
    asked: list[Portal] = []

    def configure(nic: NicConfig, portals: list[Portal], **rest: Any) -> None:
        asked.extend(portals)

    connect = tcp.connect

    def unbound(portal: Portal, *, interface: str | None, **rest: Any) -> socket.socket:
        return connect(portal, interface=None, **rest)

    def reroute(interface: str, nic: NicConfig, portals: list[Portal]) -> None:
        asked.extend(portals)
        after_loss.append(interface)

    monkeypatch.setattr(boot.bringup, "configure", configure)
    monkeypatch.setattr(boot.bringup, "reroute", reroute)
    monkeypatch.setattr(boot, "_interface", lambda *arguments: "eth0")
    monkeypatch.setattr(boot.tcp, "connect", unbound)
    return asked


def attach(
    path: PathConfig, portals: redirect.Memory, expected: LunFacts | None = None
) -> tuple[boot.Attached, list[str]]:
    said: list[str] = []
    config = BootConfig("test", INITIATOR, (NIC,), (path,), Policy(login_timeout_ms=2000), is_boot=True)
    attached = boot.connect(config, path, {}, 0, said.append, expected=expected, portals=portals)
    attached.sock.close()
    return attached, said


def test_a_name_is_resolved_at_boot_and_known_after_a_loss(
    routed: list[Portal], after_loss: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeTarget() as there, FakeTarget(redirect=(f"localhost:{there.port}", False)) as here:
        memory, path = redirect.Memory(), replace(path_to(here), nic=NIC)
        attached, said = attach(path, memory)
        assert f"was redirected for now to localhost:{there.port}" in said[0]
        assert Portal("127.0.0.1", there.port) in routed
        assert all(redirect.is_address(portal.host) for portal in routed)

        def refuse(*arguments: object, **rest: object) -> None:
            raise AssertionError("a resolver was asked while the root may stand still")

        routed.clear()
        assert after_loss == []
        monkeypatch.setattr(socket, "getaddrinfo", refuse)
        again, _ = attach(path, memory, attached.facts)
        assert again.session.portal == Portal("127.0.0.1", there.port)
        assert routed == [again.session.portal]
        assert after_loss == ["eth0"]


def test_md5_alone_needs_no_other_route(routed: list[Portal]) -> None:
    with FakeTarget(account=Account("alice", b"alice-has-a-secret")) as target:
        target.on(
            LoginRequest,
            lambda there, request: there.send(LoginResponse(status_class=2)),
            when=lambda request: request.data.startswith(b"CHAP_A=8"),
        )
        credentials = Credentials("alice", Secret(b"alice-has-a-secret"))
        _, said = attach(replace(path_to(target, credentials=credentials), nic=NIC), redirect.Memory())
        assert "trying again with CHAP's MD5 alone" in said[0]
        assert routed == []
