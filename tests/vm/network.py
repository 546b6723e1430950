"""A network namespace with taps for the guest's NICs, and DHCP in it."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.vm.process import Service
from tests.vm.progress import RigError

_numbers = itertools.count()


def ip(*arguments: str) -> str:
    """
    Run `ip` and give its output.

    :raises RigError: it failed
    """
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RigError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """
    A namespace of our own: tap N is 10.99.N.1/24 and fd99:N::1/64; the guest's NIC on it has the MAC
    52:54:00:99:00:0N.

    :param directory: where logs go
    :param nics: how many taps
    """

    def __init__(self, directory: Path, nics: int = 1) -> None:
        self.directory = directory
        self.nics = nics
        self.name = f"isboot-{os.getpid()}-{next(_numbers)}"
        #: the guest's last byte: 10.99.N.2
        self.host = 2
        self._dhcp: Service | None = None
        self._is_bridged = False

    def __enter__(self) -> Network:
        _remove_strays()
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        for number in range(self.nics):
            tap = self.tap(number)
            ip("-n", self.name, "tuntap", "add", tap, "mode", "tap")
            ip("-n", self.name, "addr", "add", f"{self.address(number)}/24", "dev", tap)
            ip("-n", self.name, "addr", "add", f"fd99:{number}::1/64", "dev", tap, "nodad")
            ip("-n", self.name, "link", "set", tap, "up")
        return self

    def __exit__(self, *_: object) -> None:
        if self._dhcp:
            self._dhcp.stop()
        ip("netns", "del", self.name)

    def tap(self, number: int = 0) -> str:
        """Name of the tap device."""
        return f"tap{number}"

    def mac(self, number: int = 0) -> str:
        """MAC of the guest's NIC on that tap."""
        return f"52:54:00:99:00:{number:02x}"

    def address(self, number: int = 0) -> str:
        """IPv4 address of our side."""
        return f"10.99.{number}.1"

    def guest_address(self, number: int = 0) -> str:
        """IPv4 address the guest gets, from DHCP or by hand."""
        return f"10.99.{number}.{self.host}"

    def interface(self, number: int = 0) -> str:
        """Who has our address: the tap, or the bridge it is a port of."""
        return "bridge0" if self._is_bridged and number == 0 else self.tap(number)

    def bridge(self) -> None:
        """Put tap 0 on a bridge, so that more guests may join its network; our addresses move there."""
        if self._is_bridged:
            return
        if self._dhcp:
            raise RigError("a second guest on the network comes before DHCP: it has tap 0 already")
        addresses = (f"{self.address()}/24", "fd99:0::1/64")
        ip("-n", self.name, "addr", "flush", "dev", self.tap())
        ip("-n", self.name, "link", "add", "bridge0", "type", "bridge", "forward_delay", "0")
        for address in addresses:
            ip(
                "-n",
                self.name,
                "addr",
                "add",
                address,
                "dev",
                "bridge0",
                *(["nodad"] if ":" in address else []),
            )
        ip("-n", self.name, "link", "set", self.tap(), "master", "bridge0")
        ip("-n", self.name, "link", "set", "bridge0", "up")
        self._is_bridged = True

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs a program in the namespace."""
        return ["ip", "netns", "exec", self.name, *arguments]

    def run(self, *arguments: str) -> str:
        """
        Run a program in the namespace and give its output.

        :raises RigError: it failed
        """
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RigError(f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def start_dhcp(
        self, root_path: str = "", boot_file: str = "", tftp: Path | None = None, extra: Sequence[str] = ()
    ) -> None:
        """
        Serve DHCP on every tap.

        :param root_path: DHCP option 17, "iscsi:SERVER:PROTOCOL:PORT:LUN:TARGETNAME" (RFC 4173)
        :param boot_file: a name below `tftp`, instead of a root-path: an iPXE script
        :param extra: more options of dnsmasq
        """
        command = [
            "dnsmasq", "--keep-in-foreground", "--log-facility=-", "--log-dhcp", "--conf-file=/dev/null",
            "--port=0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping", "--user=root",
            f"--dhcp-leasefile={self.directory}/leases", f"--pid-file={self.directory}/dnsmasq.pid",
        ]  # fmt: skip
        for number in range(self.nics):
            address = self.guest_address(number)
            command += [
                f"--interface={self.interface(number)}",
                f"--dhcp-range={address},{address},255.255.255.0,1h",
            ]
            command += [f"--dhcp-host={self.mac(number)},{address}"]
        if root_path:
            command.append(f"--dhcp-option=17,{root_path}")
        if boot_file:
            command.append(f"--dhcp-boot={boot_file}")
        if tftp:
            command += ["--enable-tftp", f"--tftp-root={tftp}"]
        self._dhcp = Service(self.command(*command, *extra), self.directory / "dnsmasq.log")
        self._dhcp.start()

    def set_carrier(self, number: int, is_up: bool) -> None:
        """Take our side of a tap down or up; `Machine.set_link` pulls the guest's cable instead."""
        ip("-n", self.name, "link", "set", self.tap(number), "up" if is_up else "down")


class Neighbour(Network):
    """
    The place of one more guest on the network of tap 0: one NIC, with the address 10.99.0.HOST.

    :param host: the last byte, which is also its MAC's
    """

    def __init__(self, network: Network, host: int) -> None:
        network.bridge()
        self.directory = network.directory
        self.name = network.name
        self.nics = 1
        self.host = host
        self._dhcp = None

    def __enter__(self) -> Neighbour:
        ip("-n", self.name, "tuntap", "add", self.tap(), "mode", "tap")
        ip("-n", self.name, "link", "set", self.tap(), "master", "bridge0", "up")
        return self

    def __exit__(self, *_: object) -> None:
        ip("-n", self.name, "link", "del", self.tap())

    def tap(self, number: int = 0) -> str:
        """Name of the tap device."""
        return f"tap{number}-{self.host}"

    def mac(self, number: int = 0) -> str:
        """MAC of the guest's NIC on that tap."""
        return f"52:54:00:99:{self.host:02x}:{number:02x}"


def _remove_strays() -> None:
    """Delete namespaces of rigs that were killed."""
    for found in re.finditer(r"^isboot-(\d+)-\d+", ip("netns", "list"), re.MULTILINE):
        if not Path(f"/proc/{found[1]}").exists():
            subprocess.run(["ip", "netns", "del", found[0]], check=False)
