"""Which LUNs a boot attaches beside the boot LUN, and by which paths."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from isboot import boot
from isboot.daemon import companions, heritage, worker
from isboot.daemon.channel import Channel, Others
from isboot.daemon.log import Log
from isboot.errors import DaemonError
from isboot.values import BootConfig, Portal
from tests.block.test_parameters import LUN
from tests.daemon.test_launcher_status import CONFIG
from tests.fakes.disk import Disk
from tests.fakes.target import LUN_1, FakeTarget

BOOT = replace(CONFIG, is_boot=True, luns="all")
LUN_7, LUN_9 = (bytes([0, number]) + bytes(6) for number in (7, 9))


def test_a_companion_differs_by_its_lun_and_is_not_marked() -> None:
    made = companions.of_lun(BOOT, LUN_7)
    assert [path.lun for path in made.paths] == [LUN_7]
    assert (made.is_boot, made.is_boot_lun, made.luns) == (True, False, "boot")
    assert BOOT.is_boot_lun


def test_a_companion_goes_by_no_path_to_another_target() -> None:
    first = CONFIG.paths[0]
    second = replace(first, index=1, portal=Portal("192.0.2.10"))
    third = replace(first, index=2, target_name="iqn.2001-04.com.example:other")
    made = companions.of_lun(replace(BOOT, paths=(first, second, third)), LUN_7)
    assert [path.portal for path in made.paths] == [first.portal, second.portal]


@pytest.mark.parametrize(
    ("luns", "disks"),
    [("all", (LUN_1, LUN_7, LUN_9)), ("boot", ()), ((LUN_7,), ())],
    ids=["all", "boot", "7"],
)
def test_the_boots_own_session_finds_all_disks(luns: Any, disks: tuple[bytes, ...]) -> None:
    there = {bytes(8): Disk(peripheral=0x0C), LUN_1: Disk(), LUN_7: Disk(), LUN_9: Disk()}
    with FakeTarget(luns=there) as target:
        path = replace(
            CONFIG.paths[0], portal=Portal("127.0.0.1", target.port), target_name=target.name, lun=LUN_1
        )
        config = replace(BOOT, luns=luns, paths=(path,))
        first = boot.connect(config, path, {}, 0, lambda line: None, expected=None)
        first.sock.close()
        assert first.disks == disks
        # and none is asked for after a loss
        again = boot.connect(config, path, {}, 0, lambda line: None, expected=first.facts)
        again.sock.close()
        assert again.disks == ()


def others_of(config: BootConfig, disks: tuple[bytes, ...]) -> tuple[bytes, ...]:
    ours, theirs = Channel.pair()
    task = worker.Task(config, {}, None, Log(to_kernel=False), theirs, False, 0.0)  # type: ignore[arg-type]
    with socket.socket() as sock:
        attached = boot.Attached(sock, None, LUN, replace(CONFIG.paths[0], lun=LUN_1), "", disks)  # type: ignore[arg-type]
        found = worker.Worker(task)._others(attached)
    ours.close()
    theirs.close()
    return found


@pytest.mark.parametrize(
    ("luns", "others"), [("all", (LUN_7, LUN_9)), ("boot", ()), ((LUN_9, LUN_1), (LUN_9,))],
    ids=["all", "boot", "9,1"],
)  # fmt: skip
def test_the_boot_lun_is_no_companion_of_its_own(luns: Any, others: tuple[bytes, ...]) -> None:
    disks = (LUN_1, LUN_7, LUN_9) if luns == "all" else ()
    assert others_of(replace(BOOT, luns=luns), disks) == others


def test_a_keeper_keeps_a_launcher_a_lun_up_to_ublks_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[bytes] = []
    monkeypatch.setattr(companions.Keeper, "_launch", lambda self, lun, must_adopt: launched.append(lun))
    many = Others(tuple(number.to_bytes(2, "big") + bytes(6) for number in range(100)))
    log = Log(to_kernel=False)
    companions.Keeper(BOOT, {}, log).keep(many.luns)
    assert launched == list(many.luns[: companions.MAX_COMPANIONS])
    assert list(log.ring) == ["100 more LUNs: only 63 are attached"]


@pytest.mark.parametrize(
    ("status", "looks", "is_replaced"),
    [(1, 3, True), (0, 1, True), (0, 3, False), (1, 10**6, False)],
    ids=["worker died as well", "worker lives", "ended with its device", "nobody came"],
)
def test_a_launcher_is_made_anew_once_a_worker_serves_again(
    monkeypatch: pytest.MonkeyPatch, status: int, looks: int, is_replaced: bool
) -> None:
    """:param looks: at what the worker left, until one lives"""
    seen: list[bytes] = []
    made: list[bytes] = []

    def find(lun: bytes) -> Any:
        seen.append(lun)
        if len(seen) < looks:
            raise DaemonError("adopting worker 811: it is dead")
        return SimpleNamespace(pid=812)

    def launch(keeper: companions.Keeper, lun: bytes, *, must_adopt: bool) -> None:
        if must_adopt:
            made.append(lun)
            return
        pid = os.fork()
        if pid == 0:
            os._exit(status)
        keeper._launchers[os.pidfd_open(pid)] = (pid, lun)

    monkeypatch.setattr(heritage, "find", find)
    monkeypatch.setattr(companions.Keeper, "_launch", launch)
    monkeypatch.setattr(companions, "ADOPT_S", 0.002)
    if looks > 3:
        monkeypatch.setattr(companions, "ORPHAN_S", 0.02)
    companions.Keeper(BOOT, {}, Log(to_kernel=False)).keep((LUN_7,))
    assert made == [LUN_7] * is_replaced
