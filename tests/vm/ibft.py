"""Capture the iBFT that real firmware makes, for tests/data/ibft: `tools/guest ibft`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm import edk2
from tests.vm.channel import Channel
from tests.vm.edk2 import Attempt
from tests.vm.network import Network
from tests.vm.quick import Hook
from tests.vm.rig import Rig
from tests.vm.target import TARGET_NAME, Account, Lun

#: for tests only
CHAP = Account("rig-initiator", "initiator-secret")
MUTUAL = (CHAP, Account("rig-target", "the-target-secret", is_outgoing=True))

ACPI_TABLE = "/sys/firmware/acpi/tables/iBFT"

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
    """
    One table to capture.

    :ivar firmware: "bios" or "uefi" with iPXE, or "edk2": OVMF's own initiator
    :ivar attempts: for that one: what it is set up to try
    """

    name: str
    firmware: str
    accounts: tuple[Account, ...] = ()
    nics: int = 1
    attempts: Callable[[Network], Sequence[Attempt]] | None = None


IPV6_NAME, CHAP_NAME, CHAP_PORT = f"{TARGET_NAME}-ipv6", f"{TARGET_NAME}-chap", 3261


def _one_attempt(network: Network) -> Sequence[Attempt]:
    address = f"{network.guest_address()}/24"
    return [Attempt(network.mac(), network.address(), TARGET_NAME, address, gateway=network.address())]


def _four_attempts(network: Network) -> Sequence[Attempt]:
    """
    All on one NIC: by DHCP, with an address of its own, one that is refused, by IPv6.

    The driver offers the CHAP algorithms "7,5"; tgtd takes 7 to be SHA-1, and refuses what comes back.
    """
    mac, portal, address = network.mac(), network.address(), f"{network.guest_address()}/24"
    return [
        Attempt(mac, portal, TARGET_NAME),
        Attempt(mac, portal, TARGET_NAME, address, lun="0002000000000000"),
        Attempt(mac, portal, CHAP_NAME, address, port=CHAP_PORT, accounts=MUTUAL),
        Attempt(mac, "fd99::1", IPV6_NAME),
    ]


CAPTURES = (
    Capture("ipxe-bios", "bios"),
    Capture("ipxe-bios-chap", "bios", (CHAP,)),
    Capture("ipxe-bios-mutual-chap", "bios", MUTUAL),
    Capture("ipxe-bios-two-paths", "bios", nics=2),
    Capture("ipxe-uefi", "uefi"),
    Capture("ipxe-uefi-mutual-chap", "uefi", MUTUAL),
    Capture("edk2", "edk2", attempts=_one_attempt),
    Capture("edk2-four-attempts", "edk2", attempts=_four_attempts),
)


def capture(which: Capture, directory: Path) -> None:
    """Boot a quick guest through that firmware and write NAME.bin and NAME.txt."""
    with Rig(which.name) as rig:
        place, table, story = (_by_edk2 if which.attempts else _by_ipxe)(rig, which)
        lines = [
            f"What: the iBFT ({len(table)} bytes) {story[0]}",
            f"Machine: QEMU {_version('qemu-system-x86')}, {which.firmware}, {which.nics} NIC {story[1]}",
            f"Firmware: {story[2]}",
            f"Where: {place}, read by Linux 6.12 (Debian 13) as root",
            story[3],
            f"How: tools/guest ibft --output DIRECTORY {which.name}",
            f"Date: {time.strftime('%Y-%m-%d')}",
        ]
        (directory / f"{which.name}.bin").write_bytes(table)
        (directory / f"{which.name}.txt").write_text("\n".join([*lines, ""]))


def _by_ipxe(rig: Rig, which: Capture) -> tuple[str, bytes, Sequence[str]]:
    """Give where the table was, its bytes, and the story: what made it, NIC, firmware, CHAP."""
    rig.network(which.nics)
    target = rig.target(accounts=which.accounts)
    paths = [target.root_path(number) for number in range(which.nics)]
    channel = rig.quick("6.12", firmware=which.firmware, hook=Hook(paths, which.accounts)).channel
    if which.firmware == "uefi":
        place, table = ACPI_TABLE, channel.read(ACPI_TABLE)
    else:
        place, table = _low_memory(channel)
    accounts = [account.name + (" (reverse)" if account.is_outgoing else "") for account in which.accounts]
    firmware = f"iPXE, Debian's ipxe-qemu {_version('ipxe-qemu')}"
    if which.firmware == "uefi":
        firmware += f" under ovmf {_version('ovmf')}"
    chap = f"CHAP: {', '.join(accounts) or 'none'}{'; secrets as in tests/vm/ibft.py' if accounts else ''}"
    return place, table, (f"iPXE left after logging in to {' and '.join(paths)}", "e1000", firmware, chap)


def _by_edk2(rig: Rig, which: Capture) -> tuple[str, bytes, Sequence[str]]:
    """Give the same; the kernel comes from the LUN, too, read by the firmware's own initiator."""
    network = rig.network()
    rig.target(
        Lun(edk2.loader("6.12", rig.directory / "loader.img")), Lun(rig.empty_disk(8, "second.img"), number=2)
    )
    rig.target(name=IPV6_NAME, address="[::]")
    rig.target(name=CHAP_NAME, port=CHAP_PORT, accounts=MUTUAL)
    network.start_dhcp(extra=["--enable-ra", "--dhcp-range=fd99::,ra-only"])
    attempts = which.attempts(network) if which.attempts else ()
    running = rig.edk2("6.12", "iqn.2001-04.com.example:edk2", attempts)
    table = running.channel.read(ACPI_TABLE)
    tried = " and ".join(f"{attempt.portal} {attempt.target_name} {attempt.lun}" for attempt in attempts)
    firmware = f"EDK2's iSCSI initiator in Debian's ovmf {_version('ovmf')}"
    chap = (
        "CHAP: an attempt with MUTUAL of tests/vm/ibft.py failed, and is not in it"
        if len(attempts) > 1
        else "CHAP: none"
    )
    return ACPI_TABLE, table, (f"EDK2 left after trying {tried}", "virtio-net", firmware, chap)


def _low_memory(channel: Channel) -> tuple[str, bytes]:
    place, data = channel.run(["python3", "-c", SEARCH]).output.split()
    return f"/dev/mem at {place}", bytes.fromhex(data)


def _version(package: str) -> str:
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
