"""The story of a boot, where it has to choose: NICs that come up and NICs that do not."""

from __future__ import annotations

from typing import Any

import pytest

from isboot import boot
from isboot.errors import ExitStatus, NetworkError
from isboot.network import bringup
from isboot.network.kernel import Wanted
from isboot.values import BootConfig, NicConfig, NicState, PathConfig, Policy, Portal

NO_CARRIER = NetworkError("waiting for the carrier: none", "", ExitStatus.TRY_AGAIN)
NO_NIC = NetworkError("looking for the NIC: none", "", ExitStatus.NOTHING_THERE)


def nic_config(index: int) -> NicConfig:
    return NicConfig(index, f"52:54:00:00:00:0{index}", None, None, None, (), 0, "", "dhcp")


def boot_with(
    monkeypatch: pytest.MonkeyPatch, *outcomes: NetworkError | None
) -> tuple[BootConfig, list[str]]:
    """Give a configuration with a NIC and a path for each outcome of bringing it up."""
    nics = tuple(nic_config(index) for index in range(len(outcomes)))
    paths = tuple(
        PathConfig(
            one.index, one, Portal(f"192.0.2.{one.index}", 3260), "iqn.2001-04.com.example:d", bytes(8), None
        )
        for one in nics
    )

    def configure_all(wanted: list[Wanted], *_: Any) -> tuple[dict[int, NicState], list[NetworkError]]:
        states = {
            one.nic.index: NicState(one.nic.mac, f"eth{one.nic.index}", 2 + one.nic.index, "e1000", None, 0)
            for one in wanted
            if outcomes[one.nic.index] is None
        }
        return states, [outcome for outcome in outcomes if outcome]

    monkeypatch.setattr(bringup, "configure_all", configure_all)
    return BootConfig("test", "iqn.2001-04.com.example:h", nics, paths, Policy(), is_boot=True), []


def test_a_nic_that_does_not_come_up_does_not_hold_the_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = boot_with(monkeypatch, NO_CARRIER, None)
    nics = boot.bring_up(config, said.append)
    assert list(nics) == [1]
    assert said == ["waiting for the carrier: none; going on without it until it comes"]
    # its path is the last one, for the day it comes
    paths = boot.resolve(config, nics).paths
    assert [(path.index, path.portal.host) for path in paths] == [(0, "192.0.2.1"), (1, "192.0.2.0")]


def test_of_several_faults_one_that_waiting_mends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = boot_with(monkeypatch, NO_NIC, NO_CARRIER)
    with pytest.raises(NetworkError, match="carrier"):
        boot.bring_up(config, said.append)


def test_every_path_stays_while_every_nic_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    config, said = boot_with(monkeypatch, None, None)
    assert boot.resolve(config, boot.bring_up(config, said.append)).paths == config.paths
    assert said == []
