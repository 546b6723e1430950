"""
The bytes of an iBFT into an `IbftTable`, with every problem found on the way.

Nothing here raises on bad bytes and nothing reads outside the table: what cannot be trusted is left out and
named.  The decoder goes twice over the table: first it places the structures, then it reads their fields, so
that a string can be compared with every structure it might lie over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from isboot.firmware import checks, layout, text
from isboot.firmware.layout import Field, Kind, Structure
from isboot.values import IbftControl, IbftInitiator, IbftNic, IbftTable, IbftTarget, Problem, Secret

_T = TypeVar("_T", IbftInitiator, IbftNic, IbftTarget)


@dataclass(frozen=True, slots=True)
class Region:
    """
    A stretch of the table whose meaning is known.

    :param start: offset of the first byte; `end` is that of the byte behind the last
    :param is_secret: the bytes are those of a CHAP secret
    """

    start: int
    end: int
    where: str
    is_structure: bool
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class _Placed:
    """A structure whose header is in order."""

    structure: Structure
    index: int
    where: str
    offset: int
    flags: int
    header_index: int


def decode(raw: bytes, source: str) -> IbftTable:
    """
    Decode one table.

    :param raw: the table, possibly followed by other bytes, possibly truncated
    :param source: "acpi", "memory" or "file"
    :return: what could be trusted; `is_bootable` is the verdict; never raises
    :source: iBFT specification 1.03
    """
    return _Decoder(raw).table(source)


def regions(raw: bytes) -> list[Region]:
    """Give the structures and strings of a table in the order of their offsets."""
    decoder = _Decoder(raw)
    decoder.table("file")
    return sorted(decoder.regions, key=lambda region: (region.start, region.end))


def declared_length_bytes(raw: bytes) -> int:
    """Give what the header says the length is; 0 where there is no whole header."""
    return int(struct.unpack_from("<I", raw, 4)[0]) if len(raw) >= 8 else 0


def is_checksum_ok(raw: bytes) -> bool:
    """Say whether all bytes sum up to 0 modulo 256."""
    return sum(raw) % 256 == 0


def associated(number: int, nics: Iterable[IbftNic]) -> int | None:
    """
    Give the index of the NIC a target means; None if there is no such NIC.

    The number is the one that a NIC gives itself.  Where several NICs give themselves the same (some firmware
    calls all of them 0), it is the position.
    """
    known = [(nic.index, nic.header_index) for nic in nics]
    named = [index for index, header_index in known if header_index == number]
    found = named if len(named) == 1 else [index for index, _ in known if index == number] + named
    return found[0] if found else None


def bounded(problems: list[Problem]) -> list[Problem]:
    """Give them by their offsets; of more than a person reads, the errors first, with a note on the rest."""
    if len(problems) > layout.MAXIMUM_PROBLEMS:
        by_weight = sorted(problems, key=lambda problem: problem.severity != "error")
        problems = by_weight[: layout.MAXIMUM_PROBLEMS]
        left_out = f"{len(by_weight) - len(problems)} more problems are left out"
        problems.append(Problem("note", "problems", "table", 0, left_out))
    return sorted(problems, key=lambda problem: -1 if problem.offset is None else problem.offset)


class _Decoder:
    def __init__(self, raw: bytes) -> None:
        self.given = raw
        self.problems: list[Problem] = []
        self.regions: list[Region] = []
        self.offsets: dict[str, int] = {}  # "target0.name" -> where a problem with it is
        length = declared_length_bytes(raw)
        self.raw = raw[: min(length, layout.MAXIMUM_BYTES)]

    def problem(self, severity: str, code: str, where: str, offset: int, message: str) -> None:
        self.problems.append(Problem(severity, code, where, offset, message))

    def table(self, source: str) -> IbftTable:
        is_whole, is_header_good = self._check_header()
        control, placed = self._control()
        initiator: IbftInitiator | None = None
        nics: list[IbftNic] = []
        targets: list[IbftTarget] = []
        for place in placed:
            values = self._fields(place)
            if place.structure is layout.INITIATOR:
                initiator = self._examined(place, IbftInitiator(**values))
            elif place.structure is layout.NIC:
                nics.append(self._examined(place, _nic(place, values)))
            else:
                # NICs stand before targets in `placed`, so all of them are known here.
                target = IbftTarget(**self._resolved(place, values, nics))
                targets.append(self._examined(place, target))
        for structure, index, finding in checks.duplicates(nics, targets):
            self._found(f"{structure.name}{index}", finding)
        can_boot = checks.is_bootable(initiator, targets)
        if not can_boot and control is not None:
            self.problems += checks.nothing_bootable(self.problems, layout.CONTROL_OFFSET)
        head = self.given[: layout.HEADER_BYTES]
        return IbftTable(
            source=source,
            signature=text.printable(head[0:4]),
            revision=head[8] if len(head) > 8 else None,
            length=declared_length_bytes(self.given) if len(self.given) >= 8 else None,
            checksum_ok=is_whole and is_checksum_ok(self.raw),
            oem_id=text.padded(head[10:16]),
            oem_table_id=text.padded(head[16:24]),
            control=control,
            initiator=initiator,
            nics=tuple(nics),
            targets=tuple(targets),
            problems=tuple(bounded(self.problems)),
            is_bootable=can_boot and is_header_good,
            raw=self.raw,
        )

    # --- the header ---

    def _check_header(self) -> tuple[bool, bool]:
        """Say whether the length can be used, and whether the header as a whole is good."""
        given, length, usable = self.given, declared_length_bytes(self.given), True
        minimum = layout.HEADER_BYTES + layout.CONTROL_BYTES
        if len(given) < layout.HEADER_BYTES:
            message = f"{len(given)} bytes are less than the header of {layout.HEADER_BYTES}"
        elif length < minimum:
            message = f"the table says it has {length} bytes, less than its first two structures ({minimum})"
        elif length > layout.MAXIMUM_BYTES:
            message = f"the table says it has {length} bytes, more than {layout.MAXIMUM_BYTES}"
        elif length > len(given):
            message = f"the table says it has {length} bytes, but only {len(given)} are there: truncated"
        else:
            message = ""
        if message:
            self.problem("error", "length", "table.length", min(4, len(given)), message)
            usable = False
        elif len(given) > length:
            message = f"{len(given) - length} bytes behind the table are not part of it"
            self.problem("note", "length", "table.length", 4, message)
        is_good = usable
        if given[:4] not in layout.SIGNATURES:
            names = ", ".join(signature.decode() for signature in layout.SIGNATURES)
            message = f'the signature is "{text.printable(given[:4])}", not one of {names}'
            self.problem("error", "signature", "table.signature", 0, message)
            is_good = False
        if len(given) > 8 and given[8] != layout.REVISION:
            message = f"the revision is {given[8]}, not {layout.REVISION}"
            self.problem("error", "revision", "table.revision", 8, message)
            is_good = False
        if usable and not is_checksum_ok(self.raw):
            message = f"the bytes sum up to 0x{sum(self.raw) % 256:02x}, not to 0"
            self.problem("error", "checksum", "table.checksum_ok", 9, message)
            is_good = False
        # Bytes 24-35 are free for revision and creator: ACPICA and iPXE put them there.
        for offset, byte in enumerate(self.raw[36 : layout.HEADER_BYTES], start=36):
            if byte:
                message = f"a reserved byte is 0x{byte:02x}, not 0"
                self.problem("warning", "reserved", "table", offset, message)
                break
        for name, start, end in (("oem_id", 10, 16), ("oem_table_id", 16, 24)):
            self._check_text(self.raw[start:end].rstrip(b"\0"), start, f"table.{name}")
        if self.raw:
            end = min(layout.HEADER_BYTES, len(self.raw))
            self.regions.append(Region(0, end, "header", is_structure=True))
        return usable, is_good

    # --- placing the structures ---

    def _control(self) -> tuple[IbftControl | None, list[_Placed]]:
        control = self._place(layout.CONTROL, 0, layout.CONTROL_OFFSET, "control", layout.CONTROL_OFFSET)
        if control is None:
            return None, []
        length = self._u16(control.offset + 2)
        pairs, rest = divmod(length - layout.PAIRS_OFFSET, layout.PAIR_BYTES)
        if rest:
            message = f"a length of {length} leaves {rest} bytes over behind {pairs} NIC/target pairs"
            self.problem("warning", "structure-length", "control", control.offset + 2, message)
        unknown = control.flags & ~layout.CONTROL.known_flags
        if unknown:
            message = f"reserved flag bits are set: 0x{unknown:02x}"
            self.problem("warning", "flags", "control.flags", control.offset + 5, message)
        extensions = self._u16(control.offset + 6)
        self._check_extensions(extensions, control.offset + 6)
        placed: list[_Placed] = []
        pointer_offset = control.offset + 8
        if self._u16(pointer_offset) == 0:
            self.problem("error", "pointer-range", "initiator", pointer_offset, "the table has no initiator")
        else:
            placed += self._pointed(layout.INITIATOR, 0, pointer_offset)
        if pairs > layout.MAXIMUM_PAIRS:
            message = f"room for {pairs} NIC/target pairs: only {layout.MAXIMUM_PAIRS} are looked at"
            self.problem("warning", "pairs", "control", control.offset + 2, message)
        for structure, shift in ((layout.NIC, 0), (layout.TARGET, 2)):
            for index in range(min(pairs, layout.MAXIMUM_PAIRS)):
                pointer_offset = control.offset + layout.PAIRS_OFFSET + index * layout.PAIR_BYTES + shift
                placed += self._pointed(structure, index, pointer_offset)
        has_failover = bool(control.flags & layout.CONTROL.flags[0].mask)
        return IbftControl(control.flags, has_failover, pairs, extensions), placed

    def _pointed(self, structure: Structure, index: int, pointer_offset: int) -> list[_Placed]:
        pointer = self._u16(pointer_offset)
        where = structure.name if structure is layout.INITIATOR else f"{structure.name}{index}"
        placed = self._place(structure, index, pointer, where, pointer_offset) if pointer else None
        return [placed] if placed else []

    def _place(
        self, structure: Structure, index: int, offset: int, where: str, pointer_offset: int
    ) -> _Placed | None:
        size = len(self.raw)
        if offset < layout.HEADER_BYTES or offset + layout.STRUCTURE_HEADER_BYTES > size:
            message = f"the structure at {offset} does not lie within the table's {size} bytes"
            self.problem("error", "pointer-range", where, pointer_offset, message)
            return None
        if offset % layout.ALIGNMENT_BYTES:
            message = f"the structure at {offset} is not aligned to {layout.ALIGNMENT_BYTES} bytes"
            self.problem("warning", "alignment", where, pointer_offset, message)
        identifier, version, length, header_index, flags = struct.unpack_from("<BBHBB", self.raw, offset)
        if identifier != structure.id:
            message = f"the structure id is {identifier}, not {structure.id} ({structure.name})"
            self.problem("error", "structure-id", where, offset, message)
            return None
        if version != layout.STRUCTURE_VERSION:
            message = f"the structure's version is {version}, not {layout.STRUCTURE_VERSION}"
            self.problem("warning", "structure-version", where, offset + 1, message)
        if length < structure.size_bytes or offset + length > size:
            is_short = length < structure.size_bytes
            reason = f"less than {structure.size_bytes}" if is_short else "past the table's end"
            message = f"the structure's length is {length}: {reason}"
            self.problem("error", "structure-length", where, offset + 2, message)
            return None
        if length > structure.size_bytes and structure is not layout.CONTROL:
            message = f"the structure's length is {length}, more than {structure.size_bytes}"
            self.problem("warning", "structure-length", where, offset + 2, message)
        for region in self.regions:
            if region.is_structure and region.start < offset + length and offset < region.end:
                code = "duplicate" if region.start == offset else "overlap"
                message = f"it lies over {region.where} at {region.start}"
                self.problem("error", code, where, pointer_offset, message)
                return None
        self.regions.append(Region(offset, offset + length, where, is_structure=True))
        self.offsets |= {f"{where}.header_index": offset + 4, f"{where}.flags": offset + 5}
        return _Placed(structure, index, where, offset, flags, header_index)

    def _check_extensions(self, offset: int, pointer_offset: int) -> None:
        if not offset:
            return
        if offset < layout.HEADER_BYTES or offset + layout.STRUCTURE_HEADER_BYTES > len(self.raw):
            message = f"the extensions at {offset} do not lie within the table"
            self.problem("error", "pointer-range", "control.extensions", pointer_offset, message)
        elif self.raw[offset] != layout.EXTENSIONS_ID:
            message = f"the structure id is {self.raw[offset]}, not {layout.EXTENSIONS_ID} (extensions)"
            self.problem("error", "structure-id", "control.extensions", offset, message)

    # --- reading fields ---

    def _u16(self, offset: int) -> int:
        return int(struct.unpack_from("<H", self.raw, offset)[0])

    def _fields(self, place: _Placed) -> dict[str, Any]:
        values: dict[str, Any] = {flag.name: bool(place.flags & flag.mask) for flag in place.structure.flags}
        values["flags"] = place.flags
        for field in place.structure.fields:
            value = self._field(place, field)
            if field.name in ("radius", "dns"):
                values[field.name] = (*values.get(field.name, ()), *([value] if value is not None else []))
            else:
                values[field.name] = value
        return values

    def _field(self, place: _Placed, field: Field) -> Any:
        offset = place.offset + field.offset
        where = f"{place.where}.{field.json}"
        self.offsets.setdefault(where, offset)
        if field.kind in (Kind.STRING, Kind.SECRET):
            raw = self._string(offset, where, field.kind is Kind.SECRET)
            return Secret(raw) if field.kind is Kind.SECRET else text.printable(raw)
        raw = self.raw[offset : offset + field.kind.size_bytes]
        if field.kind is Kind.ADDRESS:
            return text.decode_address(raw)
        if field.kind is Kind.MAC:
            return raw.hex(":")
        if field.kind is Kind.LUN:
            return raw
        number = int.from_bytes(raw, "little")
        if field.kind is Kind.PCI:
            return f"{number >> 8:02x}:{number >> 3 & 31:02x}.{number & 7}" if number else None
        if field.kind is Kind.ORIGIN:
            return layout.ORIGINS.get(number, number)
        return number

    def _string(self, field_offset: int, where: str, is_secret: bool) -> bytes:
        length, offset = struct.unpack_from("<HH", self.raw, field_offset)
        if length == 0:
            return b""
        if offset < layout.HEADER_BYTES or offset + length > len(self.raw):
            message = f"{length} bytes at {offset} do not lie within the table's {len(self.raw)}"
            self.problem("error", "string-range", where, field_offset, message)
            return b""
        if length > layout.MAXIMUM_STRING_BYTES:
            message = f"{length} bytes at {offset} are more than {layout.MAXIMUM_STRING_BYTES}"
            self.problem("error", "string-length", where, field_offset, message)
            return b""
        end = offset + length
        if end == len(self.raw) or self.raw[end] != 0:
            message = f"the string at {offset} does not end in a NUL"
            self.problem("warning", "terminator", where, min(end, len(self.raw) - 1), message)
        for region in self.regions:
            is_inside = region.start <= offset and end <= region.end
            is_around = offset <= region.start and region.end <= end
            # Firmware may keep equal strings once, or one as the tail of another.
            if not region.is_structure and (is_inside or is_around):
                continue
            if region.start < end and offset < region.end:
                message = f"the string at {offset} lies over {region.where} at {region.start}"
                self.problem("warning", "overlap", where, field_offset, message)
                break
        self.regions.append(Region(offset, end, where, is_structure=False, is_secret=is_secret))
        raw = self.raw[offset:end]
        self._check_text(raw, offset, where, is_secret)
        self.offsets[where] = offset
        return raw

    def _check_text(self, raw: bytes, offset: int, where: str, is_secret: bool = False) -> None:
        position = text.first_unprintable(raw)
        if position is not None:
            shown = "" if is_secret else f": 0x{raw[position]:02x}"
            message = f"a byte is not printable ASCII{shown}"
            self.problem("warning", "text", where, offset + position, message)

    def _resolved(self, place: _Placed, values: dict[str, Any], nics: list[IbftNic]) -> dict[str, Any]:
        """Turn the numbers of a target that mean something else into what they mean."""
        association, where = values["nic"], place.where
        nic = associated(association, nics)
        if nic is None:
            message = f"the target's NIC {association} is not in the table"
            self.problem("warning", "nic", f"{where}.nic", self.offsets[f"{where}.nic"], message)
        chap = layout.CHAP_TYPES.get(values["chap"], "")
        if not chap:
            # Never less than what is there: a login without CHAP must not come out of a damaged byte.
            chap = "mutual" if values["reverse_chap_secret"] else "chap" if values["chap_secret"] else "none"
            message = f'CHAP type {values["chap"]} is not defined, taken as "{chap}" for what is present'
            self.problem("warning", "chap", f"{where}.chap", self.offsets[f"{where}.chap"], message)
        own = {"index": place.index, "header_index": place.header_index}
        return values | own | {"nic": nic, "chap": chap}

    # --- rules about values ---

    def _examined(self, place: _Placed, value: _T) -> _T:
        for finding in checks.examine(place.structure, value):
            self._found(place.where, finding)
        return value

    def _found(self, where: str, finding: checks.Finding) -> None:
        path = f"{where}.{finding.field}"
        if any(problem.where == path and problem.severity == "error" for problem in self.problems):
            return  # an empty string that could not be read is not news
        self.problem(finding.severity, finding.code, path, self.offsets[path], finding.message)


def _nic(place: _Placed, values: dict[str, Any]) -> IbftNic:
    return IbftNic(index=place.index, header_index=place.header_index, **values)
