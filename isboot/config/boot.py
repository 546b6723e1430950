"""
What to boot from, by precedence: the kernel command line wins over the table, the table over netroot=.

So a table says where the disk is, the command line how to use it, and netroot= serves a machine without one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from isboot.config import initiator
from isboot.config.cmdline import KernelOptions
from isboot.config.credentials import weaknesses
from isboot.config.table import from_table
from isboot.errors import ConfigError, ExitStatus
from isboot.values import BootConfig, IbftTable, PathConfig, Policy

HINT_NO_SOURCE = "let the firmware boot from iSCSI, or say netroot=iscsi:HOST:::LUN:TARGETNAME"


def from_sources(
    tables: Sequence[IbftTable],
    options: KernelOptions,
    *,
    root: Path = Path("/"),
    policy: Policy | None = None,
) -> BootConfig:
    """
    Give what to boot from; its warnings come beside those of the options.

    :param tables: all that were found, in the order acpi, memory, sysfs
    :param root: where /etc is, for the initiator name of netroot=
    :param policy: what the command line's parameters change, the default one if None
    :raises ConfigError: rd.isboot=0 or nothing to boot from (66), or what there is cannot be used (65)
    """
    if not options.enabled:
        raise ConfigError("booting: rd.isboot=0 forbids it", exit_status=ExitStatus.NOTHING_THERE)
    chosen_policy = options.policy(policy or Policy())
    table = _choose(tables, options)
    if table is not None:
        config = from_table(table, chosen_policy)
        extra = _overruled(config, options)
    elif options.netroots:
        config = _from_netroots(options, chosen_policy, root)
        extra = [f"iBFT ({table.source}): cannot be booted from, netroot= is used" for table in tables]
    else:
        raise _nothing(tables, options)
    name = options.initiator_name or config.initiator_name
    return replace(
        config, initiator_name=name, warnings=(*config.warnings, *extra, *weaknesses(config.paths))
    )


def _choose(tables: Sequence[IbftTable], options: KernelOptions) -> IbftTable | None:
    """Give the table asked for, else the first that can be booted from: a broken one hides no good one."""
    index = options.table_index
    if index is None:
        return next((table for table in tables if table.is_bootable), None)
    doing = f"taking iBFT number {index} (rd.isboot.acpi_table)"
    if index >= len(tables):
        message = f"{doing}: there are {len(tables)}, counted from 0"
        raise ConfigError(message, "isboot ibft --list shows them", ExitStatus.NOTHING_THERE)
    if not tables[index].is_bootable:
        raise ConfigError(f"{doing}: {_first_error(tables[index])}", _HINT_TABLE, ExitStatus.MALFORMED)
    return tables[index]


_HINT_TABLE = "isboot ibft shows the table and all that is wrong with it"


def _first_error(table: IbftTable) -> str:
    for problem in table.problems:
        if problem.severity == "error":
            return f"{problem.where}: {problem.message}"
    return "nothing in it can be booted from"


def _nothing(tables: Sequence[IbftTable], options: KernelOptions) -> ConfigError:
    if tables:
        message = f"reading the iBFT ({tables[0].source}): {_first_error(tables[0])}"
        return ConfigError(message, _HINT_TABLE, ExitStatus.MALFORMED)
    if options.netroot_fault:
        return ConfigError(options.netroot_fault, HINT_NO_SOURCE, ExitStatus.MALFORMED)
    message = "looking for what to boot from: there is no iBFT in ACPI, low memory or sysfs, and no netroot="
    return ConfigError(message, HINT_NO_SOURCE, ExitStatus.NOTHING_THERE)


def _overruled(config: BootConfig, options: KernelOptions) -> list[str]:
    """Name both values where the table and the command line say different things."""
    warnings = []
    if options.initiator_name and options.initiator_name != config.initiator_name:
        warnings.append(
            f"the initiator name is set twice: {config.initiator_name} by the {config.source} and "
            f"{options.initiator_name} by rd.iscsi.initiator; the latter holds"
        )
    for other in options.netroots:
        if all((other.target_name, other.lun) != (path.target_name, path.lun) for path in config.paths):
            first = config.paths[0]
            warnings.append(
                f"the target is set twice: {first.target_name} LUN {first.lun.hex()} by the {config.source} "
                f"and {other.shown}; the former holds"
            )
    return warnings


def _from_netroots(options: KernelOptions, policy: Policy, root: Path) -> BootConfig:
    return BootConfig(
        source="kernel command line",
        initiator_name=options.initiator_name or initiator.default_name(root),
        nics=(),
        paths=tuple(
            PathConfig(index, None, netroot.portal, netroot.target_name, netroot.lun, netroot.credentials)
            for index, netroot in enumerate(options.netroots)
        ),
        policy=policy,
        is_boot=True,
    )
