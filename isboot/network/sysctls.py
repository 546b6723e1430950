"""
What a boot NIC needs of the kernel's own behaviour: sysctls of that NIC alone, never of all.

The kernel does things with addresses by itself: it answers ARP for every address of the machine on every
NIC, drops what comes in on a NIC it would not have answered through, makes IPv6 addresses from router
advertisements and lets them expire.  Each row names what was lost by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from isboot.network.rtnetlink import Address, Link
from isboot.values import IpInterface


class Sysctl(NamedTuple):
    """
    One setting of a NIC.

    :param path: below /proc/sys/net; {name} is the interface
    :param is_least: a higher value is as good
    :param when: "always", "shared" (another NIC is on the same network), "gateway" (the table names one),
        "router" (it names none, but the portal is not on the link)
    """

    path: str
    value: int
    version: int
    when: str
    is_least: bool
    source: str


ROWS = (
    # Strict, replies to a second NIC on the same network are dropped: the first one's route answers them.
    # The kernel takes the higher of all's and the NIC's: 2 is loose, whatever all says.
    Sysctl("ipv4/conf/{name}/rp_filter", 2, 4, "always", False, "ip-sysctl.rst, RFC 3704 §2.4"),
    # Ours comes second on a NIC that a manager gave an address of the same network, and would go with that.
    Sysctl("ipv4/conf/{name}/promote_secondaries", 1, 4, "always", True, "ip-sysctl.rst"),
    # The target would learn the other NIC's MAC for our address: what it sends there misses a bound socket.
    Sysctl("ipv4/conf/{name}/arp_ignore", 1, 4, "shared", True, "ip-sysctl.rst"),
    Sysctl("ipv4/conf/{name}/arp_announce", 2, 4, "shared", True, "ip-sysctl.rst"),
    # Switched off for the whole machine in many a sysctl.conf: the addresses are deleted at once.
    Sysctl("ipv6/conf/{name}/disable_ipv6", 0, 6, "always", False, "ip-sysctl.rst"),
    # A router advertisement gives our address its lifetimes: the root is lost when the router is gone.
    Sysctl("ipv6/conf/{name}/autoconf", 0, 6, "always", False, "net/ipv6/addrconf.c, RFC 4862 §5.5.3 e"),
    # Else `ip link set down` deletes it.
    Sysctl("ipv6/conf/{name}/keep_addr_on_down", 1, 6, "always", True, "ip-sysctl.rst, Linux 4.6"),
    Sysctl("ipv6/conf/{name}/accept_ra", 0, 6, "gateway", False, "ip-sysctl.rst"),
    # 2: also on a machine that forwards, for its containers, say.
    Sysctl("ipv6/conf/{name}/accept_ra", 2, 6, "router", False, "ip-sysctl.rst"),
)

#: of the other NICs on the same network
NEIGHBOUR_ROWS = tuple(row for row in ROWS if row.when == "shared")


def neighbours(
    links: Sequence[Link], addresses: Sequence[Address], link: Link, own: IpInterface
) -> list[str]:
    """Give the names of other NICs with an address of the same IPv4 network."""
    if own.version != 4:
        return []
    others = {
        address.ifindex
        for address in addresses
        if address.ifindex != link.ifindex and address.interface.network == own.network
    }
    return [one.name for one in links if one.ifindex in others]


def put(
    root: Path, name: str, own: IpInterface, situations: Sequence[str], others: Sequence[str]
) -> Iterator[str]:
    """
    Set what is not set; gives each change.

    :param root: /proc/sys/net
    :param others: NICs on the same network
    :raises OSError: a sysctl cannot be written
    """
    for row in ROWS:
        if row.version == own.version and row.when in ("always", *situations):
            yield from _set(root, row, name)
    for other in others:
        for row in NEIGHBOUR_ROWS:
            yield from _set(root, row, other)


def _set(root: Path, row: Sysctl, name: str) -> Iterator[str]:
    path = root / row.path.format(name=name)
    try:
        now = int(path.read_bytes())  # as text the first one would import a codec
    except (OSError, ValueError):
        return  # a kernel without it, or without IPv6
    if now != row.value and not (row.is_least and now > row.value):
        path.write_bytes(b"%d" % row.value)
        yield f"{name}: {path.name}={row.value}"
