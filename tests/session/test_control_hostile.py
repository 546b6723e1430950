"""Whatever a target sends in the full feature phase: an answer or an error, never a traceback."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import SessionError
from isboot.session import fence, inventory, lun, pdu
from isboot.session.control import Control
from isboot.values import NegotiatedSession, Portal
from tests.fakes.target import LUN_1


def session(fd: int) -> NegotiatedSession:
    return NegotiatedSession(
        fd=fd, portal=Portal("192.0.2.1"), target_name="iqn.2026-11.org.example:t", isid=bytes(6), tsih=1,
        target_portal_group_tag=1, cid=1, lun=LUN_1, cmd_sn=1, exp_stat_sn=1, max_cmd_sn=64,
        header_digest=False, data_digest=False, max_recv_data_segment_length_bytes=4096,
        max_send_data_segment_length_bytes=8192,
        first_burst_length_bytes=65536, max_burst_length_bytes=262144, initial_r2t=True, immediate_data=True,
        max_outstanding_r2t=1, time2wait_s=2, time2retain_s=0,
    )  # fmt: skip


opcodes = st.sampled_from([0x20, 0x21, 0x22, 0x24, 0x25, 0x26, 0x31, 0x32, 0x3F])
small = st.integers(0, 3)


@st.composite
def plausible(draw: st.DrawFn) -> bytes:
    """Give a PDU that gets past the first checks often: right task, right StatSN, short data."""
    header = bytearray(draw(st.binary(min_size=48, max_size=48)))
    data = draw(st.binary(max_size=64))
    header[0], header[4], header[5:8] = draw(opcodes), 0, len(data).to_bytes(3, "big")
    for offset, value in ((16, small), (24, small), (36, small), (40, small)):
        if draw(st.integers(0, 4)):
            header[offset : offset + 4] = draw(value).to_bytes(4, "big")
    return bytes(header) + data + bytes(-len(data) % 4)


wires = st.lists(plausible(), max_size=6).map(b"".join) | st.binary(max_size=200)


@given(wires, st.sampled_from(["inspect", "fence", "list", "logout"]))
def test_any_bytes_are_an_answer_or_an_error(wire: bytes, what: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(wire)
        theirs.shutdown(socket.SHUT_WR)
        control = Control(ours, session(ours.fileno()), timeout_ms=1000)
        act = {
            "inspect": lambda: lun.inspect(control),
            "fence": lambda: fence.fence(control, LUN_1),
            "list": lambda: inventory.list_luns(control),
            "logout": control.logout,
        }[what]
        complaint = ""
        try:
            act()
        except SessionError as error:
            complaint = error.message + error.hint
        assert complaint.isprintable()


def test_the_plausible_answer_itself_is_taken() -> None:
    # If nothing ever got through, the property above would show nothing.
    answer = pdu.encode(pdu.LogoutResponse(initiator_task_tag=1, stat_sn=1))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(answer)
        Control(ours, session(ours.fileno()), timeout_ms=1000).logout()
