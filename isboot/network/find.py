"""Which of this machine's links is the NIC a table means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from isboot.errors import ExitStatus
from isboot.network import drivers
from isboot.network.kernel import NotYetError, Places
from isboot.network.rtnetlink import ARPHRD_ETHER, Link
from isboot.values import NicConfig

#: Kinds of links that stand for a NIC themselves; "" is hardware. All others (vlan, bridge, bond, macvlan)
#: stand upon one and often borrow its MAC.
NIC_KINDS = ("", "veth", "dummy")

PCI_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


class Hardware(NamedTuple):
    """
    What sysfs says of a NIC.

    :param driver: "" where nothing drives it (veth, dummy)
    :param pci: "0000:00:03.0", "" where it is on no PCI bus
    """

    driver: str
    pci: str


def read_hardware(name: str, sysfs_net: Path) -> Hardware:
    """Give driver and PCI address of a NIC; of a virtio NIC the address of the PCI device it sits on."""
    device = sysfs_net / name / "device"
    driver = (device / "driver").resolve().name if (device / "driver").exists() else ""
    on_path = [part for part in device.resolve().parts if PCI_ADDRESS.fullmatch(part)]
    return Hardware(driver, on_path[-1] if on_path and device.exists() else "")


def find_nic(links: Sequence[Link], nic: NicConfig, sysfs_net: Path) -> Link | None:
    """
    Find the NIC a table means, among all links of this machine.

    The MAC decides, the current or the hardware's own; of several the one at the PCI address, then one that
    is no other's port, then one whose own address it is.  Without a MAC the interface's name decides, and
    without both any NIC will do, rather one with a cable.

    :return: None when there is no such NIC
    """
    wanted = nic.mac.lower()
    found = [link for link in links if is_nic(link)]
    if wanted:
        found = [link for link in found if wanted in (link.mac, link.permanent_mac)]
    elif nic.name:
        found = [link for link in found if nic.name == link.name]
    # A failover pair (virtio STANDBY, netvsc) shows three NICs with one MAC: its two ports are not for use.
    indexes = {link.ifindex for link in found}
    found = [link for link in found if link.master not in indexes]

    def rank(link: Link) -> tuple[bool, bool, bool, int]:
        is_elsewhere = nic.pci is not None and not read_hardware(link.name, sysfs_net).pci.endswith(nic.pci)
        is_worse = link.permanent_mac != wanted if wanted else not link.has_carrier
        return (is_elsewhere, link.master != 0, is_worse, link.ifindex)

    if len(found) < 2:
        return found[0] if found else None
    return min(found, key=rank)


def is_nic(link: Link) -> bool:
    return link.hardware_type == ARPHRD_ETHER and link.kind in NIC_KINDS


def called(nic: NicConfig) -> str:
    """Give how messages name a NIC that a table or the command line means."""
    if nic.mac:
        return f"with MAC {nic.mac}" + (f" at PCI {nic.pci}" if nic.pci else "")
    return nic.name or "of any kind"


def no_such_nic(links: Sequence[Link], nic: NicConfig, places: Places) -> NotYetError:
    """Say which NICs there are, and which hardware has no driver: probably the one that is missing."""
    present = []
    for link in links:
        if is_nic(link):
            hardware = read_hardware(link.name, places.sysfs_net)
            present.append(f"{link.name} {link.mac} ({hardware.driver or link.kind or 'no driver named'})")
    outcome = f"none after {{seconds}} s; present: {', '.join(present) or 'none'}"
    hint = "compare with isboot ibft: is it another machine's table, or is the NIC switched off?"

    def without_driver() -> tuple[str, str]:
        idle = drivers.without_driver(places)
        # the table's own device, if it is among them; else every candidate
        idle = [one for one in idle if nic.pci and one.pci.endswith(nic.pci)] or idle
        if not idle:
            return "", ""
        return f"; without a driver: {', '.join(one.text for one in idle)}", drivers.hint(idle)

    doing = f"looking for the NIC {called(nic)}"
    return NotYetError("nic", doing, outcome, hint, ExitStatus.NOTHING_THERE, without_driver)
