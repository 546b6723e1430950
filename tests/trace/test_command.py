"""isboot trace: what it refuses, and how."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from isboot import cli
from isboot.commands import trace as command
from isboot.errors import ExitStatus
from isboot.trace import engines


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def test_all_but_root_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["trace", "latency"]) == ExitStatus.NOT_PERMITTED
    assert "run it as root" in capsys.readouterr().err


@pytest.mark.usefixtures("as_root")
def test_absent_bcc_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "bcc", None)
    assert cli.main(["trace", "reconnects"]) == ExitStatus.UNAVAILABLE
    assert "hint: install Debian's python3-bpfcc" in capsys.readouterr().err


@pytest.mark.usefixtures("as_root")
def test_no_device_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "bcc", SimpleNamespace(BPF=object, USDT=object))
    monkeypatch.setattr(command, "_served", lambda name: (None, [], {}))
    monkeypatch.setattr(engines.Path, "iterdir", lambda path: iter(()))
    assert cli.main(["trace", "latency"]) == ExitStatus.NOTHING_THERE
    assert "hint: attach a device first" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["latency", "--duration", "0"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trace", *arguments]) == ExitStatus.USAGE
