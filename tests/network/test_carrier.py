"""Waiting looks at the state, never at the event."""

from isboot.network.carrier import wait_for


class ScriptedEvents:
    """Events as a list of what `wait` returns; asking for more than there are fails the test."""

    def __init__(self, *happens: bool) -> None:
        self.happens = list(happens)

    def wait(self, deadline: float) -> bool:
        return self.happens.pop(0)


def test_what_is_there_already_needs_no_event() -> None:
    assert wait_for(lambda: "nic", ScriptedEvents(), 10) == "nic"


def test_looks_again_after_every_event() -> None:
    seen = iter([None, None, "nic"])
    assert wait_for(lambda: next(seen), ScriptedEvents(True, True), 10) == "nic"


def test_gives_none_when_the_time_is_over() -> None:
    assert wait_for(lambda: None, ScriptedEvents(True, False), 10) is None


def test_falsy_finding_is_a_finding() -> None:
    assert wait_for(lambda: 0, ScriptedEvents(), 10) == 0
