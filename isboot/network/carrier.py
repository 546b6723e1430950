"""Waiting for the kernel's network, woken by its events: for a NIC, for its carrier, for an address."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

Found = TypeVar("Found")


class Events(Protocol):
    """What tells of changes: rtnetlink.Rtnetlink, or a fake of the tests."""

    def wait(self, deadline: float) -> bool:
        """Wait for a change until a deadline on time.monotonic()'s clock; False when that came first."""


def wait_for(look: Callable[[], Found | None], events: Events, timeout_s: float) -> Found | None:
    """
    Look, and look again after every event, until there is something or the time is over.

    :param look: gives what is waited for, None while it is not there
    :param timeout_s: seconds; with 0 it looks once
    :return: None when the time was over first
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found is not None or not events.wait(deadline):
            return found
