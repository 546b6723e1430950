"""isboot boot: what it says when it stops, and what it does not give up."""

from __future__ import annotations

from typing import Any

import pytest

from isboot import boot as story
from isboot.commands import boot
from isboot.daemon.log import Log
from isboot.daemon.timeline import Timeline
from isboot.errors import ExitStatus, NetworkError
from isboot.values import BootConfig, NicState, Policy

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
