"""
How far a boot has come: the marks it leaves for `isboot boot-report`, and the summary when it fails.

A step that is reached is one line of a file under /run, which survives switch_root, in seconds of the
monotonic clock: the kernel's start is its zero.  Only the first start of a device is marked: on the recovery
road nothing is written.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from isboot.daemon.log import Level, Log
from isboot.errors import ExitStatus, IsbootError

FILE = Path("/run/isboot/marks")
MAX_LINES = 200  #: a boot that tries for days must not fill /run
STILL_S = 60.0  #: between two summaries of the same trouble


@dataclass(frozen=True, slots=True)
class Step:
    """
    :ivar label: as people read it
    :ivar told: what has happened once it is reached
    """

    name: str
    label: str
    told: str


#: in the order a boot takes them
STEPS = (
    Step("start", "start", "the kernel and the initramfs have started isboot"),
    Step("python", "python", "isboot's world is in memory, Python runs"),
    Step("table", "table", "what to boot from is known"),
    Step("nic", "NIC", "a driver has found the NIC"),
    Step("carrier", "carrier", "the NIC has its link"),
    Step("address", "address", "address and routes are in place"),
    Step("connect", "connect", "the portal answers on TCP"),
    Step("login", "login", "the target has let us in"),
    Step("lun", "LUN", "the LUN is there and ready"),
    Step("device", "device", "the block device is live"),
    Step("root", "root", "the root file system is mounted"),
)
NAMES = tuple(step.name for step in STEPS)
LABELS = {step.name: step.label for step in STEPS}
#: an attempt that begins with a step can fail up to another one
ENDS = {"nic": "address", "connect": "device"}
#: a failed boot tells from here on: what comes before has worked if there is somebody to tell
TOLD = STEPS[NAMES.index("table") :]


@dataclass(frozen=True, slots=True)
class Mark:
    """
    :ivar seconds: since the kernel's start
    :ivar step: the one that was reached; where there is a failure, the one that was not
    :ivar failure: what came instead, or ""
    """

    seconds: float
    step: str
    words: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True)
class _Failure:
    step: str
    message: str
    before: dict[str, Mark]


class Timeline:
    """
    :param path: where the marks are written; None: nowhere, and nothing but the summary is kept
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lines = 0
        self._reached: dict[str, Mark] = {}
        self._end = NAMES[-1]  #: how far the attempt of now can come
        self._failures: list[_Failure] = []
        self._told = ("", 0.0)

    @classmethod
    def of_boot(cls, path: Path = FILE) -> Timeline:
        """Begin the marks of this boot; those of a device that lives already are left alone."""
        if any(mark.step == "device" and not mark.failure for mark in read(path)):
            return cls()
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.unlink(missing_ok=True)
        except OSError:
            return cls()  # not root: the boot itself will say so
        made = cls(path)
        made.reach("start", "", started_at_s())
        made.reach("python")
        return made

    def reach(self, step: str, words: str = "", at_s: float | None = None) -> None:
        """Mark a step. The first mark of an attempt counts: of several NICs one is enough."""
        if step in self._reached:
            return
        mark = Mark(time.monotonic() if at_s is None else at_s, step, " ".join(words.split()))
        self._reached[step] = mark
        self._write(mark)

    def attempt(self, step: str) -> None:
        """Begin to try, again or by another path: this step and those after it are taken back."""
        place = NAMES.index(step)
        self._reached = {name: mark for name, mark in self._reached.items() if NAMES.index(name) < place}
        self._end = ENDS.get(step, NAMES[-1])

    def resume(self) -> None:
        """Take over what another process has marked since it was forked from this one."""
        if self._path is not None:
            marks = read(self._path)
            self._reached = {mark.step: mark for mark in marks if not mark.failure}
            self._lines = len(marks)
        self._failures.clear()
        self._end = NAMES[-1]

    def fail(self, message: str) -> None:
        """Note what came instead of the next step of this attempt."""
        self._note(message, self._end)

    def _note(self, message: str, end: str) -> None:
        last = max((NAMES.index(name) for name in self._reached), default=0)
        step = NAMES[min(max(last + 1, NAMES.index("table")), NAMES.index(end))]
        line = " ".join(message.split())
        self._failures = [one for one in self._failures if one.message != line][-7:]
        self._failures.append(_Failure(step, line, dict(self._reached)))
        self._write(Mark(time.monotonic(), step, "", line))

    def end_round(self) -> None:
        """Forget the failures of the attempts so far: another round over all NICs or paths begins."""
        self._failures.clear()

    def is_worth_telling(self, message: str) -> bool:
        """Whether a summary of this trouble is due: it is new, or has lasted since the last one."""
        last, when = self._told
        return last != message or time.monotonic() - when >= STILL_S

    def summary(self, message: str) -> list[str]:
        """
        Give every step with how it went, the one that failed with its cause.

        :param message: the failure to be told; those of other NICs and paths are named after it
        """
        self._told = (message, time.monotonic())
        line = " ".join(message.split())
        if not any(one.message == line for one in self._failures):
            self._note(message, NAMES[-1])
        chosen = next(one for one in self._failures if one.message == line)
        before = chosen.before
        lines = []
        last_s = before["python"].seconds if "python" in before else None
        for step in TOLD:
            mark = before.get(step.name)
            if mark is not None and step.name != chosen.step:
                took = "" if last_s is None else f" after {mark.seconds - last_s:.1f} s"
                lines.append(f"  {step.label:8} ok{took}{': ' if mark.words else ''}{mark.words}")
                last_s = mark.seconds
            elif step.name == chosen.step:
                lines.append(f"  {step.label:8} FAILED")
            else:
                lines.append(f"  {step.label:8} -")
        others = [one for one in self._failures if one is not chosen]
        return lines + [f"  also at {LABELS[one.step]}: {one.message}" for one in others]

    def _write(self, mark: Mark) -> None:
        if self._path is None or self._lines >= MAX_LINES:
            return
        self._lines += 1
        row: dict[str, object] = {"at_s": round(mark.seconds, 6), "step": mark.step}
        row |= {"words": mark.words} if mark.words else {}
        row |= {"failure": mark.failure} if mark.failure else {}
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, json.dumps(row).encode() + b"\n")
            finally:
                os.close(descriptor)
        except OSError:
            self._path = None  # a boot without a report is better than no boot


def read(path: Path = FILE) -> list[Mark]:
    """Give the marks of a boot in the order they were made; a line that is none is left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    marks = []
    for line in lines:
        try:
            row = json.loads(line)
            mark = Mark(
                float(row["at_s"]), str(row["step"]), str(row.get("words", "")), str(row.get("failure", ""))
            )
        except (ValueError, KeyError, TypeError):
            continue
        if mark.step in NAMES:
            marks.append(mark)
    return marks


def started_at_s() -> float:
    """When the service manager made this process, in seconds since the kernel's start (to 10 ms)."""
    text = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    # field 22 of proc_pid_stat(5); exec() does not change it, so the world's making is counted
    return int(text[text.rindex(")") + 2 :].split()[19]) / os.sysconf("SC_CLK_TCK")


def tell(
    log: Log, timeline: Timeline, error: IsbootError, stage: str, *, verb: str = "failed", is_final: bool
) -> None:
    """
    Say on the console where a boot stopped: the cause, what to do about it, then every step.

    :param stage: where the error names none
    :param verb: "failed", or "waits" for what is expected to pass
    """
    lines = [f"boot {verb} at {error.stage or stage}: {' '.join(error.message.split())}"]
    lines += [f"hint: {error.hint}"] if error.hint else []
    lines += timeline.summary(error.message)
    if is_final:
        meaning = ExitStatus(error.exit_status).name.lower().replace("_", " ")
        lines.append(f"exit status {int(error.exit_status)} ({meaning}): nothing is tried again")
    else:
        lines.append("trying again")
    log.say_table(lines, Level.ERROR)
    error.is_told = True
