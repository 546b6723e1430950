"""VLAN devices on a boot NIC, and its MTU, which both share."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from isboot.errors import ExitStatus, NetworkError
from isboot.network.kernel import Done, Kernel
from isboot.network.rtnetlink import Link

INTERFACE_NAME_BYTES = 15  # IFNAMSIZ without the NUL
IPV6_MINIMUM_MTU = 1280  # RFC 8200 §5; with less the kernel switches IPv6 off on the NIC


def names_of(hardware: Link, vlan: int, present: Link | None = None) -> tuple[str, ...]:
    """Give the interfaces of a NIC, the hardware first: the VLAN as it is called, or would be."""
    if not vlan:
        return (hardware.name,)
    return (hardware.name, present.name if present else next(_names(hardware.name, vlan)))


def find(links: list[Link], hardware: Link, vlan: int) -> Link | None:
    """Find the VLAN on that NIC, whatever its name."""
    wanted = ("vlan", hardware.ifindex, vlan)
    return next((link for link in links if (link.kind, link.lower, link.vlan) == wanted), None)


def add(kernel: Kernel, hardware: Link, vlan: int) -> Link:
    """
    Make the VLAN; it starts with its NIC's MTU.

    :raises NetworkError: the kernel has no VLANs (UNAVAILABLE), or refuses this one
    """
    doing = f"adding VLAN {vlan} to {hardware.name}"
    for name in _names(hardware.name, vlan):
        try:
            kernel.add_vlan(hardware.ifindex, vlan, name)
            break
        except OSError as error:
            if error.errno == errno.EEXIST:
                continue  # the name is somebody else's
            raise NetworkError(
                f"{doing}: {error.strerror}",
                hint="does this kernel, or the initramfs, have the module 8021q?",
                exit_status=ExitStatus.UNAVAILABLE if error.errno == errno.EOPNOTSUPP else ExitStatus.FAILED,
            ) from error
    added = find(kernel.links(), hardware, vlan)
    if added is None:
        raise NetworkError(f"{doing}: the kernel made no such link", "is its name taken by another link?")
    return added


def _names(lower: str, vlan: int) -> Iterator[str]:
    """Names to be tried: the usual one, which people and managers know, then ours."""
    usual = f"{lower}.{vlan}"
    if len(usual) <= INTERFACE_NAME_BYTES:
        yield usual
    yield f"isboot.{vlan}"


def put_mtu(kernel: Kernel, link: Link, mtu_bytes: int, version: int, done: Done) -> None:
    """
    Set the MTU; one that does not fit is refused with the range, and the NIC keeps what it has.

    :param mtu_bytes: 0 for as it is
    :param version: of the addresses it is to carry
    """
    if mtu_bytes in (0, link.mtu):
        return
    least = max(link.min_mtu, IPV6_MINIMUM_MTU) if version == 6 else link.min_mtu
    most = link.max_mtu or 65535
    doing = f"setting the MTU of {link.name} to {mtu_bytes}"
    if not least <= mtu_bytes <= most:
        done.warn(f"{doing}: it takes {least} to {most} bytes; it stays at {link.mtu}")
        return
    try:
        kernel.set_mtu(link.ifindex, mtu_bytes)
    except OSError as error:
        done.warn(f"{doing}: {error.strerror}; it stays at {link.mtu}")
        return
    done.changes.append(f"MTU {mtu_bytes}")
