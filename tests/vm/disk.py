"""
The diskless machine's disk: GPT, GRUB for BIOS and UEFI, and a Debian 13 with our package installed.

Made from the quick guest's image, by dpkg in a chroot: 20 seconds, most of them the initramfs's.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.vm import cache, grub, quick, rootfs
from tests.vm.kernel import INSIDE, Kernel
from tests.vm.package import package

SECTOR_BYTES = 512
MIB = 1 << 20

#: (start, size) in MiB
BIOS_BOOT = (1, 1)
ESP = (2, 64)
ROOT_MIB = 66

#: what every boot of a test says to the kernel; a test adds to it
COMMAND_LINE = "root=LABEL=root rw console=ttyS0,115200 panic=-1 rd.shell=0"

#: what makes the initramfs -> the packages that bring it in place of the guest tree's dracut
INITRAMFS = {"dracut": (), "initramfs-tools": ("initramfs-tools", "zstd")}


@dataclass(frozen=True)
class Disk:
    """A disk image that may be changed."""

    file: Path
    release: str

    def edit(self, script: str) -> None:
        """Run a shell script of this machine with the root file system mounted at `$ROOT`."""
        rootfs.run_inside_image(self.file, ROOT_MIB * MIB, script, is_chroot=False)

    def set_command_line(self, text: str) -> None:
        """What GRUB gives the kernel from now on."""
        config = f"""
        linux /boot/vmlinuz-{self.release} {text}
        initrd /boot/initrd.img-{self.release}
        boot
        """
        self.edit(f"mkdir -p $ROOT/boot/grub; cat > $ROOT/boot/grub/grub.cfg <<'END'\n{config}\nEND")


def image(which: Kernel, initramfs: str = "dracut") -> Path:
    """
    The installed disk in the cache; tests use a `copy`.

    :param initramfs: a row of INITRAMFS
    """
    base = quick.image(which)
    built = package()
    agent = [INSIDE / "agent.py", INSIDE / "isboot-rig.service"]
    replaced = rootfs.archives(rootfs.GUEST, INITRAMFS[initramfs]) if INITRAMFS[initramfs] else None
    # only images that are there are renewed: an empty one stands for that of the kernel's installation
    replace = f"""
        apt-get -qy install /rig/archives/*.deb
        umount /rig/archives
        : > /boot/initrd.img-{which.release}
    """

    def make(path: Path) -> None:
        _partition(path, base)
        script = f"""
        install -D -m 644 /rig/agent.py /usr/local/lib/isboot-rig/agent.py
        install -D -m 644 /rig/isboot-rig.service /etc/systemd/system/isboot-rig.service
        systemctl -q enable isboot-rig.service
        echo diskless > /etc/hostname
        echo '127.0.0.1 localhost diskless' > /etc/hosts
        echo 'LABEL=root / ext4 defaults 0 1' > /etc/fstab
        echo 6f1c7d0f5c8f4f7f9d5e2b1a0c3d4e5f > /etc/machine-id
        passwd -q -d root
        {replace if replaced else ""}
        dpkg -i /rig/{built.name}
        umount /rig/{built.name} /rig/isboot-rig.service /rig/agent.py
        rm -r /rig
        """
        binds = [(file, f"/rig/{file.name}") for file in [*agent, built]]
        binds += [(replaced, "/rig/archives")] if replaced else []
        rootfs.run_inside_image(path, ROOT_MIB * MIB, script, binds=binds)
        Disk(path, which.release).set_command_line(COMMAND_LINE)

    # the directory of the package carries the hash of its sources; so does the image's
    key = cache.fingerprint(base.name, built.parent.name, grub.images().name, COMMAND_LINE, *agent)
    if replaced is None:
        return cache.obtain(f"disk-{which.label}", key, make)
    return cache.obtain(
        f"disk-{which.label}-{initramfs}", cache.fingerprint(key, replaced.name, replace), make
    )


def copy(which: Kernel, path: Path, initramfs: str = "dracut") -> Disk:
    """A disk of the test's own, at `path`; `initramfs` as in `image`."""
    subprocess.run(["cp", "--sparse=always", str(image(which, initramfs)), str(path)], check=True)
    return Disk(path, which.release)


def _partition(path: Path, root: Path) -> None:
    """Make the disk: partition table, both GRUBs, and the root file system copied from an image of it."""
    root_bytes = root.stat().st_size
    with open(path, "wb") as file:
        file.truncate(ROOT_MIB * MIB + root_bytes + MIB)
    table = f"""label: gpt
    start={BIOS_BOOT[0]}MiB, size={BIOS_BOOT[1]}MiB, type=21686148-6449-6E6F-744E-656564454649
    start={ESP[0]}MiB, size={ESP[1]}MiB, type=U
    start={ROOT_MIB}MiB, size={root_bytes // MIB}MiB, type=L
    """
    subprocess.run(["sfdisk", "-q", str(path)], input=table, text=True, check=True)
    grub.install_bios(path, BIOS_BOOT[0] * MIB // SECTOR_BYTES)
    esp = f"{path}@@{ESP[0]}M"
    sectors = ESP[1] * MIB // SECTOR_BYTES
    for command in (
        ["mformat", "-i", esp, "-T", str(sectors), "-h", "64", "-s", "32", "-v", "ESP", "::"],
        ["mmd", "-i", esp, "::/EFI", "::/EFI/BOOT"],
        ["mcopy", "-i", esp, str(grub.images() / "BOOTX64.EFI"), "::/EFI/BOOT/BOOTX64.EFI"],
        ["dd", f"if={root}", f"of={path}", "bs=1M", f"seek={ROOT_MIB}", "conv=sparse,notrunc", "status=none"],
    ):
        rootfs.run(command)
