"""One item of a conformance suite as a row: what the target does, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from isboot.errors import ExitStatus, SessionError
from isboot.session import keys
from isboot.session.control import Control
from isboot.session.pdu import LoginRequest, LoginResponse, Pdu
from isboot.values import Credentials, NegotiatedSession, Policy
from tests.fakes.target import FakeTarget
from tests.session.sessions import QUICK, connected, log_in, path_to

Script = Callable[[FakeTarget], None]


def usual(target: FakeTarget) -> None:
    """Change nothing."""


def keys_of(request: LoginRequest) -> dict[str, str]:
    return dict(keys.decode_text(request.data))


@dataclass
class Met:
    """What an item's check looks at: the target with all it received, and the session there is."""

    target: FakeTarget
    session: NegotiatedSession
    control: Control

    @property
    def requests(self) -> list[LoginRequest]:
        return self.target.received(LoginRequest)

    def said(self, number: int) -> dict[str, str]:
        """Give the keys of one of our requests."""
        return keys_of(self.requests[number])


@dataclass(frozen=True)
class Item:
    """
    :param number: of the suite
    :param target: what makes the scripted target
    :param script: what it does against its habit
    :param refused: what the message says; "": the login succeeds, and a ping after it
    :param warned: what one of the session's warnings says
    :param check: more that must be so after a login that succeeded
    """

    number: str
    title: str
    script: Script = usual
    target: dict[str, Any] = field(default_factory=dict)
    credentials: Credentials | None = None
    policy: Policy = QUICK
    refused: str = ""
    exit_status: ExitStatus = ExitStatus.MALFORMED
    warned: str = ""
    check: Callable[[Met], object] = lambda met: True

    def __str__(self) -> str:
        return f"{self.number} {self.title}".replace(" ", "-")


def run(item: Item) -> None:
    """Log in to the target as the row makes it, and see what comes of it."""
    with FakeTarget(**item.target) as target, connected(target) as sock:
        item.script(target)
        path = path_to(target, credentials=item.credentials)
        if item.refused:
            with pytest.raises(SessionError, match=item.refused) as caught:
                log_in(sock, path, item.policy)
            assert caught.value.exit_status is item.exit_status
            assert caught.value.message.startswith(f"login to {target.name} at 127.0.0.1:{target.port}")
            assert caught.value.message.isprintable()
            assert caught.value.hint
            return
        session = log_in(sock, path, item.policy)
        control = Control(sock, session, timeout_ms=2000)
        control.ping()
        if item.warned:
            assert any(item.warned in warning for warning in session.warnings), session.warnings
        else:
            assert session.warnings == ()
        assert item.check(Met(target, session, control)) is not False


# --- what scripts are made of ------------------------------------------------------------------------------


def answer(*texts: str, skip: int = 0, keeps: bool = True, **fields: object) -> Script:
    """
    Have a Login Response carry these keys, and other header fields.

    :param texts: "KEY=VALUE", as they are
    :param skip: how many responses pass untouched before it: 1 is the operational stage without CHAP
    :param keeps: also carry what it would have said, but for keys named in `texts`
    """
    names = {text.partition("=")[0] for text in texts}

    def change(response: LoginResponse) -> LoginResponse:
        usual = [pair for pair in keys.decode_text(response.data) if keeps and pair[0] not in names]
        data = keys.encode_text(usual) + b"".join(text.encode() + b"\0" for text in texts)
        return replace(response, data=data, **fields)  # type: ignore[arg-type]

    return lambda target: target.alter(LoginResponse, change, skip=skip)


def instead(message: Pdu, *, skip: int = 0) -> Script:
    """Have another PDU come in the place of a Login Response."""
    return lambda target: target.alter(LoginResponse, lambda response: message, skip=skip)


def both(*scripts: Script) -> Script:
    """Do all of these. Of several that alter, one acts on a response; those after it do not count it."""

    def script(target: FakeTarget) -> None:
        for one in scripts:
            one(target)

    return script
