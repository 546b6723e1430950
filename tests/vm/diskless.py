"""
The boot of a diskless machine as its console tells it: landmarks in order, each with the guest's own time.

A boot that stops says where: the stage whose landmark did not come, or the one isboot itself named.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.vm.progress import RigError
from tests.vm.qemu import Qemu

#: a line of the kernel's log: seconds since it started, text; escape sequences of a terminal may come before
LINE = re.compile(r"\[ *(\d+\.\d{6})\] (.*)$")


@dataclass(frozen=True)
class Landmark:
    """
    A line of the console that ends a stage.

    :ivar pattern: what the kernel's log says, after the time stamp
    :ivar told: what a reader is told, {0} being the pattern's first group
    :ivar timeout_s: how long after the landmark before it, in emulation
    """

    stage: str
    pattern: str
    told: str
    timeout_s: float


BOOT = (
    Landmark("kernel", r"Linux version (\S+)", "Linux {0}, loaded from the LUN by GRUB", 120),
    Landmark("table", r"isboot: table: (.+)", "table: {0}", 60),
    # isboot gives a carrier a minute: spanning tree alone may take 50 s
    Landmark("nic", r"isboot: NIC: (.+)", "NIC: {0}", 75),
    Landmark("target", r"isboot: login: (.+)", "login: {0}", 30),
    Landmark("lun", r"isboot: device: (.+)", "device: {0}", 30),
    Landmark("root", r"EXT4-fs \((ublkb\w+)\): mounted filesystem", "root mounted from /dev/{0}", 60),
    Landmark("switch_root", r"systemd\[1\]: systemd (\S+) .*running in system mode",
             "switch_root: systemd {0} runs from it", 60),
)  # fmt: skip

#: isboot gives up, and where; or nothing at all will come any more
GIVEN_UP = re.compile(r"isboot: boot failed at (\w*): (.*)|(Kernel panic .*)|.*(emergency mode).*")

#: isboot's stages in the words of the landmarks
STAGES = {"firmware": "table", "config": "table", "network": "nic", "session": "target", "block": "lun"}


@dataclass(frozen=True)
class Reached:
    """A landmark, when the guest was there, and what the pattern's group held."""

    landmark: Landmark
    seconds: float
    words: str


class BootError(RigError):
    """The boot stopped. `stage` is a landmark's; `said` holds isboot's lines since the landmark before."""

    def __init__(self, stage: str, message: str, said: Sequence[str]) -> None:
        super().__init__(f"{stage}: {message}" + "".join(f"\n    {line}" for line in said))
        self.stage = stage
        self.message = message
        self.said = list(said)


class Console:
    """The console's complete lines, each once."""

    def __init__(self, qemu: Qemu) -> None:
        self.qemu = qemu
        self._position = 0

    def lines(self) -> Iterator[str]:
        """Give what has come since the last call."""
        text = self.qemu.text()
        end = text.rfind("\n") + 1
        new, self._position = text[self._position : end], max(end, self._position)
        yield from new.splitlines()

    def log(self) -> Iterator[tuple[float, str]]:
        """Give the kernel's log among them: seconds, text."""
        for line in self.lines():
            found = LINE.search(line)
            if found:
                yield float(found[1]), found[2]


def follow(
    qemu: Qemu,
    landmarks: Sequence[Landmark] = BOOT,
    on_silence: Callable[[Landmark, float], None] = lambda landmark, waited_s: None,
) -> Iterator[Reached]:
    """
    Give each landmark as it is reached.

    :param on_silence: called with what is waited for, and for how long, every ten seconds
    :raises BootError: one did not come in its time, isboot gave up, or QEMU ended
    """
    console = Console(qemu)
    pending: list[tuple[float, str]] = []
    for landmark in landmarks:
        compiled = re.compile(landmark.pattern)
        began = time.monotonic()
        reminded = 0
        said: list[str] = []
        while True:
            is_alive = qemu.service.is_alive
            pending = pending or list(console.log())
            reached = None
            while pending and reached is None:
                seconds, text = pending.pop(0)
                found = compiled.match(text)
                if found:
                    reached = Reached(landmark, seconds, found[1] if found.groups() else "")
                elif text.startswith("isboot: "):
                    said.append(text)
                _check(landmark, text, said)
            if reached:
                yield reached
                break
            waited_s = time.monotonic() - began
            if not is_alive:
                raise BootError(landmark.stage, "the machine ended", said)
            if waited_s > landmark.timeout_s:
                raise BootError(
                    landmark.stage, f"nothing of it on the console within {landmark.timeout_s:g} s", said
                )
            if waited_s >= (reminded + 1) * 10:
                reminded += 1
                on_silence(landmark, waited_s)
            time.sleep(0.05)


def _check(landmark: Landmark, text: str, said: Sequence[str]) -> None:
    gave_up = GIVEN_UP.match(text)
    if not gave_up:
        return
    stage = STAGES.get(gave_up[1] or "", landmark.stage)
    # a session that fails after its login fails at the LUN
    if stage == "target" and landmark.stage == "lun":
        stage = "lun"
    raise BootError(stage, gave_up[2] or gave_up[3] or gave_up[4], [line for line in said if line != text])
