"""Our declarations of the kernel's ublk interface."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from isboot._engine import ffi, lib

HEADER = Path("/usr/include/linux/ublk_cmd.h")


@pytest.mark.parametrize(
    ("struct", "size_bytes"),
    [
        ("isboot_ublk_device_info", 64),
        ("isboot_ublk_descriptor", 24),
        ("isboot_ublk_parameters", 64),
    ],
)
def test_sizes_are_the_kernels(struct: str, size_bytes: int) -> None:
    assert ffi.sizeof(f"struct {struct}") == size_bytes


def test_every_struct_can_be_used() -> None:
    """A wrong field type in a header builds and imports cleanly, and fails on first use."""
    typedefs, structs, _unions = ffi.list_types()
    # what has a typedef of its own name is opaque, and cffi aborts the process when asked for its fields
    known = [name for name in structs if name not in typedefs]
    assert len(known) >= 10
    for name in known:
        assert ffi.sizeof(f"struct {name}") > 0


@pytest.mark.parametrize(
    "name",
    ["USER_RECOVERY", "USER_RECOVERY_REISSUE", "CMD_IOCTL_ENCODE", "USER_COPY", "ZONED"],
)
def test_feature_bits_are_the_headers(name: str) -> None:
    found = re.search(rf"#define\s+UBLK_F_{name}\s+\(1U?L?L?\s*<<\s*(\d+)\)", HEADER.read_text())
    if found is None:
        return  # this header is older than the flag: nothing to compare with
    assert getattr(lib, f"ISBOOT_UBLK_F_{name}") == 1 << int(found.group(1))


@pytest.mark.parametrize(
    ("name", "direction", "number", "size_bytes"),
    [
        ("ADD_DEV", 3, 0x04, 32),
        ("DEL_DEV", 3, 0x05, 32),
        ("START_DEV", 3, 0x06, 32),
        ("STOP_DEV", 3, 0x07, 32),
        ("SET_PARAMS", 3, 0x08, 32),
        ("GET_PARAMS", 2, 0x09, 32),
        ("GET_DEV_INFO", 2, 0x02, 32),
        ("START_USER_RECOVERY", 3, 0x10, 32),
        ("END_USER_RECOVERY", 3, 0x11, 32),
        ("GET_FEATURES", 2, 0x13, 32),
        ("UPDATE_SIZE", 3, 0x15, 32),
        ("QUIESCE_DEV", 3, 0x16, 32),
    ],
)
def test_opcodes_are_ioctl_encoded(name: str, direction: int, number: int, size_bytes: int) -> None:
    assert (
        getattr(lib, f"ISBOOT_UBLK_CMD_{name}") == direction << 30 | size_bytes << 16 | ord("u") << 8 | number
    )
