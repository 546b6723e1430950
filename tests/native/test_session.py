"""The session stage against real targets on loopback, and the scripted target against libiscsi."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isboot import boot
from isboot.errors import ExitStatus, IdentityError, SessionError
from isboot.network.connect import connect
from isboot.session import connection, discovery, fence, identity, isid, lun
from isboot.session.control import Control
from isboot.session.fence import Fence
from isboot.session.status import LoginRefused
from isboot.values import BootConfig, Credentials, LunFacts, PathConfig, Policy, Portal, Secret
from tests.fakes.disk import Disk
from tests.fakes.login import Limits
from tests.fakes.target import FakeTarget
from tests.native.targets import Istgt, Tgtd, missing

pytestmark = pytest.mark.native

INITIATOR = "iqn.2026-11.org.example:host"
LUN_0, LUN_1, LUN_9 = (bytes([0, number]) + bytes(6) for number in (0, 1, 9))
ALICE = Credentials("alice", Secret(b"alice-has-a-secret"))
MUTUAL = Credentials("alice", Secret(b"alice-has-a-secret"), "disk", Secret(b"the-disk-has-another"))
WRONG = Credentials("alice", Secret(b"alice-has-another"))
WRONG_DISK = Credentials("alice", Secret(b"alice-has-a-secret"), "disk", Secret(b"the-disk-has-none"))


@pytest.fixture
def tgtd(tmp_path: Path) -> Iterator[Tgtd]:
    """A tgtd with one target; its LUN 1 is 64 MiB in blocks of 512 bytes."""
    if reason := missing("tgtd"):
        pytest.skip(reason)
    with Tgtd(tmp_path / "tgtd") as target:
        target.add_target("disk0")
        target.add_lun()
        yield target


@contextmanager
def started_istgt(directory: Path, method: str = "None", block_size_bytes: int = 512) -> Iterator[Istgt]:
    if reason := missing("istgt"):
        pytest.skip(reason)
    with Istgt(directory / "istgt", method, block_size_bytes=block_size_bytes) as target:
        yield target


def path_to(
    port: int, unit: bytes = LUN_1, credentials: Credentials | None = None, name: str = "disk0"
) -> PathConfig:
    portal = Portal("127.0.0.1", port)
    return PathConfig(0, None, portal, f"iqn.2026-11.org.example:{name}", unit, credentials)


@contextmanager
def attached(path: PathConfig, policy: Policy | None = None, lane: int = 0) -> Iterator[Control]:
    """Connect and log in as a boot does."""
    wanted, name = policy or Policy(), isid.compute(INITIATOR, "", lane)

    def use(sock: socket.socket, portal: Portal) -> Control:
        return Control(sock, connection.login(sock, path, INITIATOR, wanted, name, portal))

    sockets: list[socket.socket] = []

    def reach(portal: Portal) -> socket.socket:
        sockets.append(connect(portal, timeout_s=5))
        return sockets[-1]

    try:
        yield connection.follow(path.portal, reach, use)
    finally:
        for sock in sockets:
            sock.close()


def connect_as_a_boot_does(path: PathConfig) -> tuple[boot.Attached, list[str]]:
    """Take the road of boot.py; give what it came to and what was said on the way."""
    said: list[str] = []
    config = BootConfig("URL", INITIATOR, (), (path,), Policy(), is_boot=False)
    try:
        return boot.connect(config, path, {}, 0, said.append, expected=None), said
    except SessionError as error:
        error.message += f"; said before: {said}"
        raise


def look(path: PathConfig, policy: Policy | None = None) -> LunFacts:
    with attached(path, policy) as control:
        facts = lun.inspect(control)
        control.logout()
        return facts


def test_a_disk_of_tgtd_is_what_it_was_made(tgtd: Tgtd) -> None:
    tgtd.add_lun(1, 2, size_bytes=32 << 20, block_size_bytes=4096, scsi_sn="my-serial")
    facts = look(path_to(tgtd.port))
    assert (facts.vendor, facts.product, facts.serial) == ("IET", "VIRTUAL-DISK", "beaf11")
    assert (facts.capacity_blocks, facts.block_size_bytes) == (131072, 512)
    assert facts.has_volatile_cache
    assert "tgt's default serial" in identity.weakness(facts)
    other = look(path_to(tgtd.port, bytes([0, 2]) + bytes(6)))
    assert (other.capacity_blocks, other.block_size_bytes, other.serial) == (8192, 4096, "my-serial")
    assert identity.weakness(other) == ""
    with pytest.raises(IdentityError, match="serial was beaf11, is my-serial"):
        identity.check(facts, other)


@pytest.mark.parametrize("has_digests", [False, True])
def test_a_disk_of_istgt_is_what_it_was_made(tmp_path: Path, has_digests: bool) -> None:
    policy = Policy(header_digest=has_digests, data_digest=has_digests)
    with (
        started_istgt(tmp_path, block_size_bytes=4096) as target,
        attached(path_to(target.port, LUN_0), policy) as control,
    ):
        assert (control.session.header_digest, control.session.data_digest) == (has_digests, has_digests)
        facts = lun.inspect(control)
        assert (facts.capacity_blocks, facts.block_size_bytes) == (16384, 4096)
        assert "istgt's default serial" in identity.weakness(facts)
        assert fence.fence(control, LUN_0) is Fence.COMPLETE
        assert lun.inspect(control, facts) == facts
        control.logout()


def add_accounts(tgtd: Tgtd) -> None:
    tgtd.add_account("alice", "alice-has-a-secret")
    tgtd.add_account("disk", "the-disk-has-another", is_outgoing=True)


@pytest.mark.parametrize("credentials", [ALICE, MUTUAL], ids=["one-way", "mutual"])
def test_chap_with_tgtd(tgtd: Tgtd, credentials: Credentials) -> None:
    add_accounts(tgtd)
    assert look(path_to(tgtd.port, credentials=credentials)).vendor == "IET"


@pytest.mark.parametrize(("method", "credentials"), [("CHAP", ALICE), ("CHAP Mutual", MUTUAL)])
def test_chap_with_istgt(tmp_path: Path, method: str, credentials: Credentials) -> None:
    with started_istgt(tmp_path, method) as target:
        assert look(path_to(target.port, LUN_0, credentials)).vendor == "FreeBSD"


@pytest.mark.parametrize("credentials", [None, ALICE, MUTUAL], ids=["none", "one-way", "mutual"])
def test_targets_we_know_log_us_in_without_a_warning(
    tgtd: Tgtd, tmp_path: Path, credentials: Credentials | None
) -> None:
    # ISID and StatSN of every Login Response are looked at: both targets get them right, with digests, too.
    if credentials:
        add_accounts(tgtd)
    with attached(path_to(tgtd.port, credentials=credentials)) as control:
        # tgt 1.0.85 stumbles over the list of algorithms, which is told
        told = ["MD5 alone is used" in warning for warning in control.session.warnings]
        assert told == ([True] if credentials else [])
    method = "None" if credentials is None else "CHAP Mutual" if credentials.is_mutual else "CHAP"
    policy = Policy(header_digest=True, data_digest=True)
    with (
        started_istgt(tmp_path, method) as target,
        attached(path_to(target.port, LUN_0, credentials), policy) as control,
    ):
        assert control.session.warnings == ()


@pytest.mark.parametrize("credentials", [ALICE, MUTUAL], ids=["one-way", "mutual"])
def test_a_boot_logs_in_with_chap_and_says_what_it_tries(tgtd: Tgtd, credentials: Credentials) -> None:
    add_accounts(tgtd)
    path = path_to(tgtd.port, credentials=credentials)
    found, said = connect_as_a_boot_does(path)
    found.sock.close()
    assert found.facts.vendor == "IET"
    # tgt 1.0.85 takes CHAP_A=7 for SHA-1: what is said names the reason, no portal it is sent to
    logins = [line for line in said if line.startswith("login:")]
    assert logins == [f"login: {path.target_name} at {path.portal}"]
    assert "class 2, detail 0" in said[0]
    assert said[0].endswith("trying again with CHAP's MD5 alone")
    assert "refused the CHAP algorithms sha3-256,sha256,sha1,md5 as a list: MD5 alone is used" in said[2]


def test_a_boot_with_a_wrong_secret_ends_as_not_permitted(tgtd: Tgtd) -> None:
    add_accounts(tgtd)
    with pytest.raises(LoginRefused, match="authentication failure") as caught:
        connect_as_a_boot_does(path_to(tgtd.port, credentials=WRONG))
    assert caught.value.exit_status is ExitStatus.NOT_PERMITTED
    assert "sends us to" not in caught.value.message
    assert "with CHAP's MD5 alone" in caught.value.message
    assert "alice-has" not in caught.value.message


@pytest.mark.parametrize(
    ("credentials", "text"),
    [
        (None, "refused"),
        (WRONG, "authentication failure"),
        (WRONG_DISK, "does not know the reverse CHAP secret"),
    ],
)
def test_who_cannot_prove_it_is_refused_by_tgtd(
    tgtd: Tgtd, credentials: Credentials | None, text: str
) -> None:
    add_accounts(tgtd)
    with pytest.raises(SessionError, match=text) as caught:
        look(path_to(tgtd.port, credentials=credentials))
    assert caught.value.exit_status is ExitStatus.NOT_PERMITTED


@pytest.mark.parametrize(
    ("method", "credentials"), [("CHAP", None), ("CHAP", WRONG), ("CHAP Mutual", WRONG_DISK)]
)
def test_who_cannot_prove_it_is_refused_by_istgt(
    tmp_path: Path, method: str, credentials: Credentials | None
) -> None:
    with started_istgt(tmp_path, method) as target, pytest.raises(SessionError) as caught:
        look(path_to(target.port, LUN_0, credentials))
    assert caught.value.exit_status is ExitStatus.NOT_PERMITTED


def test_a_target_without_chap_is_not_logged_in_to_without(tgtd: Tgtd, tmp_path: Path) -> None:
    # tgtd refuses (class 2 detail 1) where only CHAP is offered and it asks for none; istgt says Reject.
    with pytest.raises(LoginRefused, match="authentication failure") as caught:
        look(path_to(tgtd.port, credentials=ALICE))
    assert "that the target asks for CHAP" in caught.value.hint
    with started_istgt(tmp_path) as istgt, pytest.raises(SessionError) as told:
        look(path_to(istgt.port, LUN_0, ALICE))
    assert {caught.value.exit_status, told.value.exit_status} == {ExitStatus.NOT_PERMITTED}


def test_digests_tgtd_does_not_do_are_a_hard_stop_or_done(tgtd: Tgtd) -> None:
    with pytest.raises(SessionError, match="HeaderDigest=CRC32C was asked for") as caught:
        look(path_to(tgtd.port), Policy(header_digest=True))
    assert caught.value.exit_status is ExitStatus.UNAVAILABLE
    tgtd.admin("--op", "update", "--mode", "target", "--tid", "1", "-n", "HeaderDigest", "-v", "CRC32C")
    tgtd.admin("--op", "update", "--mode", "target", "--tid", "1", "-n", "DataDigest", "-v", "CRC32C")
    assert look(path_to(tgtd.port), Policy(header_digest=True, data_digest=True)).vendor == "IET"
    # and where the target insists on them, they are done unasked
    with attached(path_to(tgtd.port)) as control:
        assert (control.session.header_digest, control.session.data_digest) == (True, True)
        assert lun.inspect(control).vendor == "IET"


def test_a_target_name_unknown_is_told_apart(tgtd: Tgtd) -> None:
    with pytest.raises(LoginRefused, match="target not found") as caught:
        look(path_to(tgtd.port, name="nobody"))
    assert caught.value.exit_status is ExitStatus.NOTHING_THERE


def test_a_missing_lun_is_told_with_those_there_are(tgtd: Tgtd) -> None:
    with pytest.raises(SessionError, match="LUN 9 is not there") as caught:
        look(path_to(tgtd.port, LUN_9))
    assert caught.value.exit_status is ExitStatus.NOTHING_THERE
    assert caught.value.hint == "the target has LUN 0, 1"


def test_the_controller_of_tgtd_is_no_disk(tgtd: Tgtd) -> None:
    with pytest.raises(SessionError, match="peripheral device type 0x0c") as caught:
        look(path_to(tgtd.port, LUN_0))
    assert caught.value.exit_status is ExitStatus.UNAVAILABLE


def test_targets_are_discovered(tgtd: Tgtd) -> None:
    tgtd.add_target("disk1")
    portal = Portal("127.0.0.1", tgtd.port)
    with connect(portal, timeout_s=5) as sock:
        found = discovery.discover(sock, portal, INITIATOR, Policy(), isid.of_command(INITIATOR))
    assert [target.name for target in found] == [f"iqn.2026-11.org.example:disk{n}" for n in (0, 1)]
    assert {place.portal for target in found for place in target.portals} == {portal}


def test_targets_of_istgt_are_discovered(tmp_path: Path) -> None:
    with started_istgt(tmp_path) as target:
        portal = Portal("127.0.0.1", target.port)
        with connect(portal, timeout_s=5) as sock:
            found = discovery.discover(sock, portal, INITIATOR, Policy(), isid.of_command(INITIATOR))
    assert [one.name for one in found] == [target.name]


def test_the_same_isid_takes_the_place_of_the_old_session(tgtd: Tgtd) -> None:
    with attached(path_to(tgtd.port)) as old, attached(path_to(tgtd.port)) as new:
        facts = lun.inspect(new)
        assert fence.fence(new, LUN_1) is Fence.COMPLETE
        assert lun.inspect(new, facts) == facts
        with pytest.raises(SessionError):
            old.ping()
        assert tgtd.show().count("Initiator: " + INITIATOR) == 1


def test_two_lanes_are_two_sessions(tgtd: Tgtd) -> None:
    with attached(path_to(tgtd.port), lane=0) as one, attached(path_to(tgtd.port), lane=1) as other:
        one.ping()
        other.ping()
        assert tgtd.show().count("Initiator: " + INITIATOR) == 2


def test_after_a_restart_it_is_the_same_disk(tgtd: Tgtd) -> None:
    facts = look(path_to(tgtd.port))
    tgtd.stop()
    tgtd.start()
    identity.check(facts, look(path_to(tgtd.port)))


# --- the scripted target, judged by libiscsi ---------------------------------------------------------------


def run(program: str, *arguments: str) -> str:
    if reason := missing(program):
        pytest.skip(reason)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def url(target: FakeTarget) -> str:
    return f"iscsi://127.0.0.1:{target.port}/{target.name}/1"


def test_libiscsi_lists_the_scripted_target() -> None:
    with FakeTarget() as target:
        listed = run("iscsi-ls", "-s", f"iscsi://127.0.0.1:{target.port}")
    assert f"Target:{target.name} Portal:127.0.0.1:{target.port},1" in listed
    assert "Lun:1    Type:DIRECT_ACCESS" in listed


def test_libiscsi_reads_what_the_scripted_target_says_of_itself() -> None:
    with FakeTarget(disk=Disk(serial="abc123")) as target:
        assert "Product:FAKE DISK" in run("iscsi-inq", url(target))
        assert "abc123" in run("iscsi-inq", "-e", "1", "-c", str(0x80), url(target))
        limits = run("iscsi-inq", "-e", "1", "-c", str(0xB0), url(target))
        assert "maximum unmap lba count:4096" in limits.lower()
        assert "RETURNED LOGICAL BLOCK ADDRESS:2047" in run("iscsi-readcapacity16", url(target))


@pytest.mark.parametrize(
    "limits",
    [
        Limits(),
        Limits(max_burst_length=8192, first_burst_length=4096),
        Limits(
            initial_r2t=True, immediate_data=False, max_burst_length=8192, first_burst_length=4096,
            max_recv_data_segment_length=4096,
        ),
    ],
    ids=["generous", "small-bursts", "r2t-only"],
)  # fmt: skip
@pytest.mark.parametrize("suite", ["SCSI.Read16.Simple", "SCSI.Write16.Simple"])
def test_libiscsis_suite_moves_blocks_to_the_scripted_target(limits: Limits, suite: str) -> None:
    with FakeTarget(disk=Disk(capacity_blocks=8192), limits=limits) as target:
        said = run("iscsi-test-cu", "--dataloss", "--test", suite, url(target))
    asserts = next(line.split() for line in said.splitlines() if line.split()[:1] == ["asserts"])
    assert asserts[1] == asserts[3] == "512"  # as many passed as there are
