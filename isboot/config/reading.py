"""The words of a kernel command line sorted by what they set; what they mean is cmdline's affair."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from isboot.config import dracut, ip, netroot
from isboot.config.ip import IpOption
from isboot.errors import ConfigError
from isboot.values import IpAddress

PREFIX = "rd.isboot"

#: set up by other parts of an initramfs; isboot boots over a plain NIC or a VLAN on one
NOT_OURS: Mapping[str, str] = {
    "bond": "isboot boots over a NIC, not a bond of several; two targets are two paths",
    "team": "isboot boots over a NIC, not a team of several; two targets are two paths",
    "bridge": "isboot boots over the NIC itself, not a bridge on it",
    "rd.route": "isboot sets the routes to the target itself",
}


@dataclass
class Reading:
    """
    The options while they are read, each with the text that set it.

    :ivar given: what is set -> option, value
    :ivar netroots: value -> option, each once
    :ivar foreign: a netroot= of another kind
    :ivar is_off: rd.isboot=0 stands somewhere; the unit's condition looks for the same
    """

    # both may hold secrets, which no traceback shows
    given: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    netroots: dict[str, str] = field(default_factory=dict, repr=False)
    asks_dhcp: str = ""
    foreign: str = ""
    ips: list[IpOption] = field(default_factory=list)
    macs: dict[str, str] = field(default_factory=dict)
    vlans: list[tuple[str, str, int]] = field(default_factory=list)
    nameservers: list[IpAddress] = field(default_factory=list)
    is_off: bool = False
    warnings: list[str] = field(default_factory=list)

    def set(self, what: str, option: str, value: str) -> None:
        """Note a value; of two different ones the latter holds, and a warning names both."""
        old = self.given.get(what)
        if old is not None and old[1] != value:
            if what in dracut.SECRETS:
                self.warn(f"the {what} is set twice, by {old[0]} and by {option}; the latter holds")
            else:
                self.warn(f"{what} is set twice: {old[0]}={old[1]} and {option}={value}; the latter holds")
        self.given[what] = (option, value)

    def warn(self, message: str) -> None:
        self.warnings.append(f"kernel command line: {message}")

    def take(self, word: str) -> None:
        """Take one word of the command line."""
        option, equals, value = word.partition("=")
        # The kernel and dracut take - and _ for the same in the names of options.
        name = option.replace("-", "_")
        name = dracut.ALIASES.get(name, name)
        if name == PREFIX or name.startswith(PREFIX + "."):
            self._isboot(name, value if equals else "1")
        elif name in ("netroot", "root"):
            self._root(name, value)
        elif name == "iscsiroot":
            self.netroots[netroot.PREFIX + value] = f"{name}="
        elif name.startswith(dracut.PREFIX):
            self._iscsi(name, value, has_value=bool(equals))
        elif name in NOT_OURS:
            self.warn(f"{name} is left out: {NOT_OURS[name]}")
        elif name in _NETWORK:
            try:
                _NETWORK[name](self, value)
            except ConfigError as error:
                self.warn(f"{error.message}: left out")

    def _isboot(self, name: str, value: str) -> None:
        key = name.removeprefix(PREFIX).removeprefix(".")
        if key == "param":
            parameter, equals, setting = value.partition("=")
            if not equals:
                self.warn(f"{name}={value} has not the form KEY=VALUE: left out")
            else:
                self.set(parameter, f"{name}={parameter}", setting)
        elif key == "give_up":
            # In seconds here, as people think of it; a parameter in ms like all the others.
            milliseconds = f"{value}000" if value.isdigit() else value
            self.set("give_up_ms", f"{PREFIX}.param=give_up_ms", milliseconds)
        elif key in ("queues", "profile"):
            self.set(key, name, value)
        elif key == "" and value == "0":
            self.is_off = True
        elif key in SWITCH_NAMES:
            self.set(name, name, value)
        else:
            self.warn(f"{name} is no option of isboot: left out")

    def _root(self, name: str, value: str) -> None:
        if value in ("dhcp", "dhcp4"):
            self.asks_dhcp = f"{name}={value}"
        elif value.startswith(netroot.PREFIX) and value != netroot.PREFIX:
            # "iscsi" and "iscsi:" alone are dracut's way to say that the firmware knows
            self.netroots.setdefault(value, f"{name}=")
        elif name == "netroot" and value not in ("", "iscsi", netroot.PREFIX):
            # what stands behind the first colon may be a secret of somebody else's
            self.foreign = f"{name}={value.partition(':')[0]}"

    def _iscsi(self, name: str, value: str, *, has_value: bool) -> None:
        if name in dracut.FIRMWARE:
            if value in dracut.FALSE:
                self.warn(f"{name}={value} is left out: rd.isboot=0 keeps isboot from reading the table")
        elif name == "rd.iscsi.param":
            try:
                what, setting = dracut.read_setting(value)
            except ValueError as error:
                self.warn(f"{name}={value.partition('=')[0]} is left out: {error}")
            else:
                self.set(what, f"{name}={value.partition('=')[0]}", setting)
        elif name in dracut.OBEYED:
            self.set(dracut.OBEYED[name], name, value)
        elif name in dracut.NEEDLESS:
            self.warn(f"{name}{'=' if has_value else ''}{value} is left out: {dracut.NEEDLESS[name]}")
        else:
            self.warn(f"{name} is no option isboot knows of dracut: left out")

    def plain_target(self) -> list[tuple[str, str]]:
        """Give rd.iscsi.target.* as a netroot= says it, if a name and an address are given."""
        name, host, port = (
            self.given.get(what, ("", ""))[1] for what in ("target name", "target host", "target port")
        )
        if not (name or host or port):
            return []
        if not (name and host):
            self.warn("rd.iscsi.target.name and rd.iscsi.target.ip name a target only together: left out")
            return []
        shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return [(f"{netroot.PREFIX}{shown}::{port}::{name}", "rd.iscsi.target.name as ")]

    def boot_mac(self) -> str:
        """Give the NIC that BOOTIF=, or bootdev= by an ifname=, says this machine boots from."""
        if "bootdev" in self.given:
            return self.macs.get(self.given["bootdev"][1], "")
        return self.given.get("BOOTIF", ("", ""))[1]

    def boot_interface(self) -> str:
        """Give the interface of bootdev= that no ifname= tells the MAC of."""
        name = self.given.get("bootdev", ("", ""))[1]
        return "" if name in self.macs else name

    # --- the network: each reads one option, ConfigError leaves it out ---

    def _ip(self, value: str) -> None:
        one = ip.parse_ip(value)
        for warning in one.warnings:
            self.warn(warning)
        if one.mtu:
            self.set("mtu_bytes", f"ip={value}: mtu_bytes", one.mtu)
        if one not in self.ips:
            self.ips.append(one)

    def _ifname(self, value: str) -> None:
        name, _, mac = value.partition(":")
        self.macs[name] = ip.parse_mac(mac)

    def _vlan(self, value: str) -> None:
        name, _, lower = value.partition(":")
        number = re.search(r"([0-9]+)$", name)
        if not lower or number is None or not 0 < int(number[1]) < 4095:
            self.warn(
                f"vlan={value} has not the form NAME:INTERFACE with the VLAN at the end of NAME: left out"
            )
        else:
            self.vlans.append((name, lower, int(number[1])))

    def _nameserver(self, value: str) -> None:
        self.nameservers.append(ip.parse_nameserver(value.strip("[]")))

    def _bootif(self, value: str) -> None:
        self.set("BOOTIF", "BOOTIF", ip.parse_mac(value))

    def _bootdev(self, value: str) -> None:
        self.set("bootdev", "bootdev", value)


#: the keys that cmdline has a row for
SWITCH_NAMES = frozenset({"", "acpi_table", "verbose", "debug", "netns", "luns"})

_NETWORK: Mapping[str, Callable[[Reading, str], None]] = {
    "ip": Reading._ip,
    "ifname": Reading._ifname,
    "vlan": Reading._vlan,
    "nameserver": Reading._nameserver,
    "BOOTIF": Reading._bootif,
    "bootdev": Reading._bootdev,
}
