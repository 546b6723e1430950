"""
EDK2's own iSCSI initiator (IScsiDxe, part of Debian's OVMF), set up through the variables it reads.

A setup screen would write the same variables: one of 1049 bytes an attempt, and the order in which they are
tried.  The store of OVMF_VARS.fd is a list of records, so no firmware has to run for it.

:source: edk2 NetworkPkg/IScsiDxe (IScsiConfigNVDataStruc.h, IScsiMisc.h, IScsiCHAP.h),
    MdeModulePkg/Include/Guid/VariableFormat.h; sizes checked against what OVMF 2022.11 wrote itself
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface, ip_address
from pathlib import Path

from tests.vm import guest, quick, rootfs
from tests.vm.guest import Guest
from tests.vm.kernel import kernel, quick_initramfs
from tests.vm.network import Network
from tests.vm.qemu import OVMF_VARS, Drive, Machine
from tests.vm.target import Account

ATTEMPTS = 8  #: PcdMaxIScsiAttemptNumber; with all of them there the driver makes none of its own
ATTEMPT_BYTES = 1049
NAME_GUID = uuid.UUID("59324945-ec44-4c0d-b1cd-9db139df070c")  #: EFI_ISCSI_INITIATOR_NAME_PROTOCOL
ORDER_GUID = uuid.UUID("4b47d616-a8d6-4552-9d44-ccad2e0f4cf9")  #: ISCSI_CONFIG_GUID
GLOBAL_GUID = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")  #: EFI_GLOBAL_VARIABLE
IP6_GUID = uuid.UUID("937fe521-95ae-4d1a-8929-48bcd90ad31a")  #: EFI_IP6_CONFIG_PROTOCOL
SETUP, RUNTIME = 3, 7  #: attributes: non-volatile, boot services; and run time, too
LOADER_MIB = 64


@dataclass(frozen=True)
class Attempt:
    """
    One row of the driver's setup screen.

    :ivar address: the initiator's IPv4 address; "" takes it from DHCP, or for IPv6 from router advertisement
    :ivar portal: the target's address
    :ivar lun: the eight bytes, in hexadecimal
    """

    mac: str
    portal: str
    target_name: str
    address: str = ""
    gateway: str = ""
    port: int = 3260
    lun: str = "0001000000000000"
    accounts: Sequence[Account] = ()

    def packed(self, index: int) -> bytes:
        """Give ISCSI_ATTEMPT_CONFIG_NVDATA: packed, little-endian, strings filled up with NULs."""
        portal = ip_address(self.portal)
        is_ipv4 = portal.version == 4
        local = IPv4Interface(self.address) if self.address else None
        mac = bytes.fromhex(self.mac.replace(":", ""))
        one_way = next((account for account in self.accounts if not account.is_outgoing), None)
        reverse = next((account for account in self.accounts if account.is_outgoing), None)
        session = struct.pack(
            "<HBB16s4s16sBB224s16sB8sHB6sBH16sB255s",
            self.port, 1, 0 if is_ipv4 else 1,  # enabled; IPv4 or IPv6
            local.ip.packed if local else b"", local.netmask.packed if local else b"",
            ip_address(self.gateway).packed if self.gateway else b"",
            is_ipv4 and local is None, 0,  # the initiator's, the target's address from DHCP
            self.target_name.encode(), portal.packed, 0, bytes.fromhex(self.lun),
            20000, 3, bytes([mac[0] & 0x3F, *mac[1:]]),  # ms, tries, ISID
            0, 0, b"", 0, b"",  # no redirection, no host name
        )  # fmt: skip
        chap = struct.pack(
            "<B127s17s127s17s",
            reverse is not None,
            *(text.encode() for account in (one_way, reverse)
              for text in ((account.name, account.secret) if account else ("", ""))),
        )  # fmt: skip
        name = f"Attempt {index}".encode()
        head = struct.pack("<16x6B4x12s96s48x", 0, index, 0, 0, 0, 0, name, mac.hex(":").upper().encode())
        return head + session + bytes([one_way is not None]) + chap + bytes([0, 1])  # 1: active


def listening_to_routers() -> bytes:
    """Give IP6_CONFIG_VARIABLE with the policy "automatic": without it no router is asked."""
    # policy (type 2) and number of duplicate address detections (type 3), each its offset, size and type
    body = struct.pack("<IH", 1, 2) + struct.pack("<HxxIIHxxIIII", 36, 4, 2, 32, 4, 3, 1, 1)
    total = sum(struct.unpack(f"<{len(body) // 2}H", body))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("<H", total ^ 0xFFFF) + body


def with_variables(store: bytes, variables: Sequence[tuple[str, uuid.UUID, int, bytes]]) -> bytes:
    """
    Give a firmware volume of variables with some more: (name, GUID, attributes, contents).

    :raises ValueError: it has none of the authenticated variables OVMF uses, or no room
    """
    start = int.from_bytes(store[0x30:0x32], "little")
    signature, size = struct.unpack_from("<16sI", store, start)
    if uuid.UUID(bytes_le=signature) != uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792"):
        raise ValueError("no store of authenticated variables")
    at, end = start + 28, start + size
    while store[at : at + 2] == b"\xaa\x55":
        name_bytes, data_bytes = struct.unpack_from("<II", store, at + 36)
        at = (at + 60 + name_bytes + data_bytes + 3) & ~3
    new = bytearray(store)
    for name, vendor, attributes, data in variables:
        encoded = f"{name}\0".encode("utf-16le")
        record = struct.pack(
            "<HBBIQ16xIII16s", 0x55AA, 0x3F, 0, attributes, 0, 0, len(encoded), len(data), vendor.bytes_le
        )
        record += encoded + data
        if at + len(record) > end:
            raise ValueError("the variables do not fit")
        new[at : at + len(record)] = record
        at = (at + len(record) + 3) & ~3
    return bytes(new)


def variables(
    initiator: str, attempts: Sequence[Attempt], file: str = r"\EFI\BOOT\BOOTX64.EFI", command_line: str = ""
) -> bytes:
    """
    Give OVMF's variables for these attempts, tried in this order, and a boot from what they find.

    :param file: what is booted: the boot loader of a disk, if nothing else is said
    :param command_line: for that file
    """
    packed = [attempt.packed(index) for index, attempt in enumerate(attempts, 1)]
    for index in range(len(attempts) + 1, ATTEMPTS + 1):
        name = f"Attempt {index}".encode()
        packed.append(struct.pack("<17xB8x12s", index, name).ljust(ATTEMPT_BYTES, b"\0"))  # disabled
    path = f"{file}\0".encode("utf-16le")
    # UEFI 2.10 §10.3.5.4: a media device path of a file, in its short form without a disk before it
    device_path = struct.pack("<BBH", 4, 4, 4 + len(path)) + path + struct.pack("<BBH", 0x7F, 0xFF, 4)
    option = struct.pack("<IH", 1, len(device_path)) + "iSCSI\0".encode("utf-16le") + device_path
    return with_variables(
        OVMF_VARS.read_bytes(),
        [
            ("InitialAttemptOrder", ORDER_GUID, SETUP, bytes(range(1, ATTEMPTS + 1))),
            ("AttemptOrder", ORDER_GUID, SETUP, bytes(range(1, len(attempts) + 1))),
            ("I_NAME", NAME_GUID, SETUP, initiator.encode() + b"\0"),
            *((f"Attempt {index}", NAME_GUID, SETUP, raw) for index, raw in enumerate(packed, 1)),
            *(
                (attempt.mac.replace(":", "").upper(), IP6_GUID, SETUP, listening_to_routers())
                for attempt in attempts
                if ":" in attempt.portal
            ),
            ("Boot0000", GLOBAL_GUID, RUNTIME, option + f"{command_line}\0".encode("utf-16le")),
            ("BootOrder", GLOBAL_GUID, RUNTIME, bytes(2)),
            ("Timeout", GLOBAL_GUID, RUNTIME, bytes(2)),
        ],
    )


def loader(label: str, path: Path) -> Path:
    """Make a LUN that firmware can load the quick guest from: a FAT file system with kernel and initramfs."""
    which = kernel(label)
    initramfs = path.with_suffix(".initramfs")
    initramfs.write_bytes(quick_initramfs(which).read_bytes() + quick.working_tree())
    with open(path, "wb") as file:
        file.truncate(LOADER_MIB << 20)
    for command in (
        [
            "mformat",
            "-i",
            str(path),
            "-T",
            str(LOADER_MIB * 2048),
            "-h",
            "64",
            "-s",
            "32",
            "-v",
            "LOADER",
            "::",
        ],
        ["mcopy", "-i", str(path), str(which.image), "::/vmlinuz"],
        ["mcopy", "-i", str(path), str(initramfs), "::/initramfs.img"],
    ):
        rootfs.run(command)
    return path


@contextmanager
def quick_guest(
    label: str, network: Network, directory: Path, initiator: str, attempts: Sequence[Attempt]
) -> Iterator[Guest]:
    """
    A quick guest that OVMF's own initiator loads from a LUN of `loader`; the caller holds `guest_lock`.

    No iPXE is there: the NIC has no ROM, OVMF drives it.
    """
    words = (
        f"initrd=\\initramfs.img console=ttyS0 panic=-1 net.ifnames=0 tsc=reliable rig.nics={network.nics}"
    )
    store = directory / "variables.fd"
    store.write_bytes(variables(initiator, attempts, r"\vmlinuz", f"{words} rig.net=tap"))
    machine = Machine(
        firmware="uefi",
        variables=store,
        network=network,
        drives=[Drive(quick.image(kernel(label)))],
    )
    with guest.running(machine, directory) as running:
        running.wait_agent(180)
        yield running
