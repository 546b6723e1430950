"""What tests of a login need: parameters, and a machine talking to the scripted target's side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isboot.session.login import Login, LoginOutcome, LoginParameters, offers_of
from isboot.session.pdu import LoginRequest, LoginResponse
from isboot.values import Credentials, Policy, Secret
from tests.fakes.login import Account, Limits, LoginSide

ISID = bytes([0x80, 1, 2, 3, 4, 5])
TARGET = "iqn.2026-11.org.example:fake"
ALICE = Credentials("alice", Secret(b"alice-has-a-secret"))
MUTUAL = Credentials("alice", Secret(b"alice-has-a-secret"), "disk", Secret(b"the-disk-has-another"))
ACCOUNT = Account("alice", b"alice-has-a-secret", "disk", b"the-disk-has-another")


def parameters(policy: Policy | None = None, **changes: Any) -> LoginParameters:
    values: dict[str, Any] = {
        "initiator_name": "iqn.2026-11.org.example:host",
        "target_name": TARGET,
        "isid": ISID,
        "doing": f"login to {TARGET} at 192.0.2.1:3260",
        "credentials": None,
        "offers": offers_of(policy or Policy()),
    }
    return LoginParameters(**(values | changes))


def target_side(account: Account | None = None, **limits: Any) -> LoginSide:
    return LoginSide(Limits(**limits), account, tsih=7, known_targets=(TARGET,))


def respond(text: str, **fields: Any) -> LoginResponse:
    """Give a response with these keys, separated by blanks."""
    data = b"".join(pair.encode() + b"\0" for pair in text.split())
    return LoginResponse(data=data, **({"isid": ISID} | fields))


def talk(machine: Login, side: LoginSide) -> tuple[LoginOutcome, list[LoginRequest], list[LoginResponse]]:
    """Let both talk to the end; give the outcome and everything said."""
    requests: list[LoginRequest] = []
    responses: list[LoginResponse] = []
    request: LoginRequest | None = machine.first()
    while request is not None:
        requests.append(request)
        responses.append(replace(side.receive(request), stat_sn=len(requests), max_cmd_sn=32))
        request = machine.next(responses[-1])
    assert machine.outcome is not None
    return machine.outcome, requests, responses
