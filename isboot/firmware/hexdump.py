"""
A table as hexadecimal lines, each structure and string under its name.

Only bytes whose meaning is known to be harmless are shown unless secrets are asked for: in a damaged table a
secret may lie anywhere, so what no structure and no string accounts for is starred as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from isboot.firmware import decode

LINE_BYTES = 16


def hexdump(raw: bytes, *, show_secrets: bool = False) -> Iterator[str]:
    """
    Give the lines.

    :param raw: one table
    :param show_secrets: shows every byte; else secrets and stray bytes that are not 0 appear as **
    """
    is_shown = bytearray(byte == 0 or show_secrets for byte in raw)
    regions = decode.regions(raw)
    if not show_secrets:
        for is_secret in (False, True):  # a secret wins wherever it lies over something else
            for region in regions:
                if region.is_secret == is_secret:
                    size = region.end - region.start
                    is_shown[region.start : region.end] = bytes([not is_secret]) * size
    names = {region.start: region.where for region in reversed(regions)}
    starts = sorted({*names, *range(0, len(raw), LINE_BYTES)})
    for start, end in pairwise([*starts, len(raw)]):
        if start in names:
            yield f"{names[start]}:"
        shown = [f"{raw[at]:02x}" if is_shown[at] else "**" for at in range(start, end)]
        letters = "".join(
            chr(raw[at]) if is_shown[at] and 0x20 <= raw[at] <= 0x7E else "*" if not is_shown[at] else "."
            for at in range(start, end)
        )
        yield f"  {start:04x}  {' '.join(shown):<{3 * LINE_BYTES - 1}}  {letters}"
