"""Scripts for iPXE, where DHCP's root-path is not enough: CHAP secrets, or a kernel beside the iSCSI disk."""

from __future__ import annotations

from collections.abc import Sequence

from tests.vm.target import Account


def script(
    root_paths: Sequence[str],
    accounts: Sequence[Account] = (),
    *,
    initiator: str = "",
    kernel: str = "",
    command_line: str = "",
    is_described: bool = True,
    address: str = "",
) -> str:
    """
    A script that logs in to a target and so leaves an iBFT.

    :param root_paths: "iscsi:SERVER:PROTOCOL:PORT:LUN:TARGETNAME" (RFC 4173); one a NIC
    :param initiator: initiator name; iPXE makes one up if it is empty
    :param kernel: URL of a directory with `vmlinuz` and `initramfs.img`; the disk's boot loader if empty
    :param is_described: leave an iBFT
    :param address: the first NIC has this address by hand, in a network of 256, and not from DHCP
    """
    lines = ["#!ipxe"]
    if address:
        lines += [
            # what is set at the NIC itself hides what DHCP left below it; the table then says "manual"
            "ifclose net0",
            f"set net0/ip {address}",
            "set net0/netmask 255.255.255.0",
            "set net0/dhcp-server 0.0.0.0",
            "ifopen net0",
        ]
    if initiator:
        lines.append(f"set initiator-iqn {initiator}")
    for account in accounts:
        prefix = "reverse-" if account.is_outgoing else ""
        lines += [f"set {prefix}username {account.name}", f"set {prefix}password {account.secret}"]
    # the first NIC is up: the script came over it
    lines += [f"dhcp net{number}" for number in range(1, len(root_paths))]
    paths = " ".join(root_paths)
    if kernel:
        lines += [
            f"sanhook {paths}",
            # initrd=: how the kernel's EFI stub names the file; BIOS ignores it
            f"kernel {kernel}/vmlinuz initrd=initramfs.img {command_line}",
            f"initrd {kernel}/initramfs.img",
            "boot",
        ]
    else:
        lines.append(f"sanboot {'' if is_described else '--no-describe '}{paths}")
    return "\n".join([*lines, ""])
