"""What launcher and children say to each other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from isboot.daemon.channel import Channel, Failed, Live, Request, wait_readable
from isboot.errors import ExitStatus, SessionError
from tests.block.test_parameters import LUN


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_message_arrives_as_it_was_sent(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.send(Live(0, 1, 128, LUN))
    assert ours.receive() == Live(0, 1, 128, LUN)


def test_messages_do_not_run_together(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.send(Request("claim"))
    theirs.send(Request("finish"))
    assert [ours.receive(), ours.receive()] == [Request("claim"), Request("finish")]


def test_an_end_that_is_gone_reads_as_none_and_takes_messages_silently(
    pair: tuple[Channel, Channel],
) -> None:
    ours, theirs = pair
    theirs.close()
    ours.send(Failed("x", "", 1))
    assert ours.receive() is None


def test_waiting_tells_which_is_readable(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.send(Request("flush"))
    assert wait_readable([ours.fileno(), theirs.fileno()], 0) == [ours.fileno()]


def test_an_error_keeps_its_stage_on_the_way_to_whoever_asked(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    theirs.send(Failed.of(SessionError("login refused", "see the ACL", ExitStatus.NOT_PERMITTED)))
    failed = ours.receive()
    assert isinstance(failed, Failed)
    error = failed.as_error()
    assert (error.stage, error.message, error.hint) == ("session", "login refused", "see the ACL")
    assert error.exit_status is ExitStatus.NOT_PERMITTED
    assert Failed("it ended", "", 1).as_error().stage == "daemon"
