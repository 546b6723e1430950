"""
NICs that nothing drives, and the kernel module that would.

Read only to explain why a NIC is missing.  In the initramfs modules.alias names just the modules that are in
it; the list of those that exist for this kernel is carried beside it (tools/dracut/90isboot).

:source: Documentation/ABI/testing/sysfs-bus-pci ("modalias"), modules.alias: depmod(8)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from isboot.network.kernel import Places


class Bus(NamedTuple):
    """
    How a bus of sysfs tells its network devices.

    :param file: of the device's directory
    :param prefix: of that file's content for a network device
    """

    name: str
    file: str
    prefix: str
    source: str


BUSES = (
    Bus("pci", "class", "0x02", "PCI Code and ID Assignment: base class 02h, network controller"),
    Bus("virtio", "device", "0x0001", "virtio 1.2 §5: device ID 1, network device"),
    Bus("vmbus", "class_id", "{f8615163-df3e-46c5-913f-f2d2f965ed0e}", "linux/hyperv.h: HV_NIC_GUID"),
)


VENDOR = len(":v00008086")  #: of a modalias, after the bus


class Idle(NamedTuple):
    """
    A network device without a driver.

    :param modules: that would drive it, as far as a list of this kernel's modules was found
    """

    bus: str
    address: str
    pci: str
    identity: str
    modules: tuple[str, ...]
    is_loaded: bool

    @property
    def text(self) -> str:
        where = f"{self.bus} {self.address}" + (f" [{self.identity}]" if self.identity else "")
        if not self.modules:
            return f"{where} (no module of Linux {os.uname().release} is known for it)"
        names = " or ".join(self.modules)
        return f"{where} ({names}{', loaded' if self.is_loaded else ''})"


def without_driver(places: Places) -> list[Idle]:
    """Give every network device that nothing drives."""
    found = []
    for bus in BUSES:
        for device in sorted((places.sysfs_bus / bus.name / "devices").glob("*")):
            if not _read(device / bus.file).startswith(bus.prefix) or (device / "driver").exists():
                continue
            modules = tuple(dict.fromkeys(_modules_for(_read(device / "modalias"), places)))
            is_loaded = any((places.sysfs_module / name).exists() for name in modules)
            identity = ":".join(_read(device / name).removeprefix("0x") for name in ("vendor", "device"))
            # a virtio device's directory lies in that of its PCI device
            pci = device.name if bus.name == "pci" else device.resolve().parent.name
            found.append(Idle(bus.name, device.name, pci, identity.strip(":"), modules, is_loaded))
    return found


def hint(idle: Sequence[Idle]) -> str:
    """Say how the first one's driver gets into the initramfs."""
    module = next((one.modules[0] for one in idle if one.modules), "")
    if not module:
        return "install a kernel that has a driver for it (Debian: linux-image-amd64, not -cloud-amd64)"
    if any(one.is_loaded for one in idle):
        return f"{module} is loaded, but does not drive it: see dmesg; is its firmware in the initramfs?"
    return (
        f'put {module} into the initramfs: add_drivers+=" {module} " in /etc/dracut.conf.d/nic.conf and '
        f"dracut --force, or a line {module} in /etc/initramfs-tools/modules and update-initramfs -u"
    )


def _modules_for(modalias: str, places: Places) -> Iterator[str]:
    if not modalias:
        return
    bus = modalias.partition(":")[0]
    # a list has 20,000 lines: those of other vendors are passed over by one regular expression
    candidate = re.compile(
        rf"^alias ({re.escape(modalias[: len(bus) + VENDOR])}\S*|{bus}:\w?\*\S*) (\S+)$", re.MULTILINE
    )
    for name in places.alias_files:
        try:
            text = Path(name.format(release=os.uname().release)).read_text(encoding="utf-8")
        except OSError:
            continue
        for found in candidate.finditer(text):
            if fnmatchcase(modalias, found[1]):
                yield found[2]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
