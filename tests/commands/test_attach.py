"""isboot attach: what is refused before anything is touched."""

from __future__ import annotations

import argparse
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from isboot.cli import main
from isboot.commands import attach
from isboot.config.lun import parse_boot_luns
from isboot.daemon import control
from isboot.errors import ExitStatus, IsbootError, UsageError
from isboot.values import BootConfig, PathConfig, Policy, Portal
from tests.fakes.disk import Disk
from tests.fakes.target import FakeTarget

NAME = "iqn.2001-04.com.example:disk"
URL = f"iscsi://192.0.2.1/{NAME}/1"
PATH = PathConfig(0, None, Portal("192.0.2.1", 3260), NAME, bytes.fromhex("0001000000000000"), None)

#: words after the URL, and what the message must say: the value given and the range it must be in
USAGE = (
    (["--depth", "0"], "setting depth to '0': it takes 1 to 4096 commands"),
    (["--depth", "4097"], "setting depth to '4097': it takes 1 to 4096 commands"),
    (["--digests", "header,crc"], "--digests header,crc: 'crc' is neither header nor data"),
    (["--param", "nop_timeout_ms=99"], "setting nop_timeout_ms to '99': it takes 100 to 3600000 ms"),
    (["--param", "max_io_bytes=5000"], "it takes 4096 to 1048576, a multiple of 4096 bytes"),
    (["--param", "profile=fast"], "it takes default | throughput | small"),
    (["--param", "depth"], "it has not the form KEY=VALUE"),
    (["--param", "colour=red"], "there is none of that name"),
    (["--luns", "some"], 'reading the LUN "some": it is no number'),
    (["--retry", "-1"], "--retry -1: not a number of seconds from 0 on"),
    (["--retry", "nan"], "--retry nan: not a number of seconds from 0 on"),
)


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    attach.add_arguments(parser)
    return parser.parse_args([*words])


def session(folder: Path, number: int, target_name: str) -> None:
    path = folder / f"session{number}"
    path.mkdir()
    (path / "targetname").write_text(target_name + "\n")


def test_a_target_of_the_kernels_initiator_is_refused(tmp_path: Path) -> None:
    session(tmp_path, 1, "iqn.2001-04.com.example:other")
    session(tmp_path, 2, NAME)
    with pytest.raises(IsbootError) as caught:
        attach.refuse_second_initiator(NAME.upper(), tmp_path)
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    assert "the kernel's initiator has it already (session2)" in caught.value.message
    assert f"iscsiadm -m node -T {NAME.upper()} --logout" in caught.value.hint


def test_other_targets_of_the_kernels_initiator_do_not_matter(tmp_path: Path) -> None:
    session(tmp_path, 1, NAME + "2")
    (tmp_path / "session3").mkdir()  # one that is just being made
    attach.refuse_second_initiator(NAME, tmp_path)
    attach.refuse_second_initiator(NAME, tmp_path / "no-such-module")


@pytest.mark.parametrize(
    ("target", "lun", "is_refused"),
    [(NAME.upper(), "0001000000000000", True), (NAME, "0002000000000000", False), (NAME + "x", "", False)],
)
def test_a_disk_that_is_attached_is_refused(tmp_path: Path, target: str, lun: str, is_refused: bool) -> None:
    server = control.Server(tmp_path / "control")
    row = {"device": "ublkb3", "target": target, "lun": lun}

    def serve() -> None:
        client = server.accept()
        assert client is not None
        client.answer(ok=True, devices=[row])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        if is_refused:
            with pytest.raises(IsbootError, match="ublkb3 is that disk already") as caught:
                attach.refuse_second_device(PATH, [server.path])
            assert caught.value.exit_status is ExitStatus.TRY_AGAIN
            assert caught.value.hint.endswith("isboot detach ublkb3")
        else:
            attach.refuse_second_device(PATH, [server.path])
    finally:
        thread.join()
        server.remove()


def test_only_root_may_attach(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["attach", URL]) == ExitStatus.NOT_PERMITTED
    assert capsys.readouterr().err.splitlines() == [
        "isboot: attaching: not permitted",
        "        hint: run it as root",
    ]


@pytest.mark.parametrize(("words", "message"), USAGE)
def test_a_value_out_of_range_is_told_its_range(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(UsageError) as caught:
        attach.run(arguments(URL, "--initiator", NAME, *words))
    assert message in caught.value.message


LUNS = {bytes([0, n]) + bytes(6): Disk(peripheral=0x0C if n == 0 else 0) for n in (0, 1, 5)}


def config_for(target: FakeTarget) -> BootConfig:
    path = replace(PATH, portal=Portal("127.0.0.1", target.port), target_name=target.name)
    return BootConfig("URL", "iqn.2026-11.org.example:host", (), (path,), Policy(), is_boot=False)


def test_all_luns_are_all_disks_of_the_target() -> None:
    with FakeTarget(luns=LUNS) as target:
        configs = attach.configs_of(config_for(target), "all")
    assert [config.paths[0].lun[1] for config in configs] == [1, 5]


def test_luns_that_are_named_are_not_asked_for() -> None:
    with FakeTarget() as target:
        luns = parse_boot_luns("300,7,300")
        assert isinstance(luns, tuple)
        configs = attach.configs_of(config_for(target), luns)
        assert target.connections == []
    assert [config.paths[0].lun.hex()[:4] for config in configs] == ["412c", "0007"]


@pytest.mark.parametrize(("retry_s", "is_asked_again"), [(9.0, True), (0.0, False)])
def test_a_target_that_is_late_is_asked_again(
    retry_s: float, is_asked_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "PAUSE_S", 0.001)
    late = [IsbootError("connecting: connection refused", "", ExitStatus.TRY_AGAIN)]

    def visit(*_: object) -> list[bytes]:
        if late:
            raise late.pop()
        return [PATH.lun]

    monkeypatch.setattr("isboot.visit.visit", visit)
    base = BootConfig("URL", "iqn.2026-11.org.example:host", (), (PATH,), Policy(), is_boot=False)
    if is_asked_again:
        assert len(attach.configs_of(base, "all", retry_s)) == 1
    else:
        with pytest.raises(IsbootError, match="connection refused"):
            attach.configs_of(base, "all", retry_s)


def test_a_target_without_a_disk_is_told() -> None:
    with FakeTarget(luns={bytes(8): Disk(peripheral=0x0C)}) as target, pytest.raises(IsbootError) as caught:
        attach.configs_of(config_for(target), "all")
    assert "shows this initiator no disk" in caught.value.message
    assert caught.value.exit_status is ExitStatus.NOTHING_THERE


def test_one_disk_that_cannot_be_had_keeps_no_other_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start_one(config: BootConfig, *_: object, **__: object) -> str:
        number = config.paths[0].lun[1]
        if number in (2, 3):
            raise IsbootError(f"LUN {number}: no", "do this", ExitStatus.UNAVAILABLE)
        return f"ublkb{number}"

    monkeypatch.setattr("isboot.daemon.start.in_background", start_one)
    monkeypatch.setattr("isboot.daemon.control.launchers", list)
    base = BootConfig("URL", "iqn.2026-11.org.example:host", (), (PATH,), Policy(), is_boot=False)
    luns = parse_boot_luns("1,2,3,4")
    assert isinstance(luns, tuple)
    done, fault = attach.attach_all(attach.configs_of(base, luns), 0.0, is_json=False)
    assert [row["device"] for row in done] == ["ublkb1", "ublkb4"]
    assert fault is not None
    assert (fault.message, fault.exit_status) == ("LUN 2: no", ExitStatus.UNAVAILABLE)
    said = capsys.readouterr()
    assert said.out == "/dev/ublkb1 1\n/dev/ublkb4 4\n"
    assert said.err == "isboot: LUN 3: no\n        hint: do this\n"


def test_only_one_disk_stays_in_the_foreground(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(UsageError, match="--foreground --luns all: one disk at a time"):
        attach.run(arguments(URL, "--initiator", NAME, "--foreground", "--luns", "all"))


def test_the_parameters_are_listed_for_everybody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["attach", "-", "--param", "help"]) == ExitStatus.FINE
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["KEY", "DEFAULT", "UNIT", "TAKES", "MEANING"]
    assert any(line.startswith("depth ") and "1 to 4096" in line for line in lines)
