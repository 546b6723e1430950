"""
ip= and its companions on the kernel command line, as the kernel and dracut have them.

    ip=METHOD                                                  ip=INTERFACE:METHOD[:MTU[:MAC]]
    ip=CLIENT:[PEER]:GATEWAY:NETMASK:HOSTNAME:INTERFACE:METHOD[:MTU[:MAC] | :DNS[:DNS]]

:source: Documentation/admin-guide/nfs/nfsroot.rst; dracut.cmdline(7)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address, ip_interface

from isboot.errors import ConfigError, ExitStatus
from isboot.values import IpAddress, IpInterface

#: what each METHOD asks for; those isboot does not serve are left out with a warning
METHODS = {
    "dhcp": "dhcp",
    "on": "dhcp",
    "any": "dhcp",
    "single-dhcp": "dhcp",
    "either6": "",
    "auto6": "",
    "dhcp6": "",
    "link6": "",
    "ibft": "ibft",
    "none": "static",
    "off": "static",
    "": "static",
}
HINT = "ip=CLIENT::GATEWAY:NETMASK::INTERFACE:none, ip=INTERFACE:dhcp or ip=dhcp; IPv6 addresses in brackets"
IPV6_PREFIX = 64  #: where none is given: what a link has by RFC 4291 §2.5.4
MAC = re.compile(r"([0-9a-f]{2}[:-]){5}[0-9a-f]{2}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class IpOption:
    """
    One ip=.

    :param shown: the option as it was given
    :param method: "dhcp", "static", or "ibft": the table knows
    :param interface: "" for any
    :param address: of a static one; None with method "static" for ip=off: hands off
    :param mtu: bytes, "" as it is
    :param warnings: parts that are not used, a line each
    """

    shown: str
    method: str
    interface: str = ""
    address: IpInterface | None = None
    gateway: IpAddress | None = None
    hostname: str = ""
    mtu: str = ""
    dns: tuple[IpAddress, ...] = ()
    warnings: tuple[str, ...] = ()


def parse_ip(text: str) -> IpOption:
    """
    Read the value of one ip=.

    :raises ConfigError: it has none of the forms, or isboot does not serve its method (65)
    """
    shown = f"ip={text}"
    fields = split_fields(text)
    if len(fields) == 1 and fields[0] in METHODS:
        return IpOption(shown, _method(fields[0] or "dhcp", shown))
    if len(fields) > 1 and fields[0] and fields[1] in METHODS and fields[1] and not _is_address(fields[0]):
        mtu = fields[2] if len(fields) > 2 else ""
        warnings = _mac_warning(shown, fields[3:])
        return IpOption(shown, _method(fields[1], shown), fields[0], mtu=mtu, warnings=warnings)
    client, peer, gateway, netmask, hostname, interface, method, *rest = [*fields, *[""] * 7][
        : max(7, len(fields))
    ]
    kind = _method(method, shown)
    address = _interface(client, netmask, shown) if client else None
    if kind == "static" and address is None and method == "" and interface:
        kind = "dhcp"  # nfsroot.rst: without an address and a method the kernel asks by every protocol
    is_mtu = bool(rest) and rest[0].isdigit()
    warnings = _mac_warning(shown, rest[1:]) if is_mtu else ()
    if peer:
        warnings = (*warnings, f"{shown}: the peer {peer} is not used, netroot= names the target")
    return IpOption(
        shown=shown,
        method=kind,
        interface=interface,
        address=address if kind == "static" else None,
        gateway=_address(gateway, shown) if gateway else None,
        hostname=hostname,
        mtu=rest[0] if is_mtu else "",
        dns=() if is_mtu else tuple(_address(one, shown) for one in rest[:2] if one),
        warnings=warnings,
    )


def parse_nameserver(text: str) -> IpAddress:
    """
    Read the value of one nameserver=.

    :raises ConfigError: it is no address (65)
    """
    return _address(text, f"nameserver={text}")


def parse_mac(text: str) -> str:
    """
    Give the MAC of BOOTIF=01-52-54-00-12-34-56, PXE's way to say which NIC it booted from, or of a plain one.

    :return: lower case, colons
    :raises ConfigError: it is none (65)
    """
    mac = text[3:] if len(text) == 20 and text.startswith("01") else text
    if not MAC.fullmatch(mac):
        raise ConfigError(f"reading the MAC {text!r}: it is none", "", ExitStatus.MALFORMED)
    return mac.lower().replace("-", ":")


def split_fields(text: str) -> list[str]:
    """Split at colons, but for those in the brackets of an IPv6 address; the brackets go."""
    fields, depth = [""], 0
    for character in text:
        if character in "[]":
            depth += 1 if character == "[" else -1
        elif character == ":" and depth <= 0:
            fields.append("")
        else:
            fields[-1] += character
    return fields


def _method(word: str, shown: str) -> str:
    method = METHODS.get(word)
    if method is None:
        raise _malformed(shown, f"{word!r} is no way to get an address")
    if not method:
        raise ConfigError(
            f"reading {shown}: isboot gets no address by {word}",
            "give the NIC a static IPv6 address, or let another part of the initramfs do it and say ip=off",
            ExitStatus.UNAVAILABLE,
        )
    return method


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _address(text: str, shown: str) -> IpAddress:
    try:
        return ip_address(text)
    except ValueError:
        raise _malformed(shown, f"{text!r} is no address") from None


def _interface(client: str, netmask: str, shown: str) -> IpInterface:
    mask = netmask or (client.partition("/")[2])
    host = _address(client.partition("/")[0], shown)
    try:
        if isinstance(host, IPv4Address):
            found = ip_interface(f"{host}/{mask or _class_prefix(host)}")
        else:
            found = ip_interface(f"{host}/{mask or IPV6_PREFIX}")
    except ValueError:
        raise _malformed(shown, f"{mask!r} is no netmask for {host}") from None
    if not isinstance(found, (IPv4Interface, IPv6Interface)) or host.is_unspecified or host.is_multicast:
        raise _malformed(shown, f"{host} is the address of no machine")
    return found


def _class_prefix(host: IPv4Address) -> int:
    """Give the prefix of an address without a netmask (nfsroot.rst: that of its class)."""
    first = host.packed[0]
    return 8 if first < 128 else 16 if first < 192 else 24


def _mac_warning(shown: str, rest: list[str]) -> tuple[str, ...]:
    mac = ":".join(rest)
    return (f"{shown}: the MAC {mac} is not set, the NIC keeps its own",) if mac else ()


def _malformed(shown: str, reason: str) -> ConfigError:
    return ConfigError(f"reading {shown}: {reason}", HINT, ExitStatus.MALFORMED)
