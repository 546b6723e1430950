"""
Logs in to a target with CHAP as the JSON on standard input says; prints what came of each login as JSON.

    {"portal": ["127.0.0.1", 3260], "target": "iqn...",
     "logins": [{"credentials": ["alice", "secret"] or with two more for mutual, or null, "policy": {...}}]}

Each row of the answer: the algorithms computed with, in their order (the target's proof last), and either the
session's numbers and warnings or the refusal's message, hint and exit status.
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

from isboot.errors import IsbootError
from isboot.network.connect import connect
from isboot.session import chap, connection, isid
from isboot.values import Credentials, NegotiatedSession, PathConfig, Policy, Portal, Secret

INITIATOR = "iqn.2026-11.org.example:host"
computed: list[str] = []


def watched(compute: Any) -> Any:
    """Note by which algorithm each response is computed."""

    def respond(algorithm: chap.Algorithm, *rest: Any) -> bytes:
        computed.append(algorithm.word)
        return bytes(compute(algorithm, *rest))

    return respond


def credentials(words: list[str] | None) -> Credentials | None:
    if words is None:
        return None
    name, secret, reverse_name, reverse_secret = [*words, "", ""][:4]
    return Credentials(name, Secret(secret.encode()), reverse_name, Secret(reverse_secret.encode()))


def log_in(portal: Portal, target: str, lane: int, row: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row["policy"].items()
    }
    policy = Policy(**values)
    path = PathConfig(0, None, portal, target, bytes(8), credentials(row["credentials"]))
    name = isid.compute(INITIATOR, "", lane)

    def use(sock: socket.socket, where: Portal) -> NegotiatedSession:
        with sock:
            return connection.login(sock, path, INITIATOR, policy, name, where)

    computed.clear()
    try:
        session = connection.follow(portal, lambda where: connect(where, interface=None, timeout_s=5), use)
    except IsbootError as error:
        return {
            "computed": list(computed), "refused": error.message, "hint": error.hint,
            "exit_status": int(error.exit_status),
        }  # fmt: skip
    return {
        "computed": list(computed), "tsih": session.tsih, "warnings": list(session.warnings),
        "digests": [session.header_digest, session.data_digest],
    }  # fmt: skip


def main() -> None:
    asked = json.load(sys.stdin)
    chap.respond = watched(chap.respond)
    portal = Portal(*asked["portal"])
    rows = [log_in(portal, asked["target"], lane, row) for lane, row in enumerate(asked["logins"])]
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()
