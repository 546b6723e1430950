"""Which LUNs there are, whoever has to be asked for them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from isboot.session import inventory
from isboot.session.pdu import DataIn, ScsiCommand
from tests.fakes.disk import Disk
from tests.fakes.target import LUN_1, FakeTarget, sense
from tests.session.sessions import session_with

LUN_7 = bytes([0, 7]) + bytes(6)
EXTENDED = bytes.fromhex("d200400000000000")
REPORT_LUNS = 0xA0


def asked(target: FakeTarget) -> list[str]:
    """Give the LUNs that were asked for the list, in order."""
    return [one.lun.hex()[:4] for one in target.received(ScsiCommand) if one.cdb[0] == REPORT_LUNS]


def test_luns_of_every_form_are_listed_in_one_order() -> None:
    with FakeTarget(luns={LUN_1: Disk(), EXTENDED: Disk()}) as target, session_with(target) as control:
        answer = (16).to_bytes(4, "big") + bytes(4) + EXTENDED + LUN_1
        target.alter(DataIn, lambda message: replace(message, data=answer))
        assert inventory.list_luns(control) == [LUN_1, EXTENDED]
        assert asked(target) == ["0000"]


@pytest.mark.parametrize(
    ("silent", "order"),
    [
        (["0000"], ["0000", "c101"]),
        (["0000", "c101"], ["0000", "c101", "0001"]),
    ],
)
def test_where_lun_0_does_not_list_another_does(silent: list[str], order: list[str]) -> None:
    wellknown = {inventory.WELL_KNOWN_REPORT_LUNS: Disk()}
    with FakeTarget(luns={LUN_1: Disk(), **wellknown}) as target, session_with(target) as control:
        target.on(
            ScsiCommand, sense(5, 0x25, 0), times=None,
            when=lambda one: one.cdb[0] == REPORT_LUNS and one.lun.hex()[:4] in silent,
        )  # fmt: skip
        assert LUN_1 in inventory.list_luns(control)
        assert asked(target) == order


def test_where_nobody_lists_there_is_no_list() -> None:
    with FakeTarget() as target, session_with(target) as control:
        target.on(ScsiCommand, sense(5, 0x20, 0), times=None, when=lambda one: one.cdb[0] == REPORT_LUNS)
        assert inventory.list_luns(control) == []
        assert len(asked(target)) == 3


def test_more_luns_than_were_asked_for_are_asked_for_again() -> None:
    many = {number.to_bytes(2, "big") + bytes(6): Disk(capacity_blocks=1) for number in range(0x4100, 0x4300)}
    with FakeTarget(luns=many) as target, session_with(target, lun=next(iter(many))) as control:
        assert inventory.list_luns(control) == list(many)
        assert len(asked(target)) == 2


def test_only_disks_are_disks() -> None:
    there = {
        bytes(8): Disk(peripheral=0x0C), LUN_1: Disk(), LUN_7: Disk(peripheral=0x20), EXTENDED: Disk(),
        inventory.WELL_KNOWN_REPORT_LUNS: Disk(peripheral=0x1E),
    }  # fmt: skip
    with FakeTarget(luns=there) as target, session_with(target) as control:
        assert inventory.list_disks(control) == [LUN_1, EXTENDED]


def test_report_luns_is_believed_as_far_as_it_came() -> None:
    too_long, too_short = b"\xff\xff\xff\xff" + bytes(4), b"\0\0\0\x08" + bytes(4)
    lies = [too_long + LUN_1 + LUN_7 + b"\0\1", too_short + LUN_1 + LUN_7, b"abc"]
    found = []
    for lie in lies:
        with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
            target.alter(DataIn, lambda message, lie=lie: replace(message, data=lie), times=None)
            found.append(inventory.list_luns(control))
    assert found == [[LUN_1, LUN_7], [LUN_1], []]
