"""
The items of UNH-IOL's CHAP Test Suite for iSCSI Initiators, version 3.1, a row each.

The numbers and titles are the suite's; what is done and expected follows from RFC 7143 §9.2.1, §12.1.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from isboot.errors import ExitStatus, SessionError
from isboot.session import chap
from isboot.session.pdu import LoginRequest
from isboot.values import Credentials, NegotiatedSession, Policy
from tests.fakes.login import Account
from tests.fakes.target import FakeTarget
from tests.session.conformance import Item, Met, answer, keys_of, run, usual
from tests.session.sessions import QUICK, connected, log_in, path_to
from tests.session.target_side import ACCOUNT, ALICE, MUTUAL

CHALLENGE, PROOF = 1, 2  #: which response carries it
BIG = bytes(range(256)) * 4  #: 1024 bytes


def one_way(number: str, title: str, *texts: str, account: Account = ACCOUNT, **more: Any) -> Item:
    """Give a row about the challenge: what the target says instead of it."""
    script = answer(*texts, skip=CHALLENGE) if texts else usual
    return Item(number, title, script, {"account": account}, ALICE, **more)


def mutual(
    number: str, title: str, *texts: str, account: Account = ACCOUNT, credentials: Credentials = MUTUAL,
    **more: Any,
) -> Item:  # fmt: skip
    """Give a row about the target's proof: what it says instead of it."""
    script = answer(*texts, skip=PROOF) if texts else usual
    more = ({"exit_status": ExitStatus.NOT_PERMITTED} if "refused" in more else {}) | more
    return Item(number, title, script, {"account": account}, credentials, **more)


def ours(met: Met) -> dict[str, str]:
    """Give what we said to the challenge."""
    return met.said(PROOF)


def named(name: str) -> dict[str, Any]:
    return {
        "account": replace(ACCOUNT, reverse_name=name),
        "credentials": replace(MUTUAL, reverse_name=name),
    }


ITEMS = (
    *(
        one_way("1.1", f"CHAP_A valid value {row.number}", account=replace(ACCOUNT, algorithms=(row.number,)),
                check=lambda met, row=row: len(chap.decode_binary("CHAP_R", ours(met)["CHAP_R"]))
                == row.digest_bytes)
        for row in chap.ALGORITHMS
    ),
    one_way("1.2.1", "CHAP_A invalid numeric value", "CHAP_A=9", refused="CHAP_A='9', which was not among"),
    one_way("1.2.1", "CHAP_A that the policy forbids", "CHAP_A=5", refused="CHAP_A='5', which was not among",
            policy=Policy(login_timeout_ms=2000, chap_algorithms=("sha256",))),
    one_way("1.2.2", "CHAP_A invalid non-numeric value", "CHAP_A=MD5", refused="CHAP_A='MD5', which was not"),
    one_way("1.2.2", "CHAP_A a list", "CHAP_A=8,5", refused="CHAP_A='8,5', which was not among"),
    Item("1.3", "CHAP_A out of order", answer("CHAP_A=5"), {"account": ACCOUNT}, ALICE,
         refused="CHAP_A out of order: the target is to agree to CHAP"),
    *(
        one_way("2.1", f"CHAP_I valid value {value}", account=replace(ACCOUNT, identifier=value))
        for value in (0, 1, 255)
    ),
    *(
        one_way("2.2", f"CHAP_I invalid value {value}", f"CHAP_I={value}", refused="CHAP_I=")
        for value in ("256", "-1", "x", "", "0x100")
    ),
    mutual("2.3", "CHAP_I out of order", "CHAP_I=5", refused="CHAP_I out of order",
           exit_status=ExitStatus.MALFORMED),
    mutual("2.6", "CHAP_I different", account=replace(ACCOUNT, identifier=255),
           check=lambda met: ours(met)["CHAP_I"] not in ("255", "")),
    one_way("3.1", "CHAP_C big value", account=replace(ACCOUNT, challenge=BIG)),
    one_way("3.1", "CHAP_C big value in base64",
            account=replace(ACCOUNT, challenge=BIG[::-1], is_base64=True)),
    one_way("3.2", "CHAP_C small value", account=replace(ACCOUNT, challenge=b"\x07")),
    one_way("3.3", "CHAP_C too big value", account=replace(ACCOUNT, challenge=BIG + b"x"),
            refused="CHAP_C of 2050 digits, more than 1024 bytes"),
    one_way("3.3", "CHAP_C too big value in base64", refused="CHAP_C of 1025 bytes, outside 1..1024",
            account=replace(ACCOUNT, challenge=BIG + b"x", is_base64=True)),
    one_way("3.4", "CHAP_C too small value", "CHAP_C=0x", refused="CHAP_C of 0 bytes"),
    one_way("3.4", "CHAP_C too small value in base64", "CHAP_C=0b", refused="CHAP_C of 0 bytes"),
    one_way("3.4", "CHAP_C neither hexadecimal nor base64", "CHAP_C=12345", refused="neither hexadecimal"),
    Item("3.5", "CHAP_C out of order", answer("CHAP_C=0x0102"), {"account": ACCOUNT}, ALICE,
         refused="CHAP_C out of order: the target is to agree to CHAP"),
    mutual("3.7", "CHAP_C reflect", account=replace(ACCOUNT, challenge=b"the-target's-own"),
           check=lambda met: chap.decode_binary("CHAP_C", ours(met)["CHAP_C"]) != b"the-target's-own"),
    mutual("4.1", "CHAP_N valid value", check=lambda met: ours(met)["CHAP_N"] == "alice"),
    mutual("4.2", "CHAP_N big value", **named("n" * 255)),
    mutual("4.3", "CHAP_N small value", **named("n")),
    mutual("4.4", "CHAP_N too big value", **named("n" * 256), refused="CHAP_N of 256 bytes, outside 1..255",
           exit_status=ExitStatus.MALFORMED),
    mutual("4.4", "CHAP_N of no byte", "CHAP_N=", refused="CHAP_N of 0 bytes, outside 1..255",
           exit_status=ExitStatus.MALFORMED),
    one_way("4.5", "CHAP_N out of order", "CHAP_N=disk", refused="CHAP_N out of order: the target is"),
    mutual("4.6", "CHAP_N reflected", "CHAP_N=alice", refused="calls itself 'alice' in CHAP"),
    mutual("4.6", "CHAP_N reflected where any name is taken", "CHAP_N=alice",
           refused="our own CHAP name back", credentials=replace(MUTUAL, reverse_name="")),
    mutual("4.7", "CHAP_N same", **named("disk"), check=lambda met: ours(met)["CHAP_N"] == "alice"),
    mutual("4.8", "CHAP_N different", "CHAP_N=other", refused="calls itself 'other' in CHAP"),
    mutual("5.1", "CHAP_R invalid value", account=replace(ACCOUNT, reverse_secret=b"not-the-disks-secret"),
           refused="does not know the reverse CHAP secret"),
    mutual("5.1", "CHAP_R of no form", "CHAP_R=zz", refused="CHAP_R='zz', neither hexadecimal",
           exit_status=ExitStatus.MALFORMED),
    mutual("5.2", "CHAP_R too big value", "CHAP_R=0x" + "5a" * 33, refused="proof has 33 bytes, one by"),
    mutual("5.2", "CHAP_R far too big value", "CHAP_R=0x" + "5a" * 1025, refused="CHAP_R of 2050 digits",
           exit_status=ExitStatus.MALFORMED),
    mutual("5.3", "CHAP_R too small value", "CHAP_R=0x5a", refused="the target's proof has 1 bytes"),
    mutual("5.3", "CHAP_R of no byte", "CHAP_R=0x", refused="CHAP_R of 0 bytes",
           exit_status=ExitStatus.MALFORMED),
    one_way("5.4", "CHAP_R out of order", "CHAP_R=0x5a", refused="CHAP_R out of order: the target is"),
)  # fmt: skip


@pytest.mark.parametrize("item", ITEMS, ids=str)
def test_chap_item(item: Item) -> None:
    run(item)


# --- items about two logins --------------------------------------------------------------------------------


@contextmanager
def two_logins(
    first: Account, second: Account, credentials: Credentials, *, is_parallel: bool
) -> Iterator[tuple[NegotiatedSession | SessionError, list[dict[str, str]]]]:
    """Log in twice; give what came of the second, and what we answered to each challenge."""
    with FakeTarget(account=first) as target, ExitStack() as stack:
        path = path_to(target, credentials=credentials)
        sock = stack.enter_context(connected(target))
        log_in(sock, path)
        if not is_parallel:
            sock.close()
        target.account = second
        other = stack.enter_context(connected(target))
        came: NegotiatedSession | SessionError
        try:
            came = log_in(other, path, QUICK, bytes([0x80, 0, 0, 0, 0, 2]))
        except SessionError as error:
            came = error
        said = [keys_of(request) for request in target.received(LoginRequest)]
        yield came, [texts for texts in said if "CHAP_R" in texts]


@pytest.mark.parametrize("is_parallel", [True, False], ids=["3.6.1-parallel", "3.6.2-serial"])
def test_chap_item_a_challenge_that_comes_twice_is_told(is_parallel: bool) -> None:
    account = replace(ACCOUNT, challenge=b"constant" + bytes([is_parallel]))
    with two_logins(account, account, ALICE, is_parallel=is_parallel) as (session, _):
        assert isinstance(session, NegotiatedSession)
        assert any("CHAP challenge it had sent before" in warning for warning in session.warnings)


@pytest.mark.parametrize("is_parallel", [True, False], ids=["3.6.3-parallel", "3.6.4-serial"])
def test_chap_item_our_challenges_are_never_the_same(is_parallel: bool) -> None:
    with two_logins(ACCOUNT, ACCOUNT, MUTUAL, is_parallel=is_parallel) as (_, said):
        assert said[0]["CHAP_C"] != said[1]["CHAP_C"]


@pytest.mark.parametrize("is_parallel", [True, False], ids=["3.8-parallel", "3.8-serial"])
def test_chap_item_a_challenge_of_ours_is_not_answered(is_parallel: bool) -> None:
    with FakeTarget(account=ACCOUNT) as target, ExitStack() as stack:
        path = path_to(target, credentials=MUTUAL)
        sock = stack.enter_context(connected(target))
        log_in(sock, path)
        if not is_parallel:
            sock.close()
        sent = next(
            texts["CHAP_C"] for texts in map(keys_of, target.received(LoginRequest)) if "CHAP_C" in texts
        )
        answer(f"CHAP_C={sent}", skip=CHALLENGE)(target)
        count = len(target.received(LoginRequest))
        other = stack.enter_context(connected(target))
        with pytest.raises(SessionError, match="challenge of ours back") as caught:
            log_in(other, path, QUICK, bytes([0x80, 0, 0, 0, 0, 2]))
        assert caught.value.exit_status is ExitStatus.NOT_PERMITTED
        assert all("CHAP_R" not in keys_of(request) for request in target.received(LoginRequest)[count:])


@pytest.mark.parametrize("number", ["2.4-same", "2.5-reflected"])
def test_chap_item_an_identifier_may_come_again(number: str) -> None:
    # It is no secret and one byte wide; what must not come again is the challenge.
    first = replace(ACCOUNT, identifier=9)
    with two_logins(first, first, MUTUAL, is_parallel=True) as (session, said):
        assert isinstance(session, NegotiatedSession)
        reflected = replace(ACCOUNT, identifier=int(said[0]["CHAP_I"]))
    if number == "2.5-reflected":
        with two_logins(first, reflected, MUTUAL, is_parallel=True) as (session, said):
            assert isinstance(session, NegotiatedSession)
            assert said[1]["CHAP_I"] != str(reflected.identifier)


def test_chap_item_the_secret_is_never_on_the_wire() -> None:
    with two_logins(ACCOUNT, ACCOUNT, MUTUAL, is_parallel=True) as (_, said):
        wire = repr(said)
    for secret in (MUTUAL.secret.reveal(), MUTUAL.reverse_secret.reveal()):
        assert secret.decode() not in wire
        assert secret.hex() not in wire
