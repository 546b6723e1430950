"""The worker killed again and again: idle, half and all tags in flight, the target answering or stopped."""

from __future__ import annotations

import json
import signal
import statistics
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from tests.vm.guest import Guest
from tests.vm.progress import say
from tests.vm.target import Target

SCRIPT = Path(__file__).parent / "inside" / "kill_workers.py"
KILLS = 20
#: goal of the median, from a worker's death to a device that is live again; said when missed: on a machine
#: with other work no time decides a test
GOAL_MS = 500
#: what no busy machine explains
BOUND_MS = 5 * GOAL_MS
#: how full the queue is when a worker dies, and fio's depth for it
LOADS = {"idle": 0, "half": 64, "full": 127}
#: between two kills; I/O goes on in it where the target answers
PAUSE_S = 0.2
_numbers = count()


def fio(file: str, depth: int) -> str:
    """Reads and writes until SIGINT ends it; what was written is read again and compared."""
    return (
        f"exec fio --name=v --filename={file} --direct=1 --ioengine=libaio --rw=randrw --bs=4k --size=48m "
        f"--verify=crc32c --verify_backlog=512 --verify_fatal=1 --time_based --runtime=600 "
        f"--iodepth={depth} --output-format=json"
    )


def report(what: str, recoveries: Sequence[dict[str, Any]]) -> None:
    """Print the times, what was in flight and both process ids of each recovery."""
    times = [row["ms"] for row in recoveries]
    waiting = [row["in_flight"] for row in recoveries]
    pids = " ".join(f"{row['old']}->{row['new']}" for row in recoveries)
    missed = f" (MORE than the goal of {GOAL_MS} ms)" if statistics.median(times) > GOAL_MS else ""
    say(
        f"{what}: {len(times)} recoveries, median {statistics.median(times):.0f} ms{missed}, "
        f"worst {max(times):.0f} ms, in flight {min(waiting)}-{max(waiting)}; {pids}"
    )


def check_load(status: int, output: bytes) -> None:
    """Fail unless fio read, wrote and found all of it as written; it says 128 when a signal ended it."""
    text = output.decode(errors="replace")
    assert status in (0, 128), text[-3000:]
    job = json.loads(text[text.index("{") :])["jobs"][0]
    assert job["error"] == 0, text[-3000:]
    assert job["read"]["total_ios"] > 0
    assert job["write"]["total_ios"] > 0


def kill_all_over(
    guest: Guest, target: Target, file: str, what: str, loads: Sequence[str] = tuple(LOADS)
) -> int:
    """
    Kill the worker 20 times in each state of queue and target; gives the number of kills.

    :param file: what fio works on: the device, or a file of the root file system on it
    :param what: for the report
    :param loads: of LOADS
    """
    kills = 0
    for is_stopped in (False, True):
        for load in loads:
            depth = LOADS[load]
            name = f"{what}, {load}, target {'stopped' if is_stopped else 'answers'}"
            recoveries = _kill(guest, target, fio(file, depth) if depth else "", is_stopped, depth)
            report(name, recoveries)
            assert len(recoveries) == KILLS
            assert statistics.median(row["ms"] for row in recoveries) <= BOUND_MS, name
            kills += KILLS
    return kills


def kill_when_full(guest: Guest, target: Target, file: str, what: str) -> int:
    """Do the same with every tag in flight alone: 40 kills."""
    return kill_all_over(guest, target, file, what, loads=("full",))


def _kill(guest: Guest, target: Target, load: str, is_stopped: bool, depth: int) -> list[dict[str, Any]]:
    channel = guest.channel
    number = next(_numbers)
    script, gate = f"/run/kill-{number}.py", f"/run/kill-{number}"
    channel.write(script, SCRIPT.read_bytes())
    # with the target stopped every command waits; else as many as the moment has
    wanted = depth if is_stopped else depth // 2
    killer = channel.start(f"exec python3 {script} {KILLS} {PAUSE_S} worker --after {gate} {wanted}", 180)
    killer.wait_for("ready")
    running = channel.start(f"echo $$; {load}", 600) if load else None
    channel.write(gate, b"")
    killer.wait_for("busy")
    if is_stopped:
        target.freeze()
    status, output = killer.wait()
    if is_stopped:
        target.thaw()
    assert status == 0, output.decode(errors="replace")
    if running:
        running.wait_for("\n")
        channel.kill(int(running.output.split(b"\n", 1)[0]), signal.SIGINT)
        check_load(*running.wait())
    return list(json.loads(output.split(b"busy\n", 1)[1]))
