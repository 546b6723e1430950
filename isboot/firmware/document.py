"""
A table as the document of `isboot ibft --json`: a contract, field by field, that scripts rely on.

No key is ever missing; an absent address is null, an absent string "", an absent list [].
"""

from __future__ import annotations

from typing import Any

from isboot.firmware import quirks, text
from isboot.values import IbftInitiator, IbftNic, IbftTable, IbftTarget, IpAddress


def to_document(table: IbftTable, *, show_secrets: bool = False) -> dict[str, Any]:
    """
    Give the document of one table.

    :param show_secrets: adds `chap_secret` and `reverse_chap_secret` to every target
    """
    control = table.control
    return {
        "source": table.source,
        "signature": table.signature,
        "revision": table.revision,
        "length": table.length,
        "checksum_ok": table.checksum_ok,
        "oem_id": table.oem_id,
        "oem_table_id": table.oem_table_id,
        "control": control and {
            "flags": control.flags,
            "boot_failover": control.boot_failover,
            "pairs": control.pairs,
            "extensions": control.extensions,
        },
        "initiator": table.initiator and _initiator(table.initiator),
        "nics": [_nic(nic) for nic in table.nics],
        "targets": [_target(target, show_secrets) for target in table.targets],
        "problems": [
            {
                "severity": problem.severity,
                "code": problem.code,
                "where": problem.where,
                "offset": problem.offset,
                "message": problem.message,
            }
            for problem in table.problems
        ],
        "verdict": verdict(table),
        "quirks": [
            {
                "code": met.quirk.code,
                "producer": met.quirk.producer,
                "where": list(met.places),
                "message": f"{met.quirk.sign}; {met.quirk.action}",
                "source": met.quirk.source,
            }
            for met in quirks.met(table)
        ],
    }  # fmt: skip


def to_summary(table: IbftTable, index: int) -> dict[str, Any]:
    """Give one entry of `isboot ibft --list --json`."""
    return {
        "index": index,
        "source": table.source,
        "signature": table.signature,
        "oem_id": table.oem_id,
        "oem_table_id": table.oem_table_id,
        "length": table.length,
        "verdict": verdict(table),
    }


def verdict(table: IbftTable) -> str:
    """Give "accept" for a table that can be booted from, else "reject"."""
    return "accept" if table.is_bootable else "reject"


def _address(address: IpAddress | None) -> str | None:
    return None if address is None else str(address)


def _initiator(initiator: IbftInitiator) -> dict[str, Any]:
    return {
        "name": initiator.name,
        "isns": _address(initiator.isns),
        "slp": _address(initiator.slp),
        "radius": [str(address) for address in initiator.radius],
        "flags": initiator.flags,
        "valid": initiator.valid,
        "boot_selected": initiator.boot_selected,
    }


def _nic(nic: IbftNic) -> dict[str, Any]:
    return {
        "index": nic.index,
        "header_index": nic.header_index,
        "mac": nic.mac,
        "ip": _address(nic.ip),
        "prefix": nic.prefix,
        "origin": nic.origin,
        "gateway": _address(nic.gateway),
        "dns": [str(address) for address in nic.dns],
        "dhcp": _address(nic.dhcp),
        "vlan": nic.vlan,
        "pci": nic.pci,
        "hostname": nic.hostname,
        "flags": nic.flags,
        "valid": nic.valid,
        "boot_selected": nic.boot_selected,
        "global": nic.is_global,
    }


def _target(target: IbftTarget, show_secrets: bool) -> dict[str, Any]:
    document = {
        "index": target.index,
        "header_index": target.header_index,
        "name": target.name,
        "ip": _address(target.ip),
        "port": target.port,
        "lun": target.lun.hex(),
        "nic": target.nic,
        "chap": target.chap,
        "chap_name": target.chap_name,
        "reverse_chap_name": target.reverse_chap_name,
        "has_secret": bool(target.chap_secret),
        "has_reverse_secret": bool(target.reverse_chap_secret),
        "radius_chap": target.radius_chap,
        "radius_reverse_chap": target.radius_reverse_chap,
        "flags": target.flags,
        "valid": target.valid,
        "boot_selected": target.boot_selected,
    }
    if show_secrets:
        document["chap_secret"] = text.printable(target.chap_secret.reveal())
        document["reverse_chap_secret"] = text.printable(target.reverse_chap_secret.reveal())
    return document
