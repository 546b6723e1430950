"""Which module would drive a NIC that nothing drives, from a sysfs and lists of modules made of files."""

import os
import subprocess
from pathlib import Path

from isboot.network import drivers
from isboot.network.find import no_such_nic
from isboot.network.kernel import Places
from tests.network.kernels import make_nic

E1000 = "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"
ALIASES = """# Aliases extracted from modules themselves.
alias pci:v00008086d0000100Fsv*sd*bc*sc*i* e1000_other
alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000
alias virtio:d00000001v* virtio_net
alias symbol:e1000 e1000
"""


def make_device(root: Path, bus: str, address: str, modalias: str, *, driver: str = "", **files: str) -> None:
    device = root / "bus" / bus / "devices" / address
    device.mkdir(parents=True)
    for name, text in {"modalias": modalias, **files}.items():
        (device / name).write_text(f"{text}\n")
    if driver:
        (device / "driver").symlink_to(root)


def make_places(root: Path, aliases: str = ALIASES) -> Places:
    (root / f"modules.alias-{os.uname().release}").write_text(aliases)
    return Places(
        None, root / "net", root / "bus", root / "module", root, (f"{root}/modules.alias-{{release}}",)
    )


def make_e1000(root: Path, address: str = "0000:00:03.0", **options: str) -> None:
    identity = {"class": "0x020000", "vendor": "0x8086", "device": "0x100e"}
    make_device(root, "pci", address, E1000, **identity, **options)


def test_module_of_a_pci_nic_without_a_driver_is_named(tmp_path: Path) -> None:
    make_e1000(tmp_path)
    (one,) = drivers.without_driver(make_places(tmp_path))
    assert one.text == "pci 0000:00:03.0 [8086:100e] (e1000)"
    assert 'add_drivers+=" e1000 "' in drivers.hint([one])
    assert "/etc/initramfs-tools/modules" in drivers.hint([one])


def test_driven_nics_and_other_devices_are_none(tmp_path: Path) -> None:
    make_e1000(tmp_path, driver="e1000")
    make_device(tmp_path, "pci", "0000:00:04.0", "pci:v1", **{"class": "0x010000"})
    make_device(tmp_path, "virtio", "virtio1", "virtio:d00000002v00001AF4", device="0x0002")
    assert drivers.without_driver(make_places(tmp_path)) == []


def test_virtio_nic_has_its_own_bus(tmp_path: Path) -> None:
    make_device(tmp_path, "virtio", "virtio0", "virtio:d00000001v00001AF4", device="0x0001")
    (one,) = drivers.without_driver(make_places(tmp_path))
    assert one.modules == ("virtio_net",)


def test_kernel_without_a_module_for_it_is_told(tmp_path: Path) -> None:
    make_e1000(tmp_path)
    (one,) = drivers.without_driver(make_places(tmp_path, ""))
    assert one.text.endswith(f"(no module of Linux {os.uname().release} is known for it)")
    assert "linux-image-amd64, not -cloud-amd64" in drivers.hint([one])


def test_loaded_module_that_does_not_drive_it_is_told(tmp_path: Path) -> None:
    make_e1000(tmp_path)
    (tmp_path / "module/e1000").mkdir(parents=True)
    (one,) = drivers.without_driver(make_places(tmp_path))
    assert one.text.endswith("(e1000, loaded)")
    assert "see dmesg" in drivers.hint([one])


def test_of_several_the_one_the_table_means_is_told(tmp_path: Path) -> None:
    make_e1000(tmp_path, "0000:00:03.0")
    make_e1000(tmp_path, "0000:00:05.0")
    places = make_places(tmp_path)
    error = no_such_nic([], make_nic(pci="00:05.0"), places).after(60)
    assert error.message == (
        "looking for the NIC with MAC 52:54:00:12:34:56 at PCI 00:05.0: none after 60 s; present: none; "
        "without a driver: pci 0000:00:05.0 [8086:100e] (e1000)"
    )
    assert (
        "0000:00:03.0 [8086:100e] (e1000), pci 0000:00:05.0"
        in no_such_nic([], make_nic(), places).after(1).message
    )


def test_every_bus_says_where_it_is_documented() -> None:
    assert all(bus.source for bus in drivers.BUSES)


def test_initramfs_gets_the_names_of_network_modules_only(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(
        "kernel/drivers/net/ethernet/intel/e1000/e1000.ko.xz:\n"
        "kernel/drivers/net/virtio_net.ko.xz: kernel/net/core/failover.ko.xz\n"
        "updates/dkms/our-nic.ko:\n"
        "kernel/drivers/ata/ahci.ko.xz: kernel/drivers/ata/libahci.ko.xz\n"
    )
    ours, other = "alias pci:v00001234d*sv*sd*bc*sc*i* our_nic\n", "alias pci:v00008086d00002922* ahci\n"
    (tmp_path / "modules.alias").write_text(ALIASES + other + ours)
    script = Path(__file__).parents[2] / "tools/initramfs/nic-modules"
    done = subprocess.run([script, tmp_path], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "alias pci:v00008086d0000100Esv*sd*bc*sc*i* e1000",
        "alias virtio:d00000001v* virtio_net",
        ours.rstrip(),
    ]
