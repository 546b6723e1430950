"""Netlink's wire format, and that nothing a datagram says makes us read past it."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.network.netlink import (
    HEADER,
    Message,
    decode_attributes,
    decode_messages,
    encode_attributes,
    encode_message,
)

attributes = st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40), max_size=6)
messages = st.builds(
    Message, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.binary(max_size=40)
)


@given(attributes)
def test_attributes_come_back_as_encoded(values: dict[int, bytes]) -> None:
    assert decode_attributes(encode_attributes(values)) == values


@given(attributes)
def test_attributes_fill_whole_words(values: dict[int, bytes]) -> None:
    assert len(encode_attributes(values)) % 4 == 0


def test_attribute_has_the_bytes_of_the_kernel() -> None:
    # IFLA_IFNAME "lo": length 7 without the padding, type 3
    assert encode_attributes({3: b"lo\0"}) == bytes.fromhex("0700 0300 6c6f00 00")


def test_nested_flag_is_no_part_of_the_type() -> None:
    assert decode_attributes(bytes.fromhex("0400 1280")) == {18: b""}


@pytest.mark.parametrize("data", ["0300 0100", "0900 0100 00000000", "0000 0000"])
def test_attribute_with_an_impossible_length_is_refused(data: str) -> None:
    with pytest.raises(ValueError, match="netlink attribute at 0"):
        decode_attributes(bytes.fromhex(data))


@given(st.lists(messages, max_size=4))
def test_messages_come_back_as_encoded(sent: list[Message]) -> None:
    datagram = b""
    for message in sent:
        datagram += encode_message(message)
        datagram += bytes(-len(datagram) % 4)
    assert list(decode_messages(datagram)) == sent


@pytest.mark.parametrize("length", [0, 15, 17])
def test_message_with_an_impossible_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="netlink message at 0"):
        list(decode_messages(HEADER.pack(length, 2, 0, 1, 0)))


@given(st.binary(max_size=80))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    for decode in (decode_attributes, decode_messages):
        with suppress(ValueError):
            list(decode(data))
