"""
`tools/demo --break WHAT`: one thing is damaged, and the boot must name that stage.

The table is damaged before power-on. The others break when the kernel has started: firmware and GRUB have
had their use of them then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

from isboot.firmware import layout
from isboot.firmware.encode import encode
from isboot.values import IbftControl, IbftInitiator, IbftNic, IbftTable, IbftTarget, Secret
from tests.vm.guest import Guest
from tests.vm.network import Network
from tests.vm.target import Target

#: of every ACPI table (ACPI §5.2.6)
CHECKSUM_OFFSET = 9


@dataclass(frozen=True)
class Scene:
    """What there is to damage."""

    guest: Guest
    target: Target


@dataclass(frozen=True)
class Damage:
    """
    :ivar stage: whose failure it must be
    :ivar inflict: done when the kernel has started; None where the table is damaged instead
    """

    stage: str
    told: str
    inflict: Callable[[Scene], None] | None


def unplug(scene: Scene) -> None:
    scene.guest.qemu.set_link(0, False)


def stop_target(scene: Scene) -> None:
    scene.target.kill()


def renumber_lun(scene: Scene) -> None:
    scene.target.kill()
    scene.target.luns = [replace(lun, number=lun.number + 1) for lun in scene.target.luns]
    scene.target.start()


DAMAGES = (
    Damage("table", "the firmware's table names no target that could be believed", None),
    Damage("nic", "the network cable is pulled", unplug),
    Damage("target", "the target is stopped", stop_target),
    Damage("lun", "the target has the disk under another number", renumber_lun),
)


def broken_table(network: Network, target: Target, file: Path) -> list[str]:
    """
    Give QEMU's arguments for a machine whose ACPI holds a damaged iBFT, written to `file`.

    What the table points at as its target is some other structure; that is the one thing wrong with it, and
    the checksum is good. iPXE has to keep its own table to itself: `sanboot --no-describe`.
    """
    address, own = ip_address(network.guest_address()), ip_address(network.address())
    lun = bytes([0, target.luns[0].number, 0, 0, 0, 0, 0, 0])
    nic = IbftNic(
        0, 0, network.mac(), address, 24, "dhcp", own, (), own, 0, "00:03.0", "", 3, True, True, False
    )
    disk = IbftTarget(
        0, 0, target.name, own, target.port, lun, 0, "none", "", Secret(b""), "", Secret(b""), False, False,
        3, True, True,
    )  # fmt: skip
    table = bytearray(
        encode(
            IbftTable(
                "file", "iBFT", 1, None, None, "ISBOOT", "DEMO",
                IbftControl(1, False, 2, 0),
                IbftInitiator("iqn.2001-04.com.example:diskless", None, None, (), 3, True, True),
                (nic,), (disk,), (), True,
            )
        )
    )  # fmt: skip
    pointer = layout.HEADER_BYTES + layout.PAIRS_OFFSET + 2
    where = int.from_bytes(table[pointer : pointer + 2], "little")
    table[where] ^= 0xFF  # the structure's id
    table[CHECKSUM_OFFSET] = (table[CHECKSUM_OFFSET] - sum(table)) % 256
    file.write_bytes(table)
    return ["-acpitable", f"file={file}"]
