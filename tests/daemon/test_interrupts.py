"""^C at a launcher in the foreground."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from isboot.daemon.interrupts import SIGNALS, Interrupts, Terminal
from isboot.daemon.log import Log
from isboot.errors import ExitStatus


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    made = Interrupts()
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def is_readable(interrupts: Interrupts) -> bool:
    return bool(select.select([interrupts], [], [], 0)[0])


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_makes_it_readable_until_it_is_taken(interrupts: Interrupts, number: int) -> None:
    assert not is_readable(interrupts)
    os.kill(os.getpid(), number)
    os.kill(os.getpid(), number)
    assert is_readable(interrupts)
    interrupts.take()
    assert not is_readable(interrupts)
    os.close(interrupts.fileno())


def test_a_child_ignores_what_ends_the_launcher(interrupts: Interrupts) -> None:
    interrupts.ignore_in_child()
    assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}


def test_a_refusal_is_said_with_what_becomes_of_the_device(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(Log(to_kernel=False))
    terminal.refuse("detaching /dev/ublkb0: busy", "umount it", ExitStatus.TRY_AGAIN)
    terminal.refuse("ending ublkb0: it is gone", "look", ExitStatus.FAILED)
    terminal.answer(ok=True, warning="not flushed")
    assert capsys.readouterr().err.splitlines() == [
        "isboot: detaching /dev/ublkb0: busy; the device stays (hint: umount it)",
        "isboot: ending ublkb0: it is gone (hint: look)",
        "isboot: not flushed",
    ]
