"""
A table described in TOML, with the keys of `isboot ibft --json`, into bytes: for tests and `qemu -acpitable`.

    [initiator]
    name = "iqn.2001-04.com.example:guest"
    [[nics]]
    mac = "52:54:00:12:34:56"
    ip = "10.0.2.15"
    prefix = 24
    [[targets]]
    name = "iqn.2001-04.com.example:disk0"
    ip = "10.0.2.2"
    lun = "0001000000000000"
    chap = "chap"
    chap_name = "guest"
    chap_secret = "..."
    [raw]
    48 = "07"

What is left out is absent; structures are valid and boot-selected unless they say otherwise.  A target
without `nic` is that of the NIC at its own position, else of the first; `nic = "none"` is that of none.  The
bytes of `[raw]` go in last; the checksum is right nevertheless, unless they set it or `checksum_ok = false`.
The JSON document itself is a specification as well; its secrets are in it with --show-secrets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NoReturn

from isboot.errors import ExitStatus, FirmwareError
from isboot.firmware import layout, text
from isboot.firmware.encode import encode
from isboot.firmware.layout import Field, Kind, Structure
from isboot.values import (
    LUN_FORMS,
    IbftControl,
    IbftInitiator,
    IbftNic,
    IbftTable,
    IbftTarget,
    Secret,
    lun_of_number,
)

HINT = "the keys are those of isboot ibft --json"
PORT = 3260
NO_NIC = "none"
MAXIMUM_PAIRS = 1000  #: a table may have room for; no more than layout.MAXIMUM_PAIRS of them are ever read
CHECKSUM_OFFSET = 9
# Keys of the document that say what a reader found, not what a table holds.
FINDINGS = frozenset({"source", "problems", "verdict", "quirks", "has_secret", "has_reverse_secret"})
LISTS = ("radius", "dns")


def build(specification: str) -> bytes:
    """
    Build the table a text describes, in TOML or JSON.

    :raises FirmwareError: it is neither, or has a key or a value no table can hold (65): names where
    """
    document = _parsed(specification)
    raw = bytearray(encode(from_document(document)))
    damaged = [_damage(raw, key, value) for key, value in _part(document, "raw").items()]
    if not any(CHECKSUM_OFFSET in span for span in damaged):
        # A damaged length decides over which bytes the sum goes, as far as there are any.
        length = min(int.from_bytes(raw[4:8], "little"), len(raw))
        raw[CHECKSUM_OFFSET] = 0
        raw[CHECKSUM_OFFSET] = -sum(raw[:length]) % 256
    if document.get("checksum_ok") is False:
        raw[CHECKSUM_OFFSET] ^= 0xFF
    return bytes(raw)


def _parsed(specification: str) -> dict[str, Any]:
    import json  # neither is of use where tables are read
    import tomllib

    is_json = specification.lstrip().startswith("{")  # as no TOML begins
    try:
        return dict(json.loads(specification) if is_json else tomllib.loads(specification))
    except (ValueError, RecursionError) as error:
        _refuse("the specification", f"it is no {'JSON' if is_json else 'TOML'}: {error}")


def from_document(document: Mapping[str, Any]) -> IbftTable:
    """
    Give the table of a document: the inverse of `document.to_document` with its secrets.

    :raises FirmwareError: a key or a value no table can hold (65)
    """
    nics = [_structure(layout.NIC, "nic", index, part) for index, part in _parts(document, "nics")]
    targets = [
        _structure(layout.TARGET, "target", index, part, nics) for index, part in _parts(document, "targets")
    ]
    for name, parts in (("nic", nics), ("target", targets)):
        indices = [part["index"] for part in parts]
        for index in indices:
            if indices.count(index) > 1:
                _refuse(f"{name}{index}.index", "several have it")
    initiator = _part(document, "initiator")
    control = _part(document, "control")
    known = {"control", "initiator", "nics", "targets", "raw", "signature", "revision", "length"}
    _only("table", document, known | FINDINGS | {"checksum_ok", "oem_id", "oem_table_id"})
    _only("control", control, {"flags", "boot_failover", "pairs", "extensions"})
    pairs = max([2, *(part["index"] + 1 for part in (*nics, *targets))])
    flags = _integer("control.flags", control.get("flags", 0), 255)
    return IbftTable(
        source="file",
        signature=_text("table.signature", document.get("signature", "iBFT")),
        revision=_integer("table.revision", document.get("revision", layout.REVISION), 255),
        length=_integer("table.length", document.get("length") or 0, layout.MAXIMUM_BYTES),
        checksum_ok=None,
        oem_id=_text("table.oem_id", document.get("oem_id", "ISBOOT")),
        oem_table_id=_text("table.oem_table_id", document.get("oem_table_id", "MADE")),
        control=IbftControl(
            flags=flags,
            boot_failover=bool(control.get("boot_failover", flags & 1)),
            pairs=_integer("control.pairs", control.get("pairs", pairs), MAXIMUM_PAIRS, minimum=2),
            extensions=_integer("control.extensions", control.get("extensions", 0), 0xFFFF),
        ),
        initiator=(
            None
            if document.get("initiator") is None
            else IbftInitiator(**_fields(layout.INITIATOR, "initiator", initiator))
        ),
        nics=tuple(IbftNic(**values) for values in nics),
        targets=tuple(IbftTarget(**values) for values in targets),
        problems=(),
        is_bootable=False,
    )


def _refuse(where: str, reason: str) -> NoReturn:
    raise FirmwareError(f"building a table: {where}: {reason}", HINT, ExitStatus.MALFORMED)


def _damage(raw: bytearray, key: str, value: object) -> range:
    """Write bytes over the table and give the offsets they took."""
    where = f"raw.{key}"
    if not re.fullmatch(r"[0-9]+|0x[0-9a-fA-F]+", key):
        _refuse(where, "the key is no offset")
    if not isinstance(value, str) or not re.fullmatch(r"([0-9a-fA-F]{2}\s*)+", value):
        _refuse(where, "the value is no string of hexadecimal bytes")
    offset, new = int(key, 0), bytes.fromhex(value)
    if offset + len(new) > len(raw):
        _refuse(where, f"it runs past the table's {len(raw)} bytes")
    raw[offset : offset + len(new)] = new
    return range(offset, offset + len(new))


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    if part is not None and not isinstance(part, dict):
        _refuse(name, "it is no table of keys")
    return part or {}


def _parts(document: Mapping[str, Any], name: str) -> list[tuple[int, Mapping[str, Any]]]:
    parts = document.get(name, [])
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        _refuse(name, f"it is no list; write [[{name}]]")
    return list(enumerate(parts))


def _only(where: str, part: Mapping[str, Any], known: set[str] | frozenset[str]) -> None:
    for key in part:
        if key not in known:
            _refuse(f"{where}.{key}", "there is no such key")


def _structure(
    structure: Structure,
    name: str,
    position: int,
    part: Mapping[str, Any],
    nics: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    where = f"{name}{position}"
    index = _integer(f"{where}.index", part.get("index", position), layout.MAXIMUM_PAIRS - 1)
    header_index = _integer(f"{where}.header_index", part.get("header_index", index), 255)
    own = {"index": index, "header_index": header_index}
    values = _fields(structure, where, part, frozenset(own)) | own
    if structure is layout.TARGET:
        values["nic"] = _nic(f"{where}.nic", part, index, [nic["index"] for nic in nics])
    return values


def _nic(where: str, part: Mapping[str, Any], index: int, nics: Sequence[int]) -> int | None:
    given = part.get("nic", index if index in nics else min(nics, default=None))
    if given is None or given == NO_NIC:
        return None
    if _integer(where, given, 255) not in nics:
        _refuse(where, f'there is no NIC {given}; "{NO_NIC}" says that none is meant')
    return int(given)


def _fields(
    structure: Structure, where: str, part: Mapping[str, Any], also: frozenset[str] = frozenset()
) -> dict[str, Any]:
    flags = _integer(f"{where}.flags", part.get("flags", layout.VALID.mask | layout.BOOT_SELECTED.mask), 255)
    values: dict[str, Any] = {"flags": flags}
    known = {"flags", *also, *FINDINGS}
    for flag in structure.flags:
        key = flag.name.removeprefix("is_")
        values[flag.name] = part.get(key, bool(flags & flag.mask))
        if not isinstance(values[flag.name], bool):
            _refuse(f"{where}.{key}", "it is neither true nor false")
        known.add(key)
    for field in structure.fields:
        known.add(field.json)
        path, given = f"{where}.{field.json}", part.get(field.json)
        if field.name in LISTS:
            if not isinstance(given or [], list) or len(given or []) > 2:
                _refuse(path, "it is no list of at most two addresses")
            values[field.name] = tuple(_READERS[field.kind](path, address) for address in given or [])
        elif field.name != "nic":  # needs to know the NICs
            values[field.name] = _value(field, path, given)
    _only(where, part, known)
    return values


def _value(field: Field, where: str, given: object) -> Any:
    if given is None or (given == "" and field.kind is Kind.ADDRESS):
        return _DEFAULTS.get(field.name, _ABSENT[field.kind])
    return _READERS[field.kind](where, given)


def _integer(where: str, given: object, maximum: int, minimum: int = 0) -> int:
    if not isinstance(given, int) or isinstance(given, bool) or not minimum <= given <= maximum:
        _refuse(where, f"it is no number from {minimum} to {maximum}")
    return given


def _text(where: str, given: object) -> str:
    if not isinstance(given, str) or not given.isascii() or len(given) > layout.MAXIMUM_STRING_BYTES:
        _refuse(where, f"it is no string of at most {layout.MAXIMUM_STRING_BYTES} ASCII characters")
    return given


def _matching(pattern: str, words: str) -> Callable[[str, object], str]:
    def read(where: str, given: object) -> str:
        if not isinstance(given, str) or not re.fullmatch(pattern, given):
            _refuse(where, f"it is no {words}")
        return given.lower()

    return read


def _address(where: str, given: object) -> Any:
    try:
        return text.meaningful(ip_address(given if isinstance(given, str) else "?"))
    except ValueError:
        _refuse(where, "it is no address")


def _secret(where: str, given: object) -> Secret:
    try:
        raw = given.encode() if isinstance(given, str) else None
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can say
        raw = None
    if raw is None or len(raw) > layout.MAXIMUM_STRING_BYTES:
        _refuse(where, f"it is no string of at most {layout.MAXIMUM_STRING_BYTES} bytes")
    return Secret(raw)


def _origin(where: str, given: object) -> str | int:
    return given if given in layout.ORIGINS.values() else _integer(where, given, 255)  # type: ignore[return-value]


def _chap(where: str, given: object) -> str:
    if given not in layout.CHAP_TYPES.values():
        _refuse(where, f"it is none of {', '.join(layout.CHAP_TYPES.values())}")
    return str(given)


_MAC = _matching(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", "MAC")
_PCI = _matching(r"[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7]", "PCI address (00:03.0)")
_LUN = _matching(r"[0-9a-fA-F]{16}", "LUN of 16 hexadecimal digits")


def _lun(where: str, given: object) -> bytes:
    # A number is not what --json gives, but what people write.
    if isinstance(given, int):
        return lun_of_number(_integer(where, given, LUN_FORMS[-1][2]))
    return bytes.fromhex(_LUN(where, given))


_READERS: Mapping[Kind, Callable[[str, object], Any]] = {
    Kind.U8: lambda where, given: _integer(where, given, 0xFF),
    Kind.U16: lambda where, given: _integer(where, given, 0xFFFF),
    Kind.ORIGIN: _origin,
    Kind.CHAP: _chap,
    Kind.MAC: _MAC,
    Kind.PCI: _PCI,
    Kind.LUN: _lun,
    Kind.ADDRESS: _address,
    Kind.STRING: _text,
    Kind.SECRET: _secret,
}
_ABSENT: Mapping[Kind, Any] = {
    Kind.U8: 0, Kind.U16: 0, Kind.ORIGIN: "other", Kind.CHAP: "none", Kind.MAC: "00:00:00:00:00:00",
    Kind.PCI: None, Kind.LUN: bytes(8), Kind.ADDRESS: None, Kind.STRING: "", Kind.SECRET: Secret(b""),
}  # fmt: skip
_DEFAULTS: Mapping[str, Any] = {"port": PORT}
