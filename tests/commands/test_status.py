"""isboot status, as people read it."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from isboot.cli import main
from isboot.commands import status
from isboot.daemon import control
from isboot.errors import ExitStatus

ROW: dict[str, Any] = {
    "device": "ublkb0",
    "boot": True,
    "target": "iqn.2001-04.com.example:disk",
    "lun": "0001000000000000",
    "state": "live",
    "size_bytes": 4 << 30,
    "block_size_bytes": 512,
    "mode": "copy",
    "profile": "default",
    "header_digest": True,
    "data_digest": True,
    "serial": "beaf11",
    "designators": ["naa.6001405f00d00000000000000000beef", "t10.x"],
    "standby_pid": 812,
    "worker_pid": 811,
    "worker_replacements": 2,
    "lanes": [
        {
            "index": 0,
            "ublk_queues": [0],
            "portal": "192.0.2.9:3260",
            "nic": "eth0",
            "isid": "800000000000",
            "state": "live",
            "reconnects": 3,
            "in_flight": 7,
            "reads": 1000,
            "writes": 20,
            "read_bytes": 64 << 20,
            "written_bytes": 0,
            "latency_us": {"p50": 120.5, "p99": 400.0, "p999": None},
        }
    ],
}


def test_a_device_is_described_in_full() -> None:
    assert status.describe(ROW).splitlines() == [
        "ublkb0: live, boot",
        "  target     iqn.2001-04.com.example:disk, LUN 0001000000000000",
        "  size       4.0 GiB, 512-byte blocks",
        "  identity   beaf11, naa.6001405f00d00000000000000000beef, t10.x",
        "  mode       copy, profile default, digests: header, data",
        "  processes  worker 811, standby 812, 2 replacements",
        "  lane 0     live, 192.0.2.9:3260 by eth0, ISID 800000000000, 3 reconnects",
        "             1000 reads (64.0 MiB), 20 writes (0 B), 7 in flight, p50 120.5 us, p99 400.0 us",
    ]


def test_what_is_absent_is_named_so() -> None:
    bare = ROW | {
        "boot": False, "header_digest": False, "data_digest": False, "serial": "", "designators": [],
        "lanes": [ROW["lanes"][0] | {"nic": "", "latency_us": {"p50": None}}],
    }  # fmt: skip
    text = status.describe(bare)
    assert text.startswith("ublkb0: live\n")
    assert "no serial, no designator" in text
    assert "digests: none" in text
    assert "192.0.2.9:3260, ISID" in text
    assert "us" not in text.splitlines()[-1]


def test_a_device_that_is_not_there_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = control.Server(tmp_path / "control")
    monkeypatch.setattr(control, "launchers", lambda: [server.path])

    def serve() -> None:
        for _ in range(2):
            client = server.accept()
            assert client is not None
            client.answer(ok=True, devices=[ROW])

    thread = threading.Thread(target=serve)
    thread.start()
    assert main(["status", "--json", "/dev/ublkb0"]) == ExitStatus.FINE
    assert json.loads(capsys.readouterr().out)["devices"] == [ROW]
    assert main(["status", "ublkb1"]) == ExitStatus.NOTHING_THERE
    assert "looking for ublkb1: no isboot device of that name" in capsys.readouterr().err
    thread.join()
    server.remove()


def test_the_boot_lun_comes_first_then_the_others_by_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [ROW | {"device": f"ublkb{number}", "boot": number == 4} for number in (10, 2, 4, 1)]
    monkeypatch.setattr(control, "launchers", lambda: [Path(row["device"]) for row in rows])
    monkeypatch.setattr(
        control, "ask", lambda path, word: {"devices": [row for row in rows if row["device"] == path.name]}
    )
    assert main(["status", "--json"]) == ExitStatus.FINE
    names = [row["device"] for row in json.loads(capsys.readouterr().out)["devices"]]
    assert names == ["ublkb4", "ublkb1", "ublkb2", "ublkb10"]


def test_no_device_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(control, "launchers", list)
    assert main(["status"]) == ExitStatus.FINE
    assert capsys.readouterr().out == "no device\n"
