"""
CHAP (RFC 7143 §12.1.3, RFC 1994): algorithms, encodings of binary values, and the checks both ways need.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from isboot.session.keys import parse_number, shown
from isboot.session.pdu import ProtocolError

MAX_BINARY_BYTES = 1024  #: RFC 7143 §12.1.3: challenge and response
MAX_NAME_BYTES = 255  #: RFC 7143 §6.1: of a value whose length is not said otherwise
MIN_SECRET_BYTES = 12  #: RFC 7143 §9.2.1: 96 bits, where no IPsec protects the connection
MEMORY_CHALLENGES = 64


@dataclass(frozen=True, slots=True)
class Algorithm:
    """
    :param number: of the registry "PPP Authentication Algorithms", as CHAP_A carries it
    :param word: what the policy calls it
    :param digest_bytes: length of a response
    """

    number: int
    word: str
    name: str
    digest_bytes: int
    new: Callable[..., Any]


#: Strongest first: the order of the offer, unless the policy has another.
ALGORITHMS = (
    Algorithm(8, "sha3-256", "SHA3-256", 32, hashlib.sha3_256),
    Algorithm(7, "sha256", "SHA-256", 32, hashlib.sha256),
    Algorithm(6, "sha1", "SHA-1", 20, hashlib.sha1),
    Algorithm(5, "md5", "MD5", 16, hashlib.md5),
)
BY_NUMBER = {algorithm.number: algorithm for algorithm in ALGORITHMS}
BY_WORD = {algorithm.word: algorithm for algorithm in ALGORITHMS}
#: What every target must know (RFC 7143 §12.1.3); offered alone after a list ended in refusal: tgt 1.0.85
#: takes 7 for SHA-1, others stumble over any list.
MD5 = BY_NUMBER[5]

#: Challenges we sent lately, over all connections of this process: a target that sends one of them back wants
#: us to compute its own answer (reflection over a second connection, RFC 7143 §9.2.1).
_sent_challenges: deque[bytes] = deque(maxlen=MEMORY_CHALLENGES)
#: Those of targets: one that comes again lets whoever recorded our answer replay it.
_received_challenges: deque[bytes] = deque(maxlen=MEMORY_CHALLENGES)


def new_challenge(algorithm: Algorithm) -> bytes:
    """Give random bytes, as many as the digest has; they are known when they come back."""
    challenge = os.urandom(algorithm.digest_bytes)
    _sent_challenges.append(challenge)
    return challenge


def is_reflected(challenge: bytes) -> bool:
    """Say whether the target's challenge is one of ours."""
    return challenge in _sent_challenges


def is_repeated(challenge: bytes) -> bool:
    """Say whether a target's challenge came before, and remember it."""
    if challenge in _received_challenges:
        return True
    _received_challenges.append(challenge)
    return False


def respond(algorithm: Algorithm, identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """Give the response: H(identifier, secret, challenge). :source: RFC 1994 §4.1"""
    digest = algorithm.new(bytes([identifier]) + secret + challenge, usedforsecurity=False).digest()
    return bytes(digest)


def verify(expected: bytes, received: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(expected, received)


def encode_binary(value: bytes) -> str:
    """Give a binary value as text: hexadecimal, the form every peer reads."""
    return "0x" + value.hex()


def decode_binary(name: str, text: str) -> bytes:
    """
    Read a binary value: hexadecimal after 0x, base64 after 0b (RFC 7143 §6.1).

    :param name: the key, for messages
    :return: 1..1024 bytes
    :raises ProtocolError: neither of both, or a length outside these bounds
    """
    prefix, digits = text[:2].lower(), text[2:]
    if len(digits) > 2 * MAX_BINARY_BYTES:
        raise ProtocolError(f"{name} of {len(digits)} digits, more than {MAX_BINARY_BYTES} bytes")
    try:
        if prefix == "0x":
            # RFC 7143 §6.1: an odd number of digits has its zero on the left
            value = bytes.fromhex(digits.rjust(len(digits) + len(digits) % 2, "0"))
            if any(c.isspace() for c in digits):
                raise ValueError
        elif prefix == "0b":
            value = base64.b64decode(digits, validate=True)
        else:
            raise ProtocolError(f"{name}={shown(text)}, neither hexadecimal (0x) nor base64 (0b)")
    except (ValueError, binascii.Error):
        raise ProtocolError(f"{name}={shown(text)}, which cannot be read as a binary value") from None
    if not 1 <= len(value) <= MAX_BINARY_BYTES:
        raise ProtocolError(f"{name} of {len(value)} bytes, outside 1..{MAX_BINARY_BYTES}")
    return value


def decode_identifier(text: str) -> int:
    """Read CHAP_I. :raises ProtocolError: not one byte"""
    return parse_number("CHAP_I", text, 0, 255)
