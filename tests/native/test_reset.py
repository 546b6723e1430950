"""A reset by somebody else ends our tasks without a word; what is left of them is asked for soon."""

from __future__ import annotations

import time

import pytest

from isboot.engine.lane import Reason
from isboot.engine.requests import read
from tests.engine.disk import Disk
from tests.engine.harness import session, started
from tests.engine.peer import (
    CHECK_CONDITION,
    SCSI_COMMAND,
    TASK_MANAGEMENT,
    TASK_MANAGEMENT_RESPONSE,
    Peer,
    sense,
)

pytestmark = pytest.mark.native  # it needs nothing, but takes longer than a unit test may


def test_what_a_reset_swallowed_is_issued_again_long_before_its_time_out() -> None:
    agreed = session()
    disk = Disk(agreed)
    waited: list[float] = []

    def script(peer: Peer) -> None:
        swallowed, told = peer.receive(), peer.receive()
        start = time.monotonic()
        peer.respond(told, CHECK_CONDITION, sense(6, 0x29, 3))
        disk.answer(peer, peer.expect(SCSI_COMMAND))
        abort = peer.expect(TASK_MANAGEMENT)
        waited.append(time.monotonic() - start)
        assert abort.word(20) == swallowed.tag
        peer.send(TASK_MANAGEMENT_RESPONSE, tag=abort.tag, transfer_tag=0)
        disk.answer(peer, peer.expect(SCSI_COMMAND))

    with started(command_timeout_ms=60_000, nop_interval_ms=60_000) as engine:
        done = engine.ask(read(0, 512), read(512, 512))
        assert engine.play(script, agreed)[0] == Reason.IDLE
        assert (done.result(0), done.result(1)) == (512, 512)
    assert 2.9 < waited[0] < 5
