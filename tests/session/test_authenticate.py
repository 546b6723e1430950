"""CHAP within the login: what is accepted, and above all what is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isboot.errors import ExitStatus, SessionError
from isboot.session import chap, keys
from isboot.session.authenticate import AlgorithmsRefused
from isboot.session.login import Login
from isboot.session.pdu import LoginRequest, ProtocolError
from isboot.session.status import LoginRefused
from isboot.values import Credentials, Secret
from tests.fakes.login import Account
from tests.session.target_side import ACCOUNT, ALICE, MUTUAL, parameters, respond, talk, target_side

MD5 = chap.MD5


def said(request: LoginRequest | None) -> dict[str, str]:
    assert request is not None
    return dict(keys.decode_text(request.data))


def challenged(credentials: Credentials = ALICE) -> Login:
    """Give a machine that waits for the target's challenge."""
    machine = Login(parameters(credentials=credentials, algorithms=(chap.MD5,)))
    machine.first()
    assert said(machine.next(respond("AuthMethod=CHAP"))) == {"CHAP_A": "5"}
    return machine


def answered(credentials: Credentials = MUTUAL) -> tuple[Login, dict[str, str]]:
    """Give a machine that has answered the target's challenge, and what it said."""
    machine = challenged(credentials)
    return machine, said(machine.next(respond("CHAP_A=5 CHAP_I=9 CHAP_C=0x" + "5a" * 16)))


def proof(sent: dict[str, str], secret: bytes = b"the-disk-has-another") -> str:
    challenge = chap.decode_binary("CHAP_C", sent["CHAP_C"])
    return chap.encode_binary(chap.respond(MD5, int(sent["CHAP_I"]), secret, challenge))


@pytest.mark.parametrize("credentials", [ALICE, MUTUAL], ids=["one-way", "mutual"])
@pytest.mark.parametrize("numbers", [(5,), (6,), (7,), (8,), (5, 6, 7, 8)])
@pytest.mark.parametrize("is_base64", [False, True], ids=["hex", "base64"])
def test_both_sides_prove_themselves(
    credentials: Credentials, numbers: tuple[int, ...], is_base64: bool
) -> None:
    side = target_side(replace(ACCOUNT, algorithms=numbers, is_base64=is_base64))
    talk(Login(parameters(credentials=credentials)), side)
    assert side.is_authenticated


def test_the_strongest_algorithm_is_offered_first() -> None:
    machine = Login(parameters(credentials=ALICE))
    assert said(machine.first())["AuthMethod"] == "CHAP"
    assert said(machine.next(respond("AuthMethod=CHAP"))) == {"CHAP_A": "8,7,6,5"}


def test_a_wrong_secret_is_refused_by_the_target() -> None:
    side = target_side(Account("alice", b"something-else-entirely"))
    with pytest.raises(LoginRefused, match="authentication failure") as caught:
        talk(Login(parameters(credentials=ALICE)), side)
    assert caught.value.exit_status is ExitStatus.NOT_PERMITTED


@pytest.mark.parametrize(
    ("credentials", "complaint"),
    [
        (Credentials("alice", Secret(b"")), "a CHAP name but an empty secret"),
        (Credentials("a", Secret(b"same-for-both"), "b", Secret(b"same-for-both")), "the same secret"),
        (Credentials("", Secret(b"twelve-bytes")), "the CHAP name has 0 bytes"),
        (Credentials("n" * 256, Secret(b"twelve-bytes")), "the CHAP name has 256 bytes"),
        (Credentials("a\0AuthMethod=None", Secret(b"twelve-bytes")), "and no NUL are legal"),
    ],
)
def test_credentials_that_cannot_work_are_refused_before_a_byte_is_sent(
    credentials: Credentials, complaint: str
) -> None:
    with pytest.raises(SessionError, match=complaint) as caught:
        Login(parameters(credentials=credentials)).first()
    assert "same-for-both" not in caught.value.message + caught.value.hint


SHORT = Secret(b"elevenbytes")


@pytest.mark.parametrize(
    "credentials", [replace(ALICE, secret=SHORT), replace(MUTUAL, reverse_secret=SHORT)], ids=["ours", "its"]
)
def test_a_short_secret_is_used_unless_the_policy_forbids_it(credentials: Credentials) -> None:
    account = Account(
        "alice", credentials.secret.reveal(), "disk", credentials.reverse_secret.reveal() or b"unused"
    )
    talk(Login(parameters(credentials=credentials)), target_side(account))
    with pytest.raises(SessionError, match=r"a CHAP secret is shorter than 12 bytes \(96 bits\)") as caught:
        Login(parameters(credentials=credentials, takes_short_secrets=False)).first()
    assert caught.value.exit_status is ExitStatus.NOT_PERMITTED
    assert "elevenbytes" not in caught.value.message + caught.value.hint


def test_a_secret_of_96_bits_is_not_short() -> None:
    for credentials in (replace(ALICE, secret=Secret(b"twelve-bytes")), ALICE, MUTUAL):
        Login(parameters(credentials=credentials, takes_short_secrets=False)).first()


@pytest.mark.parametrize("credentials", [None, ALICE], ids=["none", "chap"])
def test_keys_that_have_no_place_in_the_security_stage_are_answered(credentials: Credentials | None) -> None:
    machine = Login(parameters(credentials=credentials))
    machine.first()
    text = "MaxBurstLength=512 IFMarker=Yes Elephant=1 Mouse=NotUnderstood HeaderDigest=Reject"
    request = machine.next(respond(text + " InitiatorName=iqn.x TargetAlias=disk SessionType=Normal"))
    assert said(request) == {"MaxBurstLength": "Irrelevant", "IFMarker": "No", "Elephant": "NotUnderstood"}


@pytest.mark.parametrize(
    "answer", ["AuthMethod=None", "AuthMethod=Reject", "AuthMethod=KRB5", "AuthMethod=Irrelevant"]
)
def test_a_downgrade_is_a_hard_stop(answer: str) -> None:
    machine = Login(parameters(credentials=ALICE))
    machine.first()
    with pytest.raises(SessionError, match="CHAP was asked for, the target answers") as caught:
        machine.next(respond(answer))
    assert caught.value.exit_status is ExitStatus.NOT_PERMITTED


def test_the_stage_may_not_end_before_the_target_proved_itself() -> None:
    machine, _ = answered()
    with pytest.raises(SessionError, match="did not prove itself"):
        machine.next(respond("", transit=True, next_stage=1))


def test_a_target_that_wants_chap_is_named_to_who_has_none() -> None:
    machine = Login(parameters())
    machine.first()
    with pytest.raises(SessionError, match="AuthMethod='CHAP'") as caught:
        machine.next(respond("AuthMethod=CHAP"))
    assert "give a CHAP name" in caught.value.hint


def test_a_right_proof_ends_the_stage() -> None:
    machine, sent = answered()
    request = machine.next(respond(f"CHAP_N=disk CHAP_R={proof(sent)}", transit=True, next_stage=1))
    assert "MaxBurstLength" in said(request)


def test_a_wrong_proof_is_refused() -> None:
    machine, sent = answered()
    with pytest.raises(SessionError, match="does not know the reverse CHAP secret"):
        machine.next(respond(f"CHAP_N=disk CHAP_R={proof(sent, b'guess')}", transit=True, next_stage=1))


def test_our_own_response_is_no_proof() -> None:
    machine, sent = answered()
    with pytest.raises(SessionError, match="our own CHAP response back"):
        machine.next(respond(f"CHAP_N=disk CHAP_R={sent['CHAP_R']}", transit=True, next_stage=1))


def test_another_name_of_the_target_is_refused() -> None:
    machine, sent = answered()
    with pytest.raises(SessionError, match="calls itself 'mallory' in CHAP, expected 'disk'"):
        machine.next(respond(f"CHAP_N=mallory CHAP_R={proof(sent)}", transit=True, next_stage=1))


def test_our_own_name_is_no_name_of_the_target() -> None:
    machine, sent = answered(replace(MUTUAL, reverse_name=""))
    with pytest.raises(SessionError, match="our own CHAP name"):
        machine.next(respond(f"CHAP_N=alice CHAP_R={proof(sent)}", transit=True, next_stage=1))


def test_a_challenge_of_ours_is_not_answered() -> None:
    _, sent = answered()
    with pytest.raises(SessionError, match="challenge of ours back"):
        challenged().next(respond(f"CHAP_A=5 CHAP_I=1 CHAP_C={sent['CHAP_C']}"))


def test_identifier_and_challenge_are_fresh_and_not_the_targets() -> None:
    challenges = set()
    for _ in range(10):
        _, sent = answered()
        assert sent["CHAP_I"] != "9"
        assert sent["CHAP_C"] != "0x" + "5a" * 16
        challenges.add(sent["CHAP_C"])
    assert len(challenges) == 10


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("CHAP_A=7 CHAP_I=1 CHAP_C=0x01", "CHAP_A='7', which was not among those offered"),
        ("CHAP_A=5 CHAP_I=256 CHAP_C=0x01", "CHAP_I=256"),
        ("CHAP_A=5 CHAP_I=x CHAP_C=0x01", "CHAP_I='x'"),
        ("CHAP_A=5 CHAP_I=1 CHAP_C=0x" + "00" * 1025, "CHAP_C of 2050 digits"),
        ("CHAP_A=5 CHAP_I=1 CHAP_C=0x", "CHAP_C of 0 bytes"),
        ("CHAP_A=5 CHAP_I=1", "without CHAP_C"),
        ("CHAP_A=5", "without CHAP_I, CHAP_C"),
        ("CHAP_N=disk CHAP_R=0x00", "CHAP_N, CHAP_R out of order"),
        ("AuthMethod=CHAP", "a second time"),
    ],
)
def test_a_challenge_out_of_form_is_refused_by_name(text: str, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        challenged().next(respond(text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("CHAP_R=0x00", "without CHAP_N"),
        ("CHAP_N=disk", "without CHAP_R"),
        ("CHAP_N=disk CHAP_R=zz", "CHAP_R='zz'"),
        ("CHAP_A=5 CHAP_I=1 CHAP_C=0x01", "out of order"),
    ],
)
def test_a_proof_out_of_form_is_refused_by_name(text: str, complaint: str) -> None:
    machine, _ = answered()
    with pytest.raises(ProtocolError, match=complaint):
        machine.next(respond(text, transit=True, next_stage=1))


def test_proof_that_nobody_asked_for_is_refused() -> None:
    machine, _ = answered(ALICE)
    with pytest.raises(ProtocolError, match="out of order"):
        machine.next(respond("CHAP_N=disk CHAP_R=0x00", transit=True, next_stage=1))


def test_algorithms_the_target_refuses_are_named() -> None:
    machine = Login(parameters(credentials=ALICE))
    machine.first()
    machine.next(respond("AuthMethod=CHAP"))
    with pytest.raises(AlgorithmsRefused, match="none of the CHAP algorithms SHA3-256, SHA-256, SHA-1, MD5"):
        machine.next(respond("CHAP_A=Reject"))
