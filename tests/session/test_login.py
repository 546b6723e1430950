"""The login as a state machine, against a target's side without a socket between them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import ExitStatus, SessionError
from isboot.session import keys, pdu
from isboot.session.login import FULL_FEATURE, OPERATIONAL, SECURITY, Login, offers_of
from isboot.session.pdu import LoginRequest, LoginResponse, ProtocolError
from isboot.session.status import LoginRefused
from isboot.values import Policy
from tests.session.target_side import (
    ACCOUNT,
    ALICE,
    ISID,
    MUTUAL,
    TARGET,
    parameters,
    respond,
    talk,
    target_side,
)


def said(request: LoginRequest) -> dict[str, str]:
    return dict(keys.decode_text(request.data))


def at_operational_stage() -> Login:
    machine = Login(parameters())
    machine.first()
    machine.next(respond("AuthMethod=None", transit=True, current_stage=SECURITY, next_stage=OPERATIONAL))
    return machine


def test_login_without_authentication_takes_two_requests() -> None:
    outcome, requests, _ = talk(Login(parameters()), target_side())
    first, second = requests
    assert said(first) == {
        "InitiatorName": "iqn.2026-11.org.example:host", "TargetName": TARGET, "SessionType": "Normal",
        "AuthMethod": "None",
    }  # fmt: skip
    assert (first.transit, first.current_stage, first.next_stage) == (True, SECURITY, OPERATIONAL)
    assert (second.transit, second.current_stage, second.next_stage) == (True, OPERATIONAL, FULL_FEATURE)
    assert said(second) == dict(parameters().offers)
    assert all(request.immediate for request in requests)
    assert outcome.tsih == 7
    assert outcome.target_portal_group_tag == 1


def test_numbers_of_the_session_follow_the_login() -> None:
    outcome, requests, responses = talk(Login(parameters(cmd_sn=0xFFFFFFFF)), target_side())
    assert {request.cmd_sn for request in requests} == {0xFFFFFFFF}  # RFC 7143 §11.12.8: login does not count
    assert outcome.cmd_sn == 0xFFFFFFFF
    assert outcome.exp_stat_sn == responses[-1].stat_sn + 1
    assert requests[1].exp_stat_sn == responses[0].stat_sn + 1


def test_every_key_has_a_value_of_its_type_afterwards() -> None:
    outcome, _, _ = talk(Login(parameters()), target_side(first_burst_length=512, initial_r2t=True))
    assert set(outcome.values) == set(keys.BY_NAME)
    assert outcome.values["FirstBurstLength"] == 512
    assert outcome.values["InitialR2T"] is True
    assert outcome.values["MaxRecvDataSegmentLength"] == 65536
    assert outcome.values["DefaultTime2Wait"] == 2


def test_policy_decides_what_is_offered() -> None:
    policy = Policy(max_io_bytes=4 << 20, header_digest=True, initial_r2t=True, immediate_data=False)
    offers = offers_of(policy)
    assert offers["MaxRecvDataSegmentLength"] == offers["MaxBurstLength"] == str(4 << 20)
    assert (offers["HeaderDigest"], offers["DataDigest"]) == ("CRC32C", "None,CRC32C")
    assert (offers["InitialR2T"], offers["ImmediateData"]) == ("Yes", "No")
    short = offers_of(Policy(max_recv_data_segment_length_bytes=512))
    assert (short["MaxRecvDataSegmentLength"], short["MaxBurstLength"]) == ("512", str(1 << 20))


def test_discovery_offers_only_what_means_something_there() -> None:
    machine = Login(parameters(target_name="", offers=offers_of(Policy(), is_discovery=True)))
    _, requests, _ = talk(machine, target_side())
    assert said(requests[0])["SessionType"] == "Discovery"
    assert "TargetName" not in said(requests[0])
    assert set(said(requests[1])) == {
        "HeaderDigest", "DataDigest", "MaxRecvDataSegmentLength", "DefaultTime2Wait", "DefaultTime2Retain",
        "ErrorRecoveryLevel",
    }  # fmt: skip


@pytest.mark.parametrize("forgets_transit", [False, True])
@pytest.mark.parametrize("size", [32, 100, 8192])
def test_a_text_split_over_pdus_arrives_whole_both_ways(size: int, forgets_transit: bool) -> None:
    machine = Login(parameters(max_segment_bytes=size, credentials=MUTUAL))
    side = target_side(ACCOUNT, segment_bytes=size, forgets_transit=forgets_transit)
    outcome, requests, responses = talk(machine, side)
    assert outcome.values["MaxBurstLength"] == 262144
    assert all(len(message.data) <= size for message in [*requests, *responses])
    # RFC 7143 §6.2: C and T never together; a continued text is answered by an empty one.
    assert not any(message.is_continued and message.transit for message in [*requests, *responses])
    assert any(request.is_continued for request in requests) is (size < 200)
    for request, response in zip(requests, responses, strict=True):
        assert not (request.is_continued and response.data)
    for response, request in zip(responses, requests[1:], strict=False):
        assert not (response.is_continued and request.data)


def test_digest_the_policy_wants_is_a_must() -> None:
    policy = Policy(data_digest=True)
    machine = Login(parameters(policy, required=frozenset(["DataDigest"])))
    with pytest.raises(SessionError, match="DataDigest=CRC32C was asked for, the target answers") as caught:
        talk(machine, target_side(allows_digests=False))
    assert caught.value.exit_status is ExitStatus.UNAVAILABLE
    machine = Login(parameters(policy, required=frozenset(["DataDigest"])))
    assert talk(machine, target_side())[0].values["DataDigest"] == "CRC32C"


@pytest.mark.parametrize("answer", ["DataDigest=NotUnderstood", "DataDigest=Irrelevant", ""])
def test_digest_the_policy_wants_is_a_must_however_it_is_refused(answer: str) -> None:
    machine = Login(parameters(Policy(data_digest=True), required=frozenset(["DataDigest"])))
    machine.first()
    machine.next(respond("", transit=True, current_stage=0, next_stage=1))
    with pytest.raises(SessionError, match="DataDigest=CRC32C was asked for"):
        machine.next(respond(answer, transit=True, current_stage=1, next_stage=3, tsih=1))


def test_keys_nobody_knows_are_not_understood() -> None:
    machine = at_operational_stage()
    request = machine.next(respond("X-com.example.magic=1 TargetAlias=disk", current_stage=1))
    assert request is not None
    assert said(request) == {"X-com.example.magic": "NotUnderstood"}
    # and its own NotUnderstood is not answered again
    request = machine.next(respond("X-other=NotUnderstood", current_stage=1))
    assert request is not None
    assert said(request) == {}


def test_keys_of_the_old_standard_are_answered_by_the_new_one() -> None:
    request = at_operational_stage().next(
        respond("IFMarker=Yes OFMarker=No IFMarkInt=2048~8192 OFMarkInt=1~2", current_stage=1)
    )
    assert request is not None  # RFC 7143 §13.25: never NotUnderstood
    assert said(request) == {"IFMarker": "No", "OFMarker": "No", "IFMarkInt": "Reject", "OFMarkInt": "Reject"}


@pytest.mark.parametrize(
    ("offer", "is_late"), [("TaskReporting=FastAbort,RFC3720", True), ("TaskReporting=RFC3720", False)]
)
def test_an_offer_in_the_last_response_is_taken_only_if_it_needs_no_answer(offer: str, is_late: bool) -> None:
    last = respond(offer, transit=True, current_stage=1, next_stage=3, tsih=1)
    if is_late:
        with pytest.raises(ProtocolError, match="in the last PDU of the login, too late to answer"):
            at_operational_stage().next(last)
    else:
        machine = at_operational_stage()
        assert machine.next(last) is None
        assert machine.outcome is not None
        assert machine.outcome.values["TaskReporting"] == "RFC3720"


@pytest.mark.parametrize("text", ["AuthMethod=None", "CHAP_A=5", "CHAP_R=0x00"])
def test_security_keys_after_their_stage_are_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="after the security stage"):
        at_operational_stage().next(respond(text, current_stage=1))


def test_offers_of_the_target_in_a_discovery_session_are_answered() -> None:
    offers = offers_of(Policy(), is_discovery=True)
    machine = Login(parameters(target_name="", offers=offers))
    machine.first()
    machine.next(respond("", transit=True, current_stage=0, next_stage=1))
    request = machine.next(respond("MaxConnections=4 DefaultTime2Wait=7", current_stage=1))
    assert request is not None
    assert said(request) == {"MaxConnections": "Irrelevant"}  # and Time2Wait answered our own offer


@pytest.mark.parametrize(
    ("text", "fields", "complaint"),
    [
        ("MaxBurstLength=99999999", {}, "MaxBurstLength=99999999, which is outside 512"),
        ("MaxRecvDataSegmentLength=1", {}, "MaxRecvDataSegmentLength=1, which is outside 512"),
        ("HeaderDigest=X-magic", {}, "HeaderDigest='X-magic', which was not among those offered"),
        ("ImmediateData=Maybe", {}, "ImmediateData='Maybe' where Yes or No was due"),
        ("TargetPortalGroupTag=70000", {}, "TargetPortalGroupTag=70000, which is outside"),
        ("", {"version_active": 1}, "version 1"),
        ("", {"current_stage": 0}, "stage 0 during LoginOperationalNegotiation"),
        ("", {"transit": True, "is_continued": True}, r"both continued \(C\)"),
        ("", {"transit": True, "next_stage": 1}, "transit to stage 1"),
        ("", {"initiator_task_tag": 5}, "task 0x5"),
        ("", {"isid": bytes(6)}, "ISID 000000000000 where 800102030405 is ours"),
        ("", {"transit": True, "next_stage": 3}, "TSIH 0"),
        ("A", {}, "key=value"),
    ],
)
def test_a_target_that_breaks_the_standard_is_told_by_key_and_value(
    text: str, fields: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        at_operational_stage().next(respond(text, **{"current_stage": 1, **fields}))


def test_a_key_negotiated_twice_is_refused() -> None:
    machine = at_operational_stage()
    machine.next(respond("MaxBurstLength=262144", current_stage=1))
    with pytest.raises(ProtocolError, match="MaxBurstLength='131072', a second negotiation"):
        machine.next(respond("MaxBurstLength=131072", current_stage=1))


def test_a_stage_may_not_end_before_we_asked_for_it() -> None:
    machine = Login(parameters(credentials=ALICE))
    machine.first()
    with pytest.raises(ProtocolError, match="did not ask"):
        machine.next(respond("AuthMethod=CHAP", transit=True, next_stage=1))


def test_an_endless_negotiation_ends() -> None:
    machine = at_operational_stage()
    for _ in range(62):
        assert machine.next(respond("", current_stage=1)) is not None
    with pytest.raises(ProtocolError, match="64 rounds"):
        machine.next(respond("", current_stage=1))


def test_an_endless_text_ends() -> None:
    machine = at_operational_stage()
    part = LoginResponse(isid=ISID, current_stage=1, is_continued=True, data=b"A=" + b"x" * 8190)
    for _ in range(8):
        assert machine.next(part) is not None
    with pytest.raises(ProtocolError, match="65536 bytes"):
        machine.next(part)


def test_an_answer_to_half_a_text_is_refused() -> None:
    machine = Login(parameters(max_segment_bytes=16))
    machine.first()
    with pytest.raises(ProtocolError, match="not complete"):
        machine.next(respond("AuthMethod=None"))


def test_a_continued_response_to_half_a_text_gets_the_rest_first() -> None:
    machine = Login(parameters(max_segment_bytes=64))
    text, request = b"", machine.first()
    # An empty request without C would say that our text ends where it was cut.
    while request.is_continued:
        text += request.data
        following = machine.next(respond("", is_continued=True))
        assert following is not None
        assert following.data
        request = following
    text += request.data
    assert dict(keys.decode_text(text))["AuthMethod"] == "None"
    assert request.transit
    fetched = machine.next(respond("TargetAlias=disk", is_continued=True))
    assert fetched is not None
    assert (fetched.data, fetched.is_continued, fetched.transit) == (b"", False, False)


def test_a_target_that_is_lax_with_its_answers_is_logged_in_to_with_a_warning() -> None:
    machine = at_operational_stage()
    text = "MaxBurstLength=9999999 DefaultTime2Wait=0"
    assert machine.next(respond(text, transit=True, current_stage=1, next_stage=3, tsih=1, stat_sn=1)) is None
    outcome = machine.outcome
    assert outcome is not None
    assert (outcome.values["MaxBurstLength"], outcome.values["DefaultTime2Wait"]) == (1048576, 2)
    doing = machine.parameters.doing
    assert outcome.warnings == (
        f"{doing}: the target answers MaxBurstLength=9999999 to an offer of 1048576: 1048576 is used",
        f"{doing}: the target answers DefaultTime2Wait=0 to an offer of 2: 2 is used",
    )


@pytest.mark.parametrize(("first", "second"), [(7, 8), (0xFFFFFFFF, 0), (7, 7), (7, 20)])
def test_status_numbers_that_do_not_follow_each_other_are_a_warning(first: int, second: int) -> None:
    machine = Login(parameters())
    machine.first()
    machine.next(respond("", transit=True, current_stage=0, next_stage=1, stat_sn=first))
    machine.next(respond("", transit=True, current_stage=1, next_stage=3, tsih=1, stat_sn=second))
    assert machine.outcome is not None
    assert machine.outcome.exp_stat_sn == second + 1
    due = (first + 1) & 0xFFFFFFFF
    warning = f"{machine.parameters.doing}: a Login Response with StatSN {second} where {due} was due"
    assert machine.outcome.warnings == (() if second == due else (warning,))


def test_a_refusal_counts_whatever_else_is_in_the_response() -> None:
    machine = at_operational_stage()
    with pytest.raises(LoginRefused, match="target not found"):
        machine.next(LoginResponse(status_class=2, status_detail=3, current_stage=2, data=b"\xff\xfe"))


@dataclass(frozen=True)
class Mutation:
    """What is done to one response of a login: bytes of it changed, its text replaced, its flags turned."""

    step: int
    edits: list[tuple[int, int]]
    text: bytes | None
    is_continued: bool | None
    transit: bool | None

    def apply(self, response: LoginResponse) -> LoginResponse:
        wire = bytearray(pdu.encode(replace(response, data=b"")))
        text = bytearray(response.data if self.text is None else self.text)
        for place, value in self.edits:
            if place < 40:
                wire[8 + place] = value  # behind the lengths
            elif text:
                text[(place - 40) % len(text)] = value
        changes = {"is_continued": self.is_continued, "transit": self.transit}
        mutant = pdu.decode(bytes(wire))
        assert isinstance(mutant, LoginResponse)
        set_values = {name: value for name, value in changes.items() if value is not None}
        return replace(mutant, data=bytes(text), **set_values)  # type: ignore[arg-type]


fragments = st.sampled_from(
    [b"CHAP_A=", b"CHAP_I=", b"CHAP_C=0x", b"CHAP_N=", b"CHAP_R=0b", b"AuthMethod=", b"MaxBurstLength=",
     b"HeaderDigest=", b"InitialR2T=", b"TargetAddress=", b"5", b"None", b"CHAP", b"Yes", b"Reject", b"\0",
     b",", b"="]
)  # fmt: skip
texts = st.lists(fragments | st.binary(max_size=5), max_size=12).map(b"".join)
flags = st.sampled_from([None, None, True, False])
edits = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4)
mutations = st.builds(Mutation, st.integers(0, 4), edits, st.none() | texts, flags, flags)


@given(mutations)
def test_no_mutation_of_a_response_gives_a_traceback(mutation: Mutation) -> None:
    machine, side = Login(parameters(credentials=MUTUAL)), target_side(ACCOUNT)
    request: LoginRequest | None = machine.first()
    complaint = ""
    try:
        for number in range(20):
            if request is None:
                break
            response = side.receive(request)
            request = machine.next(mutation.apply(response) if number == mutation.step else response)
    except SessionError as error:
        complaint = error.message + error.hint
    assert complaint.isprintable()
    assert "alice-has-a-secret" not in complaint
