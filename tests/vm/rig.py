"""What one test needs, put together and taken apart: a directory, a network, targets, guests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.vm import disk, edk2, guest, ipxe, quick
from tests.vm.disk import Disk
from tests.vm.guest import Guest
from tests.vm.kernel import kernel
from tests.vm.lio import Lio
from tests.vm.network import Neighbour, Network
from tests.vm.progress import RigError
from tests.vm.qemu import EMULATION, Drive, Machine
from tests.vm.target import Account, Lun, Target

PROGRAMS = (
    "mmdebstrap", "qemu-system-x86_64", "tgtd", "dnsmasq", "ip", "unshare", "setpriv", "mke2fs", "sfdisk",
    "mcopy", "git",
)  # fmt: skip

#: last byte of the address of a guest that serves LIO to another
LIO_HOST = 3


def missing() -> str:
    """Why guests cannot run on this machine, or ""."""
    if os.geteuid() != 0:
        return "guests need root (namespaces, chroots, taps)"
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    return f"not installed: {', '.join(absent)}" if absent else ""


class Rig:
    """
    The parts of one test, ended in reverse order when the `with` block ends.

    It holds the guest lock from the first guest on.  `guests` are those it booted.

    :param name: of the run directory
    """

    def __init__(self, name: str) -> None:
        self.directory = guest.new_directory(name)
        self.guests: list[Guest] = []
        self._stack = ExitStack()
        self._network: Network | None = None
        self._is_locked = False
        self.targets: list[Target | Lio] = []

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        for file in self.directory.rglob("*"):
            # logs stay, disks and initramfs images go
            if file.suffix in (".img", ".fd", ".ipxe") or file.name == "vmlinuz":
                file.unlink()

    def network(self, nics: int = 1) -> Network:
        """The rig's namespace, made at the first call."""
        if self._network is None:
            self._network = self._stack.enter_context(Network(self.directory, nics))
        return self._network

    def empty_disk(self, size_mib: int, name: str = "lun.img") -> Path:
        """An empty sparse file in the run directory, for a LUN."""
        path = self.directory / name
        with open(path, "wb") as file:
            file.truncate(size_mib << 20)
        return path

    def target(self, *luns: Lun, **options: Any) -> Target:
        """A running tgtd with those LUNs (one of 64 MiB if there is none); options are Target's."""
        number = len(self.targets) + 1
        chosen = list(luns) or [Lun(self.empty_disk(64, f"lun{number}.img"))]
        made = Target(self.network(), chosen, **{"control": number, **options})
        self.targets.append(made)
        return self._stack.enter_context(made)

    def lio(self, *luns: Lun, guest: Guest | None = None, label: str = "6.12", **options: Any) -> Lio:
        """
        A running target of LIO with those LUNs (one of 64 MiB if there is none); options are Lio's.

        :param guest: who serves it, on its own 127.0.0.1 and ::1, from files and devices of its own; None
            boots a guest for it, 10.99.0.3 on the rig's network, and each LUN's file is one of this machine
        :param label: that guest's kernel
        """
        chosen = list(luns) or [Lun()]
        if guest is None:
            guest, chosen, addresses = self._lio_guest(label, chosen)
            options = {"addresses": addresses, **options}
        made = Lio(guest.channel, chosen, **options)
        self.targets.append(made)
        return self._stack.enter_context(made)

    def _lio_guest(self, label: str, luns: Sequence[Lun]) -> tuple[Guest, list[Lun], list[str]]:
        """A guest beside the one under test; each LUN's file of this machine is a disk of its."""
        side = self._stack.enter_context(Neighbour(self.network(), LIO_HOST))
        directory = self.directory / "lio"
        directory.mkdir()
        drives: list[Drive] = []
        chosen = []
        for lun in luns:
            if lun.file != Path():
                drives.append(Drive(lun.file, is_snapshot=False))
                lun = replace(lun, file=Path(f"/dev/vd{'abcdefgh'[len(drives)]}"), back_end="block")
            chosen.append(lun)
        served = self.quick(label, network=side, directory=directory, drives=drives, memory_mib=1024)
        six = f"fd99:0::{LIO_HOST}"
        served.channel.run(f"ip addr add {six}/64 dev eth0 nodad")
        return served, chosen, [side.guest_address(), six]

    def quick(self, label: str, **options: Any) -> Guest:
        """
        A quick guest on the rig's network; options are quick_guest's.

        With `firmware="bios"` or "uefi" iPXE logs in to the rig's target (or what `hook` says) and then
        loads the guest, in which a real iBFT is found.
        """
        quick.prepare(label)
        self._lock()
        options = {"network": self.network(), "directory": self.directory, **options}
        if "firmware" in options and "hook" not in options:
            target = self.targets[0] if self.targets else self.target()
            options["hook"] = quick.Hook([target.root_path()], target.accounts)
        booted = self._stack.enter_context(quick.quick_guest(label, **options))
        self.guests.append(booted)
        return booted

    def edk2(self, label: str, initiator: str, attempts: Sequence[edk2.Attempt]) -> Guest:
        """A quick guest loaded by OVMF's own initiator, from a LUN that is an `edk2.loader`."""
        quick.prepare(label)
        network = self.network()
        self._lock()
        made = edk2.quick_guest(label, network, self.directory, initiator, attempts)
        booted = self._stack.enter_context(made)
        self.guests.append(booted)
        return booted

    def disk_copy(self, label: str, name: str = "root.img") -> Disk:
        """The installed disk of that kernel, for this test alone; `edit` and `set_command_line` change it."""
        return disk.copy(kernel(label), self.directory / name)

    def boot(
        self,
        firmware: str,
        label: str,
        *,
        root: Disk | None = None,
        target: Target | Lio | None = None,
        command_line: str = "",
        accounts: Sequence[Account] = (),
        nic: str = "e1000",
        memory_mib: int = 2048,
        may_reboot: bool = False,
        accelerator: str = EMULATION,
        is_described: bool = True,
        is_static: bool = False,
        extra: Sequence[str] = (),
    ) -> Guest:
        """
        Power a diskless machine on: iPXE in the NIC, DHCP, the LUN, GRUB, the kernel, the initramfs.

        It returns at once; wait for the console or for the agent.

        :param firmware: "bios" or "uefi"
        :param root: the disk of the LUN; a fresh copy if None
        :param target: a running target with that disk as LUN 1; made if None
        :param command_line: more words for the kernel
        :param accounts: CHAP; iPXE then runs a script with the secrets instead of following the root-path
        :param is_described: iPXE leaves a table
        :param is_static: in which the NIC's address is one set by hand
        """
        if target is None:
            root = root or self.disk_copy(label)
            target = self.target(Lun(root.file), accounts=accounts)
        if root and command_line:
            root.set_command_line(f"{disk.COMMAND_LINE} {command_line}")
        network = self.network()
        if accounts or not is_described or is_static:
            address = network.guest_address() if is_static else ""
            paths = [target.root_path()]
            script = ipxe.script(paths, accounts, is_described=is_described, address=address)
            (self.directory / "boot.ipxe").write_text(script)
            # iPXE would describe whatever it gets a root-path for; udhcpc asks later, and gets one
            later = ["--dhcp-vendorclass=set:later,udhcp", f"--dhcp-option=tag:later,17,{target.root_path()}"]
            network.start_dhcp(boot_file="boot.ipxe", tftp=self.directory, extra=later)
        else:
            network.start_dhcp(root_path=target.root_path())
        machine = Machine(
            firmware=firmware,
            network=network,
            nic=nic,
            boots_from_network=True,
            memory_mib=memory_mib,
            accelerator=accelerator,
            may_reboot=may_reboot,
            extra=extra,
        )
        # last of all: others wait for this lock
        self._lock()
        booted = self._stack.enter_context(guest.running(machine, self.directory))
        self.guests.append(booted)
        return booted

    def check_kernels(self) -> None:
        """
        Insist that no guest's kernel complained.

        :raises RigError: a line with BUG, WARNING, a hung task, an I/O error ...
        """
        for booted in self.guests:
            complaints = booted.complaints()
            if complaints:
                raise RigError(
                    f"the guest's kernel complained ({booted.qemu.console}):\n" + "\n".join(complaints)
                )

    def capture(self, name: str = "network", number: int = 0) -> None:
        """Record the traffic of a tap into NAME.pcap of the run directory, until the rig ends."""
        file = self.directory / f"{name}.pcap"
        command = self.network().command(
            "tcpdump", "-U", "-n", "-i", self.network().tap(number), "-w", str(file)
        )
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)

    def _lock(self) -> None:
        if not self._is_locked:
            # let go after every guest of ours has ended: guests come later and are ended earlier
            self._stack.enter_context(guest.guest_lock())
            self._is_locked = True
