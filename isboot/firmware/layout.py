"""
The iBFT, byte by byte: one row per field.  Decoder, encoder and hexdump read these rows and nothing else.

All numbers are little-endian except the LUN, which is the 8 bytes of the wire.  Offsets of fields count from
the start of their structure, offsets stored in the table from the start of the table.

:source: iBFT specification 1.03; ACPICA actbl1.h "IBFT"
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SIGNATURES = (b"iBFT", b"IBFT", b"BIFT")  #: most firmware; ACPI's own spelling; Broadcom's offload firmware
HEADER_BYTES = 48
STRUCTURE_HEADER_BYTES = 6
CONTROL_OFFSET = HEADER_BYTES
CONTROL_BYTES = 18  #: with room for two pairs; longer ones carry more
PAIRS_OFFSET = 10  #: where in the control structure the pointers to pairs begin
PAIR_BYTES = 4
REVISION = 1
STRUCTURE_VERSION = 1
ALIGNMENT_BYTES = 8
EXTENSIONS_ID = 5
MAXIMUM_PAIRS = 32  #: looked at; firmware is known to write 2 to 4
MAXIMUM_STRING_BYTES = 2048  #: an iSCSI name has 223 at most, what CHAP carries 1024
MAXIMUM_PROBLEMS = 250  #: told of one table
MAXIMUM_BYTES = 1 << 20  #: offsets have 16 bits, so a longer table is damaged


class Kind(Enum):
    """How the bytes of a field are to be read, and how many they are."""

    size_bytes: int

    def __init__(self, size_bytes: int, _name: str) -> None:
        self.size_bytes = size_bytes

    U8 = (1, "u8")
    U16 = (2, "u16")
    ORIGIN = (1, "origin")
    CHAP = (1, "chap")
    MAC = (6, "mac")
    PCI = (2, "pci")  #: bus << 8 | device << 3 | function
    LUN = (8, "lun")
    ADDRESS = (16, "address")  #: IPv6, or IPv4 as ::ffff:a.b.c.d, or all zero
    STRING = (4, "string")  #: length without the NUL, then the offset
    SECRET = (4, "secret")  #: a string nobody is shown


@dataclass(frozen=True, slots=True)
class Field:
    """
    One field.

    :param name: of the field in `IbftInitiator`, `IbftNic`, `IbftTarget`; a list has several rows
    :param offset: bytes from the start of the structure
    :param json: its name in `isboot ibft --json`, where problems point to
    """

    name: str
    offset: int
    kind: Kind
    json: str
    label: str  #: in words, for people


@dataclass(frozen=True, slots=True)
class Flag:
    mask: int
    name: str
    label: str


@dataclass(frozen=True, slots=True)
class Structure:
    name: str  #: initiator, nic, target
    id: int
    size_bytes: int
    flags: tuple[Flag, ...]
    fields: tuple[Field, ...]

    @property
    def known_flags(self) -> int:
        return sum(flag.mask for flag in self.flags)


def _field(name: str, offset: int, kind: Kind, label: str, json: str = "") -> Field:
    return Field(name, offset, kind, json or name, label)


VALID = Flag(1, "valid", "valid")
BOOT_SELECTED = Flag(2, "boot_selected", "boot selected")

# The Boot Failover flag: EDK2 names it so; iPXE calls the same bit "single login only".
CONTROL = Structure(
    "control", 1, CONTROL_BYTES, (Flag(1, "boot_failover", "boot failover"),),
    (
        _field("extensions", 6, Kind.U16, "extensions at"),
        _field("initiator", 8, Kind.U16, "initiator at"),
    ),
)  # fmt: skip

INITIATOR = Structure(
    "initiator", 2, 74, (VALID, BOOT_SELECTED),
    (
        _field("isns", 6, Kind.ADDRESS, "iSNS server"),
        _field("slp", 22, Kind.ADDRESS, "SLP server"),
        _field("radius", 38, Kind.ADDRESS, "RADIUS server"),
        _field("radius", 54, Kind.ADDRESS, "RADIUS server"),
        _field("name", 70, Kind.STRING, "name"),
    ),
)  # fmt: skip

NIC = Structure(
    "nic", 3, 102, (VALID, BOOT_SELECTED, Flag(4, "is_global", "global address")),
    (
        _field("ip", 6, Kind.ADDRESS, "address"),
        _field("prefix", 22, Kind.U8, "prefix length"),
        _field("origin", 23, Kind.ORIGIN, "address from"),
        _field("gateway", 24, Kind.ADDRESS, "gateway"),
        _field("dns", 40, Kind.ADDRESS, "name server"),
        _field("dns", 56, Kind.ADDRESS, "name server"),
        _field("dhcp", 72, Kind.ADDRESS, "DHCP server"),
        _field("vlan", 88, Kind.U16, "VLAN"),
        _field("mac", 90, Kind.MAC, "MAC"),
        _field("pci", 96, Kind.PCI, "PCI address"),
        _field("hostname", 98, Kind.STRING, "host name"),
    ),
)  # fmt: skip

TARGET = Structure(
    "target", 4, 54,
    (VALID, BOOT_SELECTED, Flag(4, "radius_chap", "RADIUS CHAP"),
     Flag(8, "radius_reverse_chap", "RADIUS reverse CHAP")),
    (
        _field("ip", 6, Kind.ADDRESS, "address"),
        _field("port", 22, Kind.U16, "port"),
        _field("lun", 24, Kind.LUN, "LUN"),
        _field("chap", 32, Kind.CHAP, "CHAP"),
        _field("nic", 33, Kind.U8, "NIC"),
        _field("name", 34, Kind.STRING, "name"),
        _field("chap_name", 38, Kind.STRING, "CHAP name"),
        _field("chap_secret", 42, Kind.SECRET, "CHAP secret"),
        _field("reverse_chap_name", 46, Kind.STRING, "reverse CHAP name"),
        _field("reverse_chap_secret", 50, Kind.SECRET, "reverse CHAP secret"),
    ),
)  # fmt: skip

STRUCTURES = (CONTROL, INITIATOR, NIC, TARGET)

ORIGINS = {0: "other", 1: "manual", 2: "well-known", 3: "dhcp", 4: "ra", 15: "unchanged"}
CHAP_TYPES = {0: "none", 1: "chap", 2: "mutual"}
