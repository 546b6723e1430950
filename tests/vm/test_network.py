"""
The network of a boot in guests: what needs hardware that comes, goes and has no driver, and real managers.
"""

from __future__ import annotations

import json
import re

import pytest

from isboot.firmware.spec import build
from tests.vm import guest as guests
from tests.vm import managers
from tests.vm.channel import Result
from tests.vm.disk import COMMAND_LINE
from tests.vm.guest import Guest
from tests.vm.inside.network_checks import E1000_MAC
from tests.vm.kernel import kernel
from tests.vm.progress import say
from tests.vm.qemu import Machine
from tests.vm.rig import Rig
from tests.vm.target import Lun

pytestmark = pytest.mark.guest

ISBOOT = "python3 -m isboot"
INITIATOR = """
[initiator]
name = "iqn.2001-04.com.example:diskless"
"""
FIRST_NIC = """
[[nics]]
mac = "52:54:00:99:00:00"
ip = "10.99.0.2"
prefix = 24
dns = ["10.99.0.53"]
"""
SECOND_NIC = """
[[nics]]
mac = "52:54:00:99:00:01"
ip = "fd99:1::2"
prefix = 64
"""
FIRST_TARGET = """
[[targets]]
name = "iqn.2001-04.com.example:rig"
ip = "10.99.0.1"
lun = "0001000000000000"
nic = 0
"""
SECOND_TARGET = """
[[targets]]
name = "iqn.2001-04.com.example:six"
ip = "fd99:1::1"
lun = "0001000000000000"
nic = 1
"""
FIO = (
    "fio --name=v --filename=/dev/ublkb0 --direct=1 --rw=randrw --bs=4k --size=16m --verify=crc32c "
    "--time_based --runtime=5 --rate_iops=200 2>&1"
)
#: a lost path is noticed by a ping, and nothing waits longer than the test needs
QUICK = ("nop_interval_ms=500", "nop_timeout_ms=500", "login_jitter_ms=0")


def set_command_line(guest: Guest, *parameters: str) -> None:
    words = " ".join(f"rd.isboot.param={one}" for one in parameters)
    guest.channel.run(
        f"umount /proc/cmdline 2>/dev/null; (tr -d '\\n' < /proc/cmdline; echo ' {words}') > /run/cmdline; "
        "mount --bind /run/cmdline /proc/cmdline",
        20,
    )


def lane(guest: Guest) -> dict[str, object]:
    (device,) = json.loads(guest.channel.run(f"{ISBOOT} status --json", 20).output)["devices"]
    row: dict[str, object] = device["lanes"][0]
    return row


def seconds_to_heal(guest: Guest, nic: str, loss: str) -> float:
    """Have `ip` do something to a NIC; how long it took, by the kernel's log, until that was put right."""
    guest.channel.run(f"echo rig: {loss} > /dev/kmsg; ip {loss}", 20)
    stamp = r"\[ *([\d.]+)\]"
    healed = rf"isboot: NIC: {nic} \S+(?:: put back| is up) "
    found = guest.qemu.wait_for(rf"{stamp} rig: {loss}[\s\S]*?{stamp} {healed}", 30)
    seconds = float(found[2]) - float(found[1])
    say(f"{loss}: put right after {seconds:.2f} s")
    return seconds


def test_nics_that_come_late_and_go(rig: Rig, request: pytest.FixtureRequest) -> None:
    late_s = 20 if request.config.getoption("--all") else 5
    rig.network(nics=2)
    # one disk behind two targets: one by IPv4 on the first network, one by IPv6 on the second
    disk = Lun(rig.empty_disk(64))
    rig.target(disk)
    rig.target(disk, name="iqn.2001-04.com.example:six", address="[fd99:1::1]")
    file = rig.directory / "table.bin"
    file.write_bytes(build(INITIATOR + FIRST_NIC + SECOND_NIC + FIRST_TARGET + SECOND_TARGET))
    extra = ["-acpitable", f"file={file}", "-device", f"e1000,mac={E1000_MAC},romfile="]
    guest = rig.quick("6.12", extra=extra)
    run, console = guest.channel.run, guest.qemu.wait_for
    checks = guest.channel.start(
        "python3 -m pytest -q -p no:cacheprovider tests/vm/inside/network_checks.py 2>&1", 180
    )
    status, output = checks.wait()
    assert status == 0, output.decode(errors="replace")
    say(output.decode(errors="replace").splitlines()[-1])

    # no driver for any NIC: the modules are named, and what to do with them
    run("modprobe ublk_drv; rmmod virtio_net e1000")
    set_command_line(guest, "nic_timeout_ms=1000", *QUICK)
    done = run(f"{ISBOOT} boot", 60, is_checked=False)
    assert done.status == 66, done.output
    assert re.search(
        r"looking for the NIC with MAC 52:54:00:99:00:0\d: none after 1 s; present: none; without a driver: "
        r"pci 0000:00:\w+\.0 \[8086:100e\] \(e1000\), virtio virtio\d+ \[\w+:0001\] \(virtio_net\)",
        done.output,
    ), done.output
    assert 'put e1000 into the initramfs: add_drivers+=" e1000 "' in done.output

    # the driver comes late, then the cable: words meanwhile, and only one of the two NICs has one
    guest.qemu.set_link(0, False)
    guest.qemu.set_link(1, False)
    set_command_line(guest, *QUICK)
    boot = guest.channel.start(f"{ISBOOT} boot", 300)
    for _ in range(5, late_s + 1, 5):
        console(r"isboot: looking for the NIC with MAC 52:54:00:99:00:00: \d+ s of 60 s are over", 30)
    run("modprobe virtio_net")
    for _ in range(5, late_s + 1, 5):
        console(r"isboot: waiting for the carrier of eth\d \(52:54:00:99:00:00\): \d+ s of 60 s are over", 30)
    guest.qemu.set_link(1, True)
    console(
        r"isboot: waiting for the carrier of eth\d \(52:54:00:99:00:00\): none after .*; "
        "going on without it until it comes",
        20,
    )
    console("isboot: device: /dev/ublkb0", 20)
    assert lane(guest)["portal"] == "[fd99:1::1]:3260"

    # the other NIC is taken up when its cable comes, and carries the disk once the first one is gone
    guest.qemu.set_link(0, True)
    console(r"isboot: NIC: eth\d 52:54:00:99:00:00 is up \(", 10)
    load = guest.channel.start(FIO, 120)
    guest.qemu.set_link(1, False)
    console(r"isboot: connected to 10\.99\.0\.1:3260 again", 20)
    assert lane(guest)["portal"] == "10.99.0.1:3260"

    # another name, and the driver anew: the NIC is known by its MAC
    name = str(lane(guest)["nic"])
    run(f"ip link set {name} down; ip link set {name} name storage0; ip link set storage0 up")
    console(r"isboot: NIC: storage0 52:54:00:99:00:00(: put back| is up) ", 20)
    run("rmmod virtio_net; modprobe virtio_net")
    console(r"isboot: NIC: eth\d 52:54:00:99:00:00 is up \(.*address 10\.99\.0\.2/24", 30)
    console(r"isboot: connected to 10\.99\.0\.1:3260 again", 20)
    status, output = load.wait()
    assert status == 0, output.decode(errors="replace")
    # name servers for the host
    assert "DNS=10.99.0.53" in run("cat /run/systemd/resolved.conf.d/50-isboot-525400990000.conf").output
    run(f"{ISBOOT} detach ublkb0", 60)
    assert boot.wait() == (0, b"")


# --- network managers

#: what a hand does, and the seconds to put it right in; the kernel reports a carrier once a second at most
BY_HAND = {"addr flush dev {nic}": 2, "route flush dev {nic}": 2, "link set {nic} down": 3}
INTERFACES = """
auto lo {nic} {other}
iface lo inet loopback
iface {nic} inet static
    address 10.99.0.77/24
iface {other} inet static
    address 10.99.1.77/24
"""
FIO_ON_ROOT = (
    "fio --name=v --filename=/var/tmp/fio.data --direct=1 --rw=randrw --bs=4k --size=16m --verify=crc32c "
    "--time_based --runtime=20 --rate_iops=100 2>&1"
)


class Managed:
    """A diskless machine with managers on it: its boot NIC, another one, and how the boot NIC stood first."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.nic = str(self.installed_lane()["nic"])
        self.other = self.run(r"ls /sys/class/net | grep -v '^lo$\|" + self.nic + "'").output.strip()
        # without who made a route: one that is put back is no longer the kernel's own
        routes = f"ip route show dev {self.nic} | sed 's/ proto [a-z]*//' | sort"
        self.show = f"ip -o -4 addr show {self.nic}; {routes}"
        self.before = self.state()

    def run(self, line: str, timeout_s: float = 60) -> Result:
        return self.guest.channel.run(line, timeout_s)

    def installed_lane(self) -> dict[str, object]:
        (device,) = json.loads(self.run("isboot status --json").output)["devices"]
        row: dict[str, object] = device["lanes"][0]
        return row

    def state(self) -> str:
        return self.run(self.show).output.rstrip("\n")  # ip ends a route with a blank

    def wait(self, condition: str, timeout_s: float = 60) -> None:
        self.run(f"until {condition}; do sleep 0.2; done", timeout_s)

    def assert_untouched(self, who: str) -> None:
        """Nobody touched the boot NIC: nothing had to be put back, and no connection was lost."""
        assert self.state() == self.before, who
        assert "put back" not in self.guest.qemu.text(), who
        assert self.installed_lane()["reconnects"] == 0, who


def test_managers_and_hands_leave_the_root_its_nic(rig: Rig) -> None:
    root = rig.disk_copy("6.12")
    managers.install(root)
    rig.network(nics=2)
    rig.target(Lun(root.file))
    file = rig.directory / "table.bin"
    file.write_bytes(build(INITIATOR + FIRST_NIC + FIRST_TARGET))
    extra = ["-acpitable", f"file={file}"]
    # as GRUB would load it; firmware and GRUB have nothing to do with what is shown here
    initramfs = rig.directory / "initrd.img"
    root.edit(f"cp $ROOT/boot/initrd.img-{root.release} {initramfs}")
    booted = Machine(
        kernel=kernel("6.12").image,
        initramfs=initramfs,
        command_line=COMMAND_LINE,
        network=rig.network(),
        extra=extra,
    )
    rig.network().start_dhcp()  # for the other NIC
    rig._lock()
    with guests.running(booted, rig.directory) as guest:
        rig.guests.append(guest)
        guest.wait_agent(300)
        stand_by_the_boot_nic(Managed(guest))
        guest.power_off(120)
    assert "logged out of" in guest.qemu.text()


def stand_by_the_boot_nic(machine: Managed) -> None:
    """Let one manager after the other, and hands, at a machine whose root is on the NIC."""
    guest, run, nic, other = machine.guest, machine.run, machine.nic, machine.other
    assert "10.99.0.2/24" in machine.before
    load = guest.channel.start(FIO_ON_ROOT, 180)

    # systemd-networkd wants every NIC, and gets the other one
    machine.wait(f"networkctl --no-legend list {other} | grep -q configured")
    assert "unmanaged" in run(f"networkctl --no-legend list {nic}").output
    run("systemctl restart systemd-networkd; networkctl reload")
    machine.wait(f"networkctl --no-legend list {other} | grep -q configured")
    began = float(run("cut -d' ' -f1 /proc/uptime").output)
    run("/usr/lib/systemd/systemd-networkd-wait-online --timeout=30")
    assert float(run("cut -d' ' -f1 /proc/uptime").output) - began < 10
    machine.assert_untouched("systemd-networkd")
    # the table's name server, beside those of the other NIC
    assert "10.99.0.53" in run("resolvectl dns | grep Global").output
    assert "10.99.0.53" in run("cat /run/systemd/resolve/resolv.conf").output

    # NetworkManager, which configures whatever has a cable
    run("systemctl stop systemd-networkd.socket systemd-networkd; systemctl start NetworkManager")
    machine.wait(f"nmcli -t -f DEVICE,STATE device | grep -q '^{other}:connected'")
    assert f"{nic}:unmanaged" in run("nmcli -t -f DEVICE,STATE device").output
    run("systemctl restart NetworkManager; nmcli networking off; nmcli networking on")
    machine.wait(f"nmcli -t -f DEVICE,STATE device | grep -q '^{other}:connected'")
    run("systemctl stop NetworkManager")
    machine.assert_untouched("NetworkManager")

    # udev, which names NICs by their place, once more with the rules of the root
    run(f"udevadm trigger --settle --action=add /sys/class/net/{nic}; ip link show {nic}")
    machine.assert_untouched("udev")

    # ifupdown
    run(f"cat > /etc/network/interfaces <<'END'\n{INTERFACES.format(nic=nic, other=other)}\nEND")
    run(f"ip addr flush dev {other}; systemctl start networking; ifup -a")
    assert "10.99.1.77/24" in run(f"ip -4 addr show {other}").output
    run("systemctl stop networking")
    machine.assert_untouched("ifupdown")

    # hands
    for hand, bound_s in BY_HAND.items():
        assert seconds_to_heal(guest, nic, hand.format(nic=nic)) < bound_s
        machine.wait(f'[ "$({machine.show})" = "{machine.before}" ]')
    status, output = load.wait()
    assert status == 0, output.decode(errors="replace")
