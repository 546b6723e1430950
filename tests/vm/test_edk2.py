"""The variables OVMF's own initiator is set up with: as OVMF wrote its own, and in the form of its store."""

from __future__ import annotations

import json
import struct
import sys
import uuid

import pytest

from tests.vm import disk, edk2, guest
from tests.vm.edk2 import Attempt
from tests.vm.ibft import MUTUAL
from tests.vm.kernel import kernel
from tests.vm.qemu import Machine
from tests.vm.rig import Rig
from tests.vm.target import Lun

MAC = "52:54:00:99:00:00"
NAME = "iqn.2001-04.com.example:rig"
SIGNATURE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792")

# Where OVMF 2022.11 put the values of an attempt of its own, and what they are there.
PLACES = [
    (17, b"\x03"), (26, b"Attempt 3\0"), (38, b"52:54:00:99:00:00\0"), (182, b"\xbc\x0c"), (184, b"\1"),
    (224, NAME.encode() + b"\0"), (465, bytes.fromhex("0002000000000000")), (473, b"\x20\x4e"), (757, b"\1"),
    (759, b"rig-initiator\0"), (1048, b"\1"),
]  # fmt: skip


def store(size: int = 400, *records: bytes) -> bytes:
    head = bytes(0x30) + struct.pack("<H", 72) + bytes(22)
    return head + (struct.pack("<16sI8x", SIGNATURE.bytes_le, size) + b"".join(records)).ljust(size, b"\xff")


def read(raw: bytes) -> list[tuple[str, bytes]]:
    at, found = 72 + 28, []
    while raw[at : at + 3] == b"\xaa\x55\x3f":
        name_bytes, data_bytes = struct.unpack_from("<II", raw, at + 36)
        name = raw[at + 60 : at + 60 + name_bytes].decode("utf-16le").rstrip("\0")
        found.append((name, raw[at + 60 + name_bytes :][:data_bytes]))
        at = (at + 60 + name_bytes + data_bytes + 3) & ~3
    return found


def test_an_attempt_lies_where_the_driver_reads_it() -> None:
    attempt = Attempt(MAC, "10.99.0.1", NAME, lun="0002000000000000", accounts=MUTUAL)
    raw = attempt.packed(3)
    assert len(raw) == edk2.ATTEMPT_BYTES
    for at, expected in PLACES:
        assert raw[at : at + len(expected)] == expected, at


@pytest.mark.parametrize(
    ("attempt", "place", "expected"),
    [
        (Attempt(MAC, "10.99.0.1", NAME), 222, b"\1"),  # the initiator's address from DHCP
        (Attempt(MAC, "10.99.0.1", NAME, "10.99.0.2/24"), 186, bytes([10, 99, 0, 2])),
        (Attempt(MAC, "10.99.0.1", NAME, "10.99.0.2/24"), 202, bytes([255, 255, 255, 0])),
        (Attempt(MAC, "10.99.0.1", NAME, "10.99.0.2/24", gateway="10.99.0.9"), 206, bytes([10, 99, 0, 9])),
        (Attempt(MAC, "fd99::1", NAME), 185, b"\1"),
        (Attempt(MAC, "fd99::1", NAME), 222, b"\0"),
    ],
)
def test_what_an_attempt_says_of_addresses(attempt: Attempt, place: int, expected: bytes) -> None:
    assert attempt.packed(1)[place : place + len(expected)] == expected


def test_variables_are_put_behind_those_that_are_there() -> None:
    first = edk2.with_variables(store(), [("A", edk2.NAME_GUID, edk2.SETUP, b"odd")])
    both = edk2.with_variables(first, [("BB", edk2.ORDER_GUID, edk2.SETUP, b"even")])
    assert read(both) == [("A", b"odd"), ("BB", b"even")]
    assert len(both) == len(store())


@pytest.mark.parametrize("raw", [store(60), bytes(500)])
def test_a_store_without_room_or_of_another_kind_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"fit|no store"):
        edk2.with_variables(raw, [("A", edk2.NAME_GUID, edk2.SETUP, bytes(100))])


def test_the_policy_for_routers_has_a_good_checksum() -> None:
    raw = edk2.listening_to_routers()
    total = sum(struct.unpack(f"<{len(raw) // 2}H", raw))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


# The whole chain without iPXE, a minute: with --all only, and not even collected (so not skipped) without.
if "--all" in sys.argv:

    @pytest.mark.guest
    def test_a_machine_lives_on_the_lun_its_own_firmware_booted(rig: Rig, kernel_label: str) -> None:
        network = rig.network()
        root = disk.copy(kernel(kernel_label), rig.directory / "root.img")
        target = rig.target(Lun(root.file))
        network.start_dhcp()
        # Two attempts on one NIC, one with DHCP's address and one with its own: the same.
        attempts = [
            Attempt(network.mac(), network.address(), target.name, address)
            for address in ("", f"{network.guest_address()}/24")
        ]
        variables = rig.directory / "variables.fd"
        variables.write_bytes(edk2.variables("iqn.2001-04.com.example:edk2", attempts))
        machine = Machine(firmware="uefi", variables=variables, network=network)
        with guest.guest_lock(), guest.running(machine, rig.directory) as booted:
            rig.guests.append(booted)
            booted.wait_agent(240)
            run = booted.channel.run
            assert run("findmnt -no SOURCE /").output == "/dev/ublkb0p3\n"
            document = json.loads(run("isboot ibft --json", 30).output)
            assert (document["source"], len(document["nics"]), len(document["targets"])) == ("acpi", 2, 2)
            assert {"fixed-length", "nic-per-attempt"} <= {quirk["code"] for quirk in document["quirks"]}
            addresses = run("ip -4 -brief address show dev eth0").output
            assert addresses.split()[2:] == [f"{network.guest_address()}/24"]
            booted.power_off(120)
            assert "logged out of" in booted.qemu.text()
