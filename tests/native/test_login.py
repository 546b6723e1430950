"""Logins to real targets: redirections of tgt, CHAP by policy, sessions of others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from isboot import boot
from isboot.errors import ExitStatus, NetworkError, SessionError
from isboot.network.connect import connect
from isboot.session import connection, isid, redirect
from isboot.session.status import LoginRefused
from isboot.values import BootConfig, Credentials, LunFacts, PathConfig, Policy, Portal
from tests.native.targets import Istgt, Tgtd, missing
from tests.native.test_session import ALICE, INITIATOR, LUN_0, MUTUAL, WRONG, attached, path_to

pytestmark = pytest.mark.native


@contextmanager
def started(directory: Path, address: str = "127.0.0.1") -> Iterator[Tgtd]:
    """A tgtd with one target and LUN 1."""
    if reason := missing("tgtd"):
        pytest.skip(reason)
    with Tgtd(directory, address=address) as target:
        target.add_target("disk0")
        target.add_lun(scsi_sn="the-same-disk")
        yield target


def set_parameter(target: Tgtd, name: str, value: str) -> None:
    target.admin("--op", "update", "--mode", "target", "--tid", "1", "-n", name, "-v", value)


HERE, THERE = "127.0.0.3", "127.0.0.2"  # tgt sends nobody to the address the initiator comes from, 127.0.0.1


def send_to(target: Tgtd, portal: Portal | None, reason: str = "Temporary") -> None:
    """Have a tgtd send initiators on; None ends that."""
    set_parameter(target, "RedirectAddress", portal.host if portal else "")
    if portal:
        set_parameter(target, "RedirectPort", str(portal.port))
        set_parameter(target, "RedirectReason", reason)


def portal_of(target: Tgtd) -> Portal:
    return Portal(target.address, target.port)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Tgtd, Tgtd]]:
    """Two tgtds with the same target: the one that is configured, and another one."""
    with started(tmp_path / "here", HERE) as here, started(tmp_path / "there", THERE) as there:
        yield here, there


def path_by(target: Tgtd) -> PathConfig:
    return replace(path_to(target.port), portal=portal_of(target))


def connect_as_a_boot_does(
    path: PathConfig, memory: redirect.Memory, policy: Policy | None = None, expected: LunFacts | None = None
) -> tuple[boot.Attached, list[str]]:
    said: list[str] = []
    config = BootConfig("URL", INITIATOR, (), (path,), policy or Policy(), is_boot=False)
    found = boot.connect(config, path, {}, 0, said.append, expected=expected, portals=memory)
    found.sock.close()
    return found, said


# --- redirections ------------------------------------------------------------------------------------------


def test_tgt_sends_a_login_on_for_now(pair: tuple[Tgtd, Tgtd]) -> None:
    here, there = pair
    send_to(here, portal_of(there))
    path, memory = path_by(here), redirect.Memory()
    found, said = connect_as_a_boot_does(path, memory)
    assert found.session.portal == portal_of(there)
    assert said[0] == (
        f"login to {path.target_name} at {path.portal} was redirected for now to {portal_of(there)}"
    )
    send_to(here, None)  # the next login begins where the configuration says, and stays there
    found, said = connect_as_a_boot_does(path, memory, expected=found.facts)
    assert (found.session.portal, said) == (path.portal, [])


def test_tgt_sends_a_login_on_for_good(pair: tuple[Tgtd, Tgtd]) -> None:
    here, there = pair
    send_to(here, portal_of(there), "Permanent")
    path, memory = path_by(here), redirect.Memory()
    found, said = connect_as_a_boot_does(path, memory)
    assert "was redirected for good to" in said[0]
    here.stop()  # it has moved: nobody is left at the old place
    again, said = connect_as_a_boot_does(path, memory, expected=found.facts)
    assert again.session.portal == found.session.portal == portal_of(there)
    assert said == []


def test_tgt_sends_a_login_on_to_ipv6(pair: tuple[Tgtd, Tgtd]) -> None:
    send_to(pair[0], Portal("[::1]", 1))
    said: list[str] = []
    path = path_by(pair[0])
    config = BootConfig("URL", INITIATOR, (), (path,), Policy(), is_boot=False)
    with pytest.raises(NetworkError, match=r"connecting to \[::1\]:1: connection refused"):
        boot.connect(config, path, {}, 0, said.append, expected=None)
    assert said[-1].endswith("was redirected for now to [::1]:1")


def test_two_tgts_that_send_to_each_other_are_left(pair: tuple[Tgtd, Tgtd]) -> None:
    here, there = pair
    send_to(here, portal_of(there))
    send_to(there, portal_of(here))
    with pytest.raises(SessionError, match="redirected in a circle") as caught:
        connect_as_a_boot_does(path_by(here), redirect.Memory())
    way = [str(portal_of(target)) for target in (here, there, here)]
    assert caught.value.message.endswith(" -> ".join(way))
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_a_policy_that_allows_no_redirection_follows_none(pair: tuple[Tgtd, Tgtd]) -> None:
    here, there = pair
    send_to(here, portal_of(there))
    with pytest.raises(SessionError, match="more than 0 redirections"):
        connect_as_a_boot_does(path_by(here), redirect.Memory(), Policy(redirect_max=0))


# --- CHAP by policy ----------------------------------------------------------------------------------------


@contextmanager
def with_chap(directory: Path) -> Iterator[Tgtd]:
    with started(directory) as target:
        target.add_account("alice", "alice-has-a-secret")
        yield target


def test_a_policy_without_md5_gets_no_second_attempt_with_it(tmp_path: Path) -> None:
    with with_chap(tmp_path) as target:
        path = path_to(target.port, credentials=ALICE)
        with pytest.raises(LoginRefused, match=r"refused: initiator error \(class 2, detail 0\)") as caught:
            connect_as_a_boot_does(path, redirect.Memory(), Policy(chap_algorithms=("sha256", "sha1")))
        assert "trying again" not in caught.value.message


def test_a_policy_of_md5_alone_logs_in_to_tgt_at_once(tmp_path: Path) -> None:
    with with_chap(tmp_path) as target:
        path = path_to(target.port, credentials=ALICE)
        found, said = connect_as_a_boot_does(path, redirect.Memory(), Policy(chap_algorithms=("md5",)))
    assert said == [f"login: {path.target_name} at {path.portal}"]
    assert found.session.warnings == ()


@pytest.mark.parametrize("credentials", [ALICE, MUTUAL], ids=["one-way", "mutual"])
def test_doing_without_chap_is_for_the_policy_to_allow_and_loud(
    tmp_path: Path, credentials: Credentials
) -> None:
    lax = Policy(auth_required=False)
    with ExitStack() as stack:
        target = stack.enter_context(started(tmp_path / "tgtd"))
        with attached(path_to(target.port, credentials=credentials), lax) as control:
            (warning,) = control.session.warnings
            assert "NOT AUTHENTICATED: the target chose AuthMethod=None though CHAP was offered" in warning
        with pytest.raises(SessionError) as caught, attached(path_to(target.port, credentials=credentials)):
            pass
        assert caught.value.exit_status is ExitStatus.NOT_PERMITTED
        # and where the target asks for it, the same policy authenticates
        target.add_account("alice", "alice-has-a-secret")
        target.add_account("disk", "the-disk-has-another", is_outgoing=True)
        with attached(path_to(target.port, credentials=credentials), lax) as control:
            assert not any("NOT AUTHENTICATED" in warning for warning in control.session.warnings)


def test_istgt_without_chap_is_logged_in_to_only_if_the_policy_allows_it(tmp_path: Path) -> None:
    if reason := missing("istgt"):
        pytest.skip(reason)
    with Istgt(tmp_path / "istgt") as target:
        path = path_to(target.port, LUN_0, ALICE)
        with pytest.raises(SessionError) as caught, attached(path):
            pass
        assert caught.value.exit_status is ExitStatus.NOT_PERMITTED
        with attached(path, Policy(auth_required=False)) as control:
            assert "NOT AUTHENTICATED" in control.session.warnings[0]


def test_short_secrets_are_for_the_policy_to_forbid(tmp_path: Path) -> None:
    short = replace(ALICE, secret=type(ALICE.secret)(b"short"))
    with started(tmp_path) as target:
        target.add_account("alice", "short")
        path = path_to(target.port, credentials=short)
        connect_as_a_boot_does(path, redirect.Memory())
        with pytest.raises(SessionError, match=r"shorter than 12 bytes \(96 bits\)") as caught:
            connect_as_a_boot_does(path, redirect.Memory(), Policy(short_secrets=False))
        assert "short_secrets=1" in caught.value.hint


def test_a_wrong_secret_is_sent_twice_and_no_more(tmp_path: Path) -> None:
    with with_chap(tmp_path) as target:
        reached: list[Portal] = []

        def count(portal: Portal) -> socket.socket:
            reached.append(portal)
            return connect(portal, timeout_s=5)

        path, name = path_to(target.port, credentials=WRONG), isid.compute(INITIATOR, "", 0)

        def use(sock: socket.socket, portal: Portal) -> object:
            return connection.login(sock, path, INITIATOR, Policy(), name, portal)

        with pytest.raises(LoginRefused, match="authentication failure"):
            redirect.follow(path.portal, count, use)
        assert len(reached) == 2


# --- sessions of others ------------------------------------------------------------------------------------


def test_the_firmwares_session_of_the_same_name_may_stand(tmp_path: Path) -> None:
    # iPXE leaves its session as it is; it has an ISID of its own.
    with started(tmp_path) as target, attached(path_to(target.port), lane=99) as firmware:
        found, _ = connect_as_a_boot_does(path_to(target.port), redirect.Memory())
        assert found.session.isid != firmware.session.isid
        firmware.ping()
