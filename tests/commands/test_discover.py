"""isboot discover, against the scripted target."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from isboot.commands import discover
from isboot.errors import ExitStatus, SessionError
from tests.fakes.login import Account
from tests.fakes.target import FakeTarget

INITIATOR = ["--initiator", "iqn.2026-11.org.example:host"]
TARGETS = [
    ("iqn.2026-11.org.example:a", ["192.0.2.1:3260,1", "[2001:db8::1],2"]),
    ("iqn.2026-11.org.example:b", ["192.0.2.1:3261,1"]),
]


def run(*words: str) -> ExitStatus:
    parser = argparse.ArgumentParser()
    discover.add_arguments(parser)
    return discover.run(parser.parse_args([*words, *INITIATOR]))


def test_a_line_names_portal_and_target(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeTarget(targets=TARGETS) as target:
        assert run(f"127.0.0.1:{target.port}") is ExitStatus.FINE
    assert capsys.readouterr().out.splitlines() == [
        "192.0.2.1:3260,1 iqn.2026-11.org.example:a",
        "[2001:db8::1]:3260,2 iqn.2026-11.org.example:a",
        "192.0.2.1:3261,1 iqn.2026-11.org.example:b",
    ]


def test_json_holds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeTarget(targets=TARGETS) as target:
        run(f"127.0.0.1:{target.port}", "--json")
    document = json.loads(capsys.readouterr().out)
    assert document[1] == {
        "name": "iqn.2026-11.org.example:b",
        "portals": [{"portal": "192.0.2.1:3261", "group_tag": 1}],
    }


def test_chap_comes_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secrets = tmp_path / "chap"
    secrets.write_text('name = "alice"\nsecret = "alice-has-a-secret"\n')
    secrets.chmod(0o600)
    with FakeTarget(account=Account("alice", b"alice-has-a-secret")) as target:
        portal = f"127.0.0.1:{target.port}"
        with pytest.raises(SessionError) as caught:
            run(portal)
        assert caught.value.exit_status is ExitStatus.NOT_PERMITTED
        assert run(portal, "--chap-file", str(secrets)) is ExitStatus.FINE
    assert target.name in capsys.readouterr().out
