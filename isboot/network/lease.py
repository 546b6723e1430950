"""
An address by DHCPv4, where neither table nor command line gives one.

The client is busybox's udhcpc, in a process of its own: it is looked after by others, and adds 1 MiB to an
initramfs that has it already.  (pyroute2's costs 26 MiB of memory and has another interface with each
version.)  It changes nothing: the lease comes here, and the NIC is brought up like any other, with an address
that never expires.  Once the root is up another udhcpc renews the lease, so that the server gives the address
to nobody else.

:source: RFC 2131, RFC 2132, RFC 3442
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

from isboot.errors import ExitStatus, NetworkError
from isboot.network.bringup import configure
from isboot.network.find import is_nic
from isboot.network.kernel import Mark, unmarked
from isboot.network.rtnetlink import Link, Rtnetlink
from isboot.values import NicConfig

if TYPE_CHECKING:
    from subprocess import Popen

BUSYBOX = "/usr/bin/busybox"
ROUND_S = 6  #: for one NIC before the next one is asked, then doubled up to the time there is
TRY_S = 2  #: between two DISCOVER of a round
#: beside what udhcpc asks for by itself (subnet, router, dns, hostname): RFC 2132 §3.19, §5.1, RFC 3442
OPTIONS = ("rootpath", "mtu", "staticroutes")

# $1 is the event, everything else is in the environment; what the server says is never a word of the shell
TELL = f"""#!{BUSYBOX} sh
[ "$1" = bound ] && exec {BUSYBOX} cat /proc/self/environ
"""
# the kernel's log escapes what is not printable
KEEP = f"""#!{BUSYBOX} sh
case $1 in
bound|renew) [ "$ip" = "$WANTED" ] && exit; what="gives $ip" ;;
nak) what="takes it back" ;;
*) exit ;;
esac
echo "<4>isboot: lease of $WANTED on $interface: the server $what; it is kept" > /dev/kmsg
"""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Lease:
    """
    What a DHCP server gives.

    :param root_path: option 17, "" for none
    :param mtu_bytes: option 26, 0 for none
    :param seconds: how long it lasts, for messages
    """

    nic: NicConfig
    interface: str
    address: IPv4Interface
    gateway: IPv4Address | None
    dns: tuple[IPv4Address, ...]
    hostname: str
    server: str
    root_path: str
    mtu_bytes: int
    seconds: str

    @property
    def configured(self) -> NicConfig:
        """Give the NIC with the lease's address."""
        return replace(
            self.nic,
            address=self.address,
            gateway=self.gateway,
            dns=self.nic.dns or self.dns,
            hostname=self.nic.hostname or self.hostname,
        )


def obtain(
    nic: NicConfig,
    *,
    needs_root_path: bool,
    timeout_s: float,
    carrier_timeout_s: float,
    say: Say,
    mark: Mark = unmarked,
) -> Lease:
    """
    Ask for an address, on one NIC after the other where any will do.

    :param nic: with a MAC or an interface's name; with neither any NIC that has a cable
    :param needs_root_path: leases without one are passed over while other NICs are left
    :param timeout_s: seconds for an answer
    :param carrier_timeout_s: seconds for a NIC with a carrier
    :param mark: told of "nic" and "carrier"
    :raises NetworkError: no carrier, no answer (TRY_AGAIN), no busybox (UNAVAILABLE)
    """
    if not os.access(BUSYBOX, os.X_OK):
        raise NetworkError(
            f"asking for an address by DHCP: there is no {BUSYBOX}",
            "install busybox and make the initramfs anew, or give the address by ip=",
            ExitStatus.UNAVAILABLE,
        )
    give_up_at = time.monotonic() + timeout_s + carrier_timeout_s
    round_s = ROUND_S
    second_best: Lease | None = None
    is_single = bool(nic.mac or nic.name)
    while True:
        links = _ready(nic, carrier_timeout_s, mark)
        mark("carrier", "")
        for link in links:
            left_s = int(min(round_s, max(TRY_S, give_up_at - time.monotonic())))
            found = replace(nic, mac=nic.mac or link.mac)
            # with its VLAN, if there is one; what to write to network managers is known with the address only
            state = configure(found, (), carrier_timeout_s=carrier_timeout_s, dropins_root=None)
            lease = _ask(found, state.name, left_s)
            if lease is None:
                say(f"no answer to DHCP on {state.name} for {left_s} s")
                continue
            say(f"lease: {lease.address} on {lease.interface} from {lease.server} for {lease.seconds} s")
            if lease.root_path or not needs_root_path:
                return lease
            second_best = second_best or lease
        if second_best is not None:
            return second_best
        if time.monotonic() >= give_up_at:
            tried = ", ".join(link.name for link in links)
            raise NetworkError(
                f"asking for an address by DHCP on {tried}: no answer for {timeout_s:g} s",
                "is a DHCP server on that network, and does the switch forward yet?"
                + ("" if is_single else " ip=INTERFACE:dhcp asks on one NIC only"),
                ExitStatus.TRY_AGAIN,
            )
        round_s *= 2


def keep(lease: Lease) -> Popen[bytes]:
    """Start the process that renews a lease; it changes nothing and lives on when its parent dies."""
    # '@': systemd must not end it at switch_root (ROOT_STORAGE_DAEMONS); busybox looks behind the last /
    arguments = ("-r", str(lease.address.ip), "-t", "5", "-T", "3", "-A", "30")
    return _udhcpc(
        "@/busybox", KEEP, lease.interface, arguments, {"WANTED": str(lease.address.ip)}, is_heard=False
    )


def _ready(nic: NicConfig, timeout_s: float, mark: Mark) -> list[Link]:
    """Give the NICs that may be asked over, all up, once one of them has a carrier."""
    deadline = time.monotonic() + timeout_s
    with Rtnetlink() as kernel:
        while True:
            links = [link for link in kernel.links() if is_nic(link) and _is_wanted(link, nic)]
            for link in links:
                if not link.is_up:
                    kernel.set_up(link.ifindex)
            if links:
                mark("nic", ", ".join(link.name for link in links))
            ready = [link for link in links if link.has_carrier]
            if ready:
                return ready
            if not kernel.wait(deadline):
                names = ", ".join(link.name for link in links) or "none is there"
                raise NetworkError(
                    f"waiting for the carrier of a NIC to ask by DHCP ({names}): none after {timeout_s:g} s",
                    "check cable, switch port and spanning tree, and the driver of a NIC that is missing",
                    ExitStatus.TRY_AGAIN,
                )


def _is_wanted(link: Link, nic: NicConfig) -> bool:
    if nic.mac:
        return nic.mac in (link.mac, link.permanent_mac)
    return not nic.name or link.name == nic.name


def _ask(nic: NicConfig, interface: str, seconds: int) -> Lease | None:
    """Run udhcpc until it has a lease or the time is over."""
    tries = max(1, seconds // TRY_S)
    arguments = ["-q", "-n", "-t", str(tries), "-T", str(TRY_S)]
    for option in OPTIONS:
        arguments += ["-O", option]
    process = _udhcpc("busybox", TELL, interface, arguments, {}, is_heard=True)
    began = time.monotonic()
    output, said = process.communicate()
    lease = read_lease(nic, interface, _environment(output))
    if lease is None and time.monotonic() - began < TRY_S * tries / 2:
        last = said.decode(errors="replace").strip().splitlines()[-1:] or [f"exit {process.returncode}"]
        raise NetworkError(
            f"asking for an address by DHCP on {interface}: {last[0]}",
            "is busybox built with udhcpc?",
            ExitStatus.TRY_AGAIN,
        )
    return lease


def read_lease(nic: NicConfig, interface: str, words: Mapping[str, str]) -> Lease | None:
    """
    Read what udhcpc tells a script.

    :param words: its environment
    :return: None for what is no lease: the server is then as good as silent
    """
    try:
        address = IPv4Interface((words["ip"], int(words.get("mask") or "32")))
    except (KeyError, ValueError):
        return None
    mtu = words.get("mtu", "")
    return Lease(
        nic=nic,
        interface=interface,
        address=address,
        gateway=_gateway(words),
        dns=tuple(_addresses(words.get("dns", ""))),
        hostname=words.get("hostname", ""),
        server=words.get("serverid", "a server without a name"),
        root_path=words.get("rootpath", ""),
        mtu_bytes=int(mtu) if mtu.isdigit() and 576 <= int(mtu) <= 65_535 else 0,
        seconds=words.get("lease", "?"),
    )


def _gateway(words: Mapping[str, str]) -> IPv4Address | None:
    """RFC 3442: where classless routes are given, the router option is not for use."""
    routes = words.get("staticroutes", "").split()
    for destination, router in zip(routes[::2], routes[1::2], strict=False):
        if destination == "0.0.0.0/0":
            return next(_addresses(router), None)
    return None if routes else next(_addresses(words.get("router", "")), None)


def _addresses(text: str) -> Iterator[IPv4Address]:
    for word in text.split():
        try:
            address = IPv4Address(word)
        except ValueError:
            continue
        if not address.is_unspecified:
            yield address


def _environment(output: bytes) -> dict[str, str]:
    pairs = (entry.decode(errors="replace").partition("=") for entry in output.split(b"\0") if b"=" in entry)
    return {name: value for name, _, value in pairs}


def _udhcpc(
    name: str, script: str, interface: str, arguments: Sequence[str], more: dict[str, str], *, is_heard: bool
) -> Popen[bytes]:
    import subprocess  # a boot from a table has no use for it

    # In memory: a script needs a file, and /run may be mounted noexec.  As standard input: udhcpc closes
    # whatever else is open.
    with open(os.memfd_create("isboot-udhcpc", os.MFD_CLOEXEC), "wb") as file:
        file.write(script.encode())
        file.flush()
        # what is open for writing cannot be executed (ETXTBSY)
        script_fd = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return subprocess.Popen(
            [name, "udhcpc", "-f", "-i", interface, "-s", "/proc/self/fd/0", *arguments],
            executable=BUSYBOX,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **more},
            stdin=script_fd,
            stdout=subprocess.PIPE if is_heard else subprocess.DEVNULL,
            stderr=subprocess.PIPE if is_heard else subprocess.DEVNULL,
        )
    finally:
        os.close(script_fd)
