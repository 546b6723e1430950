"""An iBFT as a `BootConfig`: every target that can be used is a path, the boot-selected one first."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from isboot.config.initiator import checked_name
from isboot.errors import ConfigError, ExitStatus
from isboot.values import (
    BootConfig,
    Credentials,
    IbftNic,
    IbftTable,
    IbftTarget,
    IpInterface,
    NicConfig,
    PathConfig,
    Policy,
    Portal,
    iscsi_name_fault,
)

PORT = 3260
VLAN_MAXIMUM = 4094
HINT = "isboot ibft shows the table and all that is wrong with it"


def from_table(table: IbftTable, policy: Policy) -> BootConfig:
    """
    Give what a table says to boot from.  What cannot be used is left out and named in `warnings`.

    :raises ConfigError: no initiator name, or no target that can be used (65): names the first one's fault
    """
    doing = f"reading the iBFT ({table.source})"
    if table.initiator is None:
        raise ConfigError(f"{doing}: it has no initiator", HINT, ExitStatus.MALFORMED)
    initiator_name = checked_name(table.initiator.name, doing)
    warnings: list[str] = []
    nics: dict[int, NicConfig] = {}
    for nic in table.nics:
        if fault := _nic_fault(nic):
            warnings.append(f"{doing}: nic{nic.index} is not used: {fault}")
        else:
            nics[nic.index] = _nic(nic)
    paths: list[PathConfig] = []
    for target in sorted(table.targets, key=lambda target: _rank(target, table)):
        if fault := _target_fault(target, nics):
            warnings.append(f"{doing}: target{target.index} is not used: {fault}")
        else:
            paths.append(_path(len(paths), target, nics, doing, warnings))
    if not paths:
        reason = warnings[0].removeprefix(f"{doing}: ") if warnings else "it has no target"
        raise ConfigError(f"{doing}: {reason}", HINT, ExitStatus.MALFORMED)
    return BootConfig(
        source=f"iBFT ({table.source})",
        initiator_name=initiator_name,
        nics=tuple(nics.values()),
        paths=tuple(paths),
        policy=policy,
        is_boot=True,
        warnings=tuple(warnings),
    )


def _rank(target: IbftTarget, table: IbftTable) -> tuple[bool, bool, int]:
    nic = next((nic for nic in table.nics if nic.index == target.nic), None)
    return (not target.boot_selected, nic is None or not nic.boot_selected, target.index)


def _nic_fault(nic: IbftNic) -> str:
    """Say why a NIC cannot be used, or ""."""
    if not nic.valid and not nic.boot_selected:
        return "it is flagged neither valid nor boot-selected"
    first = int(nic.mac[:2], 16)
    if nic.mac == "00:00:00:00:00:00" or first & 1:
        return f"{nic.mac} is the MAC of no NIC"
    if nic.vlan > VLAN_MAXIMUM:
        return f"VLAN {nic.vlan} is beyond {VLAN_MAXIMUM}"
    return ""


def _target_fault(target: IbftTarget, nics: dict[int, NicConfig]) -> str:
    """Say why a target cannot be used, or ""."""
    if not target.valid and not target.boot_selected:
        return "it is flagged neither valid nor boot-selected"
    if target.ip is None:
        return "it has no address"
    if fault := iscsi_name_fault(target.name):
        return f"{target.name!r} is no target name: {fault}"
    # Never less than what the table asks for: a login without it might succeed at somebody else's target.
    if target.chap == "mutual" and not (target.reverse_chap_secret and target.chap_secret):
        return "it asks for mutual CHAP, but a secret is missing"
    if target.chap == "mutual" and target.chap_secret == target.reverse_chap_secret:
        return "both directions of its CHAP have the same secret"
    if target.nic is not None and target.nic not in nics:
        return f"its nic{target.nic} cannot be used"
    return ""


def _path(
    index: int, target: IbftTarget, nics: dict[int, NicConfig], doing: str, warnings: list[str]
) -> PathConfig:
    nic_index = target.nic
    if nic_index is None and len(nics) == 1:
        nic_index = next(iter(nics))
    if nic_index is None:
        warnings.append(f"{doing}: target{target.index} names no NIC: the host's routes decide")
    if target.chap != "none" and not target.chap_secret:
        warnings.append(f"{doing}: target{target.index} asks for CHAP, but its secret is empty")
    return PathConfig(
        index=index,
        nic=None if nic_index is None else nics[nic_index],
        portal=Portal(str(target.ip), target.port or PORT),
        target_name=target.name,
        lun=target.lun,
        credentials=_credentials(target),
    )


def _credentials(target: IbftTarget) -> Credentials | None:
    if target.chap == "none":
        return None
    if target.chap == "chap":
        return Credentials(target.chap_name, target.chap_secret)
    return Credentials(
        target.chap_name, target.chap_secret, target.reverse_chap_name, target.reverse_chap_secret
    )


def _nic(nic: IbftNic) -> NicConfig:
    return NicConfig(
        index=nic.index,
        mac=nic.mac,
        pci=nic.pci,
        address=_interface(nic),
        gateway=nic.gateway,
        dns=nic.dns,
        vlan=nic.vlan,
        hostname=nic.hostname,
        origin=nic.origin,
    )


def _interface(nic: IbftNic) -> IpInterface | None:
    """Give address and prefix; a prefix no address of its kind can have becomes that of the host alone."""
    if nic.ip is None:
        return None
    if isinstance(nic.ip, IPv4Address):
        return IPv4Interface((nic.ip, nic.prefix if 0 < nic.prefix <= 32 else 32))
    return IPv6Interface((nic.ip, nic.prefix if 0 < nic.prefix <= 128 else 128))
