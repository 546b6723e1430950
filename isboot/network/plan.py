"""
Which routes a boot NIC needs, from the firmware's words and the portals alone; nothing here asks the kernel.

The route to the NIC's own network comes with its address; it is planned because a flush takes it away alone.

A portal gets a host route of its own, so that no default route, ours or a network manager's, decides over the
root file system.  The default route of the table is set too, for the rest of the machine, but with a metric
behind every network manager's: on a machine with a storage NIC beside its LAN the LAN's stays the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from isboot.network.rtnetlink import Route
from isboot.values import IpAddress, NicConfig, Portal

IP6_RT_PRIO_USER = 1024  # linux/ipv6_route.h: what the kernel makes of metric 0 in IPv6
IP6_RT_PRIO_ADDRCONF = 256  # net/ip6_route.h: of the routes that come with addresses
LINK_LOCAL = ip_network("fe80::/64")

#: NetworkManager uses 100, dhcpcd 1000 and up, systemd-networkd 1024
DEFAULT_ROUTE_METRIC = 10_000


class PlannedRoute(NamedTuple):
    """
    A route to be in place.

    :param is_onlink: its gateway is a neighbour although the NIC's prefix does not cover it
    :param is_beside: other NICs may have the same one, and keep it
    """

    route: Route
    is_onlink: bool
    is_beside: bool = False


def plan_routes(nic: NicConfig, portals: Iterable[Portal], ifindex: int) -> tuple[PlannedRoute, ...]:
    """
    Give the routes of a NIC: those to its own networks, then the portals', then the default route.

    Every NIC has its own metrics: two NICs on one network each keep a route to the same portal, and a socket
    bound to the device finds its own.

    :param portals: those named by an address of the NIC's family count; a name has no route yet
    :return: () for a NIC without an address
    """
    if nic.address is None:
        return ()
    source: IpAddress = nic.address.ip
    version = source.version
    portals = tuple(portals)
    gateway = nic.gateway if nic.gateway is not None and nic.gateway.version == version else None
    is_onlink = gateway is not None and gateway not in nic.address.network and not gateway.is_link_local
    metric = nic.index + (IP6_RT_PRIO_USER if version == 6 else 0)

    planned = list(_own_networks(nic, portals, ifindex))
    for host in dict.fromkeys(literals(portals)):
        if host.version != version or host == source or host.is_loopback or host.is_link_local:
            continue
        # Off the subnet without a gateway the firmware can only have reached it as a neighbour (proxy ARP).
        via = None if host in nic.address.network or host == gateway else gateway
        route = Route(ip_network(host), ifindex, via, source, metric)
        planned.append(PlannedRoute(route, is_onlink and via is not None))
    if gateway is not None and gateway != source:
        everything = ip_network("0.0.0.0/0" if version == 4 else "::/0")
        default = Route(everything, ifindex, gateway, source, DEFAULT_ROUTE_METRIC + nic.index)
        planned.append(PlannedRoute(default, is_onlink))
    return tuple(planned)


def _own_networks(nic: NicConfig, portals: Iterable[Portal], ifindex: int) -> Iterator[PlannedRoute]:
    """Give the routes that the kernel makes for addresses, as it makes them."""
    if nic.address is None:
        return
    network = nic.address.network
    if nic.address.version == 4:
        if network.prefixlen < 32:
            yield PlannedRoute(Route(network, ifindex, None, nic.address.ip, 0), False, is_beside=True)
        return
    networks = [network] if network.prefixlen < 128 else []
    beyond = [*literals(portals), *([nic.gateway] if nic.gateway is not None else [])]
    if any(host.version == 6 and host.is_link_local for host in beyond) and network != LINK_LOCAL:
        networks.append(LINK_LOCAL)
    for one in networks:
        yield PlannedRoute(Route(one, ifindex, None, None, IP6_RT_PRIO_ADDRCONF), False, is_beside=True)


def needs_router(nic: NicConfig, portals: Iterable[Portal]) -> bool:
    """Whether a portal is behind a router of IPv6 that the table does not name."""
    if nic.address is None or nic.address.version != 6 or nic.gateway is not None:
        return False
    network = nic.address.network
    return any(
        host.version == 6 and not host.is_link_local and not host.is_loopback and host not in network
        for host in literals(portals)
    )


def literals(portals: Iterable[Portal]) -> Iterator[IpAddress]:
    """Give the addresses of the portals that are named by one, without zones."""
    for portal in portals:
        try:
            host = ip_address(portal.host)
        except ValueError:
            continue
        yield IPv6Address(int(host)) if isinstance(host, IPv6Address) and host.scope_id else host
