"""
Vital product data: what a logical unit says of itself, page by page (SPC-4 §7.8, SBC-3 §6.6).

Every decoder takes the bytes that came, which may be fewer than the page promises, and believes no length
beyond them: a field that did not come reads as zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SUPPORTED_PAGES = 0x00
UNIT_SERIAL_NUMBER = 0x80
DEVICE_IDENTIFICATION = 0x83
BLOCK_LIMITS = 0xB0
BLOCK_DEVICE_CHARACTERISTICS = 0xB1
LOGICAL_BLOCK_PROVISIONING = 0xB2

_HEADER_BYTES = 4
_ASSOCIATION_LUN = 0
_ASSOCIATION_PORT = 1
_TARGET_PORT_GROUP = 5  #: designator type
_MAX_DESIGNATORS = 32


def body(page: bytes, number: int) -> bytes:
    """Give what follows the page's header, as far as it came; nothing if it is another page."""
    if len(page) < _HEADER_BYTES or page[1] != number:
        return b""
    return page[_HEADER_BYTES : _HEADER_BYTES + int.from_bytes(page[2:4], "big")]


def text(raw: bytes) -> str:
    r"""Give text of the target: printable ASCII as it is, any other byte as \xNN, blanks cut off."""
    return "".join(chr(b) if 0x20 <= b < 0x7F else f"\\x{b:02x}" for b in raw.strip(b" \0"))


def supported_pages(page: bytes) -> frozenset[int]:
    return frozenset(body(page, SUPPORTED_PAGES))


def serial_number(page: bytes) -> str:
    return text(body(page, UNIT_SERIAL_NUMBER))


@dataclass(frozen=True, slots=True)
class _Kind:
    """
    :param number: designator type
    :param rank: the lower, the better it tells one LUN from all others
    """

    number: int
    prefix: str
    rank: int
    is_text: bool = False


#: SPC-4 table 603; the other types name ports, or nothing unique.
_KINDS = {
    kind.number: kind
    for kind in (
        _Kind(3, "naa.", 0),
        _Kind(2, "eui.", 1),
        _Kind(8, "scsi-name.", 2, is_text=True),
        _Kind(1, "t10.", 3, is_text=True),
    )
}


def designators(page: bytes) -> tuple[str, ...]:
    """
    Give the designators of the logical unit itself, strongest first.

    :return: "naa.6...", "eui....", "scsi-name....", "t10.VENDOR..."; NAA of 16 bytes before those of 8
    :source: SPC-4 §7.8.6
    """
    found: list[tuple[int, int, str]] = []
    for association, number, value in _descriptors(page):
        kind = _KINDS.get(number)
        if kind is not None and association == _ASSOCIATION_LUN and len(found) < _MAX_DESIGNATORS:
            shown = text(value) if kind.is_text else value.hex()
            found.append((kind.rank, -len(value), kind.prefix + shown))
    return tuple(name for _, _, name in sorted(found))


def target_port_group(page: bytes) -> int | None:
    """Give the identifier of the target port group we came in by. :source: SPC-4 §7.8.6.9"""
    for association, number, value in _descriptors(page):
        if (association, number) == (_ASSOCIATION_PORT, _TARGET_PORT_GROUP) and len(value) == 4:
            return int.from_bytes(value[2:4], "big")
    return None


def _descriptors(page: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Give association, type and value of each designator that came whole."""
    rest = body(page, DEVICE_IDENTIFICATION)
    while len(rest) >= 4:
        length = rest[3]
        value = rest[4 : 4 + length]
        if len(value) == length > 0:
            yield rest[1] >> 4 & 0x3, rest[1] & 0x0F, value
        rest = rest[4 + length :]


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """All in logical blocks; 0: no limit named."""

    optimal_granularity: int = 0
    max_transfer: int = 0
    optimal_transfer: int = 0
    max_unmap: int = 0
    max_unmap_descriptors: int = 0
    unmap_granularity: int = 0
    unmap_alignment: int = 0
    max_write_same: int = 0


def block_limits(page: bytes) -> BlockLimits:
    """:source: SBC-3 §6.6.3; offsets are those of the page, header included"""
    content = body(page, BLOCK_LIMITS)

    def number(offset: int, size: int) -> int:
        return int.from_bytes(content[offset - 4 : offset - 4 + size].ljust(size, b"\0"), "big")

    alignment = number(32, 4)
    return BlockLimits(
        optimal_granularity=number(6, 2),
        max_transfer=number(8, 4),
        optimal_transfer=number(12, 4),
        max_unmap=number(20, 4),
        max_unmap_descriptors=number(24, 4),
        unmap_granularity=number(28, 4),
        unmap_alignment=alignment & 0x7FFFFFFF if alignment & 0x80000000 else 0,  # UGAVALID
        max_write_same=number(36, 8),
    )


def is_rotational(page: bytes) -> bool:
    """Say whether it is a spinning disk. MEDIUM ROTATION RATE 1: it is not; 0: it does not say."""
    content = body(page, BLOCK_DEVICE_CHARACTERISTICS)
    return int.from_bytes(content[:2].ljust(2, b"\0"), "big") > 1


def provisioning(page: bytes) -> tuple[bool, bool]:
    """Say whether UNMAP (LBPU), and whether WRITE SAME(16) with UNMAP (LBPWS), is supported."""
    content = body(page, LOGICAL_BLOCK_PROVISIONING)
    flags = content[1] if len(content) > 1 else 0
    return bool(flags & 0x80), bool(flags & 0x40)
