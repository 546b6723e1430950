"""One QEMU machine: its command line, its console, QMP."""

from __future__ import annotations

import json
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.vm.network import Network
from tests.vm.process import Service
from tests.vm.progress import RigError, say

OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")

AGENT_PORT = "isboot.agent"

#: what systemd shows while it waits for a job, several times a second
WAITING = re.compile(r"\[[ *]{6}\] ")

#: QEMU's accelerator that works everywhere
EMULATION = "tcg,thread=multi"

#: QEMU 7.2 with one thread a processor: one may still execute the int3 of a text_poke that is over.  Seen
#: on loaded machines, with Linux 7.2, where sched_clock's static key is switched: nothing of ours has run yet
EMULATOR_FAULT = re.compile(r"Oops: int3: 0000 \[#1\]")


@dataclass(frozen=True)
class Drive:
    """A local disk of the guest; with is_snapshot its file is never written."""

    file: Path
    format: str = "raw"
    is_snapshot: bool = True


@dataclass(frozen=True)
class Machine:
    """
    What to run.

    :ivar firmware: "bios", "uefi", or "direct" (QEMU loads kernel, initramfs and command line)
    :ivar nic: QEMU's model; "e1000" and "virtio-net-pci" have an iPXE ROM for BIOS and UEFI
    :ivar network: the taps' namespace, where QEMU runs too; None gives QEMU's own NAT, in which 10.0.2.2
        is this machine's 127.0.0.1
    :ivar boots_from_network: firmware starts iPXE on the first NIC
    :ivar accelerator: QEMU's: emulation works everywhere, "kvm" only where `demo/accelerator.py` says so
    :ivar may_reboot: a reset restarts the guest instead of ending QEMU
    :ivar extra: more arguments of QEMU
    :ivar variables: what UEFI firmware finds in its flash; the guest writes to a copy
    """

    firmware: str = "direct"
    kernel: Path | None = None
    initramfs: Path | None = None
    command_line: str = ""
    network: Network | None = None
    nic: str = "virtio-net-pci"
    boots_from_network: bool = False
    drives: Sequence[Drive] = ()
    memory_mib: int = 2048
    processors: int = 2
    accelerator: str = EMULATION
    may_reboot: bool = False
    extra: Sequence[str] = field(default_factory=list)
    variables: Path = OVMF_VARS


class Qemu:
    """
    A running machine.

    :param directory: gets console.log (ttyS0), serial1.log (ttyS1) and qemu.log
    """

    def __init__(self, machine: Machine, directory: Path) -> None:
        self.machine = machine
        self.directory = directory
        self.console = directory / "console.log"
        self._sockets = Path(tempfile.mkdtemp(prefix="isboot-qemu-"))
        self._qmp: socket.socket | None = None
        self._qmp_input: Any = None
        self._seen = 0
        self._was_revived = False
        command = self._command()
        self.service = Service(
            machine.network.command(*command) if machine.network else command, directory / "qemu.log"
        )

    def __enter__(self) -> Qemu:
        self.service.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.service.stop()
        for channel in (self._qmp_input, self._qmp):
            if channel:
                channel.close()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def socket_path(self, name: str) -> Path:
        """Unix socket of a channel: "agent", "console" (type into ttyS0) or "qmp"."""
        return self._sockets / name

    def text(self) -> str:
        """The whole console so far."""
        if not self.console.exists():
            return ""
        return self.console.read_text(errors="replace").replace("\r", "")

    def wait_for(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """
        Wait until the console, from where the last wait ended, holds the pattern.

        :param pattern: regular expression, ^ and $ match at lines
        :raises RigError: timeout_s went by, or QEMU ended; with the console's last 60 lines
        """
        deadline = time.monotonic() + timeout_s
        compiled = re.compile(pattern, re.MULTILINE)
        while True:
            is_alive = self.service.is_alive
            found = compiled.search(self.text(), self._seen)
            if found:
                self._seen = found.end()
                return found
            if not is_alive and self.revive():
                deadline = time.monotonic() + timeout_s
                continue
            if not is_alive:
                raise RigError(f"the guest ended before {pattern!r} appeared\n{self.tail()}")
            if time.monotonic() > deadline:
                raise RigError(f"{pattern!r} did not appear within {timeout_s:g} s\n{self.tail()}")
            time.sleep(0.1)

    def revive(self) -> bool:
        """
        Power a machine on again that died of a fault of the emulator, once; True if that was so.

        It dies long before anything of ours runs, and leaves its disks as they were.
        """
        if self._was_revived or not EMULATOR_FAULT.search(self.text()):
            return False
        self._was_revived = True
        say(f"a fault of the emulator ended the guest; powered on again ({self.console})")
        for channel in (self._qmp_input, self._qmp):
            if channel:
                channel.close()
        self._qmp = self._qmp_input = None
        self._seen = 0
        self.console.rename(self.console.with_name("console-emulator-fault.log"))
        self.service.start()
        return True

    def wait_end(self, timeout_s: float) -> None:
        """
        Wait for QEMU's end (power-off, or a reset of a machine that may not reboot).

        :raises RigError: it still runs
        """
        try:
            self.service.wait(timeout_s)
        except RigError:
            raise RigError(f"the guest is not off after {timeout_s:g} s\n{self.tail()}") from None

    def tail(self, lines: int = 60) -> str:
        """The console's last lines, and QEMU's own words if it had any."""
        log = self.directory / "qemu.log"
        own = log.read_text(errors="replace").strip() if log.exists() else ""
        # without what systemd and dracut draw while they wait
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1bM?", "", self.text())
        told = [line for line in plain.splitlines() if line.strip() and not WAITING.match(line)]
        shown = "\n".join(told[-lines:])
        return f"--- console, last {lines} lines of {self.console}\n{shown}\n--- {own}"

    def qmp(self, command: str, **arguments: object) -> Any:
        """
        Run a QMP command and give what it returns.

        :raises RigError: QEMU says it failed
        """
        if self._qmp is None:
            self._qmp = connect(self.socket_path("qmp"))
            self._qmp.settimeout(30)
            self._qmp_input = self._qmp.makefile("r")
            self._qmp_input.readline()
            self.qmp("qmp_capabilities")
        request = {
            "execute": command,
            "arguments": {name.replace("_", "-"): v for name, v in arguments.items()},
        }
        self._qmp.sendall(json.dumps(request).encode() + b"\n")
        while True:
            answer = json.loads(self._qmp_input.readline())
            if "error" in answer:
                raise RigError(f"QMP {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def set_link(self, number: int, is_up: bool) -> None:
        """Pull the cable of a NIC, or put it back: the guest sees the carrier go."""
        self.qmp("set_link", name=f"nic{number}", up=is_up)

    def _command(self) -> list[str]:
        machine = self.machine
        sockets = self._sockets
        console = f"path={sockets}/console,server=on,wait=off,logfile={self.console}"
        command = [
            "qemu-system-x86_64", "-accel", machine.accelerator, "-cpu", "max",
            "-smp", str(machine.processors),
            "-m", str(machine.memory_mib), "-nodefaults", "-display", "none", "-vga", "none",
            "-device", "virtio-rng-pci,romfile=",
            "-chardev", f"socket,id=console,{console}",
            "-serial", "chardev:console", "-serial", f"file:{self.directory}/serial1.log",
            "-qmp", f"unix:{sockets}/qmp,server=on,wait=off",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={sockets}/agent,server=on,wait=off",
            "-device", f"virtserialport,chardev=agent,name={AGENT_PORT}",
        ]  # fmt: skip
        if not machine.may_reboot:
            command.append("-no-reboot")
        command += ["-machine", "q35" if machine.firmware != "bios" else "pc"]
        if machine.firmware == "uefi":
            variables = self.directory / "OVMF_VARS.fd"
            shutil.copyfile(machine.variables, variables)
            command += ["-drive", f"if=pflash,format=raw,readonly=on,file={OVMF_CODE}"]
            command += ["-drive", f"if=pflash,format=raw,file={variables}"]
        if machine.firmware == "direct":
            command += ["-kernel", str(machine.kernel), "-append", machine.command_line]
            if machine.initramfs:
                command += ["-initrd", str(machine.initramfs)]
        for number, drive in enumerate(machine.drives):
            command += [
                "-drive", f"if=none,id=disk{number},format={drive.format},file={drive.file},cache=unsafe,"
                f"snapshot={'on' if drive.is_snapshot else 'off'}",
                "-device", f"virtio-blk-pci,drive=disk{number}",
            ]  # fmt: skip
        command += self._nics()
        return [*command, *machine.extra]

    def _nics(self) -> list[str]:
        machine = self.machine
        if machine.network is None:
            return ["-netdev", "user,id=net0", "-device", f"{machine.nic},id=nic0,netdev=net0,romfile="]
        command: list[str] = []
        for number in range(machine.network.nics):
            tap, mac = machine.network.tap(number), machine.network.mac(number)
            device = f"{machine.nic},id=nic{number},netdev=net{number},mac={mac}"
            if not machine.boots_from_network:
                device += ",romfile="
            elif number == 0:
                device += ",bootindex=0"
            command += [
                "-netdev",
                f"tap,id=net{number},ifname={tap},script=no,downscript=no",
                "-device",
                device,
            ]
        return command


def connect(path: Path, timeout_s: float = 10) -> socket.socket:
    """
    Connect to a socket QEMU is about to make.

    :raises RigError: it did not within timeout_s
    """
    deadline = time.monotonic() + timeout_s
    while True:
        channel = socket.socket(socket.AF_UNIX)
        try:
            channel.connect(str(path))
            return channel
        except (FileNotFoundError, ConnectionRefusedError):
            channel.close()
            if time.monotonic() > deadline:
                raise RigError(f"QEMU does not open {path}") from None
            time.sleep(0.05)
