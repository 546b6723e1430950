"""
Kills the worker of ublkb0, again and again, and prints what each recovery took as JSON.

Usage: kill_workers.py COUNT PAUSE_SECONDS [worker|standby] [--after FILE IN_FLIGHT]

With --after it locks all it needs in memory, says "ready", waits for that file and for half of so many
commands in flight, says "busy", and begins when all of them are: from "ready" on it touches no disk, so that
it goes on where the disk under it does not answer.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time

from isboot.daemon import control

BOUND_S = 60.0


def status(path: object) -> dict[str, object]:
    row: dict[str, object] = control.ask(path, "status")["devices"][0]  # type: ignore[arg-type]
    return row


def wait_for(path: object, role: str, old: int) -> dict[str, object]:
    deadline = time.monotonic() + BOUND_S
    while time.monotonic() < deadline:
        row = status(path)
        if row[f"{role}_pid"] not in (0, old):
            return row
        time.sleep(0.002)
    raise SystemExit(f"no new {role} within {BOUND_S:g} s: {status(path)}")


def in_flight(row: dict[str, object]) -> int:
    return sum(lane["in_flight"] for lane in row["lanes"])  # type: ignore[attr-defined]


def wait_at_gate(path: object, gate: str, wanted: int) -> None:
    ctypes.CDLL(None).mlockall(3)  # MCL_CURRENT | MCL_FUTURE
    print("ready", flush=True)
    while not os.path.exists(gate):
        time.sleep(0.01)
    wait_in_flight(path, wanted // 2)
    print("busy", flush=True)
    wait_in_flight(path, wanted)


def wait_in_flight(path: object, wanted: int) -> None:
    deadline = time.monotonic() + BOUND_S
    while (seen := in_flight(status(path))) < wanted:
        if time.monotonic() > deadline:
            raise SystemExit(f"{seen} commands in flight, {wanted} wanted")
        time.sleep(0.002)


def main() -> None:
    arguments = sys.argv[1:]
    gate = arguments[arguments.index("--after") + 1 :] if "--after" in arguments else []
    if gate:
        del arguments[arguments.index("--after") :]
    count, pause_s = int(arguments[0]), float(arguments[1])
    role = arguments[2] if len(arguments) > 2 else "worker"
    path = control.find("ublkb0")
    wait_for(path, "standby", 0)
    if gate:
        wait_at_gate(path, gate[0], int(gate[1]))
    recoveries = []
    for _ in range(count):
        row = wait_for(path, "standby", 0)
        old, waiting = int(str(row[f"{role}_pid"])), in_flight(row)
        began = time.monotonic()
        os.kill(old, signal.SIGKILL)
        row = wait_for(path, role, old)
        took_ms = (time.monotonic() - began) * 1000
        recoveries.append({"old": old, "new": row[f"{role}_pid"], "ms": took_ms, "in_flight": waiting})
        time.sleep(pause_s)
    print(json.dumps(recoveries))


if __name__ == "__main__":
    main()
