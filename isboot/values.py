"""
The values that pass between the stages.  All frozen, all here, in the order data flows:

    firmware -> config -> network -> session -> engine -> block

A stage checks what enters it and gives one of these; behind that border the type is trusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

IpAddress = IPv4Address | IPv6Address
IpInterface = IPv4Interface | IPv6Interface


class Secret:
    """
    A CHAP secret.  It never shows itself: repr, str and format give three stars.

    :param value: the bytes of the secret; not copied elsewhere by this class
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """Give the secret itself, for the one computation that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


_ISCSI_NAME = re.compile(
    r"iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[a-z0-9]([a-z0-9.-]*)(:[a-z0-9.:_-]*)?"
    r"|eui\.[0-9a-f]{16}|naa\.([0-9a-f]{16}|[0-9a-f]{32})"
)
ISCSI_NAME_MAXIMUM_BYTES = 223  #: RFC 7143 §4.2.7.1


def iscsi_name_fault(name: str) -> str:
    """
    Say why this is no iSCSI name, or "" when it is one.

    Upper case passes: RFC 3722 folds it.  An underscore passes in the part the owner of the name chose,
    though RFC 3722 §6.2 prohibits it: many targets are named with one, and firmware has logged in by then.

    :source: RFC 7143 §4.2.7, RFC 3722, RFC 3980
    """
    if not name:
        return "it is empty"
    if len(name) > ISCSI_NAME_MAXIMUM_BYTES:
        return f"it has {len(name)} characters, more than {ISCSI_NAME_MAXIMUM_BYTES}"
    if _ISCSI_NAME.fullmatch(name.lower()) and name.isascii():
        return ""
    if not name.lower().startswith(("iqn.", "eui.", "naa.")):
        return "it does not begin with iqn., eui. or naa."
    return (
        "it has not the form "
        + {
            "iqn": "iqn.YYYY-MM.DOMAIN[:anything of a-z 0-9 . : -]",
            "eui": "eui. and 16 hexadecimal digits",
            "naa": "naa. and 16 or 32 hexadecimal digits",
        }[name[:3].lower()]
    )


#: LUNs of one level as numbers: address method and length (first byte), bytes of the number, largest number.
#: Each serves what the one before cannot hold. SAM-5 §4.7.7: peripheral device, flat space, and of extended
#: logical unit addressing the flat space of 3 and of 5 bytes.
LUN_FORMS = ((0x00, 2, 0xFF), (0x40, 2, 0x3FFF), (0xD2, 4, 0xFFFFFF), (0xE2, 6, 0xFFFFFFFFFF))


def lun_of_number(number: int) -> bytes:
    """
    Give the 8 bytes of a LUN in the shortest form that holds its number.

    :raises ValueError: no form does
    """
    for first, length, maximum in LUN_FORMS:
        if 0 <= number <= maximum:
            return (first << 8 * (length - 1) | number).to_bytes(length, "big").ljust(8, b"\0")
    raise ValueError(f"no LUN has the number {number}")


def format_lun(lun: bytes) -> str:
    """Give a LUN in decimal where lun_of_number() makes the same bytes of it, else as 16 hex digits."""
    for first, length, maximum in LUN_FORMS:
        number = int.from_bytes(lun[:length], "big") - (first << 8 * (length - 1))
        if 0 <= number <= maximum and lun_of_number(number) == lun:
            return str(number)
    return lun.hex()


# --- firmware: the iBFT, as the firmware meant it ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """
    Something in a table that is not as the specification says.

    :param severity: "error" (the structure is left out, the field not used), "warning" or "note"
    :param code: stable short name: checksum, length, pointer-range, string-range, ...
    :param where: "table", "control", "initiator", "nicN", "targetN", then ".field" by its JSON name
    :param offset: bytes from the start of the table; None where the source has no bytes (sysfs)
    """

    severity: str
    code: str
    where: str
    offset: int | None
    message: str


@dataclass(frozen=True, slots=True)
class IbftControl:
    flags: int
    boot_failover: bool
    pairs: int  #: NIC/target pairs the structure has room for: 2 when its length is 18
    extensions: int  #: offset of the extensions structure, 0 when there is none


@dataclass(frozen=True, slots=True)
class IbftInitiator:
    name: str
    isns: IpAddress | None
    slp: IpAddress | None
    radius: tuple[IpAddress, ...]
    flags: int
    valid: bool
    boot_selected: bool


@dataclass(frozen=True, slots=True)
class IbftNic:
    index: int  #: position in the control structure's order of pointers
    header_index: int  #: what the structure itself says
    mac: str  #: lower case, colons
    ip: IpAddress | None
    prefix: int
    origin: str | int  #: other, manual, well-known, dhcp, ra, unchanged, or the integer
    gateway: IpAddress | None
    dns: tuple[IpAddress, ...]
    dhcp: IpAddress | None
    vlan: int
    pci: str | None  #: "bb:dd.f", None for 00:00.0
    hostname: str
    flags: int
    valid: bool
    boot_selected: bool
    is_global: bool


@dataclass(frozen=True, slots=True)
class IbftTarget:
    index: int
    header_index: int
    name: str
    ip: IpAddress | None
    port: int
    lun: bytes  #: the 8 bytes of the wire (SAM)
    nic: int | None  #: an IbftNic.index, None if that NIC is missing
    chap: str  #: none, chap, mutual
    chap_name: str
    chap_secret: Secret
    reverse_chap_name: str
    reverse_chap_secret: Secret
    radius_chap: bool
    radius_reverse_chap: bool
    flags: int
    valid: bool
    boot_selected: bool


@dataclass(frozen=True, slots=True)
class IbftTable:
    """
    One table, decoded; only structures that can be trusted are in it, the rest is named in `problems`.

    :param source: "acpi", "memory", "sysfs" or "file"
    :param revision: None from sysfs, as length and checksum_ok
    """

    source: str
    signature: str
    revision: int | None
    length: int | None
    checksum_ok: bool | None
    oem_id: str
    oem_table_id: str
    control: IbftControl | None
    initiator: IbftInitiator | None
    nics: tuple[IbftNic, ...]
    targets: tuple[IbftTarget, ...]
    problems: tuple[Problem, ...]  #: ordered by offset
    is_bootable: bool  #: the verdict: accept or reject
    raw: bytes = field(default=b"", repr=False)  #: the bytes it was decoded from; holds secrets


# --- config: what to boot from -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Credentials:
    """CHAP names and secrets; the reverse pair is set for mutual CHAP."""

    name: str
    secret: Secret
    reverse_name: str = ""
    reverse_secret: Secret = field(default_factory=lambda: Secret(b""))

    @property
    def is_mutual(self) -> bool:
        return bool(self.reverse_secret)


@dataclass(frozen=True, slots=True)
class NicConfig:
    """
    A NIC to bring up: found by MAC, the PCI address breaks ties.

    :param address: None with origin "dhcp": it has to be asked for
    :param name: of the interface, where the kernel command line gives that and no MAC; with neither any NIC
        will do
    """

    index: int
    mac: str
    pci: str | None
    address: IpInterface | None
    gateway: IpAddress | None
    dns: tuple[IpAddress, ...]
    vlan: int  #: 0: none
    hostname: str
    origin: str | int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Portal:
    """Where a target listens. `host` is an address literal or, from a URL, a name."""

    host: str
    port: int = 3260

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PathConfig:
    """One way to the boot LUN: from a NIC (None: let the host route) to a LUN behind a portal."""

    index: int
    nic: NicConfig | None
    portal: Portal
    target_name: str
    lun: bytes
    credentials: Credentials | None


@dataclass(frozen=True, slots=True)
class Policy:
    """What varies by taste, not by table. Defaults are those of the default profile."""

    queues: int = 1
    depth: int = 128
    max_io_bytes: int = 256 * 1024
    header_digest: bool = False
    data_digest: bool = False
    profile: str = "default"
    login_timeout_ms: int = 15_000
    command_timeout_ms: int = 60_000
    nop_interval_ms: int = 30_000
    nop_timeout_ms: int = 10_000
    give_up_ms: int = 86_400_000
    shutdown_give_up_ms: int = 60_000
    nic_timeout_ms: int = 60_000
    carrier_timeout_ms: int = 60_000
    dhcp_timeout_ms: int = 60_000
    mtu_bytes: int = 0  #: 0: as the NIC has it
    login_jitter_ms: int = 500
    redirect_max: int = 4
    auth_required: bool = True  #: with credentials, AuthMethod=None is refused
    chap_algorithms: tuple[str, ...] = ("sha3-256", "sha256", "sha1", "md5")  #: offered, in this order
    short_secrets: bool = True  #: CHAP secrets of less than 96 bits are used, with a warning
    initial_r2t: bool = False  #: what we propose for InitialR2T; the result function is OR
    immediate_data: bool = True  #: likewise; the result function is AND
    max_recv_data_segment_length_bytes: int = 0  #: 0: a whole I/O fits a segment


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Which source won for a value.

    :param what: "target", "initiator name", "NIC 0 address", the name of a parameter, ...
    :param value: as people read it; no secret
    :param overruled: "VALUE by SOURCE" of those that lost and say something else, ", " between
    """

    what: str
    value: str
    source: str
    overruled: str = ""


@dataclass(frozen=True, slots=True)
class BootConfig:
    """
    :param paths: none where DHCP's root-path is to name them
    :param source: where it came from, for messages: "iBFT (memory)", "kernel command line", "URL"
    :param is_boot: the machine's root stands on the device, or may
    :param warnings: what was left out or overruled on the way here, a line each, no secret in it
    """

    source: str
    initiator_name: str
    nics: tuple[NicConfig, ...]
    paths: tuple[PathConfig, ...]
    policy: Policy
    is_boot: bool
    warnings: tuple[str, ...] = ()
    luns: str | tuple[bytes, ...] = "boot"  #: "boot", "all", or their bytes
    is_companion: bool = False  #: of a boot: another LUN of its target, which `luns` adds
    origins: tuple[Origin, ...] = ()

    @property
    def is_boot_lun(self) -> bool:
        """Say whether this is the LUN the machine boots from, and no companion of it."""
        return self.is_boot and not self.is_companion


# --- network -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NicState:
    """A NIC as it stands after the network stage brought it up."""

    mac: str
    name: str  #: the interface's name in the kernel
    ifindex: int
    driver: str
    address: IpInterface | None
    changes: int  #: how many changes this run made; 0 when all was in place


# --- session -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NegotiatedSession:
    """
    A session in full feature phase, ready to move blocks.

    Sequence numbers are those to be used next: `cmd_sn` the CmdSN of the next command, `exp_stat_sn` the
    StatSN we expect next.

    :param fd: the connected socket; owned by whoever connected it
    :param isid: 6 bytes
    :source: RFC 7143 §13
    """

    fd: int
    portal: Portal
    target_name: str
    isid: bytes
    tsih: int
    target_portal_group_tag: int
    cid: int
    lun: bytes
    cmd_sn: int
    exp_stat_sn: int
    max_cmd_sn: int
    header_digest: bool
    data_digest: bool
    max_recv_data_segment_length_bytes: int  #: ours: the largest segment the target may send
    max_send_data_segment_length_bytes: int  #: the target's: the largest segment we may send
    first_burst_length_bytes: int
    max_burst_length_bytes: int
    initial_r2t: bool
    immediate_data: bool
    max_outstanding_r2t: int
    time2wait_s: int
    time2retain_s: int
    warnings: tuple[str, ...] = ()  #: what the target does against the standard, a line each


@dataclass(frozen=True, slots=True)
class ScsiAnswer:
    """
    What came back for a SCSI command, whoever carried it: the session stage or a running lane.

    :param response: of iSCSI: 0 is "command completed at target" (RFC 7143 §11.4.3)
    :param status: of SCSI (SAM-5 §5.3)
    :param sense: without the iSCSI SenseLength; empty if there is none
    :param data: as much as came
    """

    response: int
    status: int
    sense: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class LunFacts:
    """
    What a LUN says of itself. Lengths in blocks are logical blocks; 0 where the target names no limit.

    :param designators: of VPD 0x83, strongest first: "naa.6...", "eui....", "t10.VENDOR...", "scsi-name...."
    :source: SPC-4 INQUIRY and VPD pages, SBC-4 READ CAPACITY(16), B0, B1, B2
    """

    lun: bytes
    vendor: str
    product: str
    revision: str
    serial: str
    designators: tuple[str, ...]
    block_size_bytes: int
    physical_block_size_bytes: int
    lowest_aligned_block: int
    capacity_blocks: int
    max_transfer_blocks: int
    optimal_transfer_blocks: int
    optimal_granularity_blocks: int
    is_read_only: bool
    has_volatile_cache: bool
    has_fua: bool
    is_rotational: bool
    is_thin: bool  #: READ CAPACITY(16) LBPME
    max_unmap_blocks: int
    max_unmap_descriptors: int
    unmap_granularity_blocks: int
    unmap_alignment_blocks: int
    max_write_same_blocks: int
    has_unmap: bool
    has_write_same_unmap: bool

    @property
    def identity(self) -> tuple[tuple[str, ...], str, int, int]:
        """What must be the same on every login: designators, serial, block size, capacity."""
        return (self.designators, self.serial, self.block_size_bytes, self.capacity_blocks)
