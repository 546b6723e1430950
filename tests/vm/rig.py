"""What one test needs, put together and taken apart: a directory, a network, targets, guests."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.vm import guest, quick
from tests.vm.guest import Guest
from tests.vm.network import Network
from tests.vm.progress import RigError
from tests.vm.target import Lun, Target

PROGRAMS = ("mmdebstrap", "qemu-system-x86_64", "tgtd", "dnsmasq", "ip", "unshare", "mke2fs")


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
        self._targets = 0

    def __enter__(self) -> Rig:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        for file in self.directory.iterdir():
            # logs stay, disks and initramfs images go
            if file.suffix in (".img", ".fd"):
                file.unlink()

    def network(self, nics: int = 1) -> Network:
        """The rig's namespace, made at the first call."""
        if self._network is None:
            self._network = self._stack.enter_context(Network(self.directory, nics))
        return self._network

    def disk(self, size_mib: int, name: str = "lun.img") -> Path:
        """An empty sparse file in the run directory, for a LUN."""
        path = self.directory / name
        with open(path, "wb") as file:
            file.truncate(size_mib << 20)
        return path

    def target(self, *luns: Lun, **options: Any) -> Target:
        """A running tgtd with those LUNs (one of 64 MiB if there is none); options are Target's."""
        self._targets += 1
        chosen = list(luns) or [Lun(self.disk(64, f"lun{self._targets}.img"))]
        options.setdefault("control", self._targets)
        return self._stack.enter_context(Target(self.network(), chosen, **options))

    def quick(self, label: str, **options: Any) -> Guest:
        """A quick guest on the rig's network; options are quick_guest's."""
        self._lock()
        options = {"network": self.network(), "directory": self.directory, **options}
        booted = self._stack.enter_context(quick.quick_guest(label, **options))
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
