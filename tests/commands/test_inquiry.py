"""isboot inquiry, against the scripted target, and a launcher's side of the control socket."""

from __future__ import annotations

import argparse
import json
import threading
from dataclasses import fields
from pathlib import Path

import pytest

from isboot.commands import inquiry
from isboot.daemon import control
from isboot.daemon.channel import Live
from isboot.daemon.launcher import Launcher
from isboot.daemon.log import Log
from isboot.errors import DaemonError, ExitStatus, SessionError, UsageError
from isboot.session.document import to_document
from isboot.session.pdu import LoginRequest, LogoutRequest
from isboot.values import BootConfig, LunFacts, Policy
from tests.fakes.disk import Disk
from tests.fakes.target import FakeTarget
from tests.session.test_lun import facts_of


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    inquiry.add_arguments(parser)
    return parser.parse_args(words)


def run(target: FakeTarget, *words: str, lun: str = "1") -> ExitStatus:
    url = f"iscsi://127.0.0.1:{target.port}/{target.name}/{lun}"
    return inquiry.run(parsed(url, "--initiator", "iqn.2026-11.org.example:host", *words))


def test_a_disk_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeTarget(disk=Disk(serial="s77", is_read_only=True)) as target:
        assert run(target) is ExitStatus.FINE
        assert len(target.received(LogoutRequest)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "serial                s77" in lines
    assert "designator            naa.6001405f00d00000000000000000beef" in lines
    assert "capacity              2048 blocks, 1.0 MiB" in lines
    assert "read-only             yes" in lines
    assert not any("weak" in line for line in lines)


def test_a_weak_identity_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeTarget(
        disk=Disk(vendor="IET", serial="beaf11", naa=bytes.fromhex("3000000100000001"))
    ) as target:
        run(target)
    assert "identity is weak      tgt's default serial" in capsys.readouterr().out


def test_json_holds_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeTarget() as target:
        run(target, "--json")
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {f.name for f in fields(LunFacts)} | {"weak_identity"}
    assert document["lun"] == "0001000000000000"
    assert document["weak_identity"] is None
    assert document["has_unmap"] is True


def test_a_missing_lun_is_an_error() -> None:
    with FakeTarget() as target, pytest.raises(SessionError, match="LUN 5 is not there") as caught:
        run(target, lun="5")
    assert caught.value.exit_status is ExitStatus.NOTHING_THERE


def test_a_session_of_a_device_is_not_disturbed(capsys: pytest.CaptureFixture[str]) -> None:
    # A login with a lane's ISID would end that lane's session.
    with FakeTarget() as target:
        run(target)
        used = {request.isid for request in target.received(LoginRequest)}
    from isboot.session import isid

    lanes = {isid.compute("iqn.2026-11.org.example:host", "", lane) for lane in range(isid.MAX_LANE + 1)}
    assert len(used) == 1
    assert not used & lanes


def serve_device(directory: Path, facts: LunFacts | None) -> tuple[control.Server, threading.Thread]:
    """Answer as a launcher does: first who it is, then what it was asked."""
    config = BootConfig("URL", "iqn.2026-11.org.example:host", (), (), Policy(), is_boot=False)
    launcher = Launcher(config, {}, Log(to_kernel=False), lambda name: None, 0.0, False)
    if facts is not None:
        launcher._live = Live(0, 1, 128, facts)
    server = control.Server(directory)

    def serve() -> None:
        # find() looks whether somebody listens before it asks
        for _ in range(3):
            client = server.accept()
            if client is not None and client.word == "status":
                client.answer(ok=True, devices=[{"device": "ublkb0"}])
            elif client is not None:
                launcher._answer(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return server, thread


def ask_device(
    name: str, facts: LunFacts | None, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> ExitStatus:
    server, thread = serve_device(directory, facts)
    found = control.find
    monkeypatch.setattr(control, "find", lambda device: found(device, directory))
    try:
        return inquiry.run(parsed(name, "--json"))
    finally:
        thread.join(5)
        server.remove()


@pytest.mark.parametrize("name", ["ublkb0", "/dev/ublkb0"])
def test_a_device_is_asked_through_its_launcher(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = facts_of(Disk(serial="s77"))
    assert ask_device(name, facts, tmp_path, monkeypatch) is ExitStatus.FINE
    assert json.loads(capsys.readouterr().out) == to_document(facts)


def test_a_device_that_is_being_made_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DaemonError, match="being made") as caught:
        ask_device("ublkb0", None, tmp_path, monkeypatch)
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_credentials_go_with_a_url_only() -> None:
    with pytest.raises(UsageError, match="go with a URL only"):
        inquiry.run(parsed("ublkb0", "--initiator", "iqn.2026-11.org.example:host"))
