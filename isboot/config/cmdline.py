"""
The kernel command line: rd.isboot.* and the netroot= of RFC 4173 and dracut.

A value that only tunes must not keep a machine from booting: where it is wrong, it is left out with a
warning.  A value that decides what is booted from must be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from isboot.config import netroot, parameters
from isboot.config.initiator import checked_name
from isboot.config.lun import parse_boot_luns
from isboot.config.netroot import Netroot
from isboot.errors import ConfigError, UsageError
from isboot.values import Policy

PREFIX = "rd.isboot"
DEBUG_MAXIMUM = 3


@dataclass(frozen=True, slots=True)
class KernelOptions:
    """
    What the kernel command line says.

    :param enabled: False for rd.isboot=0: nothing is probed
    :param table_index: which of the tables found, None for the first good one
    :param luns: "boot", "all", or their bytes
    :param netroots: the targets of netroot=, each one path
    :param netroot_fault: why a netroot= was left out, "" if none was
    :param initiator_name: of rd.iscsi.initiator, "" for none
    :param assignments: parameters and their values as text, each checked
    :param warnings: what was set twice, left out or is not known, a line each
    """

    enabled: bool = True
    table_index: int | None = None
    verbose: bool = False
    debug: int = 0
    netns: bool = False
    luns: str | tuple[bytes, ...] = "boot"
    netroots: tuple[Netroot, ...] = ()
    netroot_fault: str = ""
    initiator_name: str = ""
    assignments: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()

    def policy(self, base: Policy) -> Policy:
        """Give a policy with what the command line sets."""
        return parameters.apply(base, self.assignments)


@dataclass
class _Reading:
    """The options while they are read, each with the text that set it."""

    given: dict[str, tuple[str, str]] = field(default_factory=dict)  # what is set -> (option, value)
    netroots: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def set(self, what: str, option: str, value: str) -> None:
        old = self.given.get(what)
        if old is not None and old[1] != value:
            self.warn(f"{what} is set twice: {old[0]}={old[1]} and {option}={value}; the latter holds")
        self.given[what] = (option, value)

    def warn(self, message: str) -> None:
        self.warnings.append(f"kernel command line: {message}")


def parse(text: str) -> KernelOptions:
    """
    Read a kernel command line.

    :param text: of /proc/cmdline
    :raises UsageError: rd.isboot, rd.isboot.acpi_table or rd.isboot.luns has a value it does not take
    """
    reading = _Reading()
    for word in words(text):
        option, equals, value = word.partition("=")
        # The kernel and dracut take - and _ for the same in the names of options.
        name = option.replace("-", "_")
        if name == PREFIX or name.startswith(PREFIX + "."):
            _isboot(reading, name, value if equals else "1")
        elif name in ("netroot", "root") and (value.startswith(netroot.PREFIX)):
            reading.netroots[value] = name
        elif name in ("rd.iscsi.initiator", "iscsi_initiator"):
            reading.set("the initiator name", option, value)
    return _options(reading)


def words(text: str) -> list[str]:
    """Split a command line as the kernel does: at blanks, unless they stand in double quotes."""
    return [word.replace('"', "") for word in re.findall(r'(?:[^\s"]|"[^"]*"?)+', text)]


def _isboot(reading: _Reading, name: str, value: str) -> None:
    key = name.removeprefix(PREFIX).removeprefix(".")
    if key == "param":
        parameter, equals, setting = value.partition("=")
        if not equals:
            reading.warn(f"{name}={value} has not the form KEY=VALUE: left out")
        else:
            reading.set(parameter, f"{name}={parameter}", setting)
    elif key == "give_up":
        # In seconds here, as people think of it; a parameter in ms like all the others.
        milliseconds = f"{value}000" if value.isdigit() else value
        reading.set("give_up_ms", f"{PREFIX}.param=give_up_ms", milliseconds)
    elif key in ("queues", "profile"):
        reading.set(key, name, value)
    elif key in _SWITCHES:
        reading.set(name, name, value)
    else:
        reading.warn(f"{name} is no option of isboot: left out")


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


@dataclass(frozen=True, slots=True)
class _Switch:
    """
    An option that is no parameter.

    :param field: of `KernelOptions`
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
    "netns": _Switch("netns", _boolean),
    "luns": _Switch("luns", parse_boot_luns, is_decisive=True),
}


def _options(reading: _Reading) -> KernelOptions:
    switches: dict[str, object] = {}
    assignments: list[tuple[str, str]] = []
    initiator_name = ""
    for what, (option, value) in reading.given.items():
        key = what.removeprefix(PREFIX).removeprefix(".")
        if what == "the initiator name":
            initiator_name = checked_name(value, f"reading {option} of the kernel command line")
        elif what.startswith(PREFIX) and key in _SWITCHES:
            _read_switch(reading, switches, _SWITCHES[key], option, value)
        else:
            try:
                parameters.parse_value(what, value)
                assignments.append((what, value))
            except UsageError as error:
                reading.warn(f"{error.message}: left out")
    netroots, fault = _netroots(reading)
    return KernelOptions(
        **switches,  # type: ignore[arg-type]  # each reader gives the type of its field
        netroots=netroots,
        netroot_fault=fault,
        initiator_name=initiator_name,
        assignments=tuple(assignments),
        warnings=tuple(reading.warnings),
    )


def _read_switch(
    reading: _Reading, switches: dict[str, object], switch: _Switch, option: str, value: str
) -> None:
    doing = f"reading {option} of the kernel command line"
    try:
        switches[switch.field] = switch.read(value)
    except UsageError as error:
        raise UsageError(f"{doing}: {error.message}", error.hint) from None
    except ValueError as error:
        message = f"{doing}: it takes {error}, not {value!r}"
        if switch.is_decisive:
            raise UsageError(message) from None
        reading.warnings.append(f"{message}: left out")


def _netroots(reading: _Reading) -> tuple[tuple[Netroot, ...], str]:
    found: list[Netroot] = []
    fault = ""
    for value in reading.netroots:
        if value == netroot.PREFIX:
            continue  # dracut's way to say that the firmware knows
        try:
            one = netroot.parse_netroot(value)
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
