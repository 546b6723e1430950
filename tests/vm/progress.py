"""What the rig says while it works, and the one exception it raises."""

from __future__ import annotations

import sys
import time

_started = time.monotonic()


class RigError(Exception):
    """The rig itself failed: a build, a boot, a bound on a wait that ran out."""


def say(message: str) -> None:
    """One line on stderr with the seconds since the rig was loaded."""
    print(f"[{time.monotonic() - _started:6.1f}] {message}", file=sys.stderr, flush=True)
