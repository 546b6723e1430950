"""Capture the iBFT that real firmware makes, for tests/data/ibft: `tools/guest ibft`."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.vm.channel import Channel
from tests.vm.quick import Hook
from tests.vm.rig import Rig
from tests.vm.target import Account

#: for tests only
CHAP = Account("rig-initiator", "initiator-secret")
MUTUAL = (CHAP, Account("rig-target", "the-target-secret", is_outgoing=True))

#: reads low memory where the iBFT of a BIOS is: 16-byte aligned, 512 KiB to 1 MiB, not the VGA window
#: (Linux drivers/firmware/iscsi_ibft_find.c)
SEARCH = """
with open("/dev/mem", "rb") as memory:
    for base, size in ((0x80000, 0x20000), (0xC0000, 0x40000)):
        memory.seek(base)
        data = memory.read(size)
        for offset in range(0, size, 16):
            if data[offset:offset + 4] in (b"iBFT", b"IBFT", b"BIFT"):
                length = int.from_bytes(data[offset + 4:offset + 8], "little")
                print(hex(base + offset), data[offset:offset + length].hex())
"""


@dataclass(frozen=True)
class Capture:
    """One table to capture."""

    name: str
    firmware: str
    accounts: tuple[Account, ...] = ()
    nics: int = 1


CAPTURES = (
    Capture("ipxe-bios", "bios"),
    Capture("ipxe-bios-chap", "bios", (CHAP,)),
    Capture("ipxe-bios-mutual-chap", "bios", MUTUAL),
    Capture("ipxe-bios-two-paths", "bios", nics=2),
    Capture("ipxe-uefi", "uefi"),
    Capture("ipxe-uefi-mutual-chap", "uefi", MUTUAL),
)


def capture(which: Capture, directory: Path) -> None:
    """Boot a quick guest through that firmware and write NAME.bin and NAME.txt."""
    with Rig(which.name) as rig:
        rig.network(which.nics)
        target = rig.target(accounts=which.accounts)
        paths = [target.root_path(number) for number in range(which.nics)]
        hook = Hook(paths, which.accounts)
        channel = rig.quick("6.12", firmware=which.firmware, hook=hook).channel
        if which.firmware == "uefi":
            place = "/sys/firmware/acpi/tables/iBFT"
            table = channel.read(place)
        else:
            place, table = _low_memory(channel)
        accounts = [
            account.name + (" (reverse)" if account.is_outgoing else "") for account in which.accounts
        ]
        lines = [
            f"What: the iBFT ({len(table)} bytes) iPXE left after logging in to {' and '.join(paths)}",
            f"Machine: QEMU {_version('qemu-system-x86')}, {which.firmware}, {which.nics} NIC e1000",
            f"Firmware: iPXE, Debian's ipxe-qemu {_version('ipxe-qemu')}"
            + (f" under ovmf {_version('ovmf')}" if which.firmware == "uefi" else ""),
            f"Where: {place}, read by Linux 6.12 (Debian 13) as root",
            f"CHAP: {', '.join(accounts) or 'none'}{'; secrets as in tests/vm/ibft.py' if accounts else ''}",
            f"How: tools/guest ibft --output DIRECTORY {which.name}",
            f"Date: {time.strftime('%Y-%m-%d')}",
        ]
        (directory / f"{which.name}.bin").write_bytes(table)
        (directory / f"{which.name}.txt").write_text("\n".join([*lines, ""]))


def _low_memory(channel: Channel) -> tuple[str, bytes]:
    place, data = channel.run(["python3", "-c", SEARCH]).output.split()
    return f"/dev/mem at {place}", bytes.fromhex(data)


def _version(package: str) -> str:
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
