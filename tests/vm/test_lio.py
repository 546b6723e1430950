"""LIO in a guest: what the rig promises of it, and isboot against it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.vm.kernel import KERNELS
from tests.vm.lio import ALUA_STATES, Lio
from tests.vm.progress import RigError
from tests.vm.rig import Rig
from tests.vm.target import Account, Lun

pytestmark = pytest.mark.guest

INITIATOR = "iqn.2001-04.com.example:lio-test"
SECRETS = (Account("lio-in", "secret-going-in"), Account("lio-out", "secret-coming-out", is_outgoing=True))
CHAP_FILE = """
name = "lio-in"
secret = "secret-going-in"
reverse_name = "lio-out"
reverse_secret = "secret-coming-out"
"""


class Isboot:
    """isboot's commands in a guest."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def __call__(self, *arguments: str, is_checked: bool = True) -> Any:
        command = ["python3", "-m", "isboot", *arguments]
        return self._run(command, 120, is_checked=is_checked)

    def bench(self, url: str, *arguments: str) -> dict[str, Any]:
        said = self(
            "bench", "--json", "--initiator", INITIATOR, "--verify", "150", "--area", "4M", *arguments, url
        ).output
        return dict(json.loads(said[said.index("{") :]))

    def facts(self, url: str) -> dict[str, Any]:
        return dict(json.loads(self("inquiry", "--json", "--initiator", INITIATOR, url).output))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "label" in metafunc.fixturenames:
        # the matrix' cells are LIO's on 7.2
        metafunc.parametrize("label", KERNELS if metafunc.config.getoption("--all") else ["6.12"])


def test_lio_does_what_tgtd_does_for_a_test(rig: Rig, label: str) -> None:
    guest = rig.quick(label)
    isboot = Isboot(guest.channel.run)
    luns = (
        Lun(number=1),
        Lun(number=2, block_size_bytes=4096, back_end="ramdisk", size_mib=16),
        Lun(number=3, block_size_bytes=4096, back_end="block", parameters={"readonly": "1"}),
        Lun(number=4, back_end="scsi_debug", size_mib=8),
        Lun(number=5, parameters={"scsi_sn": "number-five", "thin_provisioning": "1"}),
    )
    lio = rig.lio(*luns, guest=guest)
    assert lio.version().endswith(guest.channel.run("uname -r").output.strip())

    # every back end moves blocks, over IPv4 and IPv6
    for lun in luns:
        facts = isboot.facts(lio.url(lun=lun.number))
        assert facts["block_size_bytes"] == lun.block_size_bytes
        assert facts["capacity_blocks"] * lun.block_size_bytes == lun.size_mib << 20, lun
        assert facts["is_read_only"] == (lun.number == 3)
        if lun.number != 3:
            assert isboot.bench(lio.url(lun.number % 2, lun.number))["differ"] == 0
    assert facts["serial"] == "number-five"

    # parameters are those of the next login
    lio.set_parameter("InitialR2T", "No")
    lio.set_parameter("MaxXmitDataSegmentLength", "512")
    session = isboot.bench(lio.url(), "--digests", "header,data")["session"]
    assert (session["initial_r2t"], session["max_send_data_segment_length_bytes"]) == (False, 512)
    assert (session["header_digest"], session["data_digest"]) == (True, True)

    # what a running device lives through
    guest.channel.run("modprobe ublk_drv")
    isboot("attach", "--initiator", INITIATOR, lio.url())
    assert re.search(r"I_T nexus: 1\n +Initiator: " + INITIATOR, lio.sessions())
    writing = "dd if=/dev/urandom of=/dev/ublkb0 bs=64k count=32 oflag=direct"
    lio.freeze()
    pending = guest.channel.start(writing)
    guest.channel.run("until grep -q '[1-9]' /sys/block/ublkb0/inflight; do sleep 0.1; done; pgrep -x dd")
    lio.thaw()
    assert pending.wait()[0] == 0
    lio.kill()
    assert "refused" in isboot("discover", "--initiator", INITIATOR, "127.0.0.1", is_checked=False).output
    pending = guest.channel.start(writing)
    lio.start()
    assert pending.wait()[0] == 0
    lio.restart()
    guest.channel.run(writing)
    isboot("detach", "ublkb0")
    lio.wait_logged_out()
    assert lio.sessions() == ""

    # state of a port group
    for state in ALUA_STATES:
        lio.set_alua_state(1, state)
    lio.set_alua_state(1, "standby")
    assert isboot("inquiry", "--initiator", INITIATOR, lio.url(), is_checked=False).status != 0
    lio.set_alua_state(1, "active/optimized")

    # LUNs come and go
    lio.add_lun(Lun(number=300))
    assert isboot.facts(lio.url(lun=1))["capacity_blocks"] == 131072
    lio.remove_lun(5)
    assert isboot("inquiry", "--initiator", INITIATOR, lio.url(lun=5), is_checked=False).status != 0

    # accounts
    for account in SECRETS:
        lio.add_account(account)
    assert isboot("inquiry", "--initiator", INITIATOR, lio.url(), is_checked=False).status in (75, 77)
    guest.channel.write("/run/chap", CHAP_FILE.encode())
    guest.channel.run("chmod 600 /run/chap")
    assert isboot.bench(lio.url(), "--chap-file", "/run/chap")["differ"] == 0

    # what it refuses is said, with the file that refused
    with pytest.raises(RigError, match="takes no maybe"):
        lio.set_parameter("InitialR2T", "maybe")


def test_lio_says_what_it_has_not(tmp_path: Path) -> None:
    lio = Lio(None, [])  # type: ignore[arg-type]
    with pytest.raises(RigError, match="no back end tape"):
        lio.add_lun(Lun(back_end="tape"))
    with pytest.raises(RigError, match="read-only"):
        lio.add_lun(Lun(parameters={"readonly": "1"}))
