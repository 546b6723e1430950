"""
Links, addresses and routes of the kernel: what isboot reads of them, and the seven changes it makes.

:source: rtnetlink(7), linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from types import TracebackType
from typing import NamedTuple, Self

from isboot.network.netlink import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkSocket,
    decode_attributes,
    encode_attributes,
)
from isboot.values import IpAddress, IpInterface

IpNetwork = IPv4Network | IPv6Network

RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE = 0x1, 0x10, 0x40
RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE = 0x100, 0x400
RTMGRP_IPV4_NETCONF, RTMGRP_IPV6_NETCONF = 1 << 23, 1 << 24  # of RTNLGRP_*: changes of a NIC's sysctls
#: all that a NIC of ours can lose
EVERYTHING = (
    RTMGRP_LINK
    | RTMGRP_IPV4_IFADDR
    | RTMGRP_IPV4_ROUTE
    | RTMGRP_IPV4_NETCONF
    | RTMGRP_IPV6_IFADDR
    | RTMGRP_IPV6_ROUTE
    | RTMGRP_IPV6_NETCONF
)

INTERFACE_INFO = struct.Struct("=BxHiII")  # family, ARPHRD type, index, flags, mask of the flags to change
ADDRESS_INFO = struct.Struct("=BBBBI")  # family, prefix, flags, scope, index
ROUTE_INFO = struct.Struct("=BBBBBBBBI")  # family, dst, src, tos, table, protocol, scope, type, flags
U32 = struct.Struct("=I")
U16 = struct.Struct("=H")

IFF_UP, IFF_RUNNING, IFF_LOWER_UP = 0x1, 0x40, 0x10000
ARPHRD_ETHER = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
IFLA_EXT_MASK, IFLA_MIN_MTU, IFLA_MAX_MTU = 29, 50, 51  # the range of the MTU since Linux 4.19
IFLA_PERM_ADDRESS = 54  # since Linux 5.6
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_VLAN_ID = 1, 2, 1
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD, IFA_F_DADFAILED, IFA_F_TENTATIVE, IFA_F_PERMANENT = 0x02, 0x08, 0x40, 0x80
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15
RTNH_F_ONLINK = 4
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST = 254, 4, 1
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RTM_F_CLONED = 0x200


class Link(NamedTuple):
    """
    A network interface.

    :param mac: current address, lower case with colons; "" where it has none
    :param permanent_mac: the hardware's own; "" where the driver does not say
    :param kind: "vlan", "bridge", "veth", ...; "" for hardware
    :param lower: index of the link it stands on, 0 for none; a veth has its peer's index here
    :param vlan: VLAN id of a link of kind "vlan", else 0
    :param min_mtu: the driver's range; a max_mtu of 0 is no limit
    """

    ifindex: int
    name: str
    mac: str
    permanent_mac: str
    hardware_type: int
    flags: int
    kind: str
    lower: int
    master: int
    vlan: int
    mtu: int = 1500
    min_mtu: int = 68
    max_mtu: int = 0

    @property
    def is_up(self) -> bool:
        return bool(self.flags & IFF_UP)

    @property
    def has_carrier(self) -> bool:
        # LOWER_UP alone: the queues may not be attached yet, the first packet is lost.  RUNNING alone: set
        # also for as long as the kernel has not looked (operstate unknown; seen on veth).
        wanted = IFF_RUNNING | IFF_LOWER_UP
        return self.flags & wanted == wanted


class Address(NamedTuple):
    """An address on a link."""

    ifindex: int
    interface: IpInterface
    flags: int

    @property
    def is_permanent(self) -> bool:
        return bool(self.flags & IFA_F_PERMANENT)

    @property
    def is_tentative(self) -> bool:
        return bool(self.flags & IFA_F_TENTATIVE)

    @property
    def is_duplicate(self) -> bool:
        """Duplicate detection found another machine with it (RFC 4862 §5.4.5): it stays tentative."""
        return bool(self.flags & IFA_F_DADFAILED)


class Route(NamedTuple):
    """
    A unicast route of the main table.

    :param gateway: None for on-link
    :param source: the address to send from, None for the kernel's choice
    :param metric: as the kernel keeps it: 0 in IPv6 becomes 1024
    """

    destination: IpNetwork
    ifindex: int
    gateway: IpAddress | None
    source: IpAddress | None
    metric: int


class Rtnetlink:
    """
    The kernel's network of this namespace. Every method raises OSError with the kernel's errno.

    :param groups: the events that `wait` reports
    """

    def __init__(self, groups: int = RTMGRP_LINK | RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE) -> None:
        self._netlink = NetlinkSocket()
        self._events = NetlinkSocket(groups)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._netlink.close()
        self._events.close()

    def fileno(self) -> int:
        """Give what is readable when there are events."""
        return self._events.fileno()

    def wait(self, deadline: float) -> bool:
        """
        Wait until something of the groups changed since this object was made or `wait` last returned.

        :param deadline: on time.monotonic()'s clock
        :return: False when the deadline came first
        """
        return self._events.wait(deadline)

    def links(self) -> list[Link]:
        # RTEXT_FILTER_SKIP_STATS: 200 bytes of counters per link that nobody reads
        body = INTERFACE_INFO.pack(0, 0, 0, 0, 0) + encode_attributes({IFLA_EXT_MASK: U32.pack(1 << 3)})
        return [_decode_link(message.body) for message in self._netlink.dump(RTM_GETLINK, body)]

    def addresses(self, ifindex: int = 0) -> list[Address]:
        """
        Give the addresses of a link.

        :param ifindex: 0 for those of all links
        """
        messages = self._netlink.dump(RTM_GETADDR, ADDRESS_INFO.pack(0, 0, 0, 0, ifindex))
        addresses = (_decode_address(message.body) for message in messages)
        return [one for one in addresses if one is not None and ifindex in (0, one.ifindex)]

    def routes(self, version: int, ifindex: int) -> list[Route]:
        """
        Give the unicast routes of the main table through one link.

        :param version: 4 or 6
        """
        header = ROUTE_INFO.pack(_family(version), 0, 0, 0, RT_TABLE_MAIN, 0, 0, 0, 0)
        # the kernel leaves out the rest: a router's table may hold a million
        chosen = {RTA_TABLE: U32.pack(RT_TABLE_MAIN), RTA_OIF: U32.pack(ifindex)}
        try:
            messages = self._netlink.dump(RTM_GETROUTE, header + encode_attributes(chosen))
        except OSError as error:
            # there never was a route of this family, or the link is gone
            if error.errno in (errno.ENOENT, errno.ENODEV):
                return []
            raise
        routes = (_decode_route(message.body) for message in messages)
        return [route for route in routes if route is not None and route.ifindex == ifindex]

    def set_up(self, ifindex: int) -> None:
        self._netlink.request(RTM_NEWLINK, INTERFACE_INFO.pack(0, 0, ifindex, IFF_UP, IFF_UP))

    def set_mtu(self, ifindex: int, mtu_bytes: int) -> None:
        header = INTERFACE_INFO.pack(0, 0, ifindex, 0, 0)
        self._netlink.request(RTM_NEWLINK, header + encode_attributes({IFLA_MTU: U32.pack(mtu_bytes)}))

    def release(self, ifindex: int) -> None:
        """Take a link out of the bridge or bond it is a port of."""
        header = INTERFACE_INFO.pack(0, 0, ifindex, 0, 0)
        self._netlink.request(RTM_NEWLINK, header + encode_attributes({IFLA_MASTER: U32.pack(0)}))

    def add_vlan(self, lower: int, vlan: int, name: str) -> None:
        data = encode_attributes({IFLA_VLAN_ID: U16.pack(vlan)})
        kind = encode_attributes({IFLA_INFO_KIND: b"vlan\0", IFLA_INFO_DATA: data})
        attributes = {IFLA_LINK: U32.pack(lower), IFLA_IFNAME: name.encode() + b"\0", IFLA_LINKINFO: kind}
        body = INTERFACE_INFO.pack(0, 0, 0, 0, 0) + encode_attributes(attributes)
        self._netlink.request(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)

    def put_address(self, ifindex: int, interface: IpInterface) -> None:
        """Add an address that stays; one that is there already becomes permanent."""
        self._netlink.request(RTM_NEWADDR, _encode_address(ifindex, interface), NLM_F_CREATE | NLM_F_REPLACE)

    def remove_address(self, ifindex: int, interface: IpInterface) -> None:
        self._netlink.request(RTM_DELADDR, _encode_address(ifindex, interface))

    def put_route(self, route: Route, *, is_onlink: bool = False, is_beside: bool = False) -> None:
        """
        Add a route, in place of one with the same destination and metric.

        :param is_onlink: the gateway is a neighbour although no address of the NIC says so
        :param is_beside: that one stays: it is another NIC's
        """
        how = NLM_F_CREATE | (NLM_F_APPEND if is_beside else NLM_F_REPLACE)
        self._netlink.request(RTM_NEWROUTE, _encode_route(route, is_onlink), how)


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _decode_mac(value: bytes) -> str:
    return value.hex(":")


def _decode_u32(value: bytes | None) -> int:
    return U32.unpack(value)[0] if value else 0


def _decode_link(body: bytes) -> Link:
    _, hardware_type, ifindex, flags, _ = INTERFACE_INFO.unpack_from(body)
    attributes = decode_attributes(body[INTERFACE_INFO.size :])
    info = decode_attributes(attributes.get(IFLA_LINKINFO, b""))
    kind = info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode()
    data = decode_attributes(info.get(IFLA_INFO_DATA, b"")) if kind == "vlan" else {}
    return Link(
        ifindex=ifindex,
        name=attributes.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        mac=_decode_mac(attributes.get(IFLA_ADDRESS, b"")),
        permanent_mac=_decode_mac(attributes.get(IFLA_PERM_ADDRESS, b"")),
        hardware_type=hardware_type,
        flags=flags,
        kind=kind,
        lower=_decode_u32(attributes.get(IFLA_LINK)),
        master=_decode_u32(attributes.get(IFLA_MASTER)),
        vlan=U16.unpack(data[IFLA_VLAN_ID])[0] if IFLA_VLAN_ID in data else 0,
        mtu=_decode_u32(attributes.get(IFLA_MTU)),
        min_mtu=_decode_u32(attributes.get(IFLA_MIN_MTU)),
        max_mtu=_decode_u32(attributes.get(IFLA_MAX_MTU)),
    )


def _encode_address(ifindex: int, interface: IpInterface) -> bytes:
    # IFA_F_NODAD: the firmware used this address a second ago; looking for duplicates costs 1-2 s a boot.
    flags = IFA_F_NODAD if interface.version == 6 else 0
    header = ADDRESS_INFO.pack(_family(interface.version), interface.network.prefixlen, flags, 0, ifindex)
    return header + encode_attributes({IFA_LOCAL: interface.ip.packed, IFA_ADDRESS: interface.ip.packed})


def _decode_address(body: bytes) -> Address | None:
    family, prefix, flags, _, ifindex = ADDRESS_INFO.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    attributes = decode_attributes(body[ADDRESS_INFO.size :])
    # On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 has no IFA_LOCAL otherwise.
    packed = attributes.get(IFA_LOCAL) or attributes[IFA_ADDRESS]
    interface: IPv4Interface | IPv6Interface = ip_interface((ip_address(packed), prefix))
    return Address(ifindex, interface, _decode_u32(attributes.get(IFA_FLAGS)) or flags)


def _encode_route(route: Route, is_onlink: bool) -> bytes:
    scope = RT_SCOPE_UNIVERSE if route.gateway or route.destination.version == 6 else RT_SCOPE_LINK
    header = ROUTE_INFO.pack(
        _family(route.destination.version),
        route.destination.prefixlen,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_STATIC,
        scope,
        RTN_UNICAST,
        RTNH_F_ONLINK if is_onlink else 0,
    )
    attributes = {RTA_OIF: U32.pack(route.ifindex), RTA_PRIORITY: U32.pack(route.metric)}
    if route.destination.prefixlen:
        attributes[RTA_DST] = route.destination.network_address.packed
    if route.gateway is not None:
        attributes[RTA_GATEWAY] = route.gateway.packed
    if route.source is not None:
        attributes[RTA_PREFSRC] = route.source.packed
    return header + encode_attributes(attributes)


def _decode_route(body: bytes) -> Route | None:
    family, prefix, _, _, table, _, _, kind, flags = ROUTE_INFO.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None  # multicast routing has families of its own
    if table != RT_TABLE_MAIN or kind != RTN_UNICAST or flags & RTM_F_CLONED:
        return None
    attributes = decode_attributes(body[ROUTE_INFO.size :])
    destination = attributes.get(RTA_DST, bytes(4 if family == socket.AF_INET else 16))
    gateway, source = attributes.get(RTA_GATEWAY), attributes.get(RTA_PREFSRC)
    network: IpNetwork = ip_network((destination, prefix))
    return Route(
        destination=network,
        ifindex=_decode_u32(attributes.get(RTA_OIF)),
        gateway=ip_address(gateway) if gateway else None,
        source=ip_address(source) if source else None,
        metric=_decode_u32(attributes.get(RTA_PRIORITY)),
    )
