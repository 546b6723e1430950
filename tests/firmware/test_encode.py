from __future__ import annotations

from dataclasses import replace

import pytest

from isboot.errors import ExitStatus, FirmwareError
from isboot.firmware.decode import is_checksum_ok
from isboot.firmware.encode import encode
from isboot.values import IbftControl, Secret
from tests.firmware.tables import NIC, TABLE, TARGET


def test_the_first_bytes_are_those_of_the_specification() -> None:
    raw = encode(TABLE)
    assert raw[:4] == b"iBFT"
    assert int.from_bytes(raw[4:8], "little") == len(raw)
    assert raw[8] == 1
    assert raw[10:24] == b"FENSYSiPXE\0\0\0\0"
    assert raw[48:54] == bytes([1, 1, 18, 0, 0, 0])
    assert is_checksum_ok(raw)


def test_a_pci_address_is_bus_device_function() -> None:
    raw = encode(replace(TABLE, nics=(replace(NIC, pci="04:1f.7"),)))
    nic = int.from_bytes(raw[58:60], "little")
    assert raw[nic + 96 : nic + 98] == bytes([0xFF, 0x04])


def test_more_pairs_make_the_control_structure_longer() -> None:
    targets = tuple(replace(TARGET, index=index, header_index=index) for index in range(3))
    raw = encode(replace(TABLE, control=IbftControl(1, True, 3, 0), targets=targets))
    assert raw[50:54] == bytes([22, 0, 0, 1])


@pytest.mark.parametrize(
    "table",
    [
        replace(TABLE, control=None),
        replace(TABLE, nics=(replace(NIC, index=2),)),
        replace(TABLE, targets=(replace(TARGET, chap_secret=Secret(bytes(70_000))),)),
        replace(TABLE, oem_id="SEVENTH"),
        replace(TABLE, targets=(replace(TARGET, name="iqn.2001-04.com.exämple"),)),
    ],
    ids=["no control", "more NICs than pairs", "beyond 64 KiB", "OEM too long", "not ASCII"],
)
def test_what_no_table_can_hold_is_refused(table: object) -> None:
    with pytest.raises(FirmwareError) as caught:
        encode(table)  # type: ignore[arg-type]
    assert caught.value.exit_status == ExitStatus.MALFORMED
