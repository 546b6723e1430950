"""Tables for tests: three whole ones by hand, and a strategy for any."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from isboot.firmware import checks, layout
from isboot.firmware.decode import associated
from isboot.values import (
    IbftControl,
    IbftInitiator,
    IbftNic,
    IbftTable,
    IbftTarget,
    Secret,
)

# No deadline: the machine the tests run on is shared, and only the result counts.
PROPERTY = settings(
    deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)

NIC = IbftNic(
    index=0, header_index=0, mac="52:54:00:12:34:56", ip=ip_address("10.0.2.15"), prefix=24, origin="dhcp",
    gateway=ip_address("10.0.2.2"), dns=(ip_address("10.0.2.3"),), dhcp=ip_address("10.0.2.2"), vlan=0,
    pci="00:03.0", hostname="", flags=3, valid=True, boot_selected=True, is_global=False,
)  # fmt: skip

TARGET = IbftTarget(
    index=0, header_index=0, name="iqn.2001-04.com.example:disk0", ip=ip_address("10.0.2.2"), port=3260,
    lun=bytes.fromhex("0001000000000000"), nic=0, chap="none", chap_name="", chap_secret=Secret(b""),
    reverse_chap_name="", reverse_chap_secret=Secret(b""), radius_chap=False, radius_reverse_chap=False,
    flags=3, valid=True, boot_selected=True,
)  # fmt: skip

INITIATOR = IbftInitiator(
    name="iqn.2010-04.org.ipxe:guest", isns=None, slp=None, radius=(), flags=3, valid=True, boot_selected=True
)

TABLE = IbftTable(
    source="file", signature="iBFT", revision=1, length=None, checksum_ok=True, oem_id="FENSYS",
    oem_table_id="iPXE", control=IbftControl(0, False, 2, 0), initiator=INITIATOR, nics=(NIC,),
    targets=(TARGET,), problems=(), is_bootable=True,
)  # fmt: skip

CHAP_TARGET = replace(TARGET, chap="chap", chap_name="guest", chap_secret=Secret(b"twelve bytes"))
CHAP_TABLE = replace(TABLE, targets=(CHAP_TARGET,))

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
SECRETS = st.binary(max_size=32).map(Secret)
# Not one of those that stand for an IPv4 address or for none.
_IPV6 = st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None and int(address) != 0)
ADDRESSES = st.one_of(st.none(), st.ip_addresses(v=4).filter(lambda address: int(address) != 0), _IPV6)
PRESENT = ADDRESSES.filter(lambda address: address is not None)
NAMES = st.one_of(
    PRINTABLE,
    st.from_regex(r"iqn\.20[0-9]{2}-0[1-9]\.com\.example(:[a-z0-9.-]{0,40})?", fullmatch=True),
)
OEM = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=6)


def _flagged(structure: layout.Structure, flags: int) -> dict[str, object]:
    return {"flags": flags} | {flag.name: bool(flags & flag.mask) for flag in structure.flags}


def _indices(draw: st.DrawFn, pairs: int) -> list[int]:
    """Give positions of structures: often the first ones, sometimes with gaps, up to the last one read."""
    count = draw(st.integers(0, min(pairs, 4)))
    if draw(st.booleans()):
        return list(range(count))
    last = min(pairs, layout.MAXIMUM_PAIRS) - 1
    return sorted(draw(st.sets(st.integers(0, last), min_size=count, max_size=count)))


def _header_index(draw: st.DrawFn, index: int) -> int:
    return draw(st.one_of(st.just(index), st.just(0), st.integers(0, 255)))


@st.composite
def _nics(draw: st.DrawFn, index: int) -> IbftNic:
    pci = draw(st.integers(0, 0xFFFF))
    return IbftNic(
        index=index,
        header_index=_header_index(draw, index),
        mac=draw(st.binary(min_size=6, max_size=6)).hex(":"),
        ip=draw(ADDRESSES),
        prefix=draw(st.integers(0, 255)),
        origin=draw(st.one_of(st.sampled_from(sorted(layout.ORIGINS.values())), st.integers(16, 255))),
        gateway=draw(ADDRESSES),
        dns=tuple(draw(st.lists(PRESENT, max_size=2))),
        dhcp=draw(ADDRESSES),
        vlan=draw(st.integers(0, 0xFFFF)),
        pci=f"{pci >> 8:02x}:{pci >> 3 & 31:02x}.{pci & 7}" if pci else None,
        hostname=draw(PRINTABLE),
        **_flagged(layout.NIC, draw(st.integers(0, 255))),
    )


@st.composite
def _targets(draw: st.DrawFn, index: int, nics: tuple[IbftNic, ...]) -> IbftTarget:
    # One of those that a number can name: where NICs call themselves by one another's place, some are not.
    named = sorted({associated(number, nics) for number in range(256)}, key=str)
    return IbftTarget(
        index=index,
        header_index=_header_index(draw, index),
        name=draw(NAMES),
        ip=draw(ADDRESSES),
        port=draw(st.integers(0, 0xFFFF)),
        lun=draw(st.binary(min_size=8, max_size=8)),
        nic=draw(st.sampled_from(named)),
        chap=draw(st.sampled_from(sorted(layout.CHAP_TYPES.values()))),
        chap_name=draw(PRINTABLE),
        chap_secret=draw(SECRETS),
        reverse_chap_name=draw(PRINTABLE),
        reverse_chap_secret=draw(SECRETS),
        **_flagged(layout.TARGET, draw(st.integers(0, 255))),
    )


@st.composite
def tables(draw: st.DrawFn) -> IbftTable:
    """Any table the encoder can build: up to 4 NICs and targets wherever, with or without an initiator."""
    pairs = draw(st.one_of(st.integers(2, 5), st.integers(2, 40)))
    nics = tuple(draw(_nics(index)) for index in _indices(draw, pairs))
    targets = tuple(draw(_targets(index, nics)) for index in _indices(draw, pairs))
    initiator = IbftInitiator(
        name=draw(NAMES),
        isns=draw(ADDRESSES),
        slp=draw(ADDRESSES),
        radius=tuple(draw(st.lists(PRESENT, max_size=2))),
        **_flagged(layout.INITIATOR, draw(st.integers(0, 255))),
    )
    initiator = initiator if draw(st.integers(0, 9)) else None
    flags = draw(st.integers(0, 255))
    return IbftTable(
        source="file",
        signature=draw(st.sampled_from([signature.decode() for signature in layout.SIGNATURES])),
        revision=1,
        length=draw(st.one_of(st.none(), st.just(8192))),
        checksum_ok=True,
        oem_id=draw(OEM),
        oem_table_id=draw(OEM),
        control=IbftControl(flags, bool(flags & 1), pairs, 0),
        initiator=initiator,
        nics=nics,
        targets=targets,
        problems=(),
        is_bootable=checks.is_bootable(initiator, targets),
    )
