"""
An `IbftTable` into bytes: for tests, and for `qemu -acpitable file=...`.

The inverse of the decoder over the same rows: structures first, each at a multiple of 8, then every string
with a NUL behind it.
"""

from __future__ import annotations

import struct
from typing import Any

from isboot.errors import ExitStatus, FirmwareError
from isboot.firmware import layout, text
from isboot.firmware.decode import associated
from isboot.firmware.layout import Kind, Structure
from isboot.values import IbftControl, IbftInitiator, IbftNic, IbftTable, IbftTarget, Secret

_ORIGIN_NUMBERS = {name: number for number, name in layout.ORIGINS.items()}
_CHAP_NUMBERS = {name: number for number, name in layout.CHAP_TYPES.items()}


def encode(table: IbftTable) -> bytes:
    """
    Build the bytes of a table.

    :param table: `source`, `problems`, `is_bootable` and `raw` are not looked at; the checksum is made good;
        a `length` beyond what is needed is filled up with zeros, as EDK2 does
    :raises FirmwareError: no control structure, fewer pairs than NICs or targets, or too much for it
    """
    if table.control is None:
        raise _refused("it has no control structure")
    return _Builder(table).build(table.control)


def _refused(reason: str) -> FirmwareError:
    return FirmwareError(f"building a table: {reason}", exit_status=ExitStatus.MALFORMED)


def _round_up(value: int) -> int:
    return -(-value // layout.ALIGNMENT_BYTES) * layout.ALIGNMENT_BYTES


def _flags(structure: Structure, value: Any) -> int:
    """Give the flag byte: the booleans win over the bits of `flags` they name."""
    unknown = value.flags & ~structure.known_flags
    return int(unknown | sum(flag.mask for flag in structure.flags if getattr(value, flag.name)))


class _Builder:
    def __init__(self, table: IbftTable) -> None:
        self.table = table
        self.body = bytearray(layout.HEADER_BYTES)
        self.strings: list[tuple[int, bytes]] = []  # where length and offset go, and the string

    def build(self, given: IbftControl) -> bytes:
        table, pairs = self.table, given.pairs
        control_bytes = layout.PAIRS_OFFSET + layout.PAIR_BYTES * pairs
        control = self.reserve(control_bytes)
        pointers = {control + 6: given.extensions}
        if table.initiator is not None:
            pointers[control + 8] = self.structure(layout.INITIATOR, table.initiator, 0)
        for structure, values, shift in ((layout.NIC, table.nics, 0), (layout.TARGET, table.targets, 2)):
            for value in values:
                if value.index >= pairs:
                    raise _refused(f"{structure.name}{value.index} does not fit {pairs} pairs")
                where = control + layout.PAIRS_OFFSET + layout.PAIR_BYTES * value.index + shift
                pointers[where] = self.structure(structure, value, value.header_index)
        flags = _flags(layout.CONTROL, given)
        self.put(control, struct.pack("<BBHBB", 1, layout.STRUCTURE_VERSION, control_bytes, 0, flags))
        self.place_strings()
        for where, offset in pointers.items():
            if not 0 <= offset <= 0xFFFF:
                raise _refused("it does not fit the 64 KiB its offsets reach")
            self.put(where, struct.pack("<H", offset))
        return self.finish()

    def reserve(self, size_bytes: int) -> int:
        offset = _round_up(len(self.body))
        self.body.extend(bytes(offset + size_bytes - len(self.body)))
        return offset

    def put(self, offset: int, raw: bytes) -> None:
        self.body[offset : offset + len(raw)] = raw

    def structure(
        self, structure: Structure, value: IbftInitiator | IbftNic | IbftTarget, header_index: int
    ) -> int:
        offset = self.reserve(structure.size_bytes)
        head = (structure.id, layout.STRUCTURE_VERSION, structure.size_bytes, header_index)
        self.put(offset, struct.pack("<BBHBB", *head, _flags(structure, value)))
        seen: dict[str, int] = {}
        for field in structure.fields:
            content = getattr(value, field.name)
            if isinstance(content, tuple):
                position = seen.get(field.name, 0)
                seen[field.name] = position + 1
                content = content[position] if position < len(content) else None
            at = offset + field.offset
            if field.kind is Kind.STRING:
                self.strings.append((at, _ascii(content, field.json)))
            elif isinstance(content, Secret):
                self.strings.append((at, content.reveal()))
            elif field.name == "nic":
                self.put(at, bytes([self.association(content)]))
            else:
                self.put(at, _scalar(field.kind, content))
        return offset

    def association(self, index: int | None) -> int:
        """Give the number by which a target names that NIC, or none: what it calls itself, if clear."""
        nics = self.table.nics
        numbers = [nic.header_index for nic in nics if nic.index == index]
        numbers += [index or 0, *range(255, -1, -1)]
        for number in numbers:
            if associated(number, nics) == index:
                return number
        raise _refused(f"no number means nic{index} alone, as the NICs are numbered")

    def place_strings(self) -> None:
        self.body.extend(bytes(_round_up(len(self.body)) - len(self.body)))
        for where, raw in self.strings:
            if raw:
                if max(len(raw), len(self.body)) > 0xFFFF:
                    raise _refused("its strings do not fit the 64 KiB its offsets reach")
                self.put(where, struct.pack("<HH", len(raw), len(self.body)))
                self.body += raw + b"\0"

    def finish(self) -> bytes:
        table = self.table
        length = table.length or _round_up(len(self.body))
        if length < len(self.body):
            raise _refused(f"table.length: {length} bytes are too few for what needs {len(self.body)}")
        self.body.extend(bytes(length - len(self.body)))
        revision = layout.REVISION if table.revision is None else table.revision
        signature = _ascii(table.signature, "signature", 4)
        self.put(0, struct.pack("<4sIB", signature, length, revision))
        oem_ids = _ascii(table.oem_id, "oem_id", 6), _ascii(table.oem_table_id, "oem_table_id", 8)
        self.put(10, struct.pack("<6s8s", *oem_ids))
        self.body[9] = -sum(self.body) % 256
        return bytes(self.body)


def _ascii(content: str, name: str, maximum_bytes: int = 0xFFFF) -> bytes:
    if not content.isascii() or len(content) > maximum_bytes:
        raise _refused(f"{name} is not ASCII or longer than {maximum_bytes} bytes")
    return content.encode("ascii")


def _scalar(kind: Kind, content: Any) -> bytes:
    """Give the bytes of a field of fixed size."""
    if kind is Kind.ADDRESS:
        return text.encode_address(content)
    if kind is Kind.MAC:
        return bytes.fromhex(content.replace(":", ""))
    if kind is Kind.LUN:
        return bytes(content)
    if kind is Kind.PCI:
        return struct.pack("<H", _pci_number(content))
    if kind is Kind.ORIGIN:
        content = _ORIGIN_NUMBERS.get(content, content)
    elif kind is Kind.CHAP:
        content = _CHAP_NUMBERS[content]
    return int(content).to_bytes(kind.size_bytes, "little")


def _pci_number(address: str | None) -> int:
    if address is None:
        return 0
    bus, device, function = (int(part, 16) for part in address.replace(".", ":").split(":"))
    return bus << 8 | device << 3 | function
