"""What the demo prints: one line for each thing that happens, with the clock of the side it happens on."""

from __future__ import annotations

import time


class Story:
    """
    The teller. Lines of this machine carry the seconds since the demo began, lines of the guest the
    guest's own seconds since its kernel started.

    :ivar stage: what is being done now; a failure is named after it
    """

    def __init__(self) -> None:
        self.stage = "start"
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began

    def begin(self, stage: str) -> None:
        """Enter a stage."""
        self.stage = stage

    def here(self, text: str) -> None:
        """Tell what happened on this machine."""
        self._line("here", self.seconds, text)

    def guest(self, seconds: float, text: str) -> None:
        """Tell what happened in the guest."""
        self._line("guest", seconds, text)

    def output(self, text: str) -> None:
        """Show what a command wrote."""
        for line in text.rstrip().splitlines():
            print(f"        | {line}", flush=True)

    def wait(self, what: str, seconds: float) -> None:
        """Say that nothing has happened for a while."""
        print(f"        ... {what}: {seconds:.0f} s so far", flush=True)

    def _line(self, side: str, seconds: float, text: str) -> None:
        print(f"{side:>5} {seconds:9.3f}  {self.stage:<11} {text}", flush=True)
