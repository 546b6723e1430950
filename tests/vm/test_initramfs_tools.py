"""Diskless boots with an initramfs that initramfs-tools made: there is no systemd in it."""

from __future__ import annotations

import json

import pytest

from tests.vm.guest import Guest
from tests.vm.kernel import KERNELS
from tests.vm.kills import SCRIPT, check_load, fio
from tests.vm.progress import say
from tests.vm.rig import Rig
from tests.vm.target import Target
from tests.vm.test_boot import live_on_its_lun

pytestmark = pytest.mark.guest

KILLS = 3


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        is_all = metafunc.config.getoption("--all")
        cases = [(firmware, label) for firmware in ("bios", "uefi") for label in KERNELS]
        cases = cases if is_all else [("bios", "6.12")]
        metafunc.parametrize("case", cases, ids=["-".join(case) for case in cases])


def harm(guest: Guest, _target: Target, file: str, what: str) -> int:
    """
    Have systemd do what ends or moves others, for isboot was there before it; then kill workers under a load.

    Every state of the queue a worker may die in is the matter of the boot with dracut's initramfs.
    """
    pids = guest.channel.run("pgrep -f '^@isboot'").output
    guest.channel.run("systemctl daemon-reexec && systemctl isolate multi-user.target", 120)
    assert guest.channel.run("pgrep -f '^@isboot'").output == pids
    launcher = guest.channel.run("systemctl show -P MainPID isboot.service").output.strip()
    assert launcher in pids.split()
    guest.channel.write("/run/kill_workers.py", SCRIPT.read_bytes())
    load = guest.channel.start(f"timeout --preserve-status -s INT 12 sh -c '{fio(file, 32)}'", 120)
    kills = json.loads(guest.channel.run(f"python3 /run/kill_workers.py {KILLS} 1", 120).output)
    say(f"{what}: workers replaced in {[round(row['ms']) for row in kills]} ms")
    check_load(*load.wait())
    return len(kills)


def test_a_diskless_machine_lives_on_its_lun(rig: Rig, case: tuple[str, str]) -> None:
    live_on_its_lun(rig, *case, initramfs="initramfs-tools", harm=harm)
