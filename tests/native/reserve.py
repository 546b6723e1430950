"""
Another initiator that reserves a LUN: what isboot itself never does.

    python3 -m tests.native.reserve iscsi://HOST:PORT/TARGET/LUN KEY TYPE      (both in hex)

holds it until somebody makes the file /run/release.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isboot.config.url import from_url
from isboot.network.connect import connect
from isboot.session import connection, isid, lun, pdu
from isboot.session.commands import Answer
from isboot.session.connection import Deadline
from isboot.session.control import Control, _Transfer
from isboot.values import Policy

HOLDER = "iqn.2026-11.org.example:holder"
REGISTER, RESERVE, CLEAR = 0x00, 0x01, 0x03
_PARAMETERS_BYTES = 24
RELEASE = Path("/run/release")


@contextmanager
def session_of(url: str, name: str = HOLDER) -> Iterator[Control]:
    config = from_url(url, initiator_name=name, credentials=None, policy=Policy())
    path = config.paths[0]
    with connect(path.portal, timeout_s=5) as sock:
        session = connection.login(sock, path, name, config.policy, isid.compute(name, "", 0), path.portal)
        control = Control(sock, session)
        lun.wait_until_ready(control)
        yield control


def send(control: Control, cdb: bytes, data: bytes) -> Answer:
    """Run a command that writes, its data in the same PDU."""
    deadline = Deadline.within(5000)
    tag = control.new_tag()
    request = pdu.ScsiCommand(
        write=True, lun=control.session.lun, initiator_task_tag=tag, data=data, final=True,
        expected_data_transfer_length=len(data), cmd_sn=control._cmd_sn, exp_stat_sn=control._exp_stat_sn,
        cdb=cdb.ljust(16, b"\0"),
    )  # fmt: skip
    control._cmd_sn += 1
    control._connection.send(request, deadline)
    transfer = _Transfer(tag, 0)
    return control._until(lambda message: control._take_scsi(message, transfer), deadline)


def persistent_reserve_out(control: Control, action: int, key: int, new_key: int = 0, kind: int = 0) -> None:
    """:source: SPC-4 §6.16"""
    cdb = bytes([0x5F, action, kind, 0, 0]) + _PARAMETERS_BYTES.to_bytes(4, "big")
    data = key.to_bytes(8, "big") + new_key.to_bytes(8, "big") + bytes(8)
    answer = send(control, cdb, data)
    assert answer.status == 0, answer


@contextmanager
def held(url: str, key: int, kind: int) -> Iterator[None]:
    """Register and reserve, and clear it at the end: in one session, tgt knows a registrant by no more."""
    with session_of(url) as control:
        persistent_reserve_out(control, REGISTER, 0, key)
        persistent_reserve_out(control, RESERVE, key, kind=kind)
        yield
        persistent_reserve_out(control, CLEAR, key)
        control.logout()


@contextmanager
def held_by_reserve_6(url: str) -> Iterator[None]:
    """RESERVE(6) of SCSI-2, which ends with the session. :source: SPC-2 §7.21"""
    with session_of(url) as control:
        assert control.execute(bytes([0x16]).ljust(16, b"\0")).status == 0
        yield


def main() -> None:
    url, key, kind = sys.argv[1:]
    with held(url, int(key, 16), int(kind, 16)):
        print("held", flush=True)
        while not RELEASE.exists():
            time.sleep(0.05)


if __name__ == "__main__":
    main()
