"""LUNs of every kind at real targets: tgt and istgt on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isboot.config.lun import parse_lun
from isboot.errors import ExitStatus, SessionError
from isboot.session import inventory, lun, reservation
from isboot.values import LunFacts, format_lun
from tests.native import reserve
from tests.native.targets import Istgt, Tgtd, missing

pytestmark = pytest.mark.native

KEY = 0xABC1230000000001
BLOCK = 512


@pytest.fixture
def tgtd(tmp_path: Path) -> Iterator[Tgtd]:
    """A tgtd with one target and no LUN but its controller, 0."""
    if reason := missing("tgtd"):
        pytest.skip(reason)
    with Tgtd(tmp_path / "tgtd") as target:
        target.add_target("disk0")
        yield target


def url(target: Tgtd | Istgt, number: str = "1") -> str:
    return f"iscsi://127.0.0.1:{target.port}/iqn.2026-11.org.example:disk0/{number}"


def look(where: str) -> LunFacts:
    with reserve.session_of(where, "iqn.2026-11.org.example:host") as control:
        facts = lun.inspect(control)
        control.logout()
        return facts


def refusal(where: str) -> SessionError:
    with pytest.raises(SessionError) as caught:
        look(where)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("number", ["255", "256", "300", "16383"])
def test_a_lun_is_found_by_its_number(tgtd: Tgtd, number: str) -> None:
    tgtd.add_lun(1, int(number), size_bytes=8 << 20)
    facts = look(url(tgtd, number))
    assert format_lun(facts.lun) == number
    assert facts.capacity_blocks == (8 << 20) // BLOCK
    # and so it is by the bytes that are on the wire
    assert look(url(tgtd, parse_lun(number).hex())) == facts


def test_disks_are_told_from_controllers(tgtd: Tgtd) -> None:
    for number in (1, 300, 7):
        tgtd.add_lun(1, number, size_bytes=8 << 20)
    with reserve.session_of(url(tgtd)) as control:
        assert sorted(map(format_lun, inventory.list_luns(control))) == ["0", "1", "300", "7"]
        assert sorted(map(format_lun, inventory.list_disks(control))) == ["1", "300", "7"]


@pytest.mark.parametrize(
    "size_bytes",
    [(2 << 40) - BLOCK, (2 << 40) + BLOCK, (16 << 40) - (1 << 30)],
    ids=["2-TiB-less-a-block", "2-TiB-and-a-block", "nearly-16-TiB"],
)
def test_capacity_is_told_to_the_block(tgtd: Tgtd, size_bytes: int) -> None:
    tgtd.add_lun(size_bytes=size_bytes)
    assert look(url(tgtd)).capacity_blocks == size_bytes // BLOCK


def test_a_lun_without_a_medium_has_no_capacity(tgtd: Tgtd) -> None:
    tgtd.add_lun(size_bytes=0)
    error = refusal(url(tgtd))
    assert error.message.endswith("LUN 1: its capacity is 0")
    assert error.exit_status is ExitStatus.UNAVAILABLE


@pytest.mark.parametrize("block_bytes", [256, 8192])
def test_blocks_no_kernel_takes_are_refused(tgtd: Tgtd, block_bytes: int) -> None:
    # no target we have makes blocks of 520 bytes: tests/session/test_lun.py has those
    tgtd.add_lun(size_bytes=8 << 20, block_size_bytes=block_bytes)
    error = refusal(url(tgtd))
    assert f"LUN 1: its block size is {block_bytes}; usable are 512, 1024, 2048, 4096" in error.message
    assert error.exit_status is ExitStatus.UNAVAILABLE


@pytest.mark.parametrize(("exponent", "physical"), [("0", 512), ("3", 4096)])
def test_512e_is_told(tgtd: Tgtd, exponent: str, physical: int) -> None:
    tgtd.add_lun(size_bytes=8 << 20, lbppbe=exponent)
    facts = look(url(tgtd))
    assert (facts.block_size_bytes, facts.physical_block_size_bytes) == (512, physical)


def test_a_read_only_lun_is_told(tgtd: Tgtd) -> None:
    tgtd.add_lun(size_bytes=8 << 20, readonly="1")
    assert look(url(tgtd)).is_read_only


@pytest.mark.parametrize("kind", [1, 3, 5, 6, 7, 8])
def test_a_reservation_at_tgt_is_told_with_its_key(tgtd: Tgtd, kind: int) -> None:
    tgtd.add_lun(size_bytes=8 << 20)
    with reserve.held(url(tgtd), KEY, kind):
        error = refusal(url(tgtd))
    assert error.exit_status is ExitStatus.TRY_AGAIN
    assert error.message.endswith(f"{reservation.TYPES[kind]}, key 0x{KEY:016x}")
    assert look(url(tgtd)).capacity_blocks


def test_a_reservation_of_scsi_2_is_told_without_a_key(tgtd: Tgtd) -> None:
    tgtd.add_lun(size_bytes=8 << 20)
    with reserve.held_by_reserve_6(url(tgtd)):
        with (
            pytest.raises(SessionError) as caught,
            reserve.session_of(url(tgtd), "iqn.2026-11.org.example:x"),
        ):
            pass
        assert "LUN 1 is reserved by another initiator: TEST UNIT READY" in caught.value.message
        assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    assert look(url(tgtd)).capacity_blocks


def test_a_reservation_at_istgt_is_told_with_its_holder(tmp_path: Path) -> None:
    if reason := missing("istgt"):
        pytest.skip(reason)
    with Istgt(tmp_path / "istgt") as target:
        with reserve.held(url(target, "0"), KEY, 3):
            error = refusal(url(target, "0"))
        assert error.exit_status is ExitStatus.TRY_AGAIN
        assert f"exclusive access, key 0x{KEY:016x}" in error.message
        assert f"reserved by {reserve.HOLDER}" in error.message
