"""
KVM or emulation.

/dev/kvm that can be opened says little: in a nested machine a guest may hang on its first instructions. So
a probe guest, nothing but a kernel, has to say a word within seconds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from tests.vm.qemu import EMULATION

KVM = "kvm"

PROBE_S = 8


def choose(wanted: str, kernel: Path, directory: Path) -> tuple[str, str]:
    """
    Give QEMU's accelerator, and why it is that one.

    :param wanted: "tcg", "kvm" or "auto"
    :param kernel: what the probe guest runs
    :param directory: gets the probe's console
    """
    if wanted == "tcg":
        return EMULATION, "emulation, as asked for"
    if wanted == "kvm":
        return KVM, "KVM, as asked for"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return EMULATION, "emulation, there is no /dev/kvm"
    trouble = probe(kernel, directory / "probe.log")
    return (EMULATION, f"emulation, KVM's probe guest {trouble}") if trouble else (KVM, "KVM")


def probe(kernel: Path, console: Path) -> str:
    """
    Boot a kernel without a root file system under KVM: does it get as far as missing one?

    :return: what went wrong, or ""
    """
    command = [
        "setpriv", "--pdeathsig", "KILL",
        "qemu-system-x86_64", "-accel", KVM, "-cpu", "max", "-m", "512", "-nodefaults", "-display", "none",
        "-no-reboot", "-serial", f"file:{console}",
        "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1",
    ]  # fmt: skip
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    deadline = time.monotonic() + PROBE_S
    try:
        while time.monotonic() < deadline:
            is_alive = process.poll() is None
            if console.exists() and b"Unable to mount root fs" in console.read_bytes():
                return ""
            if not is_alive:
                return f"did not run: QEMU ended with {process.returncode}"
            time.sleep(0.1)
        return f"said nothing within {PROBE_S} s"
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        try:
            # a process stuck in the kernel's KVM code may not even die; the demo goes on without it
            process.wait(5)
        except subprocess.TimeoutExpired:
            pass
