"""
Bringing a boot NIC up: found by MAC, link, carrier, address, routes.

Whatever is in place already is left as it is, so a second run makes no change.  Nothing of others is removed,
but for the NIC's own address with another prefix.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from isboot.errors import ExitStatus, NetworkError
from isboot.network.carrier import Events, wait_for
from isboot.network.dropins import keep_managers_away
from isboot.network.plan import PlannedRoute, plan_routes
from isboot.network.rtnetlink import ARPHRD_ETHER, Address, Link, Route, Rtnetlink
from isboot.values import IpInterface, NicConfig, NicState, Portal

SYSFS_NET = Path("/sys/class/net")

#: Kinds of links that stand for a NIC themselves; "" is hardware. All others (vlan, bridge, bond, macvlan)
#: stand upon one and often borrow its MAC.
NIC_KINDS = ("", "veth", "dummy")

PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
DUPLICATE_DETECTION_S = 5.0  # RFC 4862 §5.4: one probe, one second, and its random delay of up to one more
INTERFACE_NAME_BYTES = 15  # IFNAMSIZ without the NUL


Mark = Callable[[str, str], None]  #: a step that was reached, and words to it


def unmarked(_step: str, _words: str) -> None:
    """Where nobody asks how long a step took."""


class Kernel(Events, Protocol):
    """The part of rtnetlink.Rtnetlink that is used here."""

    def links(self) -> list[Link]: ...
    def addresses(self, ifindex: int) -> list[Address]: ...
    def routes(self, version: int) -> list[Route]: ...
    def set_up(self, ifindex: int) -> None: ...
    def add_vlan(self, lower: int, vlan: int, name: str) -> None: ...
    def put_address(self, ifindex: int, interface: IpInterface) -> None: ...
    def remove_address(self, ifindex: int, interface: IpInterface) -> None: ...
    def put_route(self, route: Route, *, is_onlink: bool = False) -> None: ...


class Hardware(NamedTuple):
    """
    What sysfs says of a NIC.

    :param driver: "" where nothing drives it (veth, dummy)
    :param pci: "0000:00:03.0", "" where it is on no PCI bus
    """

    driver: str
    pci: str


def read_hardware(name: str, sysfs_net: Path = SYSFS_NET) -> Hardware:
    """Give driver and PCI address of a NIC; of a virtio NIC the address of the PCI device it sits on."""
    device = sysfs_net / name / "device"
    driver = (device / "driver").resolve().name if (device / "driver").exists() else ""
    on_path = [part for part in device.resolve().parts if PCI_ADDRESS.fullmatch(part)]
    return Hardware(driver, on_path[-1] if on_path and device.exists() else "")


def configure(
    nic: NicConfig,
    portals: Sequence[Portal],
    *,
    carrier_timeout_s: float,
    nic_timeout_s: float = 10.0,
    dropins_root: Path | None = Path("/run"),
    mark: Mark = unmarked,
) -> NicState:
    """
    Bring a NIC up so that the portals can be reached through it.

    :param portals: those named by an address get a host route
    :param carrier_timeout_s: seconds for the carrier; spanning tree alone may take 50
    :param nic_timeout_s: seconds for a driver to find the NIC
    :param dropins_root: where the network managers' drop-ins go; None for none
    :param mark: told of "nic", "carrier" and "address"
    :return: how it stands now and how many changes were made, drop-ins counted
    :raises NetworkError: no such NIC (NOTHING_THERE), no carrier (TRY_AGAIN), not root (NOT_PERMITTED)
    """
    with Rtnetlink() as kernel:
        try:
            return bring_up(kernel, nic, portals, carrier_timeout_s, nic_timeout_s, dropins_root, mark=mark)
        except OSError as error:
            raise _explain(error, nic) from error


def bring_up(
    kernel: Kernel,
    nic: NicConfig,
    portals: Sequence[Portal],
    carrier_timeout_s: float,
    nic_timeout_s: float,
    dropins_root: Path | None,
    sysfs_net: Path = SYSFS_NET,
    *,
    mark: Mark = unmarked,
) -> NicState:
    """
    Do what `configure` does, with a kernel given.

    :raises NetworkError: as `configure`
    :raises OSError: the kernel refused a change
    """
    hardware = wait_for(lambda: find_nic(kernel.links(), nic, sysfs_net), kernel, nic_timeout_s)
    if hardware is None:
        raise _no_such_nic(kernel.links(), nic, nic_timeout_s, sysfs_net)
    driver = read_hardware(hardware.name, sysfs_net).driver or hardware.kind
    mark("nic", f"{hardware.name} ({driver}) {hardware.mac}")
    changes = 0
    # The managers first: one that is running must not see the NIC change before it is told to let go.
    if dropins_root is not None and nic.address is not None:
        macs = tuple(dict.fromkeys((nic.mac, hardware.mac)))
        changes += keep_managers_away(dropins_root, macs, _names(hardware, nic.vlan))
    changes += _set_up(kernel, hardware)
    link = hardware
    if nic.vlan:
        vlan_link, added = _find_or_add_vlan(kernel, hardware, nic.vlan)
        link = vlan_link
        changes += added + _set_up(kernel, link)
    _wait_for_carrier(kernel, link, carrier_timeout_s)
    mark("carrier", "")
    if nic.address is not None:
        changes += _put_address(kernel, link, nic.address)
        changes += _put_routes(kernel, link, plan_routes(nic, portals, link.ifindex))
    mark("address", str(nic.address or "none"))
    return NicState(
        mac=nic.mac,
        name=link.name,
        ifindex=link.ifindex,
        driver=driver,
        address=nic.address,
        changes=changes,
    )


def find_nic(links: Sequence[Link], nic: NicConfig, sysfs_net: Path = SYSFS_NET) -> Link | None:
    """
    Find the NIC a table means, among all links of this machine.

    The MAC decides, the current or the hardware's own; of several the one at the PCI address, then one that
    is no other's port, then one whose own address it is.

    :return: None when there is none with that MAC
    """
    wanted = nic.mac.lower()
    found = [link for link in links if _is_nic(link) and wanted in (link.mac, link.permanent_mac)]
    # A failover pair (virtio STANDBY, netvsc) shows three NICs with one MAC: its two ports are not for use.
    indexes = {link.ifindex for link in found}
    found = [link for link in found if link.master not in indexes]

    def rank(link: Link) -> tuple[bool, bool, bool, int]:
        is_elsewhere = nic.pci is not None and not read_hardware(link.name, sysfs_net).pci.endswith(nic.pci)
        return (is_elsewhere, link.master != 0, link.permanent_mac != wanted, link.ifindex)

    if len(found) < 2:
        return found[0] if found else None
    return min(found, key=rank)


def _is_nic(link: Link) -> bool:
    return link.hardware_type == ARPHRD_ETHER and link.kind in NIC_KINDS


def _names(hardware: Link, vlan: int) -> tuple[str, ...]:
    return (hardware.name, _vlan_name(hardware.name, vlan)) if vlan else (hardware.name,)


def _vlan_name(lower: str, vlan: int) -> str:
    name = f"{lower}.{vlan}"
    return name if len(name) <= INTERFACE_NAME_BYTES else f"isboot.{vlan}"


def _find_link(kernel: Kernel, ifindex: int) -> Link | None:
    return next((link for link in kernel.links() if link.ifindex == ifindex), None)


def _set_up(kernel: Kernel, link: Link) -> int:
    if link.is_up:
        return 0
    kernel.set_up(link.ifindex)
    return 1


def _find_or_add_vlan(kernel: Kernel, hardware: Link, vlan: int) -> tuple[Link, int]:
    def look() -> Link | None:
        for link in kernel.links():
            if (link.kind, link.lower, link.vlan) == ("vlan", hardware.ifindex, vlan):
                return link
        return None

    present = look()
    if present is not None:
        return present, 0
    name = _vlan_name(hardware.name, vlan)
    try:
        kernel.add_vlan(hardware.ifindex, vlan, name)
    except OSError as error:
        raise NetworkError(
            f"adding VLAN {vlan} to {hardware.name}: {error.strerror}",
            hint="does this kernel, or the initramfs, have the module 8021q?",
            exit_status=ExitStatus.UNAVAILABLE if error.errno == errno.EOPNOTSUPP else ExitStatus.FAILED,
        ) from error
    added = look()
    if added is None:
        raise NetworkError(f"adding VLAN {vlan} to {hardware.name}: the kernel made no such link")
    return added, 1


def _wait_for_carrier(kernel: Kernel, link: Link, timeout_s: float) -> None:
    def look() -> Link | None:
        now = _find_link(kernel, link.ifindex)
        return now if now is not None and now.has_carrier else None

    if wait_for(look, kernel, timeout_s) is None:
        raise NetworkError(
            f"waiting for the carrier of {link.name} ({link.mac}): none after {timeout_s:g} s",
            hint="check cable, switch port and spanning tree; rd.isboot.param sets the time",
            exit_status=ExitStatus.TRY_AGAIN,
        )


def _put_address(kernel: Kernel, link: Link, wanted: IpInterface) -> int:
    same_ip = [address for address in kernel.addresses(link.ifindex) if address.interface.ip == wanted.ip]
    others = [address for address in same_ip if address.interface != wanted]
    changes = 0
    # The same address with another prefix: IPv6 cannot hold both, and in IPv4 its network would be wrong.
    for address in others:
        if wanted.version == 6:
            kernel.remove_address(link.ifindex, address.interface)
            changes += 1
    # One with a lifetime was leased by a client that will not renew it after switch_root.
    if not any(address.interface == wanted and address.is_permanent for address in same_ip):
        kernel.put_address(link.ifindex, wanted)
        changes += 1
    for address in others:
        if wanted.version == 4:  # only now: without any address the kernel drops the routes that send from it
            kernel.remove_address(link.ifindex, address.interface)
            changes += 1

    def look() -> Address | None:
        for address in kernel.addresses(link.ifindex):
            if address.interface == wanted and not address.is_tentative:
                return address
        return None

    if wait_for(look, kernel, DUPLICATE_DETECTION_S) is None:
        raise NetworkError(
            f"setting {wanted} on {link.name}: it stays tentative, another machine may use it",
            hint="look for a second machine with this address",
            exit_status=ExitStatus.TRY_AGAIN,
        )
    return changes


def _put_routes(kernel: Kernel, link: Link, routes: Sequence[PlannedRoute]) -> int:
    changes = 0
    for route, is_onlink in routes:
        if route in kernel.routes(route.destination.version):
            continue
        try:
            kernel.put_route(route, is_onlink=is_onlink)
        except OSError as error:
            via = f" via {route.gateway}" if route.gateway else ""
            raise NetworkError(
                f"adding the route to {route.destination}{via} on {link.name}: {error.strerror}",
                hint="do address, prefix and gateway of the NIC fit together? see isboot ibft",
                exit_status=ExitStatus.NOT_PERMITTED if error.errno == errno.EPERM else ExitStatus.FAILED,
            ) from error
        changes += 1
    return changes


def _no_such_nic(links: Sequence[Link], nic: NicConfig, timeout_s: float, sysfs_net: Path) -> NetworkError:
    present = []
    for link in links:
        if _is_nic(link):
            hardware = read_hardware(link.name, sysfs_net)
            present.append(f"{link.name} {link.mac} ({hardware.driver or link.kind or 'no driver named'})")
    at = f" at PCI {nic.pci}" if nic.pci else ""
    return NetworkError(
        f"looking for the NIC with MAC {nic.mac}{at}: none after {timeout_s:g} s; "
        f"present: {', '.join(present) or 'none'}",
        hint="is its driver in the initramfs? compare with isboot ibft",
        exit_status=ExitStatus.NOTHING_THERE,
    )


def _explain(error: OSError, nic: NicConfig) -> NetworkError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return NetworkError(
            f"configuring the NIC with MAC {nic.mac}: {error.strerror}",
            hint="run as root; for an IPv6 address: is disable_ipv6 set on the NIC?",
            exit_status=ExitStatus.NOT_PERMITTED,
        )
    return NetworkError(f"configuring the NIC with MAC {nic.mac}: {error.strerror}")
