"""
Text keys: one table, and the standard's rules for what comes of an offer and its answer (RFC 7143 §6, §13).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from isboot.session.pdu import ProtocolError

MAX_TEXT_BYTES = 64 * 1024  #: of one negotiation text, all its PDUs together; the standard names no limit
MAX_KEYS = 64  #: in one negotiation text
MAX_KEY_NAME_BYTES = 63  #: RFC 7143 §6.1
NOT_UNDERSTOOD = "NotUnderstood"
IRRELEVANT = "Irrelevant"
REJECT = "Reject"
ANSWERS_WITHOUT_VALUE = (NOT_UNDERSTOOD, IRRELEVANT, REJECT)


class Result(Enum):
    """How a value comes of what both sides say (RFC 7143 §6.2)."""

    LIST = "the first of the offered list the other side takes"
    AND = "Yes if both say Yes"
    OR = "Yes if either says Yes"
    LOWER = "the lower of both numbers"
    HIGHER = "the higher of both numbers"
    DECLARATIVE = "what one side says of itself; no answer"


@dataclass(frozen=True, slots=True)
class Key:
    """
    :param ours: what we offer; None: we do not bring this key up
    :param default: what holds where it is not negotiated; "" where the standard has none
    :param low: smallest legal number
    :param high: largest legal number
    :param values: legal values of a LIST
    :param is_for_discovery: means something in discovery sessions, too
    """

    name: str
    result: Result
    ours: str | None
    default: str
    source: str
    unit: str = ""
    low: int = 0
    high: int = 0
    values: tuple[str, ...] = ()
    is_for_discovery: bool = False


_24_BITS = (1 << 24) - 1

# fmt: off
OPERATIONAL: tuple[Key, ...] = (
    Key("HeaderDigest", Result.LIST, ours="None,CRC32C", default="None", values=("None", "CRC32C"),
        source="RFC 7143 §13.1", is_for_discovery=True),
    Key("DataDigest", Result.LIST, ours="None,CRC32C", default="None", values=("None", "CRC32C"),
        source="RFC 7143 §13.1", is_for_discovery=True),
    Key("MaxConnections", Result.LOWER, ours="1", default="1", unit="connections", low=1, high=65535,
        source="RFC 7143 §13.2"),
    Key("InitialR2T", Result.OR, ours="No", default="Yes", source="RFC 7143 §13.10"),
    Key("ImmediateData", Result.AND, ours="Yes", default="Yes", source="RFC 7143 §13.11"),
    Key("MaxRecvDataSegmentLength", Result.DECLARATIVE, ours="262144", default="8192", unit="bytes",
        low=512, high=_24_BITS, source="RFC 7143 §13.12", is_for_discovery=True),
    Key("MaxBurstLength", Result.LOWER, ours="1048576", default="262144", unit="bytes", low=512,
        high=_24_BITS, source="RFC 7143 §13.13"),
    Key("FirstBurstLength", Result.LOWER, ours="262144", default="65536", unit="bytes", low=512,
        high=_24_BITS, source="RFC 7143 §13.14"),
    # 2 and 0: an unexpected loss is reinstated at once; Time2Wait is kept where the target asks for it.
    Key("DefaultTime2Wait", Result.HIGHER, ours="2", default="2", unit="s", low=0, high=3600,
        source="RFC 7143 §13.15", is_for_discovery=True),
    Key("DefaultTime2Retain", Result.LOWER, ours="0", default="20", unit="s", low=0, high=3600,
        source="RFC 7143 §13.16", is_for_discovery=True),
    # More than one is offered only once the engine serves more than one R2T of a command.
    Key("MaxOutstandingR2T", Result.LOWER, ours="1", default="1", unit="R2Ts", low=1, high=65535,
        source="RFC 7143 §13.17"),
    Key("DataPDUInOrder", Result.OR, ours="Yes", default="Yes", source="RFC 7143 §13.18"),
    Key("DataSequenceInOrder", Result.OR, ours="Yes", default="Yes", source="RFC 7143 §13.19"),
    Key("ErrorRecoveryLevel", Result.LOWER, ours="0", default="0", unit="level", low=0, high=2,
        source="RFC 7143 §13.20", is_for_discovery=True),
    Key("TaskReporting", Result.LIST, ours=None, default="RFC3720", source="RFC 7143 §13.23",
        values=("RFC3720", "ResponseFence", "FastAbort")),
    Key("iSCSIProtocolLevel", Result.LOWER, ours=None, default="1", unit="level", low=0, high=31,
        source="RFC 7143 §13.24"),
)

#: Keys of RFC 3720 that are gone, and the answer to a target that brings one up: never NotUnderstood.
OBSOLETE: Mapping[str, str] = {  # RFC 7143 §13.25
    "IFMarker": "No", "OFMarker": "No", "IFMarkInt": REJECT, "OFMarkInt": REJECT,
}
# fmt: on
BY_NAME: Mapping[str, Key] = {key.name: key for key in OPERATIONAL}


# --- text <-> pairs ----------------------------------------------------------------------------------------


def encode_text(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Give the text of a negotiation: key=value, each ended by NUL (RFC 7143 §6.1)."""
    return b"".join(f"{name}={value}\0".encode() for name, value in pairs)


def decode_text(text: bytes, *, may_repeat: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """
    Give the pairs of a negotiation text, in its order.

    :param may_repeat: names that may come more than once: the answer to SendTargets is made of such
    :raises ProtocolError: no key=value, no NUL at the end, not UTF-8, a key twice, too many of them
    """
    pairs: list[tuple[str, str]] = []
    seen: set[str] = set()
    if not text:
        return pairs
    if not text.endswith(b"\0"):
        raise ProtocolError("a negotiation text that does not end in NUL")
    for raw in text.split(b"\0"):
        if not raw:
            continue  # padding: some targets send more NULs than one
        name_raw, separator, value_raw = raw.partition(b"=")
        if not separator:
            raise ProtocolError(f"a negotiation text with {_show(raw)} where key=value was due")
        if not 0 < len(name_raw) <= MAX_KEY_NAME_BYTES:
            raise ProtocolError(f"a negotiation text with a key name of {len(name_raw)} bytes")
        try:
            name, value = name_raw.decode("ascii"), value_raw.decode("utf-8")
        except UnicodeDecodeError:
            raise ProtocolError(f"a negotiation text with bytes that are no text: {_show(raw)}") from None
        if name in seen and name not in may_repeat:
            raise ProtocolError(f"a negotiation text with the key {_show(name_raw)} twice")
        seen.add(name)
        pairs.append((name, value))
        if len(pairs) > MAX_KEYS and not may_repeat:
            raise ProtocolError(f"a negotiation text with more than {MAX_KEYS} keys")
    return pairs


def _show(raw: bytes) -> str:
    """Give at most 64 bytes of the peer in a form that is safe in a message."""
    return ascii(raw[:64].decode("latin-1")) + ("..." if len(raw) > 64 else "")


def shown(value: str) -> str:
    """Give a value of the peer in a form that is safe in a message: quoted, short, printable."""
    return _show(value.encode("utf-8", "surrogateescape"))


# --- results -----------------------------------------------------------------------------------------------


def parse_number(name: str, value: str, low: int, high: int) -> int:
    """
    Give a numerical value: decimal, or hexadecimal after 0x (RFC 7143 §6.1).

    :raises ProtocolError: no such number, or outside low..high
    """
    digits, base = (value[2:], 16) if value[:2] in ("0x", "0X") else (value, 10)
    legal = "0123456789abcdefABCDEF" if base == 16 else "0123456789"
    if not 0 < len(digits) <= 20 or any(c not in legal for c in digits):
        raise ProtocolError(f"{name}={shown(value)} where a number was due")
    number = int(digits, base)
    if not low <= number <= high:
        raise ProtocolError(f"{name}={number}, which is outside {low}..{high}")
    return number


def _parse_boolean(name: str, value: str) -> bool:
    if value not in ("Yes", "No"):
        raise ProtocolError(f"{name}={shown(value)} where Yes or No was due")
    return value == "Yes"


def parse(key: Key, value: str) -> Any:
    """Give a value by its key's type: bool, int or str. :raises ProtocolError: it is none of these"""
    if key.result in (Result.AND, Result.OR):
        return _parse_boolean(key.name, value)
    if key.result is Result.LIST:
        return value
    return parse_number(key.name, value, key.low, key.high)


def conclude(key: Key, offered: str, answer: str) -> tuple[Any, str]:
    """
    Give what the answer to our offer comes to.

    An answer beyond the offer (more than our number where the lower counts) breaks the standard, but leaves
    no doubt: the result follows from both sides' words, and it is never more than what we can do.

    :return: the value, and a warning: "" unless the target answered beyond the offer
    :raises ProtocolError: the answer is none of the key's type or range, or a choice that was not offered
    :source: RFC 7143 §6.2.1 (lists), §6.2.2 (simple values); NotUnderstood, Irrelevant and Reject leave the
        key at its default, §6.2
    """
    if answer in ANSWERS_WITHOUT_VALUE:
        return parse(key, key.default), ""
    value = parse(key, answer)
    if key.result is Result.LIST:
        if answer not in offered.split(","):
            raise ProtocolError(f"{key.name}={shown(answer)}, which was not among those offered ({offered})")
        return value, ""
    if key.result is Result.DECLARATIVE:
        return value, ""
    result = _combine(key, parse(key, offered), value)
    if value == result:
        return result, ""
    return result, f"the target answers {key.name}={answer} to an offer of {offered}: {_text(result)} is used"


def _combine(key: Key, ours: Any, theirs: Any) -> Any:
    return {
        Result.AND: lambda: ours and theirs,
        Result.OR: lambda: ours or theirs,
        Result.LOWER: lambda: min(ours, theirs),
        Result.HIGHER: lambda: max(ours, theirs),
    }[key.result]()


def _text(value: bool | int) -> str:
    return ("Yes" if value else "No") if isinstance(value, bool) else str(value)


def respond(key: Key, offer: str) -> tuple[str | None, Any]:
    """
    Give our answer to a key the target brought up itself, and the value it comes to.

    :return: answer None where none is due (declarative keys); value None where the answer is Reject
    :raises ProtocolError: the offer is not of the key's type
    """
    if key.result is Result.LIST:
        for value in offer.split(","):
            if value in (key.ours or key.default).split(","):
                return value, value
        return REJECT, None
    value = parse(key, offer)
    if key.result is Result.DECLARATIVE:
        return None, value
    result = _combine(key, parse(key, key.ours or key.default), value)
    return _text(result), result
