"""
Where firmware leaves an iBFT, and which of several to take.

UEFI and some BIOSes hand it over as an ACPI table.  iPXE under BIOS only leaves it in low memory, where the
specification (1.03, section 1.4.3.1) has it between 512 KiB and 1 MiB.  Where neither can be read (lockdown
forbids /dev/mem), the kernel's own reading under /sys/firmware is better than nothing.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from isboot.errors import ExitStatus, FirmwareError
from isboot.firmware import decode, layout, sysfs
from isboot.values import IbftTable

ACPI_TABLES = "sys/firmware/acpi/tables"
ACPI_NAME = re.compile(r"(iBFT|IBFT|BIFT)([0-9]*)")  #: several of one name are all numbered, from 1
EFI = "sys/firmware/efi"
MEMORY = "dev/mem"
MEMORY_START, MEMORY_END, MEMORY_STEP = 0x80000, 0x100000, 16
VGA_START, VGA_END = 0xA0000, 0xC0000  #: the adapter's window is no memory; Linux skips it, too
PAGE_BYTES = 4096

MAXIMUM_FOUND = 16  #: tables in low memory; one made of nothing else must not keep us busy

HINT_NONE = "only firmware that booted from iSCSI itself leaves one; netroot=iscsi:... boots without a table"


HINT_LOCKED = (
    "the kernel keeps it from root, too (lockdown, or a container): modprobe iscsi_ibft, and it shows a table"
    " under /sys/firmware/ibft"
)


def find_tables(root: Path = Path("/"), *, has_other_source: bool = False) -> list[IbftTable]:
    """
    Find every table: of ACPI, of low memory, of the kernel's tree, in this order; each only once.

    :param root: where sys and dev are; tests make trees of their own
    :param has_other_source: a table is not needed: a place that refuses is no error
    :raises FirmwareError: there is none that could be read, and at least one place refused (77)
    """
    refused: list[str] = []
    tables: list[IbftTable] = []
    for table in [*_acpi(root, refused), *_memory(root, refused)]:
        if all(table.raw != other.raw for other in tables):
            tables.append(table)
    for table in sysfs.read_trees(root, refused):
        if not any(sysfs.is_same(table, other) for other in tables):
            tables.append(table)
    if not tables and refused and not has_other_source:
        message = f"looking for an iBFT: reading {' and '.join(refused)} is not permitted"
        hint = "run it as root" if os.geteuid() else HINT_LOCKED
        raise FirmwareError(message, hint, ExitStatus.NOT_PERMITTED)
    return tables


def read_file(path: Path) -> IbftTable:
    """
    Decode the table in a file.

    :raises FirmwareError: the file is not there (66), or may not be read (77)
    """
    doing = f"reading an iBFT from {path}"
    try:
        with path.open("rb") as file:
            # One byte more than any table may have, so that what follows the table is noticed.
            return decode.decode(file.read(layout.MAXIMUM_BYTES + 1), "file")
    except PermissionError as error:
        message = f"{doing}: {error.strerror}"
        raise FirmwareError(message, "run it as root", ExitStatus.NOT_PERMITTED) from None
    except OSError as error:
        hint = "name a file that holds the bytes of a table, such as /sys/firmware/acpi/tables/iBFT"
        raise FirmwareError(f"{doing}: {error.strerror}", hint, ExitStatus.NOTHING_THERE) from None


def pick(tables: list[IbftTable], index: int | None = None) -> IbftTable:
    """
    Pick the table to show: the one asked for, else the first that can be booted from, else the first.

    :raises FirmwareError: there is none, or none with that index (66)
    """
    if not tables:
        message = "looking for an iBFT in ACPI, low memory and sysfs: there is none"
        raise FirmwareError(message, HINT_NONE, ExitStatus.NOTHING_THERE)
    if index is None:
        return next((table for table in tables if table.is_bootable), tables[0])
    if not 0 <= index < len(tables):
        message = f"taking iBFT number {index}: there are {len(tables)}, counted from 0"
        raise FirmwareError(message, "isboot ibft --list shows them", ExitStatus.NOTHING_THERE)
    return tables[index]


def choose(tables: list[IbftTable], index: int | None = None) -> IbftTable:
    """
    Choose the table to boot from.  A broken one does not hide a good one, unless it was asked for.

    :raises FirmwareError: there is none (66), or it cannot be booted from (65): names its first error
    """
    table = pick(tables, index)
    if not table.is_bootable:
        message = f"reading the iBFT ({table.source}): {_first_error(table)}"
        raise FirmwareError(message, "isboot ibft shows all that is wrong with it", ExitStatus.MALFORMED)
    return table


def told(table: IbftTable) -> str:
    """Give a table in one line, with why it cannot be booted from, if it cannot."""
    name = f"{table.signature} found ({table.source}), {table.oem_id} {table.oem_table_id}".rstrip()
    return name if table.is_bootable else f"{name}: cannot be booted from: {_first_error(table)}"


def _first_error(table: IbftTable) -> str:
    first = next((problem for problem in table.problems if problem.severity == "error"), None)
    return f"{first.where}: {first.message}" if first else "nothing in it can be booted from"


def _acpi(root: Path, refused: list[str]) -> list[IbftTable]:
    folder = root / ACPI_TABLES
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    matches = [match for name in names if (match := ACPI_NAME.fullmatch(name))]
    # The usual spelling first: a card's own table (BIFT) is not numbered beside two of the firmware.
    matches.sort(key=lambda match: (match[1] != "iBFT", match[1], int(match[2] or 0)))
    tables = []
    for match in matches:
        try:
            with (folder / match[0]).open("rb") as file:
                raw = file.read(layout.MAXIMUM_BYTES + 1)
        except PermissionError:
            refused.append(f"/{ACPI_TABLES}/{match[0]}")
        except OSError:
            continue  # a table that cannot be read must not hide another
        else:
            tables.append(decode.decode(raw, "acpi"))
    return tables


def _memory(root: Path, refused: list[str]) -> list[IbftTable]:
    if (root / EFI).exists():
        return []  # UEFI hands tables over by ACPI only, and low memory may be anything there
    try:
        memory = os.open(root / MEMORY, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        # EPERM is the word of lockdown and of containers, to root as well.
        if error.errno in (errno.EACCES, errno.EPERM):
            refused.append(f"/{MEMORY}")
        return []
    try:
        pages = _read_pages(memory)
    except PermissionError:
        refused.append(f"/{MEMORY}")
        return []
    finally:
        os.close(memory)
    return [decode.decode(raw, "memory") for raw in scan(pages)]


def _read_pages(memory: int) -> dict[int, bytes]:
    """Give the pages of low memory that can be read, by their address. :raises PermissionError: none can"""
    pages: dict[int, bytes] = {}
    refusal: PermissionError | None = None
    for address in range(MEMORY_START, MEMORY_END, PAGE_BYTES):
        if not VGA_START <= address < VGA_END:
            try:
                pages[address] = os.pread(memory, PAGE_BYTES, address)
            except PermissionError as error:
                refusal = error  # STRICT_DEVMEM refuses single pages
            except OSError:
                continue
    if refusal is not None and not pages:
        raise refusal
    return pages


def scan(pages: dict[int, bytes]) -> list[bytes]:
    """
    Find the tables in low memory.

    The four letters of a signature also stand in option ROMs.  So a finding counts only when its length stays
    within low memory and its control structure is where it must be, or else all its bytes sum up to 0.

    :param pages: contents by physical address, a page each
    """
    found: list[bytes] = []
    for page_address, page in sorted(pages.items()):
        for start in range(0, len(page) - 3, MEMORY_STEP):
            if page[start : start + 4] in layout.SIGNATURES and len(found) < MAXIMUM_FOUND:
                raw = _contiguous(pages, page_address + start)
                length = decode.declared_length_bytes(raw)
                has_control = raw[layout.CONTROL_OFFSET : layout.CONTROL_OFFSET + 1] == b"\x01"
                if layout.HEADER_BYTES <= length <= MEMORY_END - page_address - start and (
                    has_control or decode.is_checksum_ok(raw[:length])
                ):
                    found.append(raw[:length])
    return found


def _contiguous(pages: dict[int, bytes], address: int) -> bytes:
    """Give all bytes from an address on, up to the first page that could not be read."""
    page_address = address - address % PAGE_BYTES
    parts = [pages[page_address][address - page_address :]]
    while len(pages[page_address]) == PAGE_BYTES and (page_address := page_address + PAGE_BYTES) in pages:
        parts.append(pages[page_address])
    return b"".join(parts)
