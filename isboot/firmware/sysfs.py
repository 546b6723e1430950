"""
The kernel's own reading of an iBFT, as text: /sys/firmware/ibft (iscsi_ibft) or iscsi_bootN (offload cards).

The kernel leaves out what it cannot use, and its text is lossy in one place: `lun` is eight bytes printed
"%x" without padding, so that "0ff000000" may be 00 ff or 0f f0.  Where that matters it is said.

:source: Linux drivers/firmware/iscsi_ibft.c, drivers/scsi/iscsi_boot_sysfs.c
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import combinations
from pathlib import Path
from typing import Any

from isboot.firmware import checks, layout, text
from isboot.firmware.layout import Flag
from isboot.values import (
    IbftControl,
    IbftInitiator,
    IbftNic,
    IbftTable,
    IbftTarget,
    IpAddress,
    Problem,
    Secret,
)

FIRMWARE = "sys/firmware"
TREE_NAME = re.compile(r"ibft|iscsi_boot[0-9]*")
ATTRIBUTE_MAXIMUM_BYTES = 65536


@dataclass
class _Tree:
    """One tree of attributes while it is read."""

    path: Path
    is_refused: bool = False
    problems: list[Problem] = field(default_factory=list)

    def raw(self, name: str) -> bytes:
        """Give an attribute without its newline; an attribute the kernel hides is empty."""
        try:
            with (self.path / name).open("rb") as file:
                return file.read(ATTRIBUTE_MAXIMUM_BYTES).removesuffix(b"\n")
        except PermissionError:
            self.is_refused = True
        except OSError:
            pass  # the kernel shows an attribute only when it is set
        return b""

    def problem(self, severity: str, code: str, where: str, message: str) -> None:
        self.problems.append(Problem(severity, code, where, None, message))

    def text(self, name: str, where: str) -> str:
        raw = self.raw(name)
        if text.first_unprintable(raw) is not None:
            self.problem("warning", "text", where, "a byte is not printable ASCII")
        return text.printable(raw)

    def number(self, name: str, where: str) -> int:
        raw = self.raw(name)
        if raw and not raw.isdigit():
            self.problem("warning", "text", where, f'"{text.printable(raw)}" is no number')
        return int(raw) if raw.isdigit() and len(raw) < 10 else 0

    def address(self, name: str, where: str) -> IpAddress | None:
        raw = self.raw(name)
        try:
            return text.meaningful(ip_address(raw.decode("ascii"))) if raw else None
        except ValueError:
            self.problem("warning", "text", where, f'"{text.printable(raw)}" is no address')
            return None


def read_trees(root: Path, refused: list[str]) -> list[IbftTable]:
    """
    Read every tree the kernel shows.

    :param refused: gets the paths that could not be read for lack of permission
    """
    try:
        names = sorted(name for name in os.listdir(root / FIRMWARE) if TREE_NAME.fullmatch(name))
    except OSError:
        return []
    tables = []
    for name in names:
        tree = _Tree(root / FIRMWARE / name)
        table = _read_tree(tree)
        # The kernel lets everybody open these files, and refuses the reading to all but CAP_SYS_ADMIN.
        if tree.is_refused:
            refused.append(f"/{FIRMWARE}/{name}")
        elif table is not None:
            tables.append(table)
    return tables


def is_same(shown: IbftTable, other: IbftTable) -> bool:
    """Say whether a tree shows that table: all it has is there; the kernel may have left out some."""
    name = shown.initiator.name if shown.initiator else None
    targets = {(target.name, target.ip, target.port) for target in other.targets}
    nics = {(nic.mac, nic.ip) for nic in other.nics}
    return (
        (name is None or (other.initiator is not None and name == other.initiator.name))
        and all((target.name, target.ip, target.port) in targets for target in shown.targets)
        and all((nic.mac, nic.ip) in nics for nic in shown.nics)
    )


def _read_tree(tree: _Tree) -> IbftTable | None:
    """Give the table of one tree, None if nothing is in it."""
    nic_indices = _numbered(tree.path, "ethernet")
    target_indices = _numbered(tree.path, "target")
    has_initiator = (tree.path / "initiator").is_dir()
    if not (nic_indices or target_indices or has_initiator):
        return None
    initiator = _initiator(tree) if has_initiator else None
    nics = [_nic(tree, index) for index in nic_indices]
    targets = [_target(tree, index, nics) for index in target_indices]
    if initiator is None:
        tree.problem("error", "pointer-range", "initiator", "the kernel shows no initiator")
    for structure, index, finding in checks.duplicates(nics, targets):
        _found(tree, f"{structure.name}{index}", finding)
    is_bootable = checks.is_bootable(initiator, targets)
    if not is_bootable:
        tree.problems += checks.nothing_bootable(tree.problems, None)
    pairs = max([2, *(index + 1 for index in (*nic_indices, *target_indices))])
    return IbftTable(
        source="sysfs",
        signature=tree.text("acpi_header/signature", "table.signature"),
        revision=None,
        length=None,
        checksum_ok=None,
        oem_id=tree.text("acpi_header/oem_id", "table.oem_id").rstrip(" "),
        oem_table_id=tree.text("acpi_header/oem_table_id", "table.oem_table_id").rstrip(" "),
        control=IbftControl(flags=0, boot_failover=False, pairs=pairs, extensions=0),
        initiator=initiator,
        nics=tuple(nics),
        targets=tuple(targets),
        problems=tuple(tree.problems),
        is_bootable=is_bootable,
    )


def _numbered(path: Path, prefix: str) -> list[int]:
    try:
        names = os.listdir(path)
    except OSError:
        return []
    return sorted(int(m[1]) for name in names if (m := re.fullmatch(prefix + "([0-9]{1,3})", name)))


def _flags(tree: _Tree, folder: str, where: str, flags: tuple[Flag, ...]) -> dict[str, Any]:
    number = tree.number(f"{folder}/flags", f"{where}.flags")
    return {"flags": number} | {flag.name: bool(number & flag.mask) for flag in flags}


def _initiator(tree: _Tree) -> IbftInitiator:
    def address(name: str, json: str) -> IpAddress | None:
        return tree.address(f"initiator/{name}", f"initiator.{json}")

    radius = (address("pri-radius-server", "radius"), address("sec-radius-server", "radius"))
    initiator = IbftInitiator(
        name=tree.text("initiator/initiator-name", "initiator.name"),
        isns=address("isns-server", "isns"),
        slp=address("slp-server", "slp"),
        radius=tuple(server for server in radius if server is not None),
        **_flags(tree, "initiator", "initiator", layout.INITIATOR.flags),
    )
    for finding in checks.examine(layout.INITIATOR, initiator):
        _found(tree, "initiator", finding)
    return initiator


def _nic(tree: _Tree, index: int) -> IbftNic:
    folder, where = f"ethernet{index}", f"nic{index}"

    def read(reader: Callable[[str, str], Any], name: str, json: str) -> Any:
        return reader(f"{folder}/{name}", f"{where}.{json}")

    mac = read(tree.text, "mac", "mac").lower()
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
        tree.problem("warning", "mac", f"{where}.mac", f'"{mac}" is no MAC')
        mac = "00:00:00:00:00:00"
    dns = (read(tree.address, "primary-dns", "dns"), read(tree.address, "secondary-dns", "dns"))
    origin = read(tree.number, "origin", "origin")
    nic = IbftNic(
        index=index,
        header_index=read(tree.number, "index", "header_index"),
        mac=mac,
        ip=read(tree.address, "ip-addr", "ip"),
        prefix=read(tree.number, "prefix-len", "prefix"),
        origin=layout.ORIGINS.get(origin, origin),
        gateway=read(tree.address, "gateway", "gateway"),
        dns=tuple(server for server in dns if server is not None),
        dhcp=read(tree.address, "dhcp", "dhcp"),
        vlan=read(tree.number, "vlan", "vlan"),
        pci=_pci(tree.path / folder / "device"),
        hostname=read(tree.text, "hostname", "hostname"),
        **_flags(tree, folder, where, layout.NIC.flags),
    )
    for finding in checks.examine(layout.NIC, nic):
        _found(tree, where, finding)
    return nic


def _pci(link: Path) -> str | None:
    """Give the PCI address the kernel found for a NIC: the name of the device its link points to."""
    try:
        match = re.search(r"(?:^|/)[0-9a-f]{4,}:([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$", os.readlink(link))
    except OSError:
        return None
    return match[1] if match and match[1] != "00:00.0" else None


def _target(tree: _Tree, index: int, nics: list[IbftNic]) -> IbftTarget:
    folder, where = f"target{index}", f"target{index}"

    def read(reader: Callable[[str, str], Any], name: str, json: str) -> Any:
        return reader(f"{folder}/{name}", f"{where}.{json}")

    association = read(tree.number, "nic-assoc", "nic")
    nic = next((nic.index for nic in nics if nic.header_index == association), None)
    if nic is None:
        tree.problem("warning", "nic", f"{where}.nic", f"the target's NIC {association} is not in the tree")
    secret = Secret(tree.raw(f"{folder}/chap-secret"))
    reverse_secret = Secret(tree.raw(f"{folder}/rev-chap-name-secret"))
    number = read(tree.number, "chap-type", "chap")
    chap = layout.CHAP_TYPES.get(number, "")
    if not chap:
        chap = "mutual" if reverse_secret else "chap" if secret else "none"
        message = f'CHAP type {number} is not defined, taken as "{chap}" for what is present'
        tree.problem("warning", "chap", f"{where}.chap", message)
    target = IbftTarget(
        index=index,
        header_index=read(tree.number, "index", "header_index"),
        name=read(tree.text, "target-name", "name"),
        ip=read(tree.address, "ip-addr", "ip"),
        port=read(tree.number, "port", "port"),
        lun=_lun(tree, f"{folder}/lun", f"{where}.lun"),
        nic=nic,
        chap=chap,
        chap_name=read(tree.text, "chap-name", "chap_name"),
        chap_secret=secret,
        reverse_chap_name=read(tree.text, "rev-chap-name", "reverse_chap_name"),
        reverse_chap_secret=reverse_secret,
        **_flags(tree, folder, where, layout.TARGET.flags),
    )
    for finding in checks.examine(layout.TARGET, target):
        _found(tree, where, finding)
    return target


def _found(tree: _Tree, where: str, finding: checks.Finding) -> None:
    tree.problem(finding.severity, finding.code, f"{where}.{finding.field}", finding.message)


def _lun(tree: _Tree, name: str, where: str) -> bytes:
    shown = text.printable(tree.raw(name)).lower()
    candidates = list(lun_candidates(shown))
    if not candidates:
        tree.problem("warning", "lun", where, f'"{shown}" is no LUN, taken as 0')
        return bytes(8)
    if len(candidates) > 1:
        others = ", ".join(lun.hex() for lun in candidates[1:])
        message = f'the kernel shows "{shown}": taken as {candidates[0].hex()}, but it may be {others}'
        tree.problem("warning", "lun", where, message)
    return candidates[0]


def lun_candidates(shown: str) -> Iterator[bytes]:
    """
    Give every LUN the kernel would show like this, the likeliest first.

    A LUN of a single level has only zeros behind its first two bytes, and nearly all LUNs are of that kind;
    below 256 its first byte is zero as well.

    :param shown: eight bytes, each of one or two hexadecimal digits without a leading zero
    """
    longer = len(shown) - 8
    if not re.fullmatch("[0-9a-f]{8,16}", shown):
        return
    luns = []
    for positions in combinations(range(8), longer):
        parts, at = [], 0
        for byte in range(8):
            width = 2 if byte in positions else 1
            parts.append(shown[at : at + width])
            at += width
        if not any(len(part) == 2 and part[0] == "0" for part in parts):
            luns.append(bytes(int(part, 16) for part in parts))
    yield from sorted(luns, key=lambda lun: (any(lun[2:]), lun[0] >> 6 > 1, lun[0] != 0, lun))
