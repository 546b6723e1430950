"""isboot boot: what it says when it stops, and what it does not give up."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from isboot import boot as story
from isboot.commands import boot
from isboot.config.cmdline import KernelOptions
from isboot.daemon import start
from isboot.daemon.log import Log
from isboot.daemon.timeline import Timeline
from isboot.errors import ExitStatus, NetworkError
from isboot.values import BootConfig, NicConfig, NicState, Policy

CONFIG = BootConfig("iBFT (acpi)", "iqn.2001-04.com.example:host", (), (), Policy(), is_boot=True)
NO_CARRIER = NetworkError("waiting for the carrier of eth0: none", "check cable", ExitStatus.TRY_AGAIN)
NO_NIC = NetworkError("looking for the NIC: none", "its driver?", ExitStatus.NOTHING_THERE)


def reach(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> tuple[Log, Any]:
    """Have bring_up give or raise the answers one after the other."""
    left = list(answers)

    def bring_up(_config: BootConfig, _say: Any, marks: Timeline) -> dict[int, NicState]:
        marks.attempt("nic")
        answer = left.pop(0)
        if isinstance(answer, NetworkError):
            if answer is NO_CARRIER:
                marks.reach("nic", "eth0")
            marks.fail(answer.message)
            raise answer
        return {0: answer}

    monkeypatch.setattr(story, "bring_up", bring_up)
    monkeypatch.setattr(boot, "RETRY_S", 0.0)
    log = Log(to_kernel=False)
    timeline = Timeline()
    timeline.reach("table", "iBFT")
    return log, lambda: boot.reach(CONFIG, log, timeline)


def test_a_nic_without_carrier_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    state = NicState("52:54:00:00:00:01", "eth0", 2, "e1000", None, 0)
    log, run = reach(monkeypatch, NO_CARRIER, NO_CARRIER, state)
    assert run() == ({0: state}, CONFIG)
    assert list(log.ring) == [
        "boot failed at network: waiting for the carrier of eth0: none",
        "hint: check cable",
        "  table    ok: iBFT",
        "  NIC      ok after 0.0 s: eth0",
        "  carrier  FAILED",
        "  address  -",
        "  connect  -",
        "  login    -",
        "  LUN      -",
        "  device   -",
        "  root     -",
        "trying again",
        "waiting for the carrier of eth0: none; trying again",
        "NIC: eth0 (e1000) 52:54:00:00:00:01 has None",
    ]


def test_a_nic_that_is_not_there_ends_the_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    _log, run = reach(monkeypatch, NO_NIC)
    with pytest.raises(NetworkError, match="looking for the NIC"):
        run()


UNLEASED = NicConfig(0, "52:54:00:00:00:01", None, None, None, (), 0, "", "dhcp")
NO_ANSWER = NetworkError("asking for an address by DHCP on eth0: no answer", "", ExitStatus.TRY_AGAIN)


def test_dhcp_is_asked_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, nics=(UNLEASED,))
    nic = replace(UNLEASED, address=ip_interface("192.0.2.50/24"))
    leased = replace(config, nics=(nic,), warnings=("odd",))
    answers: list[Any] = [NO_ANSWER, NO_ANSWER, (leased, ["lease"])]

    def ask(asked: BootConfig, *_: Any) -> Any:
        assert asked is config  # each try begins with what was known at first
        answer = answers.pop(0)
        if isinstance(answer, NetworkError):
            raise answer
        return answer

    monkeypatch.setattr(story, "lease", ask)
    monkeypatch.setattr(boot, "RETRY_S", 0.0)
    log = Log(to_kernel=False)
    assert boot.lease(config, KernelOptions(), log, Timeline()) == (leased, ["lease"])
    assert answers == []
    assert "odd" in log.ring


def test_dhcp_is_not_asked_where_addresses_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(story, "lease")
    known = (replace(UNLEASED, address=ip_interface("192.0.2.50/24")), replace(UNLEASED, origin="manual"))
    config = replace(CONFIG, nics=known)
    assert boot.lease(config, KernelOptions(), Log(to_kernel=False), Timeline()) == (config, [])


def test_a_netroot_of_another_kind_ends_well_and_is_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cmdline").write_text("root=/dev/nbd0 netroot=nbd:192.0.2.9:secret\n")
    told: list[str] = []
    monkeypatch.setattr(boot, "COMMAND_LINE", tmp_path / "cmdline")
    monkeypatch.setattr(story, "find_table", lambda _options: [])
    monkeypatch.setattr(start, "notify", told.append)
    assert boot.run(Namespace(adopt=False, dry_run=True)) is ExitStatus.FINE
    assert told == ["READY=1"]
    assert capsys.readouterr().err == "isboot: there is no iBFT, and netroot=nbd is not for isboot\n"


def test_the_dry_run_prints_plan_and_origins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "netroot=dhcp rd.iscsi.initiator=iqn.2001-04.com.example:me rd.isboot.queues=2"
    (tmp_path / "cmdline").write_text(line)
    monkeypatch.setattr(boot, "COMMAND_LINE", tmp_path / "cmdline")
    monkeypatch.setattr(story, "find_table", lambda _options: [])
    assert boot.run(Namespace(adopt=False, dry_run=True)) is ExitStatus.FINE
    assert capsys.readouterr().out.splitlines() == [
        "source     root-path of DHCP",
        "initiator  iqn.2001-04.com.example:me",
        "NIC 0      any, an address by DHCP, gateway none",
        "path 0     by DHCP's root-path",
        "",
        "value, and the source it comes from",
        "initiator name    iqn.2001-04.com.example:me <- rd.iscsi.initiator",
        "NIC 0 address     by DHCP <- default",
        "queues            2 <- rd.isboot.queues",
    ]
