"""Addresses of a boot NIC: the table's, for ever and at once; a link-local one where a portal needs it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, IPv6Interface, ip_address

from isboot.errors import ExitStatus, NetworkError
from isboot.network.kernel import Done, Kernel, NotYetError
from isboot.network.rtnetlink import Address, Link
from isboot.values import IpInterface, Portal

LINK_LOCAL = int(IPv6Address("fe80::"))
DUPLICATE_HINT = "look for a second machine with this address"


def put(kernel: Kernel, link: Link, wanted: IpInterface, done: Done) -> None:
    """
    Have an address on a link, permanent and usable.

    :raises NotYetError: duplicate detection, which somebody else began, still runs
    :raises NetworkError: it found another machine with the address (TRY_AGAIN)
    """
    same_ip = [address for address in kernel.addresses(link.ifindex) if address.interface.ip == wanted.ip]
    others = [address for address in same_ip if address.interface != wanted]
    # The same address with another prefix: IPv6 cannot hold both, and in IPv4 its network would be wrong.
    for address in others:
        if wanted.version == 6:
            kernel.remove_address(link.ifindex, address.interface)
            done.changes.append(f"address {address.interface} removed")
    # One with a lifetime was leased by a client that will not renew it after switch_root, or was made from a
    # router advertisement, whose end would be its own.
    if not any(address.interface == wanted and address.is_permanent for address in same_ip):
        kernel.put_address(link.ifindex, wanted)
        done.changes.append(f"address {wanted}")
    for address in others:
        if wanted.version == 4:  # only now: without any address the kernel drops the routes that send from it
            kernel.remove_address(link.ifindex, address.interface)
            done.changes.append(f"address {address.interface} removed")
    if wanted.version == 6:
        _be_usable(kernel, link, wanted)


def _be_usable(kernel: Kernel, link: Link, wanted: IpInterface) -> None:
    doing = f"setting {wanted} on {link.name}"
    now = next((one for one in kernel.addresses(link.ifindex) if one.interface == wanted), None)
    if now is None:
        raise NotYetError("address", doing, "it is gone again after {seconds} s", "which program removes it?")
    if now.is_duplicate:
        raise NetworkError(f"{doing}: another machine has it", DUPLICATE_HINT, ExitStatus.TRY_AGAIN)
    if now.is_tentative:
        outcome = "it stays tentative for {seconds} s, another machine may use it"
        raise NotYetError("address", doing, outcome, DUPLICATE_HINT)


def put_link_local(kernel: Kernel, link: Link, portals: Sequence[Portal], done: Done) -> None:
    """
    Have a link-local address, if a portal is one: it can be reached from nothing else (RFC 4007 §5).

    The kernel makes one by itself when the carrier comes, unless it was told not to (addr_gen_mode).

    :raises NotYetError: the kernel's own is not usable yet
    """
    if not any(_is_link_local(portal.host) for portal in portals):
        return
    present = [address for address in kernel.addresses(link.ifindex) if _is_link_local_address(address)]
    usable = [address for address in present if not address.is_tentative]
    if usable:
        return
    if not present:
        own = link_local(link.mac)
        kernel.put_address(link.ifindex, own)
        done.changes.append(f"address {own}")
    elif not all(address.is_duplicate for address in present):
        doing = f"waiting for the link-local address of {link.name}"
        raise NotYetError("address", doing, "still tentative after {seconds} s", DUPLICATE_HINT)
    else:
        taken = present[0].interface.ip
        raise NetworkError(
            f"waiting for the link-local address of {link.name}: another machine has {taken}",
            DUPLICATE_HINT,
            ExitStatus.TRY_AGAIN,
        )


def link_local(mac: str) -> IPv6Interface:
    """
    Give the link-local address a MAC makes.

    :source: RFC 4291 §2.5.1 and appendix A: modified EUI-64
    """
    octets = bytearray.fromhex(mac.replace(":", ""))
    octets[0] ^= 0x02
    identifier = int.from_bytes(octets[:3] + b"\xff\xfe" + octets[3:], "big")
    return IPv6Interface((LINK_LOCAL | identifier, 64))


def _is_link_local(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.version == 6 and address.is_link_local


def _is_link_local_address(address: Address) -> bool:
    return address.interface.version == 6 and address.interface.ip.is_link_local
