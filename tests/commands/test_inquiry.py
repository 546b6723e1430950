"""isboot inquiry, against the scripted target."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields

import pytest

from isboot.commands import inquiry
from isboot.errors import ExitStatus, SessionError
from isboot.session.pdu import LoginRequest, LogoutRequest
from isboot.values import LunFacts
from tests.fakes.disk import Disk
from tests.fakes.target import FakeTarget


def run(target: FakeTarget, *words: str, lun: str = "1") -> ExitStatus:
    parser = argparse.ArgumentParser()
    inquiry.add_arguments(parser)
    url = f"iscsi://127.0.0.1:{target.port}/{target.name}/{lun}"
    return inquiry.run(parser.parse_args([url, "--initiator", "iqn.2026-11.org.example:host", *words]))


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
