"""GRUB for BIOS and UEFI, put together without its installer: this needs no partition the kernel can see."""

from __future__ import annotations

import struct
from pathlib import Path

from tests.vm import cache, rootfs

SECTOR_BYTES = 512

#: the configuration inside the image: find the root file system, wherever firmware put the disk
EARLY = """search --label root --set=root
configfile /boot/grub/grub.cfg
"""

MODULES = "part_gpt ext2 fat normal linux search search_label serial terminal echo configfile boot"


def images() -> Path:
    """Directory with BOOTX64.EFI, core.img (i386-pc) and boot.img (the boot sector)."""
    tree = rootfs.tree(rootfs.TOOLS)

    def make(path: Path) -> None:
        path.mkdir()
        (path / "early.cfg").write_text(EARLY)
        script = f"""
        cd /result
        grub-mkimage -O x86_64-efi -c early.cfg -p /boot/grub -o BOOTX64.EFI {MODULES}
        grub-mkimage -O i386-pc -c early.cfg -p /boot/grub -o core.img {MODULES} biosdisk
        cp /usr/lib/grub/i386-pc/boot.img .
        """
        rootfs.run_inside([tree], script, binds=((path, "/result"),))

    return cache.obtain("grub", cache.fingerprint(tree.name, EARLY, MODULES), make)


def install_bios(disk: Path, core_sector: int) -> None:
    """
    Write boot sector and core image into a partitioned disk.

    :param core_sector: where the BIOS boot partition starts
    """
    core = bytearray((images() / "core.img").read_bytes())
    # the last block list of the core's first sector says where the rest is: 64 bits of sector, its
    # length and segment as grub-mkimage left them (grub/offsets.h, GRUB_BOOT_MACHINE_LIST_SIZE)
    struct.pack_into("<Q", core, 0x1F4, core_sector + 1)
    boot = bytearray((images() / "boot.img").read_bytes())
    struct.pack_into("<Q", boot, 0x5C, core_sector)
    # GRUB_BOOT_MACHINE_DRIVE_CHECK: a jump for BIOSes that pass a wrong drive; grub-setup puts NOPs there too
    boot[0x66:0x68] = b"\x90\x90"
    with open(disk, "r+b") as file:
        head = bytearray(file.read(SECTOR_BYTES))
        head[:0x1B8] = boot[:0x1B8]  # the disk signature and the partition table stay
        file.seek(0)
        file.write(head)
        file.seek(core_sector * SECTOR_BYTES)
        file.write(core)
