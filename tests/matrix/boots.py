"""Cells that boot a diskless machine: power-on, firmware, table, isboot, the root, and off again."""

from __future__ import annotations

import json
import re
import subprocess
import time
from dataclasses import dataclass, field

from tests.matrix.attach import package_version
from tests.matrix.cells import Cell
from tests.matrix.rows import Row, Verdict
from tests.vm.disk import ROOT_MIB, Disk
from tests.vm.guest import Guest
from tests.vm.lio import Lio
from tests.vm.progress import RigError
from tests.vm.rig import Rig
from tests.vm.target import Account, Lun, Target

BOOT_S = 420
OFF_S = 180
VERIFY_MIB = 8
SECRETS = (
    Account("matrix-boot", "secret-of-the-boot"),
    Account("matrix-disk", "secret-of-the-disk", is_outgoing=True),
)
ACCOUNTS = {"none": (), "chap": SECRETS[:1], "mutual": SECRETS}

#: an emulated processor of a busy machine may stand still for longer than the 21 s Linux calls a stall; a
#: lockup is then one of 2 * watchdog_thresh seconds
PATIENCE = "rcupdate.rcu_cpu_stall_timeout=120 watchdog_thresh=60"

#: write, forget the page cache, read: what comes back is what the target has
VERIFY = f"""
set -e
cd /var/tmp
dd if=/dev/urandom of=random bs=1M count={VERIFY_MIB} 2>/dev/null
sha256sum random > sum
sync
echo 3 > /proc/sys/vm/drop_caches
sha256sum --check --quiet sum
findmnt -no SOURCE /
"""


@dataclass
class Seen:
    """What is known of a boot so far."""

    kernel: str
    table: str
    target: str
    login: str = ""
    power_on_s: float = field(default_factory=time.monotonic)


def run(rig: Rig, cell: Cell) -> Row:
    """Boot the machine of a cell; what goes wrong is in the row."""
    seen = Seen(cell["kernel"], cell["table"], cell["target"])
    faults = ""
    try:
        _boot(rig, cell, seen)
        rig.check_kernels()
    except (RigError, AssertionError, json.JSONDecodeError, KeyError) as error:
        told = f"{type(error).__name__}: {error}".split("--- console")[0].strip()[-1000:]
        # the row is kept: no word of a terminal in it, nor of where this machine has its logs
        told = re.sub(r"\x1b[^A-Za-z]*[A-Za-z]|[^ -~\n]", "", told)
        faults = f"{told} (runs/{rig.directory.name})".replace(str(rig.directory), rig.directory.name)
    return Row(
        cell=cell.key,
        kernel=seen.kernel,
        firmware={"bios": "SeaBIOS, iPXE", "uefi": "OVMF, iPXE"}[cell["firmware"]],
        table=seen.table,
        target=seen.target,
        verdict=Verdict.FAIL if faults else Verdict.PASS,
        seconds=round(time.monotonic() - seen.power_on_s, 1),
        verified_bytes=0 if faults else VERIFY_MIB << 20,
        negotiated={"login": seen.login} if seen.login else {},
        reason=faults,
    )


def _boot(rig: Rig, cell: Cell, seen: Seen) -> None:
    accounts = ACCOUNTS[cell["chap"]]
    root = rig.disk_copy(cell["kernel"])
    served: Target | Lio
    if cell["target"] == "lio":
        served = rig.lio(Lun(root.file), accounts=accounts)
        seen.target = served.version()
    else:
        served = rig.target(Lun(root.file), accounts=accounts)
        seen.target = f"tgt {package_version('tgt')}"
    guest = rig.boot(
        cell["firmware"],
        cell["kernel"],
        root=root,
        target=served,
        accounts=accounts,
        is_static=cell["table"] == "static",
        command_line=PATIENCE,
    )
    # what came before was waiting for others and making disks
    seen.power_on_s = time.monotonic()
    seen.kernel = guest.wait_agent(BOOT_S)
    run = guest.channel.run
    table = json.loads(run("isboot ibft --json", 120).output)
    nic, target = table["nics"][0], table["targets"][0]
    seen.table = f"{table['source']}, {table['oem_table_id']}, {nic['origin']}, CHAP {target['chap']}"
    assert nic["origin"] == {"dhcp": "dhcp", "static": "manual"}[cell["table"]]
    assert target["chap"] == cell["chap"]
    login = re.search(r"isboot: login: (.+)", guest.qemu.text())
    assert login, "isboot said nothing of a login"
    seen.login = login[1]
    assert run(VERIFY, 180).output.strip().startswith("/dev/ublkb0")
    _power_off(guest, served)
    _check(root)


def _check(root: Disk) -> None:
    """The file system as the target has it, once the machine is off."""
    image = f"{root.file}?offset={ROOT_MIB << 20}"
    done = subprocess.run(["e2fsck", "-fn", image], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"e2fsck: exit {done.returncode}: {done.stdout[-500:]}"
    assert "recovering journal" not in done.stdout, "the root was not unmounted"


def _power_off(guest: Guest, served: Target | Lio) -> None:
    # the agent is there before the system is up, and a shutdown then leaves jobs behind
    guest.channel.run("until systemctl is-active -q multi-user.target; do sleep 1; done", BOOT_S)
    guest.power_off(OFF_S)
    text = guest.qemu.text()
    for line in ("shutdown: root unmounted", "flushed: SYNCHRONIZE CACHE", "logged out of"):
        assert line in text, f"the machine went off without: {line}"
    if isinstance(served, Lio):
        served.wait_logged_out()
    assert not re.search(r"I_T nexus: \d", served.sessions()), "a session was left behind"
