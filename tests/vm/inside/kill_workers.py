"""
Kills the worker of ublkb0, again and again, and prints what each recovery took as JSON.

Usage: kill_workers.py COUNT PAUSE_SECONDS [worker|standby]
"""

from __future__ import annotations

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


def main() -> None:
    count, pause_s = int(sys.argv[1]), float(sys.argv[2])
    role = sys.argv[3] if len(sys.argv) > 3 else "worker"
    path = control.find("ublkb0")
    recoveries = []
    for _ in range(count):
        row = wait_for(path, "standby", 0)
        old = int(str(row[f"{role}_pid"]))
        began = time.monotonic()
        os.kill(old, signal.SIGKILL)
        row = wait_for(path, role, old)
        recoveries.append({"old": old, "new": row[f"{role}_pid"], "ms": (time.monotonic() - began) * 1000})
        time.sleep(pause_s)
    print(json.dumps(recoveries))


if __name__ == "__main__":
    main()
