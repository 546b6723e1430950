"""
What firmware does in its own way, a row each: whose it is, how it is recognised, what is done, the source.

None is an error by itself.  What is one stands among the table's problems; here it says whose habit it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address

from isboot.firmware import checks, decode, layout
from isboot.firmware.layout import Kind
from isboot.values import IbftInitiator, IbftNic, IbftTable, IbftTarget

EDK2_BYTES = 2048  #: IBFT_HEAP_OFFSET, whatever is in the table
MAPPED_ZERO = IPv6Address("::ffff:0.0.0.0").packed
CREATOR = slice(24, 36)  #: where other ACPI tables have the revision and the creator
FIRST_PAIRS = 2  #: there is room for them in the shortest control structure

_IPXE = "iPXE src/drivers/block/ibft.c"
_EDK2 = "edk2 NetworkPkg/IScsiDxe/IScsiIbft.c"
_SEEN_EDK2 = "tests/data/ibft/edk2-four-attempts.txt (OVMF 2022.11)"


@dataclass(frozen=True, slots=True)
class Quirk:
    """
    One row.

    :param sign: how it is recognised
    :param action: what is done about it
    :param source: how it is known
    :param find: gives the places in a table where it is met, in the words of `Problem.where`
    """

    code: str
    producer: str
    sign: str
    action: str
    source: str
    find: Callable[[IbftTable], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Met:
    """A quirk and where a table shows it."""

    quirk: Quirk
    places: tuple[str, ...]


def met(table: IbftTable) -> list[Met]:
    """Give the quirks of a table, in the order of the rows."""
    found = [Met(quirk, tuple(dict.fromkeys(quirk.find(table)))) for quirk in QUIRKS]
    return [one for one in found if one.places]


def _when(condition: object, *places: str) -> Iterable[str]:
    return places if condition else ()


def _problems(table: IbftTable, code: str) -> Iterable[str]:
    return (problem.where for problem in table.problems if problem.code == code)


def _flagged(table: IbftTable) -> Iterable[tuple[str, IbftInitiator | IbftNic | IbftTarget]]:
    if table.initiator:
        yield "initiator", table.initiator
    yield from ((f"nic{nic.index}", nic) for nic in table.nics)
    yield from ((f"target{target.index}", target) for target in table.targets)


def _only_selected(table: IbftTable) -> Iterable[str]:
    return (f"{place}.flags" for place, value in _flagged(table) if value.boot_selected and not value.valid)


def _left_over(table: IbftTable) -> Iterable[str]:
    for place, value in _flagged(table):
        # Nobody needs the initiator's flags: there is only one.
        yield from _when(not (value.valid or value.boot_selected or place == "initiator"), f"{place}.flags")


def _all_selected(table: IbftTable) -> Iterable[str]:
    places = [f"target{target.index}" for target in table.targets if target.boot_selected]
    return places if len(places) > 1 else ()


def _without_address(table: IbftTable) -> Iterable[str]:
    if table.oem_id == "FENSYS":
        for target in table.targets:
            yield from _when(target.ip is None, f"target{target.index}.ip")


def _has_heap_at_end(table: IbftTable) -> bool:
    # The initiator's name is the first string it writes, so the name's NUL is the table's last byte, and the
    # names of targets lie before it.
    name = table.initiator.name.encode() if table.initiator else b""
    has_others = any(target.name for target in table.targets)
    return bool(name) and has_others and table.raw.endswith(name + b"\0")


def _mapped_zero(table: IbftTable) -> Iterable[str]:
    for region in decode.regions(table.raw):
        for structure in layout.STRUCTURES:
            if region.is_structure and region.where.rstrip("0123456789") == structure.name:
                for field in structure.fields:
                    at = region.start + field.offset
                    is_it = field.kind is Kind.ADDRESS and table.raw[at : at + 16] == MAPPED_ZERO
                    yield from _when(is_it, f"{region.where}.{field.json}")


def _is_from_router(nic: IbftNic) -> bool:
    """Say whether the address is one a host makes of a router's prefix and its MAC (RFC 4291 appendix A)."""
    if nic.origin != "manual" or not isinstance(nic.ip, IPv6Address):
        return False
    mac = bytes.fromhex(nic.mac.replace(":", ""))
    return nic.ip.packed[8:] == bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]


def _failover(table: IbftTable) -> Iterable[str]:
    several = sum(map(checks.can_boot_from, table.targets)) > 1
    # The kernel's tree does not show the flag.
    return _when(several and table.raw and table.control and not table.control.boot_failover, "control.flags")


def _empty_pairs(table: IbftTable) -> Iterable[str]:
    if table.control and table.raw and table.control.pairs > FIRST_PAIRS:
        used = {nic.index for nic in table.nics} | {target.index for target in table.targets}
        used |= {int(place[3:]) for place in _broken(table, "nic")}
        used |= {int(place[6:]) for place in _broken(table, "target")}
        return _when(len(used) < min(table.control.pairs, layout.MAXIMUM_PAIRS), "control.pairs")
    return ()


def _broken(table: IbftTable, name: str) -> Iterable[str]:
    for problem in table.problems:
        place = problem.where.partition(".")[0]
        if problem.severity == "error" and place.startswith(name) and place[len(name) :].isdigit():
            yield place


def _aborted(table: IbftTable) -> Iterable[str]:
    header_is_good = table.checksum_ok is not False and bool(table.control)
    return _when(header_is_good and not checks.is_bootable(table.initiator, table.targets), "table")


QUIRKS: tuple[Quirk, ...] = (
    Quirk("low-memory", "BIOS firmware, iPXE among it", "the table is in low memory and in no list of ACPI",
          "512 KiB to 1 MiB are searched, without the window of VGA", _IPXE,
          lambda t: _when(t.source == "memory", "table")),
    Quirk("creator", "iPXE", "bytes 24 to 35 hold a revision and a creator, as in other ACPI tables",
          "they are not called reserved", f"{_IPXE}; ACPICA actbl1.h",
          lambda t: _when(any(t.raw[CREATOR]), "table")),
    Quirk("all-selected", "iPXE", "several targets are boot-selected",
          "all are paths, the first in the table comes first", _IPXE, _all_selected),
    Quirk("no-ipv6", "iPXE", "a target has no address",
          "it is not used: this firmware has no way to write an IPv6 target", _IPXE, _without_address),
    Quirk("fixed-length", "EDK2", f"the length is {EDK2_BYTES} whatever is in it",
          "the zeros between structures and strings mean nothing; they count for the checksum", _EDK2,
          lambda t: _when(t.length == EDK2_BYTES and _has_heap_at_end(t), "table.length")),
    Quirk("heap-down", "EDK2", "strings lie at the end and grow downwards",
          "offsets are followed wherever they point to within the table", _EDK2,
          lambda t: _when(_has_heap_at_end(t), "table")),
    Quirk("heap-overlap", "EDK2", "the strings have grown into the structures: nothing checks that",
          "both are read as they are, and the overlap is a problem of its own", _EDK2,
          lambda t: _problems(t, "overlap") if _has_heap_at_end(t) else ()),
    Quirk("mapped-zero", "EDK2", "an absent IPv4 address is written ::ffff:0.0.0.0, not as all zero",
          "it is absent", _EDK2, _mapped_zero),
    Quirk("nic-per-attempt", "EDK2", "several NIC structures have one MAC: each attempt has its own",
          "they are one NIC with the addresses of all", _EDK2,
          lambda t: (p.where for p in t.problems if p.code == "duplicate" and p.where.startswith("nic"))),
    Quirk("no-failover", "EDK2, iPXE", "several targets, but the Boot Failover flag is not set",
          "every usable target is a path all the same", _EDK2, _failover),
    Quirk("empty-pairs", "EDK2", "there is room for more NIC/target pairs than there are",
          "empty ones are passed over: those of attempts that failed", _SEEN_EDK2, _empty_pairs),
    Quirk("router-manual", "EDK2", "an IPv6 address made of a router's prefix is called manual",
          "it is set as it stands", _SEEN_EDK2,
          lambda t: (f"nic{nic.index}.origin" for nic in t.nics if _is_from_router(nic))),
    Quirk("always-global", "EDK2", "a link-local address is flagged global",
          "the address itself decides", _EDK2,
          lambda t: (f"nic{n.index}.flags" for n in t.nics if n.is_global and n.ip and n.ip.is_link_local)),
    Quirk("long-control", "EDK2 and others",
          "the control structure is longer than 18 bytes: 22 for three pairs",
          "all pairs are read; Linux' iscsi_ibft refuses such a table", "Linux drivers/firmware/iscsi_ibft.c",
          lambda t: _when(t.raw and t.control and t.control.pairs > FIRST_PAIRS, "control")),
    Quirk("bift", "Broadcom offload", 'the signature is "BIFT"',
          "it is a table like any other; its MAC may be that of the card's iSCSI function",
          "Linux drivers/firmware/iscsi_ibft_find.c; open-iscsi commit ee115be",
          lambda t: _when(t.signature == "BIFT", "table.signature")),
    Quirk("acpi-spelling", "ACPI's own list of names", 'the signature is "IBFT"',
          "it is a table like any other", "ACPICA actbl1.h",
          lambda t: _when(t.signature == "IBFT", "table.signature")),
    Quirk("dhcp-no-server", "Broadcom", "an address is from DHCP, but the DHCP server is absent or 0.0.0.0",
          "the origin alone says that it is from DHCP", "dracut modules.d/45net-lib/net-lib.sh",
          lambda t: (f"nic{nic.index}.dhcp" for nic in t.nics if nic.origin == "dhcp" and nic.dhcp is None)),
    Quirk("only-selected", "some BIOSes", "boot-selected is set without valid",
          "the structure is used", "open-iscsi utils/fwparam_ibft/fwparam_sysfs.c",
          _only_selected),
    Quirk("left-over", "firmware that tried more than it took",
          "a structure is neither valid nor boot-selected",
          "it is shown and not used", "iBFT specification 1.03, block valid flag",
          _left_over),
    Quirk("aborted", "firmware that gave up its own attempt", "nothing in the table can be booted from",
          "the next table is taken, or netroot=", "iBFT specification 1.03, block valid flag", _aborted),
    Quirk("wrong-checksum", "some vendors; fwts' sample", "the bytes do not sum up to 0",
          "the table is refused: nobody knows which byte is wrong", "fwts fwts-test/ibft-0001",
          lambda t: _problems(t, "checksum")),
    Quirk("lossy-lun", "Linux' iscsi_ibft", "the kernel shows a LUN without its leading zeros",
          "the likeliest is taken, the others are named", "Linux drivers/firmware/iscsi_ibft.c",
          lambda t: _problems(t, "lun") if t.source == "sysfs" else ()),
)  # fmt: skip
