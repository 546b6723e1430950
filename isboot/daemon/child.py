"""A process the launcher forked, or found: what it knows of it, and how it ended."""

from __future__ import annotations

import os
from dataclasses import dataclass

from isboot.daemon.channel import Channel


@dataclass(slots=True)
class Child:
    """A forked process: its role is "worker" or "standby"."""

    role: str
    pid: int
    pidfd: int
    channel: Channel
    began: float
    is_dead: bool = False
    is_silent: bool = False  #: it closed its end of the channel


def reap(child: Child) -> str:
    """Take note of a child's end; how it ended, in words."""
    try:
        result = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
    except ChildProcessError:
        return "adopted"  # not our fork: init reaps it
    if result is None or result.si_code != os.CLD_EXITED:
        return f"signal {result.si_status if result else 0}"
    return f"exit status {result.si_status}" if result.si_status else "by itself"
