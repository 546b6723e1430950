"""The NICs and addresses of ip= and its companions: of a boot without a table, or over those of one."""

from __future__ import annotations

from dataclasses import replace

from isboot.config.cmdline import KernelOptions
from isboot.config.ip import IpOption
from isboot.config.netroot import Netroot
from isboot.config.origins import Origins
from isboot.values import BootConfig, NicConfig

LEASED = "by DHCP"


def from_options(options: KernelOptions, origins: Origins) -> tuple[NicConfig, ...]:
    """
    Give the NICs the command line configures; without any ip= one that DHCP configures, as dracut has it.

    :return: () for ip=off: the host's routes decide
    """
    usable = [one for one in options.ips if one.method != "ibft"]
    for one in options.ips:
        if one.method == "ibft":
            origins.warnings.append(f"{one.shown} is left out: there is no table to be booted from")
    if not usable:
        origins.claim("NIC 0 address", (LEASED, "default"))
        return (_nic(0, IpOption("", "dhcp"), options),)
    nics = tuple(
        _nic(index, one, options)
        for index, one in enumerate(one for one in usable if one.method == "dhcp" or one.address)
    )
    for index, one in enumerate(one for one in usable if one.method == "dhcp" or one.address):
        origins.claim(f"NIC {index} address", (_shown(one), one.shown))
    return nics


def nic_of(netroot: Netroot, nics: tuple[NicConfig, ...], options: KernelOptions) -> NicConfig | None:
    """Give the NIC a target is reached by: the one netroot= names, that of bootdev= or BOOTIF=, the first."""
    wanted = [(dict(options.macs).get(netroot.nic, ""), netroot.nic)] if netroot.nic else []
    wanted.append((options.boot_mac, options.boot_interface))
    for mac, name in wanted:
        for nic in nics:
            if (mac and nic.mac == mac) or (name and nic.name == name):
                return nic
    return nics[0] if nics else None


def overrule(config: BootConfig, options: KernelOptions, origins: Origins) -> BootConfig:
    """
    Give the configuration of a table with the addresses that the command line has for its NICs.

    An ip= with an interface of which nothing tells the MAC cannot be known to be the table's NIC: it is left
    to whoever else brings up NICs, with a warning.
    """
    nics = list(config.nics)
    for one in options.ips:
        if one.method == "ibft":
            continue
        place = _place(one, nics, options)
        if place is None:
            origins.warnings.append(
                f"{one.shown} is left out: it names none of the table's NICs "
                f"({', '.join(nic.mac for nic in nics) or 'there is none'}); ifname=INTERFACE:MAC would"
            )
        elif one.method == "dhcp" or one.address is not None:
            origins.claim(f"NIC {nics[place].index} address", (_shown(one), one.shown))
            nics[place] = replace(
                nics[place],
                address=one.address,
                gateway=one.gateway if one.method == "static" else nics[place].gateway,
                dns=one.dns or nics[place].dns,
                hostname=one.hostname or nics[place].hostname,
                origin="manual" if one.method == "static" else "dhcp",
            )
    if options.nameservers:
        nics = [replace(nic, dns=options.nameservers) for nic in nics]
    for old in config.nics:
        shown = str(old.address) if old.address else LEASED if old.origin == "dhcp" else ""
        origins.claim(f"NIC {old.index} address", (shown, config.source))
    by_index = {nic.index: nic for nic in nics}
    paths = tuple(replace(path, nic=by_index[path.nic.index]) if path.nic else path for path in config.paths)
    return replace(config, nics=tuple(nics), paths=paths)


def _place(one: IpOption, nics: list[NicConfig], options: KernelOptions) -> int | None:
    mac = dict(options.macs).get(one.interface, "") if one.interface else options.boot_mac
    for place, nic in enumerate(nics):
        if mac and nic.mac == mac:
            return place
    return 0 if not mac and not one.interface and len(nics) == 1 else None


def _shown(one: IpOption) -> str:
    return str(one.address) if one.address else LEASED


def _nic(index: int, one: IpOption, options: KernelOptions) -> NicConfig:
    name, vlan = one.interface, 0
    for vlan_name, lower, number in options.vlans:
        if vlan_name == name:
            name, vlan = lower, number
    mac = dict(options.macs).get(name, "")
    if not name:
        mac, name = options.boot_mac, options.boot_interface
    return NicConfig(
        index=index,
        mac=mac,
        pci=None,
        address=one.address,
        gateway=one.gateway,
        dns=one.dns or options.nameservers,
        vlan=vlan,
        hostname=one.hostname,
        origin="dhcp" if one.method == "dhcp" else "manual",
        name="" if mac else name,
    )
