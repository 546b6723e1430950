"""
What to boot from, by precedence: the kernel command line wins over the table, the table over netroot=.

So a table says where the disk is, the command line how to use it, and netroot= serves a machine without one;
where netroot=dhcp or root=dhcp asks for it, DHCP's root-path does.  Who won for each value is kept in
`BootConfig.origins`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from isboot.config import addresses, initiator
from isboot.config.cmdline import KernelOptions
from isboot.config.credentials import weaknesses
from isboot.config.lun import format_lun
from isboot.config.netroot import PREFIX, Netroot, parse_netroot
from isboot.config.origins import Origins
from isboot.config.table import from_table
from isboot.errors import ConfigError, ExitStatus
from isboot.values import BootConfig, Credentials, IbftTable, NicConfig, PathConfig, Policy

COMMAND_LINE = "kernel command line"
ROOT_PATH = "root-path of DHCP"
HINT_NO_SOURCE = "let the firmware boot from iSCSI, or say netroot=iscsi:HOST:::LUN:TARGETNAME"
_HINT_TABLE = "isboot ibft shows the table and all that is wrong with it"
_HINT_ROOT_PATH = "let the DHCP server give option 17 as iscsi:HOST:::LUN:TARGETNAME (RFC 4173)"


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
    :return: without a path where DHCP is asked for it: `with_root_path` adds it
    :raises ConfigError: rd.isboot=0 or nothing to boot from (66), or what there is cannot be used (65)
    """
    if not options.enabled:
        raise ConfigError("booting: rd.isboot=0 forbids it", exit_status=ExitStatus.NOTHING_THERE)
    base = policy or Policy()
    chosen_policy = options.policy(base)
    origins = Origins()
    config = _of_tables(tables, options, chosen_policy, origins)
    if config is not None:
        origins.claim("initiator name", (options.initiator_name, "rd.iscsi.initiator"))
        origins.claim("initiator name", (config.initiator_name, config.source))
        config = addresses.overrule(config, options, origins)
    elif options.netroots or options.asks_dhcp:
        config = _without_table(options, chosen_policy, root, origins)
        origins.warnings += [
            f"iBFT ({one.source}): cannot be booted from, netroot= is used" for one in tables
        ]
    else:
        raise _nothing(tables, options)
    config = replace(config, paths=_with_credentials(config, options, origins))
    _claim_targets(config, options, origins)
    _claim_policy(config.policy, base, options, origins)
    return replace(
        config,
        initiator_name=options.initiator_name or config.initiator_name,
        luns=options.luns,
        origins=origins.rows(),
        warnings=(*config.warnings, *origins.warnings, *weaknesses(config.paths)),
    )


def with_leases(config: BootConfig, nics: Sequence[NicConfig]) -> BootConfig:
    """
    Give the configuration with the NICs as DHCP configured them.

    :param nics: those of the configuration, in their order, with MACs
    """
    by_index = {nic.index: nic for nic in nics}
    paths = tuple(replace(path, nic=by_index[path.nic.index]) if path.nic else path for path in config.paths)
    origins = Origins()
    for old, new in zip(config.nics, nics, strict=True):
        if old.address != new.address:
            origins.claim(f"NIC {new.index} address", (str(new.address), "DHCP"))
    name = config.initiator_name
    if not name:
        name = initiator.name_of_nic(nics[0].mac)
        origins.claim("initiator name", (name, "MAC of NIC 0"))
    told = {row.what for row in origins.rows()}
    return replace(
        config,
        initiator_name=name,
        nics=tuple(nics),
        paths=paths,
        origins=(*origins.rows(), *(row for row in config.origins if row.what not in told)),
    )


def with_root_path(config: BootConfig, root_path: str, nic: NicConfig, options: KernelOptions) -> BootConfig:
    """
    Give the configuration with the target that DHCP names.

    :param root_path: option 17
    :param nic: the NIC it came over, with its lease; the only one from here on
    :raises ConfigError: there is none (66), or it is no iSCSI root-path (65)
    """
    doing = f"reading the {ROOT_PATH}"
    if not root_path:
        raise ConfigError(f"{doing}: the server gives none", _HINT_ROOT_PATH, ExitStatus.NOTHING_THERE)
    if not root_path.startswith(PREFIX):
        shown = root_path[:60] if root_path.isprintable() else "what it gives"
        raise ConfigError(f"{doing}: {shown!r} is none of iSCSI", _HINT_ROOT_PATH, ExitStatus.MALFORMED)
    found = parse_netroot(root_path, f"{ROOT_PATH} ")
    path = PathConfig(0, nic, found.portal, found.target_name, found.lun, found.credentials)
    origins = Origins()
    config = replace(config, source=ROOT_PATH, nics=(nic,), paths=(path,))
    config = replace(config, paths=_with_credentials(config, options, origins))
    _claim_targets(config, options, origins)
    return replace(
        config,
        origins=(*origins.rows(), *config.origins),
        warnings=(*config.warnings, *found.warnings, *origins.warnings, *weaknesses(config.paths)),
    )


def _of_tables(
    tables: Sequence[IbftTable], options: KernelOptions, policy: Policy, origins: Origins
) -> BootConfig | None:
    """Give what the table asked for says, else the first that can be used: a broken one hides no good one."""
    chosen = _choose(tables, options)
    if chosen is not None:
        return from_table(chosen, policy)
    faults: list[ConfigError] = []
    for table in tables:
        if table.is_bootable:
            try:
                return from_table(table, policy)
            except ConfigError as fault:
                faults.append(fault)
                origins.warnings.append(f"{fault.message}: another source is looked for")
    if faults and not (options.netroots or options.asks_dhcp):
        raise faults[0]
    return None


def _choose(tables: Sequence[IbftTable], options: KernelOptions) -> IbftTable | None:
    """Give the table asked for."""
    index = options.table_index
    if index is None:
        return None
    doing = f"taking iBFT number {index} (rd.isboot.acpi_table)"
    if index >= len(tables):
        message = f"{doing}: there are {len(tables)}, counted from 0"
        raise ConfigError(message, "isboot ibft --list shows them", ExitStatus.NOTHING_THERE)
    if not tables[index].is_bootable:
        raise ConfigError(f"{doing}: {_first_error(tables[index])}", _HINT_TABLE, ExitStatus.MALFORMED)
    return tables[index]


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


def _without_table(options: KernelOptions, policy: Policy, root: Path, origins: Origins) -> BootConfig:
    name = options.initiator_name
    if name:
        origins.claim("initiator name", (name, "rd.iscsi.initiator"))
    nics = addresses.from_options(options, origins)
    if not name:
        name, source = _default_name(root, nics)
        origins.claim("initiator name", (name, source))
    if options.asks_dhcp and options.netroots:
        origins.warnings.append(
            f"the target is set twice: {options.netroots[0].shown} and {options.asks_dhcp}; the former holds"
        )
    return BootConfig(
        source=COMMAND_LINE if options.netroots else ROOT_PATH,
        initiator_name=name,
        nics=nics,
        paths=tuple(
            PathConfig(
                index,
                addresses.nic_of(netroot, nics, options),
                netroot.portal,
                netroot.target_name,
                netroot.lun,
                netroot.credentials,
            )
            for index, netroot in enumerate(options.netroots)
        ),
        policy=policy,
        is_boot=True,
    )


def _default_name(root: Path, nics: Sequence[NicConfig]) -> tuple[str, str]:
    try:
        return initiator.default_claim(root)
    except ConfigError as error:
        if error.exit_status != ExitStatus.NOTHING_THERE or not nics:
            raise
        if nics[0].mac:
            return initiator.name_of_nic(nics[0].mac), "MAC of NIC 0"
        if nics[0].address is None:
            return "", ""  # `with_leases` knows the MAC
        raise


def _with_credentials(config: BootConfig, options: KernelOptions, origins: Origins) -> tuple[PathConfig, ...]:
    """Give the paths with the command line's CHAP, which is never less than what another source asks for."""
    given = options.credentials
    paths = []
    for path in config.paths:
        own = path.credentials
        if given is None or (own is not None and config.source == COMMAND_LINE):
            paths.append(path)  # a netroot='s own are of the command line, too, and nearer
        elif own is not None and own.is_mutual and not given.is_mutual:
            origins.warnings.append(
                f"rd.iscsi.username is left out for {path.target_name}: "
                f"the {config.source} asks for mutual CHAP"
            )
            paths.append(path)
        else:
            paths.append(replace(path, credentials=given))
            origins.claim("CHAP", (_shown(given), "rd.iscsi.username"))
        origins.claim("CHAP", (_shown(own), config.source))
    return tuple(paths)


def _shown(credentials: Credentials | None) -> str:
    if credentials is None:
        return ""
    return f"{'mutual' if credentials.is_mutual else 'one way'} as {credentials.name}"


def _claim_targets(config: BootConfig, options: KernelOptions, origins: Origins) -> None:
    for path in config.paths[:1]:
        origins.claim("target", (f"{path.target_name} LUN {format_lun(path.lun)}", config.source))
        origins.claim("portal", (str(path.portal), config.source))
    if config.source != COMMAND_LINE:
        for other in options.netroots:
            if config.paths and not any(_is_same(other, path) for path in config.paths):
                origins.claim(
                    "target", (f"{other.target_name} LUN {format_lun(other.lun)}", other.shown), is_known=True
                )


def _is_same(netroot: Netroot, path: PathConfig) -> bool:
    return (netroot.target_name, netroot.lun) == (path.target_name, path.lun)


def _claim_policy(policy: Policy, base: Policy, options: KernelOptions, origins: Origins) -> None:
    set_by = dict(options.set_by)
    if "LUNs" in set_by:
        shown = options.luns if isinstance(options.luns, str) else ",".join(map(format_lun, options.luns))
        origins.claim("LUNs", (shown, set_by["LUNs"]))
    for one in fields(Policy):
        value = getattr(policy, one.name)
        if one.name in set_by and one.name in dict(options.assignments):
            origins.claim(one.name, (_text(value), set_by[one.name]))
        elif value != getattr(base, one.name):
            origins.claim(one.name, (_text(value), f"profile {policy.profile}"))


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(int(value)) if isinstance(value, bool) else str(value)
