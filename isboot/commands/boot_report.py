"""isboot boot-report: the steps of the boot and the time each took, as a drawing or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isboot import __version__
from isboot.daemon.timeline import FILE, LABELS, NAMES, Mark, read
from isboot.errors import DaemonError, ExitStatus
from isboot.units import format_bytes

NAME = "boot-report"
HELP = "what the boot did, and how long each step took"
EXAMPLE = "isboot boot-report"

WIDTH = 44  #: columns of the drawing
BLOCKS = " ▏▎▍▌▋▊▉█"  #: eighths of a column
SIZE_FILE = Path("/run/isboot/size")  #: by tools/initramfs/fill
SYSTEMD = {"initrd": "InitRDTimestampMonotonic", "userspace": "UserspaceTimestampMonotonic"}


@dataclass(frozen=True, slots=True)
class Taken:
    """
    One step of the boot.

    :ivar at_s: when it was reached, in seconds since the kernel's start
    :ivar took_s: since the step before it
    :ivar failures: attempts that failed on the way to it, each as [seconds, message]
    """

    step: str
    at_s: float
    took_s: float
    words: str
    failures: tuple[tuple[float, str], ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(arguments: argparse.Namespace) -> ExitStatus:
    if os.geteuid() != 0:
        raise DaemonError("reporting the boot: not permitted", "run it as root", ExitStatus.NOT_PERMITTED)
    marks = read(FILE)
    if not marks:
        raise DaemonError(
            f"reporting the boot: {FILE} holds no marks",
            "this machine was not booted by isboot, or by a version that left none",
            ExitStatus.NOTHING_THERE,
        )
    document = report(marks, systemd_times(), initramfs())
    print(json.dumps(document, indent=1) if arguments.json else "\n".join(draw(document)))
    return ExitStatus.FINE


def taken(marks: list[Mark]) -> list[Taken]:
    """
    Give the steps in their order, each by the attempt that led on.

    What failed before a step was reached for good is told with the step it failed at.
    """
    last: dict[str, Mark] = {}
    failures: dict[str, list[tuple[float, str]]] = {}
    for mark in marks:
        if mark.failure:
            failures.setdefault(mark.step, []).append((mark.seconds, mark.failure))
            continue
        last[mark.step] = mark
    found = []
    before_s = 0.0
    for name in NAMES:
        mark = last.get(name, Mark(before_s, ""))
        if not mark.step:
            continue
        # of two NICs or paths the later one's marks were taken back in favour of this step's
        at_s = max(mark.seconds, before_s)
        found.append(Taken(name, at_s, at_s - before_s, mark.words, tuple(failures.get(name, ()))))
        before_s = at_s
    return found


def report(
    marks: list[Mark], systemd: dict[str, float | None], size: dict[str, int | None]
) -> dict[str, Any]:
    """Give the document of `--json`: no key is ever missing; what is not known is null."""
    steps = taken(marks)
    at = {step.step: step.at_s for step in steps}

    def between(first: str, last: str) -> float | None:
        return round(at[last] - at[first], 6) if first in at and last in at else None

    return {
        "version": __version__,
        "steps": [
            asdict(step)
            | {"at_s": round(step.at_s, 6), "took_s": round(step.took_s, 6)}
            | {"failures": [{"at_s": round(when, 6), "message": text} for when, text in step.failures]}
            for step in steps
        ],
        "unreached": [name for name in NAMES if name not in at],
        "failures": [
            {"at_s": round(mark.seconds, 6), "step": mark.step, "message": mark.failure}
            for mark in marks
            if mark.failure and mark.step not in at
        ],
        "isboot_s": between("start", "device"),
        "root_s": round(at["root"], 6) if "root" in at else None,
        "systemd": systemd,
        "initramfs": size,
    }


def systemd_times() -> dict[str, float | None]:
    """When systemd began in the initramfs and on the root, in seconds; null where there is none."""
    names = ",".join(SYSTEMD.values())
    try:
        done = subprocess.run(
            ["systemctl", "show", "-p", names], capture_output=True, text=True, check=False, timeout=10
        )
        said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    except (OSError, subprocess.TimeoutExpired):
        said = {}
    microseconds = {key: said.get(name, "0") for key, name in SYSTEMD.items()}
    return {
        f"{key}_s": int(text) / 1e6 if text.isdecimal() and int(text) else None
        for key, text in microseconds.items()
    }


def initramfs(path: Path = SIZE_FILE) -> dict[str, int | None]:
    """What isboot adds to the initramfs, as noted when that was made: files, bytes, bytes packed by gzip."""
    try:
        files, size_bytes, packed_bytes = map(int, path.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return {"files": None, "bytes": None, "packed_bytes": None}
    return {"files": files, "bytes": size_bytes, "packed_bytes": packed_bytes}


def bar(begin: float, end: float, whole: float, width: int = WIDTH) -> str:
    """
    Draw a stretch of time; one that is too short for a column is still seen.

    :param whole: the time of the full width, in the same unit
    """
    first = int(begin / whole * width) if whole else 0
    first = min(first, width - 1)
    eighths = max(1, round((end - begin) / whole * width * 8)) if whole else 1
    eighths = min(eighths, (width - first) * 8)
    drawn = "█" * (eighths // 8) + (BLOCKS[eighths % 8] if eighths % 8 else "")
    return (" " * first + drawn).ljust(width)


def draw(document: dict[str, Any]) -> list[str]:
    """Give the report as people look at it: one bar a step, all on one axis."""
    steps = document["steps"]
    whole = steps[-1]["at_s"] if steps else 0.0
    lines = [f"{'':9}{'at':>8} {'took':>8}   0 s{f'{whole:.1f} s':>{WIDTH - 3}}"]
    for step in steps:
        at_s, took_s = step["at_s"], step["took_s"]
        row = f"{LABELS[step['step']]:9}{at_s:8.2f} {took_s:8.2f}  |{bar(at_s - took_s, at_s, whole)}|"
        lines.append(f"{row} {step['words']}".rstrip())
        if step["failures"]:
            last = step["failures"][-1]["message"]
            count = len(step["failures"])
            attempts = "an attempt" if count == 1 else f"{count} attempts"
            lines.append(f"{'':17}{attempts} failed before{', the last one' * (count > 1)}: {last}")
    for failure in document["failures"]:
        lines.append(f"{LABELS[failure['step']]:9}{failure['at_s']:8.2f}  FAILED: {failure['message']}")
    return [*lines, "", *_sums(document)]


def _sums(document: dict[str, Any]) -> list[str]:
    size, host_s = document["initramfs"], document["systemd"]["userspace_s"]
    lines = []
    if document["isboot_s"] is not None:
        lines.append(f"isboot: {document['isboot_s']:.2f} s from its start to the device")
    if document["root_s"] is not None:
        after = f"; systemd of the root began {host_s - document['root_s']:.2f} s later" if host_s else ""
        lines.append(f"root:   {document['root_s']:.2f} s after the kernel's start{after}")
    if size["bytes"] is not None:
        lines.append(
            f"size:   {format_bytes(size['bytes'])} in the initramfs ({size['files']} files), "
            f"about {format_bytes(size['packed_bytes'])} of its image"
        )
    return lines
