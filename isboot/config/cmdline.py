"""
The kernel command line: rd.isboot.*, the netroot= of RFC 4173, ip=, and what users of dracut bring along.

A value that only tunes must not keep a machine from booting: where it is wrong, it is left out with a
warning.  A value that decides what is booted from must be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from isboot.config import netroot, parameters
from isboot.config.initiator import checked_name
from isboot.config.ip import IpOption
from isboot.config.lun import parse_boot_luns
from isboot.config.netroot import Netroot
from isboot.config.reading import PREFIX, Reading
from isboot.errors import ConfigError, ExitStatus, UsageError
from isboot.values import Credentials, IpAddress, Policy, Secret

DEBUG_MAXIMUM = 3
DHCP = "dhcp"  #: netroot=dhcp, root=dhcp: what to boot from is DHCP's root-path


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """
    What the kernel command line says.

    :param enabled: False for rd.isboot=0: nothing is probed
    :param table_index: which of the tables found, None for the first good one
    :param verbose: messages reach the console even where "quiet" keeps the kernel's from it
    :param debug: 0 to 3: more and more messages
    :param luns: "boot", "all", or their bytes
    :param netroots: the targets of netroot=, each one path
    :param netroot_fault: why a netroot= was left out, "" if none was
    :param asks_dhcp: the option that asks for DHCP's root-path, "" for none
    :param foreign: a netroot= of another kind (nbd, nfs), "" for none
    :param initiator_name: of rd.iscsi.initiator, "" for none
    :param credentials: of rd.iscsi.username and its like, for targets that come without
    :param ips: the ip= that isboot can serve
    :param boot_mac: the NIC of BOOTIF= or bootdev=, "" for none
    :param boot_interface: that of bootdev= where no ifname= tells its MAC
    :param macs: of ifname=, by the interface's name
    :param vlans: of vlan=: name -> interface beneath, VLAN
    :param nameservers: of nameserver=
    :param assignments: parameters and their values as text, each checked
    :param set_by: the option that set each parameter, LUNs and credentials
    :param warnings: what was set twice, left out or is not known, a line each
    """

    enabled: bool = True
    table_index: int | None = None
    verbose: bool = False
    debug: int = 0
    luns: str | tuple[bytes, ...] = "boot"
    netroots: tuple[Netroot, ...] = ()
    netroot_fault: str = ""
    asks_dhcp: str = ""
    foreign: str = ""
    initiator_name: str = ""
    credentials: Credentials | None = None
    ips: tuple[IpOption, ...] = ()
    boot_mac: str = ""
    boot_interface: str = ""
    macs: tuple[tuple[str, str], ...] = ()
    vlans: tuple[tuple[str, str, int], ...] = ()
    nameservers: tuple[IpAddress, ...] = ()
    assignments: tuple[tuple[str, str], ...] = ()
    set_by: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_for_others(self) -> bool:
        """Whether netroot= names a root that is none of isboot's, and nothing else does."""
        return bool(self.foreign) and not (self.netroots or self.netroot_fault or self.asks_dhcp)

    def policy(self, base: Policy) -> Policy:
        """Give a policy with what the command line sets."""
        return parameters.apply(base, self.assignments)


def parse(text: str) -> KernelOptions:
    """
    Read a kernel command line.

    :param text: of /proc/cmdline
    :raises UsageError: rd.isboot, rd.isboot.acpi_table or rd.isboot.luns has a value it does not take
    :raises ConfigError: rd.iscsi.initiator is no iSCSI name, or its CHAP does not add up
    """
    reading = Reading()
    for word in words(text):
        reading.take(word)
    return _options(reading)


def words(text: str) -> list[str]:
    """Split a command line as the kernel does: at blanks, unless they stand in double quotes."""
    return [word.replace('"', "") for word in re.findall(r'(?:[^\s"]|"[^"]*"?)+', text)]


def _boolean(value: str) -> bool:
    if value not in ("0", "1"):
        raise ValueError("0 | 1")
    return value == "1"


def _number(value: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", value):
        raise ValueError("a number from 0")
    return int(value)


def _debug(value: str) -> int:
    if not re.fullmatch(f"[0-{DEBUG_MAXIMUM}]", value):
        raise ValueError(f"0 to {DEBUG_MAXIMUM}")
    return int(value)


def _netns(value: str) -> None:
    if _boolean(value):
        raise ValueError("0 only, for this version keeps the NIC in the network namespace of the host")


@dataclass(frozen=True, slots=True)
class _Switch:
    """
    An option that is no parameter.

    :param field: of `KernelOptions`; "" for none: its value is only checked
    :param is_decisive: a wrong value is an error, not a warning
    """

    field: str
    read: Callable[[str], object]
    is_decisive: bool = False


_SWITCHES: Mapping[str, _Switch] = {
    "": _Switch("enabled", _boolean, is_decisive=True),
    "acpi_table": _Switch("table_index", _number, is_decisive=True),
    "verbose": _Switch("verbose", _boolean),
    "debug": _Switch("debug", _debug),
    "netns": _Switch("", _netns),
    "luns": _Switch("luns", parse_boot_luns, is_decisive=True),
}


def _options(reading: Reading) -> KernelOptions:
    switches: dict[str, object] = {}
    assignments: list[tuple[str, str]] = []
    set_by: dict[str, str] = {}
    for what, (option, value) in reading.given.items():
        set_by[what] = option
        key = what.removeprefix(PREFIX).removeprefix(".")
        if what.startswith(PREFIX) and key in _SWITCHES:
            if _read_switch(reading, switches, _SWITCHES[key], option, value) and key == "luns":
                set_by["LUNs"] = option
        elif what in parameters.BY_NAME or what not in NOT_PARAMETERS:
            try:
                parameters.parse_value(what, value)
                assignments.append((what, value))
            except UsageError as error:
                reading.warn(f"{option}: {error.message}: left out")
    if reading.is_off:
        if switches.pop("enabled", False):
            reading.warn("rd.isboot is set twice: rd.isboot=0 and rd.isboot=1; 0 holds, as in isboot.service")
        switches["enabled"] = False
    netroots, fault = _netroots(reading)
    return KernelOptions(
        **switches,  # type: ignore[arg-type]  # each reader gives the type of its field
        netroots=netroots,
        netroot_fault=fault,
        asks_dhcp=reading.asks_dhcp,
        foreign=reading.foreign,
        initiator_name=_initiator_name(reading),
        credentials=_credentials(reading),
        ips=tuple(reading.ips),
        boot_mac=reading.boot_mac(),
        boot_interface=reading.boot_interface(),
        macs=tuple(reading.macs.items()),
        vlans=tuple(reading.vlans),
        nameservers=tuple(reading.nameservers),
        assignments=tuple(assignments),
        set_by=tuple(set_by.items()),
        warnings=tuple(reading.warnings),
    )


NOT_PARAMETERS = frozenset({
    "initiator name", "target name", "target host", "target port", "bootdev", "BOOTIF",
    "CHAP name", "CHAP secret", "reverse CHAP name", "reverse CHAP secret",
})  # fmt: skip


def _read_switch(
    reading: Reading, switches: dict[str, object], switch: _Switch, option: str, value: str
) -> bool:
    doing = f"reading {option} of the kernel command line"
    try:
        read = switch.read(value)
    except UsageError as error:
        raise UsageError(f"{doing}: {error.message}", error.hint) from None
    except ValueError as error:
        message = f"{doing}: it takes {error}, not {value!r}"
        if switch.is_decisive:
            raise UsageError(message) from None
        reading.warnings.append(f"{message}: left out")
        return False
    if switch.field:
        switches[switch.field] = read
    return True


def _initiator_name(reading: Reading) -> str:
    option, value = reading.given.get("initiator name", ("", ""))
    return checked_name(value, f"reading {option} of the kernel command line") if option else ""


def _credentials(reading: Reading) -> Credentials | None:
    """
    Give what rd.iscsi.username and its like say.

    :raises ConfigError: a name without its secret, one secret for both directions
    """
    from isboot.config.credentials import check_pair

    def value(what: str) -> str:
        return reading.given.get(what, ("", ""))[1]

    if not any(value(what) for what in ("CHAP name", "CHAP secret", *_REVERSE)):
        return None
    doing = "reading rd.iscsi.username and its like of the kernel command line"
    if not value("CHAP name") or not value("CHAP secret"):
        raise ConfigError(
            f"{doing}: CHAP needs both a name and a secret",
            "rd.iscsi.username= and rd.iscsi.password=, rd.iscsi.in.username= and .in.password= if mutual",
            ExitStatus.MALFORMED,
        )
    reading.warn("the CHAP secret of rd.iscsi.password can be read by every user")
    name, secret = value("CHAP name"), Secret(value("CHAP secret").encode())
    reverse_name, reverse = (value(what) for what in _REVERSE)
    return check_pair(Credentials(name, secret, reverse_name, Secret(reverse.encode())), doing)


_REVERSE = ("reverse CHAP name", "reverse CHAP secret")


def _netroots(reading: Reading) -> tuple[tuple[Netroot, ...], str]:
    found: list[Netroot] = []
    fault = ""
    for value, option in [*reading.netroots.items(), *reading.plain_target()]:
        try:
            one = netroot.parse_netroot(value, option)
        except ConfigError as error:
            fault = fault or error.message
            reading.warn(f"{error.message}: left out")
            continue
        reading.warnings += one.warnings
        # Several are several ways to one disk, so they name one target.
        if found and (one.target_name, one.lun) != (found[0].target_name, found[0].lun):
            reading.warn(f"netroot is set twice: {found[0].shown} and {one.shown}; the former holds")
            continue
        found.append(one)
    return tuple(found), fault
