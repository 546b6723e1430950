"""
A second reader of tables, for tests: it knows nothing of the decoder, only where the specification puts what.

It says whether what was decoded is what the bytes say.  It reads bytes within the table's own length only.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Any

from isboot.values import IbftTable, Secret, iscsi_name_fault

ORIGINS = {0: "other", 1: "manual", 2: "well-known", 3: "dhcp", 4: "ra", 15: "unchanged"}
CHAP = ("none", "chap", "mutual")
LONGEST = 2048


class _Bytes:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.faults: list[str] = []

    def u16(self, at: int) -> int:
        return int(struct.unpack_from("<H", self.raw, at)[0])

    def same(self, where: str, decoded: object, said: object) -> None:
        if decoded != said:
            self.faults.append(f"{where} is {decoded!r}, the bytes say {said!r}")

    def address(self, where: str, decoded: Any, at: int) -> None:
        raw = self.raw[at : at + 16]
        if raw[:12] == bytes(10) + b"\xff\xff":
            said: object = raw[12:] if any(raw[12:]) else None
            is_kind = decoded is None or isinstance(decoded, IPv4Address)
        else:
            said, is_kind = raw if any(raw) else None, not isinstance(decoded, IPv4Address)
        self.same(where, None if decoded is None else decoded.packed, said)
        self.same(f"{where} family", is_kind, True)

    def addresses(self, where: str, decoded: tuple[Any, ...], *places: int) -> None:
        left = list(decoded)
        for at in places:
            raw = self.raw[at : at + 16]
            is_there = any(raw) and raw != bytes(10) + b"\xff\xff" + bytes(4)
            self.address(where, left.pop(0) if is_there and left else None, at)
        self.same(f"{where} left over", left, [])

    def string(self, where: str, decoded: str | Secret, at: int) -> None:
        length, offset = self.u16(at), self.u16(at + 2)
        is_within = offset >= 48 and offset + length <= len(self.raw) and length <= LONGEST
        said = self.raw[offset : offset + length] if is_within else b""
        if isinstance(decoded, Secret):
            self.same(where, decoded.reveal() == said, True)
        elif decoded.encode() != said:
            shown = "".join(chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}" for byte in said)
            self.same(where, decoded, shown)

    def structure(self, where: str, value: Any, pointer: int, identifier: int, size: int, flags: str) -> int:
        at = self.u16(pointer)
        if at < 48 or at + max(size, self.u16(at + 2) if at + 6 <= len(self.raw) else 0) > len(self.raw):
            self.faults.append(f"{where} is outside the table")
            return 0
        self.same(f"{where}.id", self.raw[at], identifier)
        self.same(f"{where}.flags", value.flags, self.raw[at + 5])
        for bit, name in enumerate(flags.split()):
            self.same(f"{where}.{name}", getattr(value, name), bool(self.raw[at + 5] >> bit & 1))
        return at


def disbelief(table: IbftTable, given: bytes) -> list[str]:
    """Say what of a decoded table its bytes do not say; an empty list is what a test wants."""
    length = struct.unpack_from("<I", given, 4)[0]
    them = _Bytes(given[: min(length, 1 << 20)])
    whole = 66 <= length <= min(len(given), 1 << 20)
    good = whole and given[:4] in (b"iBFT", b"IBFT", b"BIFT") and given[8] == 1 and sum(them.raw) % 256 == 0
    if table.control is None:
        if table.initiator or table.nics or table.targets:
            them.faults.append("there are structures, but no control structure")
        return them.faults + (["bootable without a control structure"] if table.is_bootable else [])
    control = table.control
    them.same("control", tuple(them.raw[48:49]), (1,))
    said = (them.raw[53], bool(them.raw[53] & 1), (them.u16(50) - 10) // 4, them.u16(54))
    them.same("control", (control.flags, control.boot_failover, control.pairs, control.extensions), said)
    if table.initiator and (
        at := them.structure("initiator", table.initiator, 56, 2, 74, "valid boot_selected")
    ):
        them.address("isns", table.initiator.isns, at + 6)
        them.address("slp", table.initiator.slp, at + 22)
        them.addresses("radius", table.initiator.radius, at + 38, at + 54)
        them.string("initiator.name", table.initiator.name, at + 70)
    for nic in table.nics:
        _nic(them, nic)
    for target in table.targets:
        _target(them, target, table)
    can_boot = (
        good
        and table.initiator is not None
        and not iscsi_name_fault(table.initiator.name)
        and any(t.flags & 3 and t.ip and not iscsi_name_fault(t.name) for t in table.targets)
    )
    them.same("bootable", table.is_bootable, can_boot)
    return them.faults


def _nic(them: _Bytes, nic: Any) -> None:
    where = f"nic{nic.index}"
    at = them.structure(where, nic, 58 + 4 * nic.index, 3, 102, "valid boot_selected is_global")
    if at:
        raw = them.raw
        pci = them.u16(at + 96)
        them.address(f"{where}.ip", nic.ip, at + 6)
        them.address(f"{where}.gateway", nic.gateway, at + 24)
        them.addresses(f"{where}.dns", nic.dns, at + 40, at + 56)
        them.address(f"{where}.dhcp", nic.dhcp, at + 72)
        them.string(f"{where}.hostname", nic.hostname, at + 98)
        decoded = (nic.header_index, nic.prefix, nic.origin, nic.vlan, nic.mac, nic.pci)
        said = (
            raw[at + 4], raw[at + 22], ORIGINS.get(raw[at + 23], raw[at + 23]), them.u16(at + 88),
            raw[at + 90 : at + 96].hex(":"),
            f"{pci >> 8:02x}:{pci >> 3 & 31:02x}.{pci & 7}" if pci else None,
        )  # fmt: skip
        them.same(where, decoded, said)


def _target(them: _Bytes, target: Any, table: IbftTable) -> None:
    where = f"target{target.index}"
    flags = "valid boot_selected radius_chap radius_reverse_chap"
    at = them.structure(where, target, 60 + 4 * target.index, 4, 54, flags)
    if at:
        raw = them.raw
        them.address(f"{where}.ip", target.ip, at + 6)
        decoded = (target.header_index, target.port, target.lun)
        them.same(where, decoded, (raw[at + 4], them.u16(at + 22), raw[at + 24 : at + 32]))
        for shift, name in enumerate(
            ("name", "chap_name", "chap_secret", "reverse_chap_name", "reverse_chap_secret")
        ):
            them.string(f"{where}.{name}", getattr(target, name), at + 34 + 4 * shift)
        # A type that is not defined may be taken for as much as is present, never for less.
        present = 2 if target.reverse_chap_secret else 1 if target.chap_secret else 0
        them.same(f"{where}.chap", target.chap, CHAP[raw[at + 32] if raw[at + 32] < 3 else present])
        meant = [nic.index for nic in table.nics if raw[at + 33] in (nic.header_index, nic.index)]
        them.same(f"{where}.nic", target.nic in meant if meant else target.nic is None, True)
