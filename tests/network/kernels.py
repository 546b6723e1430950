"""A kernel made of lists, and what tests of the network stage ask of it."""

import errno
from collections.abc import Callable
from ipaddress import ip_address, ip_interface
from pathlib import Path

from isboot.errors import NetworkError
from isboot.network.bringup import bring_up
from isboot.network.kernel import Places, Wanted, unmarked
from isboot.network.rtnetlink import (
    ARPHRD_ETHER,
    IFA_F_PERMANENT,
    IFF_LOWER_UP,
    IFF_RUNNING,
    IFF_UP,
    Address,
    Link,
    Route,
)
from isboot.values import IpInterface, NicConfig, NicState, Portal

CARRIER = IFF_RUNNING | IFF_LOWER_UP
MAC = "52:54:00:12:34:56"


def make_link(ifindex: int, name: str, mac: str = MAC, **changes: object) -> Link:
    link = Link(ifindex, name, mac, mac, ARPHRD_ETHER, IFF_UP | CARRIER, kind="", lower=0, master=0, vlan=0)
    return link._replace(**changes)


def make_nic(address: str | None = "192.0.2.15/24", pci: str | None = None, vlan: int = 0) -> NicConfig:
    return NicConfig(
        index=0,
        mac=MAC,
        pci=pci,
        address=ip_interface(address) if address else None,
        gateway=ip_address("192.0.2.1") if address and "." in address else None,
        dns=(),
        vlan=vlan,
        hostname="",
        origin="manual",
    )


class FakeKernel:
    """Links, addresses and routes as lists, a clock; `events` are what happens while somebody waits."""

    def __init__(self, *links: Link, events: list[Callable[["FakeKernel"], None]] | None = None) -> None:
        self.present = {link.ifindex: link for link in links}
        self.addresses_present: list[Address] = []
        self.routes_present: list[Route] = []
        self.events = events or []
        self.log: list[str] = []
        self.refuses: dict[str, OSError] = {}
        self.now = 100.0

    def _note(self, what: str) -> None:
        if what in self.refuses:
            raise self.refuses[what]
        self.log.append(what)

    def wait(self, deadline: float) -> bool:
        if not self.events:
            self.now = max(self.now, deadline)
            return False
        self.events.pop(0)(self)
        return True

    def links(self) -> list[Link]:
        return list(self.present.values())

    def addresses(self, ifindex: int = 0) -> list[Address]:
        return [address for address in self.addresses_present if ifindex in (0, address.ifindex)]

    def routes(self, version: int, ifindex: int) -> list[Route]:
        wanted = (version, ifindex)
        return [
            route for route in self.routes_present if (route.destination.version, route.ifindex) == wanted
        ]

    def set_up(self, ifindex: int) -> None:
        self._note("up")
        link = self.present[ifindex]
        self.present[ifindex] = link._replace(flags=link.flags | IFF_UP)

    def set_mtu(self, ifindex: int, mtu_bytes: int) -> None:
        self._note(f"mtu {self.present[ifindex].name} {mtu_bytes}")
        self.present[ifindex] = self.present[ifindex]._replace(mtu=mtu_bytes)

    def release(self, ifindex: int) -> None:
        self._note("release")
        self.present[ifindex] = self.present[ifindex]._replace(master=0)

    def add_vlan(self, lower: int, vlan: int, name: str) -> None:
        if any(link.name == name for link in self.present.values()):
            raise OSError(errno.EEXIST, "File exists")
        self._note("vlan")
        mtu = self.present[lower].mtu
        self.present[99] = make_link(99, name, kind="vlan", lower=lower, vlan=vlan, flags=0, mtu=mtu)

    def put_address(self, ifindex: int, interface: IpInterface) -> None:
        self._note(f"put {interface}")
        self.addresses_present = [each for each in self.addresses_present if each.interface != interface]
        self.addresses_present.append(Address(ifindex, interface, IFA_F_PERMANENT))
        # as the kernel does: the route to the address's network comes with it
        source, metric = (interface.ip, 0) if interface.version == 4 else (None, 256)
        self.routes_present.append(Route(interface.network, ifindex, None, source, metric))

    def remove_address(self, ifindex: int, interface: IpInterface) -> None:
        self._note(f"remove {interface}")
        self.addresses_present = [each for each in self.addresses_present if each.interface != interface]

    def put_route(self, route: Route, *, is_onlink: bool = False, is_beside: bool = False) -> None:
        self._note(f"route {route.destination}")
        self.routes_present.append(route)


NOWHERE = Path("/nonexistent")


def places(run: Path | None = None, sysfs_net: Path = NOWHERE, sysctls: Path = NOWHERE) -> Places:
    return Places(run, sysfs_net, NOWHERE, NOWHERE, sysctls, ())


def run_all(
    kernel: FakeKernel, *wanted: Wanted, where: Places | None = None, said: list[str] | None = None
) -> tuple[dict[int, NicState], list[NetworkError]]:
    told = [] if said is None else said
    return bring_up(
        kernel, wanted, 30, 10, told.append, unmarked, where or places(), clock=lambda: kernel.now
    )


def run(
    kernel: FakeKernel, nic: NicConfig, *portals: str, root: Path | None = None, mtu_bytes: int = 0
) -> NicState:
    wanted = Wanted(nic, [Portal(host) for host in portals], mtu_bytes)
    states, faults = run_all(kernel, wanted, where=places(root))
    if faults:
        raise faults[0]
    return states[nic.index]
