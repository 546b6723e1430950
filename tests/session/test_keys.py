"""Text keys: the table, the text, the rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.session import keys
from isboot.session.keys import BY_NAME, Key, Result
from isboot.session.pdu import ProtocolError

names = st.text("ABCabc.-#1", min_size=1, max_size=keys.MAX_KEY_NAME_BYTES)
values = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@given(st.lists(st.tuples(names, values), max_size=20, unique_by=lambda pair: pair[0]))
def test_text_decodes_to_what_was_encoded(pairs: list[tuple[str, str]]) -> None:
    assert keys.decode_text(keys.encode_text(pairs)) == pairs


@given(st.binary(max_size=300))
def test_any_text_decodes_or_is_refused(text: bytes) -> None:
    try:
        keys.decode_text(text)
    except ProtocolError:
        pass


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"A=1", "does not end in NUL"),
        (b"A\0", "key=value"),
        (b"=1\0", "key name of 0 bytes"),
        (b"A" * 64 + b"=1\0", "key name of 64 bytes"),
        (b"A=1\0A=2\0", "twice"),
        (b"A=\xff\0", "no text"),
        (b"".join(b"K%d=1\0" % i for i in range(65)), "more than 64"),
    ],
)
def test_text_that_breaks_the_rules_is_refused_by_name(text: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        keys.decode_text(text)


@pytest.mark.parametrize("key", keys.OPERATIONAL, ids=lambda key: key.name)
def test_every_row_is_complete(key: Key) -> None:
    assert key.source.startswith("RFC 7143 §13.")
    if key.result in (Result.LOWER, Result.HIGHER, Result.DECLARATIVE):
        assert key.unit
        assert key.low <= int(key.default) <= key.high
        assert key.low <= int(key.ours or key.default) <= key.high
    elif key.result is Result.LIST:
        assert set((key.ours or key.default).split(",")) <= set(key.values)
    else:
        assert {key.default, key.ours or key.default} <= {"Yes", "No"}


@pytest.mark.parametrize(
    ("name", "offered", "answer", "result"),
    [
        ("InitialR2T", "No", "No", False),
        ("InitialR2T", "No", "Yes", True),
        ("InitialR2T", "Yes", "Yes", True),
        ("ImmediateData", "Yes", "No", False),
        ("ImmediateData", "Yes", "Yes", True),
        ("MaxBurstLength", "1048576", "262144", 262144),
        ("MaxBurstLength", "1048576", "0x40000", 262144),
        ("DefaultTime2Wait", "2", "5", 5),
        ("DefaultTime2Retain", "0", "0", 0),
        ("HeaderDigest", "CRC32C,None", "None", "None"),
        ("MaxRecvDataSegmentLength", "262144", "8192", 8192),
        # RFC 7143 §6.2: without a value of its own the answer leaves the default
        ("FirstBurstLength", "262144", "Irrelevant", 65536),
        ("MaxBurstLength", "1048576", "NotUnderstood", 262144),
        ("MaxOutstandingR2T", "8", "Reject", 1),
    ],
)
def test_result_follows_from_offer_and_answer(name: str, offered: str, answer: str, result: object) -> None:
    assert keys.conclude(BY_NAME[name], offered, answer) == (result, "")


@pytest.mark.parametrize(
    ("name", "offered", "answer"),
    [
        ("ImmediateData", "Yes", "yes"),
        ("MaxBurstLength", "262144", "511"),  # below the range
        ("MaxBurstLength", "262144", "16777216"),  # above it
        ("DefaultTime2Wait", "2", "-1"),
        ("MaxRecvDataSegmentLength", "262144", "0"),
        ("MaxRecvDataSegmentLength", "262144", "1_000"),
        ("MaxRecvDataSegmentLength", "262144", "٣٤٥٦"),
        ("HeaderDigest", "CRC32C", "None"),
        ("HeaderDigest", "None", "CRC32C"),
        ("DataDigest", "None", ""),
        ("ErrorRecoveryLevel", "0", "3"),
    ],
)
def test_answer_outside_the_offer_names_key_and_value(name: str, offered: str, answer: str) -> None:
    with pytest.raises(ProtocolError, match=f"^{name}") as caught:
        keys.conclude(BY_NAME[name], offered, answer)
    assert answer in caught.value.message or not answer.isascii()


@pytest.mark.parametrize(
    ("name", "offered", "answer", "result"),
    [
        ("MaxBurstLength", "262144", "524288", 262144),
        ("DefaultTime2Wait", "2", "0", 2),
        ("DefaultTime2Retain", "0", "20", 0),
        ("ErrorRecoveryLevel", "0", "2", 0),
        ("MaxOutstandingR2T", "1", "0x10", 1),
        ("InitialR2T", "Yes", "No", True),  # OR: our Yes decides
        ("ImmediateData", "No", "Yes", False),  # AND: our No decides
    ],
)
def test_an_answer_beyond_the_offer_is_taken_for_what_the_standard_makes_of_it(
    name: str, offered: str, answer: str, result: object
) -> None:
    value, warning = keys.conclude(BY_NAME[name], offered, answer)
    assert value == result
    assert type(value) is type(result)
    shown = str(result) if not isinstance(result, bool) else "Yes" if result else "No"
    assert warning == f"the target answers {name}={answer} to an offer of {offered}: {shown} is used"


@given(st.sampled_from([k for k in keys.OPERATIONAL if k.result in (Result.LOWER, Result.HIGHER)]), st.data())
def test_both_sides_come_to_the_same_number(key: Key, data: st.DataObject) -> None:
    offer = str(data.draw(st.integers(key.low, key.high)))
    answer, value = keys.respond(key, offer)
    assert answer is not None
    assert keys.conclude(key, offer, answer) == (value, "")


@pytest.mark.parametrize("offer", ["Yes", "No"])
@pytest.mark.parametrize(
    "key", [k for k in keys.OPERATIONAL if k.result in (Result.AND, Result.OR)], ids=lambda k: k.name
)
def test_both_sides_come_to_the_same_boolean(key: Key, offer: str) -> None:
    answer, value = keys.respond(key, offer)
    assert answer is not None
    assert keys.conclude(key, offer, answer) == (value, "")


@given(st.sampled_from([k for k in keys.OPERATIONAL if k.result is Result.LIST]), st.data())
def test_both_sides_come_to_the_same_choice(key: Key, data: st.DataObject) -> None:
    offer = ",".join(data.draw(st.permutations([*key.values, "X-org.example.magic"])))
    answer, value = keys.respond(key, offer)
    assert answer is not None
    assert keys.conclude(key, offer, answer) == (value, "")


@pytest.mark.parametrize("key", keys.OPERATIONAL, ids=lambda key: key.name)
@pytest.mark.parametrize("answer", keys.ANSWERS_WITHOUT_VALUE)
def test_an_answer_without_a_value_leaves_the_default(key: Key, answer: str) -> None:
    offered = key.ours or key.default
    assert keys.conclude(key, offered, answer) == (keys.parse(key, key.default), "")


@pytest.mark.parametrize(
    ("name", "offer", "answer"),
    [
        ("HeaderDigest", "CRC32C,None", "CRC32C"),  # of the target's list the first
        ("HeaderDigest", "X-magic,None", "None"),
        ("HeaderDigest", "X-magic", "Reject"),
        ("InitialR2T", "Yes", "Yes"),
        ("ImmediateData", "No", "No"),
        ("MaxRecvDataSegmentLength", "4096", None),
        ("TaskReporting", "FastAbort,RFC3720", "RFC3720"),
        ("TaskReporting", "FastAbort", "Reject"),
        ("iSCSIProtocolLevel", "2", "1"),
    ],
)
def test_keys_the_target_brings_up_are_answered(name: str, offer: str, answer: str | None) -> None:
    assert keys.respond(BY_NAME[name], offer)[0] == answer


def test_what_the_peer_said_is_harmless_in_a_message() -> None:
    assert keys.shown("a\x1b[2J\n" + "x" * 100) == "'a\\x1b[2J\\n" + "x" * 58 + "'..."
