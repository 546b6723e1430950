"""Bytes of firmware as text that harms no terminal, and addresses as it writes them."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from isboot.values import IpAddress

_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]")
_SHOWN = {byte: chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02x}" for byte in range(256)}


def first_unprintable(raw: bytes) -> int | None:
    """Give the position of the first byte that is not printable ASCII, None if there is none."""
    found = _UNPRINTABLE.search(raw)
    return found.start() if found else None


def printable(raw: bytes) -> str:
    r"""Give printable ASCII as it is, every other byte as \xNN."""
    return raw.decode("latin-1").translate(_SHOWN)


def shortened(value: str, maximum: int = 100) -> str:
    """Give a text for a message: what is longer than that is cut."""
    return value if len(value) <= maximum else f"{value[:maximum]}..."


def padded(raw: bytes) -> str:
    """Give a field of fixed size without the NULs or blanks it is filled up with."""
    return printable(raw.rstrip(b"\0").rstrip(b" "))


def meaningful(address: IpAddress) -> IpAddress | None:
    """Give an IPv4-mapped address as IPv4, and an unspecified one (:: or 0.0.0.0) as None."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    # EDK2 writes an absent IPv4 address as ::ffff:0.0.0.0, everybody else as all zero.
    return None if int(address) == 0 else address


def decode_address(raw: bytes) -> IpAddress | None:
    """Read the 16 bytes of an address; None when it is absent."""
    return meaningful(IPv6Address(raw))


def encode_address(address: IpAddress | None) -> bytes:
    """Give the 16 bytes of an address: IPv4 as ::ffff:a.b.c.d, absent as all zero."""
    if address is None:
        return bytes(16)
    if isinstance(address, IPv4Address):
        return b"\0" * 10 + b"\xff\xff" + address.packed
    return address.packed
