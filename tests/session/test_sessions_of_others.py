"""A target that grants each initiator name one session: the firmware's stands in the way until it is gone."""

from __future__ import annotations

import pytest

from isboot.errors import ExitStatus
from isboot.session.status import LoginRefused
from tests.fakes.target import FakeTarget
from tests.session.sessions import QUICK, connected, log_in, path_to

FIRMWARES = bytes([0x80, 0xF1, 0, 0, 0, 1])


def test_the_firmwares_session_keeps_us_out_until_it_ends() -> None:
    with FakeTarget(max_sessions=1) as target:
        with connected(target) as firmware:
            log_in(firmware, path_to(target), QUICK, FIRMWARES)
            with connected(target) as sock, pytest.raises(LoginRefused) as caught:
                log_in(sock, path_to(target))
            assert "too many connections (class 2, detail 6)" in caught.value.message
            assert "the firmware's for example" in caught.value.hint
            assert caught.value.exit_status is ExitStatus.TRY_AGAIN
        target.wait(lambda: all(connection.is_closed for connection in target.connections))
        with connected(target) as sock:
            log_in(sock, path_to(target))


def test_our_own_session_of_before_does_not() -> None:
    # The same ISID takes its place (RFC 7143 §6.3.5).
    with FakeTarget(max_sessions=1) as target, connected(target) as old, connected(target) as new:
        log_in(old, path_to(target))
        log_in(new, path_to(target))
