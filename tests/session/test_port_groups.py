"""What a port that does not lead to the LUN is told as."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import ExitStatus, SessionError
from isboot.session import lun, patience, port_groups
from isboot.session.pdu import ScsiCommand
from isboot.session.port_groups import PortGroup, decode_groups
from tests.fakes.disk import Answer, Disk, designator, failure
from tests.fakes.target import FakeTarget, sense
from tests.session.sessions import session_with

RTPG = 0xA3
TEST_UNIT_READY = 0x00


def encode(groups: list[PortGroup]) -> bytes:
    """What a target sends. SPC-4 table 307."""
    body = b""
    for group in groups:
        flags = group.state | (0x80 if group.is_preferred else 0)
        body += (
            bytes([flags, 0x0F]) + group.identifier.to_bytes(2, "big") + bytes([0, 1, 0, len(group.ports)])
        )
        body += b"".join(bytes(2) + port.to_bytes(2, "big") for port in group.ports)
    return len(body).to_bytes(4, "big") + body


def in_group(identifier: int) -> bytes:
    """Page 0x83 of a port of that group. SPC-4 §7.8.6.9"""
    body = designator(1, 5, bytes(2) + identifier.to_bytes(2, "big"), association=1)
    return b"\0\x83" + len(body).to_bytes(2, "big") + body


any_group = st.builds(
    PortGroup, st.integers(0, 0xFFFF), st.integers(0, 15), st.booleans(),
    st.lists(st.integers(0, 0xFFFF), max_size=5).map(tuple),
)  # fmt: skip


@given(st.lists(any_group, max_size=5))
def test_what_a_target_reports_is_read(groups: list[PortGroup]) -> None:
    assert decode_groups(encode(groups)) == tuple(groups)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_as_far_as_they_go(data: bytes) -> None:
    assert len(decode_groups(data)) <= len(data) // 8


def complaint(
    state: tuple[int, int, int], answers: dict[int, object], pages: dict[int, bytes]
) -> SessionError:
    disk = Disk(answers=answers, pages=pages)  # type: ignore[arg-type]
    with FakeTarget(disk=disk, unit_attentions=[]) as target, session_with(target) as control:
        target.on(ScsiCommand, sense(*state), times=None, when=lambda one: one.cdb[0] == TEST_UNIT_READY)
        with pytest.raises(SessionError) as caught:
            lun.wait_until_ready(control)
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    return caught.value


TWO = encode([PortGroup(1, 2, False, (1,)), PortGroup(2, 0, True, (5, 6))])


def test_a_standby_port_names_its_group_and_one_that_is_active() -> None:
    error = complaint((2, 4, 0x0B), {RTPG: lambda cdb: Answer(data=TWO)}, {0x83: in_group(1)})
    assert error.message.endswith(
        "LUN 1 cannot be reached here: its port group 1 is standby: "
        "NOT READY, target port in standby state (2/04/0b)"
    )
    assert error.hint == (
        "make this port group active at the target, or take a portal of group 2 (active/optimized, port 5, 6)"
    )


@pytest.mark.parametrize(("number", "name"), [(3, "unavailable"), (0xE, "offline"), (9, "in state 0x9")])
def test_the_only_group_is_ours_whatever_page_83_says(number: int, name: str) -> None:
    only = encode([PortGroup(7, number, False, ())])
    error = complaint((2, 4, 0x0C), {RTPG: lambda cdb: Answer(data=only)}, {0x83: b"\0\x83\0\0"})
    assert f"its port group 7 is {name}: NOT READY, target port in unavailable state" in error.message
    assert error.hint == "make this port group active at the target"


def test_a_target_that_reports_no_groups_is_told_by_its_sense() -> None:
    error = complaint((2, 4, 0x0B), {RTPG: lambda cdb: failure(5, 0x20, 0)}, {})
    assert "cannot be reached here: NOT READY, target port in standby state" in error.message


def test_a_transition_without_end_is_told_with_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_INTERVAL_S", 0.001)
    monkeypatch.setattr(patience, "READY_TIMEOUT_S", 0.02)
    turning = encode([PortGroup(1, 0xF, False, (1,))])
    error = complaint((2, 4, 0x0A), {RTPG: lambda cdb: Answer(data=turning)}, {0x83: in_group(1)})
    assert "its port group 1 is transitioning between states: NOT READY, asymmetric" in error.message


def test_the_question_goes_past_unit_attentions() -> None:
    with FakeTarget(unit_attentions=[(6, 0x29, 0), (6, 0x2A, 6)]) as target, session_with(target) as control:
        target.disk.answers[RTPG] = lambda cdb: Answer(data=TWO)
        assert [group.state_name for group in port_groups.groups(control)] == ["standby", "active/optimized"]
