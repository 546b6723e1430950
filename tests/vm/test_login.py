"""Logins to LIO, the only real target at hand that knows SHA-256 and SHA3-256, in a guest's kernel."""

from __future__ import annotations

import json
import re
import shlex
import time
from typing import Any

import pytest

from isboot.values import Policy
from tests.vm.guest import Guest
from tests.vm.kernel import KERNELS
from tests.vm.lio import Lio
from tests.vm.rig import Rig
from tests.vm.target import Account, Lun

pytestmark = pytest.mark.guest

ALICE = ["alice", "alice-has-a-secret"]
MUTUAL = [*ALICE, "disk", "the-disk-has-another"]
ACCOUNTS = (Account(ALICE[0], ALICE[1]), Account("disk", "the-disk-has-another", is_outgoing=True))
MOVED = "iqn.2026-11.org.example:moved"
INITIATOR = "iqn.2026-11.org.example:guest"
WORDS = Policy().chap_algorithms


def row(credentials: list[str] | None, **policy: Any) -> dict[str, Any]:
    return {"credentials": credentials, "policy": policy}


def test_lio_authenticates_and_a_changed_secret_stops_a_disk_until_it_is_right_again(
    rig: Rig, kernel_label: str, request: pytest.FixtureRequest
) -> None:
    guest = rig.quick(kernel_label)
    target = rig.lio(guest=guest, accounts=ACCOUNTS)
    every_algorithm_of_chap_is_proved(guest, target)
    digests_are_done_where_it_insists(guest, target)
    if kernel_label == next(iter(KERNELS)) or request.config.getoption("--all"):
        a_disk_waits_for_a_secret_that_changed(guest, target)
        who_takes_over_finds_a_disk_that_moved(rig, guest)


def log_in(guest: Guest, target: Lio, logins: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Log in as these rows say, in the guest; give what came of each."""
    asked = {"portal": ["127.0.0.1", target.port], "target": target.name, "logins": logins}
    words = f"echo {shlex.quote(json.dumps(asked))} | python3 tests/vm/inside/log_in.py"
    rows: list[dict[str, Any]] = json.loads(guest.channel.run(words, 60).output)
    return rows


def every_algorithm_of_chap_is_proved(guest: Guest, target: Lio) -> None:
    by_algorithm = [(who, word) for who in (ALICE, MUTUAL) for word in WORDS]
    logins = [
        *(row(who, chap_algorithms=[word]) for who, word in by_algorithm),
        row(MUTUAL),
        row([ALICE[0], "not-alices-secret"]),
        row([*ALICE, "disk", "not-the-disks-secret"]),
        row(None),
    ]
    *singles, listed, wrong, wrong_disk, nobody = log_in(guest, target, logins)
    for (who, word), came in zip(by_algorithm, singles, strict=True):
        # One way we compute our response; with mutual CHAP also what the target's proof must be.
        assert came["computed"] == [word] * (2 if who is MUTUAL else 1), (word, came)
        assert came["tsih"] > 0
        assert (came["warnings"], came["digests"]) == ([], [False, False])
    assert listed["computed"] == ["sha3-256"] * 2  # it takes the first of the list: the strongest
    assert listed["warnings"] == []
    assert "authentication failure (class 2, detail 1)" in wrong["refused"]
    assert wrong["computed"] == ["sha3-256", "md5"]  # MD5 alone, once, and no more
    assert wrong["exit_status"] == 77
    assert "does not know the reverse CHAP secret" in wrong_disk["refused"]
    assert wrong_disk["exit_status"] == 77
    assert "closed the connection" in nobody["refused"]
    assert nobody["hint"] == "the target may ask for CHAP: no CHAP name is configured for it"


def digests_are_done_where_it_insists(guest: Guest, target: Lio) -> None:
    for key in ("HeaderDigest", "DataDigest"):
        target.set_parameter(key, "CRC32C")
    [came] = log_in(guest, target, [row(ALICE)])
    assert came["digests"] == [True, True]


def a_disk_waits_for_a_secret_that_changed(guest: Guest, target: Lio) -> None:
    """The recovery road of a wrong secret: I/O waits, attempts become rare, the log is loud about it."""
    run = guest.channel.run
    run(f'(umask 077; printf \'name = "{ALICE[0]}"\\nsecret = "{ALICE[1]}"\\n\' > /tmp/chap)')
    options = f"--initiator {INITIATOR} --chap-file /tmp/chap --param chap_algorithms=sha256"
    run(f"modprobe ublk_drv && python3 -m isboot attach {options} {target.url()}", 60)
    target.add_account(Account(ALICE[0], "changed-at-the-target"))
    target.restart()
    before = refusals(guest)
    write = guest.channel.start("dd if=/dev/zero of=/dev/ublkb0 bs=4k count=1 oflag=direct", 60)
    line = "authentication failure (class 2, detail 1); trying again, up to 30 s apart"
    guest.qemu.wait_for(re.escape(line), 20)
    time.sleep(2)
    assert 1 < refusals(guest) - before < 7  # after 0, 0.2, 0.5, 1, 2 seconds, and so on
    target.add_account(Account(ALICE[0], ALICE[1]))
    assert write.wait()[0] == 0


def who_takes_over_finds_a_disk_that_moved(rig: Rig, guest: Guest) -> None:
    """A permanent redirection, the old place gone, the worker that followed it killed."""
    disk = Lun(rig.empty_disk(16, "moved.img"), parameters={"scsi_sn": "moved"})
    there = rig.target(disk, name=MOVED, port=3261)
    here = rig.target(disk, name=MOVED)
    for key, value in (("Address", rig.network().address(0)), ("Port", "3261"), ("Reason", "Permanent")):
        here.set_parameter(f"Redirect{key}", value)
    run = guest.channel.run
    device = run(f"python3 -m isboot attach --initiator {INITIATOR} {here.url()}", 60).output.strip()
    here.kill()
    guest.channel.kill(status(guest, device)["worker_pid"])
    run(f"dd if=/dev/zero of={device} bs=4k count=1 oflag=direct", 60)
    row = status(guest, device)
    assert row["worker_replacements"] == 1
    assert row["lanes"][0]["portal"] == there.url().split("/")[2]


def status(guest: Guest, device: str) -> dict[str, Any]:
    said = json.loads(guest.channel.run("python3 -m isboot status --json", 60).output)
    row: dict[str, Any] = next(row for row in said["devices"] if f"/dev/{row['device']}" == device)
    return row


def refusals(guest: Guest) -> int:
    """Give how many logins LIO has refused for their CHAP response."""
    return int(guest.channel.run("dmesg | grep -c 'Security negotiation failed' || true").output)
