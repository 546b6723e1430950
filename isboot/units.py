"""Units and how they are read by people."""

from __future__ import annotations

SECTOR_BYTES = 512  #: the kernel's unit of block addresses, whatever the logical block size
KIB = 1024
MIB = 1024 * KIB


def format_bytes(count: int) -> str:
    """Give a size the way people read it: 1536 -> "1.5 KiB"."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
