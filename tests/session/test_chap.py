"""CHAP's computations and encodings."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.session import chap
from isboot.session.pdu import ProtocolError
from isboot.values import Policy

binary = st.binary(min_size=1, max_size=chap.MAX_BINARY_BYTES)


@given(binary)
def test_hexadecimal_decodes_to_what_was_encoded(value: bytes) -> None:
    assert chap.decode_binary("CHAP_C", chap.encode_binary(value)) == value


@given(binary)
def test_base64_is_read_too(value: bytes) -> None:
    assert chap.decode_binary("CHAP_C", "0b" + base64.b64encode(value).decode()) == value


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    for prefix in ("", "0x", "0b"):
        try:
            assert 1 <= len(chap.decode_binary("CHAP_R", prefix + text)) <= chap.MAX_BINARY_BYTES
        except ProtocolError:
            pass


@pytest.mark.parametrize(
    "text",
    ["", "0x", "0b", "12", "0xzz", "0x12 34", "0b!!!!", "0bQUI", "0x" + "00" * 1025, "0b" + "A" * 2052],
)
def test_binary_values_out_of_form_or_bounds_are_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="CHAP_C"):
        chap.decode_binary("CHAP_C", text)


def test_an_odd_number_of_digits_has_its_zero_on_the_left() -> None:
    assert chap.decode_binary("CHAP_C", "0xabc") == b"\x0a\xbc"


@pytest.mark.parametrize(("number", "name"), [(5, "MD5"), (6, "SHA-1"), (7, "SHA-256"), (8, "SHA3-256")])
def test_numbers_of_the_algorithms_are_those_of_the_registry(number: int, name: str) -> None:
    algorithm = chap.BY_NUMBER[number]
    assert algorithm.name == name
    assert len(chap.respond(algorithm, 1, b"secret", b"challenge")) == algorithm.digest_bytes


def test_md5_response_is_that_of_an_independent_computation() -> None:
    # printf '\x27secretsecret\x01\x02' | md5sum
    assert chap.respond(chap.BY_NUMBER[5], 0x27, b"secretsecret", b"\x01\x02").hex() == (
        "5714a5c4501263a1ac0a51ed93331c60"
    )


@pytest.mark.parametrize("algorithm", chap.ALGORITHMS, ids=lambda row: row.name)
def test_our_challenge_is_known_when_it_comes_back(algorithm: chap.Algorithm) -> None:
    challenge = chap.new_challenge(algorithm)
    assert len(challenge) == algorithm.digest_bytes >= 16
    assert chap.is_reflected(challenge)
    assert not chap.is_reflected(bytes(16))


def test_a_challenge_of_a_target_is_known_the_second_time() -> None:
    assert [chap.is_repeated(text) for text in (b"this", b"that", b"this", b"that")] == [
        False, False, True, True,
    ]  # fmt: skip
    for number in range(chap.MEMORY_CHALLENGES):
        chap.is_repeated(b"more %d" % number)
    assert not chap.is_repeated(b"this")  # as many are remembered, no more


@pytest.mark.parametrize(("size", "is_legal"), [(1, True), (1023, True), (1024, True), (1025, False)])
@pytest.mark.parametrize("is_base64", [False, True])
def test_a_binary_value_has_at_most_1024_bytes(size: int, is_legal: bool, is_base64: bool) -> None:
    value = bytes(range(256)) * 5
    text = "0b" + base64.b64encode(value[:size]).decode() if is_base64 else "0x" + value[:size].hex()
    if is_legal:
        assert chap.decode_binary("CHAP_C", text) == value[:size]
    else:
        with pytest.raises(ProtocolError, match=r"CHAP_C of .* (1024 bytes|outside 1..1024)"):
            chap.decode_binary("CHAP_C", text)


def test_the_words_of_the_policy_are_those_of_the_table() -> None:
    assert Policy().chap_algorithms == tuple(row.word for row in chap.ALGORITHMS)


@pytest.mark.parametrize("text", ["256", "-1", "x", "", "1.0"])
def test_identifier_is_one_byte(text: str) -> None:
    assert chap.decode_identifier("255") == 255
    with pytest.raises(ProtocolError, match="CHAP_I"):
        chap.decode_identifier(text)
