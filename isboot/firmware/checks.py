"""
What makes a decoded structure doubtful, one row per rule.

These rules look at values, not at bytes, so that a table read from the kernel's sysfs tree is judged like one
read from memory.  Rules about bytes (offsets, lengths, ids) live in the decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from isboot.firmware import layout, lun, text
from isboot.values import IbftInitiator, IbftNic, IbftTarget, Problem, Secret, iscsi_name_fault

VLAN_MAXIMUM = 4094  #: IEEE 802.1Q keeps 4095
SECRET_MINIMUM_BYTES = 12  #: RFC 7143 §9.2.1: 96 bits


@dataclass(frozen=True, slots=True)
class Check:
    """
    One rule.

    :param field: the JSON name of the field it is about
    :param fault: given the structure, says what is wrong with it, or ""
    """

    structure: layout.Structure
    field: str
    severity: str
    code: str
    fault: Callable[[Any], str]


def _when(condition: object, message: str) -> str:
    return message if condition else ""


def _name_fault(structure: IbftInitiator | IbftTarget) -> str:
    fault = iscsi_name_fault(structure.name)
    return _when(fault, f'the name "{text.shortened(structure.name)}" is no iSCSI name: {fault}')


def _underscore(structure: IbftInitiator | IbftTarget) -> str:
    # iscsi_name_fault() says why it is used all the same.
    is_odd = "_" in structure.name and not iscsi_name_fault(structure.name)
    return _when(is_odd, f'the name "{structure.name}" has an underscore, which RFC 3722 prohibits')


def _secret_fault(secret: Secret) -> str:
    is_short = 0 < len(secret.reveal()) < SECRET_MINIMUM_BYTES
    return _when(is_short, f"it is shorter than {SECRET_MINIMUM_BYTES} bytes, against RFC 7143 §9.2.1")


def _unknown_flags(structure: layout.Structure) -> Callable[[Any], str]:
    def fault(value: Any) -> str:
        unknown = value.flags & ~structure.known_flags
        return _when(unknown, f"reserved flag bits are set: 0x{unknown:02x}")

    return fault


def _prefix_fault(nic: IbftNic) -> str:
    bits = 32 if nic.ip is not None and nic.ip.version == 4 else 128
    if nic.prefix > bits:
        return f"a prefix length of {nic.prefix} does not fit an address of {bits} bits"
    return _when(nic.ip is not None and nic.prefix == 0, "the address has a prefix length of 0")


def _mac_fault(nic: IbftNic) -> str:
    if nic.mac == "00:00:00:00:00:00":
        return "the MAC is all zero: no NIC can be found by it"
    return _when(int(nic.mac[:2], 16) & 1, f"{nic.mac} is a group address, not that of a NIC")


def _selected_but_invalid(value: Any) -> str:
    # Some firmware sets bit 1 alone and means it; such a structure is used all the same.
    return _when(value.boot_selected and not value.valid, "boot-selected, but the valid flag is not set")


def _not_valid(value: Any) -> str:
    return _when(not value.valid and not value.boot_selected, "neither valid nor boot-selected: not used")


def _index_fault(value: IbftNic | IbftTarget) -> str:
    differs = value.index != value.header_index
    return _when(differs, f"stands at position {value.index}, but calls itself {value.header_index}")


def _common(structure: layout.Structure) -> tuple[Check, ...]:
    return (
        Check(structure, "flags", "warning", "flags", _unknown_flags(structure)),
        Check(structure, "flags", "warning", "flags", _selected_but_invalid),
        Check(structure, "flags", "note", "flags", _not_valid),
    )


_I, _N, _T = layout.INITIATOR, layout.NIC, layout.TARGET

CHECKS: tuple[Check, ...] = (
    *_common(_I),
    Check(_I, "name", "error", "name", _name_fault),
    Check(_I, "name", "warning", "name", _underscore),
    *_common(_N),
    Check(_N, "header_index", "warning", "index", _index_fault),
    Check(_N, "prefix", "warning", "prefix", _prefix_fault),
    Check(_N, "origin", "warning", "origin",
          lambda n: _when(isinstance(n.origin, int), f"address origin {n.origin} is not defined")),
    Check(_N, "gateway", "warning", "gateway",
          lambda n: _when(n.ip and n.gateway and n.ip.version != n.gateway.version,
                          f"the gateway {n.gateway} is of another family than the address {n.ip}")),
    Check(_N, "vlan", "warning", "vlan",
          lambda n: _when(n.vlan > VLAN_MAXIMUM, f"VLAN {n.vlan} is beyond {VLAN_MAXIMUM}")),
    Check(_N, "mac", "warning", "mac", _mac_fault),
    *_common(_T),
    Check(_T, "header_index", "warning", "index", _index_fault),
    Check(_T, "ip", "warning", "address", lambda t: _when(t.ip is None, "the target has no address")),
    Check(_T, "port", "warning", "port", lambda t: _when(t.port == 0, "the TCP port is 0")),
    Check(_T, "lun", "warning", "lun",
          lambda t: _when(fault := lun.fault(t.lun), f"LUN {t.lun.hex()}: {fault}")),
    Check(_T, "name", "error", "name", _name_fault),
    Check(_T, "name", "warning", "name", _underscore),
    Check(_T, "chap", "note", "chap",
          lambda t: _when(t.chap == "none" and (t.chap_name or t.chap_secret),
                          "CHAP is off, but a CHAP name or secret is present")),
    Check(_T, "chap_name", "warning", "chap",
          lambda t: _when(t.chap != "none" and not t.chap_name, "CHAP is on, but its name is empty")),
    Check(_T, "chap_secret", "warning", "chap",
          lambda t: _when(t.chap != "none" and not t.chap_secret, "CHAP is on, but its secret is empty")),
    Check(_T, "chap_secret", "warning", "chap", lambda t: _secret_fault(t.chap_secret)),
    Check(_T, "reverse_chap_name", "warning", "chap",
          lambda t: _when(t.chap == "mutual" and not t.reverse_chap_name,
                          "CHAP is mutual, but the target's name is empty")),
    Check(_T, "reverse_chap_secret", "warning", "chap",
          lambda t: _when(t.chap == "mutual" and not t.reverse_chap_secret,
                          "CHAP is mutual, but the target's secret is empty")),
    Check(_T, "reverse_chap_secret", "warning", "chap", lambda t: _secret_fault(t.reverse_chap_secret)),
    Check(_T, "reverse_chap_secret", "warning", "chap",
          lambda t: _when(t.chap == "mutual" and t.chap_secret and t.chap_secret == t.reverse_chap_secret,
                          "both directions of CHAP share one secret (RFC 7143 §9.2.1 forbids it)")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that was broken, before it is known where in the table that is."""

    field: str
    severity: str
    code: str
    message: str


def examine(structure: layout.Structure, value: IbftInitiator | IbftNic | IbftTarget) -> Iterator[Finding]:
    """Give every rule of this structure that the value breaks."""
    for check in CHECKS:
        if check.structure is structure and (message := check.fault(value)):
            yield Finding(check.field, check.severity, check.code, message)


def duplicates(
    nics: Iterable[IbftNic], targets: Iterable[IbftTarget]
) -> Iterator[tuple[layout.Structure, int, Finding]]:
    """Give the structures that repeat an earlier one, with their index. EDK2 writes one NIC per attempt."""
    macs: dict[tuple[str, int], int] = {}
    for nic in nics:
        first = macs.setdefault((nic.mac, nic.vlan), nic.index)
        if first != nic.index:
            yield (
                layout.NIC,
                nic.index,
                Finding("mac", "note", "duplicate", f"the same MAC and VLAN as nic{first}"),
            )
    seen: dict[object, int] = {}
    for target in targets:
        first = seen.setdefault((target.name, target.ip, target.port, target.lun, target.nic), target.index)
        if first != target.index:
            yield (
                layout.TARGET,
                target.index,
                Finding("name", "note", "duplicate", f"the same target, LUN and NIC as target{first}"),
            )


def can_boot_from(target: IbftTarget) -> bool:
    """Say whether this target alone is enough to boot from: an address, a legal name, a flag."""
    is_meant = target.valid or target.boot_selected
    return is_meant and target.ip is not None and not iscsi_name_fault(target.name)


def is_bootable(initiator: IbftInitiator | None, targets: Iterable[IbftTarget]) -> bool:
    """Say whether what is left of the table can be booted from."""
    has_name = initiator is not None and not iscsi_name_fault(initiator.name)
    return has_name and any(can_boot_from(target) for target in targets)


def nothing_bootable(problems: Iterable[Problem], offset: int | None) -> list[Problem]:
    """Name the missing boot target, unless an error about the initiator or a target already says why."""
    for problem in problems:
        place, _, field = problem.where.partition(".")
        is_culprit = field in ("", "name") and place.startswith(("initiator", "target", "control"))
        if problem.severity == "error" and is_culprit:
            return []
    message = "no target has an address, a legal name and the valid or boot-selected flag"
    return [Problem("error", "nothing-bootable", "control", offset, message)]
