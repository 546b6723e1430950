"""Rig 3: the engine alone against libiscsi's iscsi-perf, on loopback; what counts is the initiator's CPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.cells import LOADS, MIB, NATIVE_CELLS, Cell, Load
from tests.bench.guests import Options
from tests.bench.measure import BenchError, Rounds, Sample, judge
from tests.native.targets import Tgtd

LUN_MIB = 256
BLOCK_BYTES = 512
INITIATOR = "iqn.2001-04.com.example:bench"
#: I/Os of a probe that says how many fill the time asked for
PROBE_COUNT = 2000


def measure(options: Options) -> Iterator[dict[str, Any]]:
    """
    Give the cells of the native rig.

    :raises BenchError: a side failed, or its data did not go over the wire
    """
    cells = [cell for cell in NATIVE_CELLS if not options.cells or cell.name in options.cells]
    with (
        tempfile.TemporaryDirectory(prefix="isboot-bench-", dir="/dev/shm") as name,
        Tgtd(Path(name)) as target,
    ):
        iqn = target.add_target("disk0")
        target.add_lun(1, 1, size_bytes=LUN_MIB * MIB)
        url = f"iscsi://127.0.0.1:{target.port}/{iqn}/1"
        for load_name in dict.fromkeys(cell.load for cell in cells):
            load = LOADS[load_name]
            rounds = Rounds()
            for number in range(options.rounds):
                rounds.ours.append(ours(url, load, options.seconds))
                rounds.theirs.append(theirs(url, load, options.seconds))
                mine, other = rounds.ours[-1].figures, rounds.theirs[-1].figures
                options.say(
                    f"{load.name} {number + 1}/{options.rounds}: isboot {mine['iops']:.0f} IOPS, "
                    f"{mine['cpu_us_per_io']:.1f} us; libiscsi {other['iops']:.0f} IOPS, "
                    f"{other['cpu_us_per_io']:.1f} us"
                )
            for cell in (cell for cell in cells if cell.load == load_name):
                yield _row(cell, load) | judge(cell, rounds)


def ours(url: str, load: Load, seconds: float) -> Sample:
    """Run `isboot bench`; CPU is that of the lane's thread."""
    words = ["--depth", str(load.depth), "--size", str(load.size_bytes), "--initiator", INITIATOR]
    if load.is_long:
        words += ["--param", f"max_io_bytes={load.size_bytes}"]

    def once(count: int) -> dict[str, Any]:
        command = [sys.executable, "-m", "isboot", "bench", "--json", "--count", str(count), *words, url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{' '.join(command)}: {done.stderr.strip()}")
        return dict(json.loads(done.stdout))

    probe = once(PROBE_COUNT if not load.is_long else 200)
    document = once(max(int(probe["iops"] * seconds), PROBE_COUNT if not load.is_long else 200))
    moved = document["requests"] * document["size_bytes"]
    return Sample.of(
        {
            "figures": _figures(document["iops"], load, document["cpu_us_per_io"])
            | {"p50_us": document["latency_us"]["p50"], "p999_us": document["latency_us"]["p999"]},
            "moved_bytes": moved,
            "wire_bytes": document["wire_received_bytes"],
        },
        load.name,
    )


def theirs(url: str, load: Load, seconds: float) -> Sample:
    """Run iscsi-perf; CPU is that of its process, of which it has one thread."""
    blocks = load.size_bytes // BLOCK_BYTES
    command = [
        "iscsi-perf",
        "-i",
        INITIATOR,
        "-m",
        str(load.depth),
        "-b",
        str(blocks),
        "-t",
        str(max(int(seconds), 1)),
    ]
    command += [] if load.name.endswith("1m-read-qd8") else ["-r"]
    started = time.monotonic()
    received = _loopback_bytes()
    process = subprocess.Popen([*command, url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout
    with process.stdout as pipe:
        output = pipe.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found = re.findall(r"iops average (\d+)", output)
    if process.returncode or not found:
        raise BenchError(f"{' '.join(command)}: exit {process.returncode}: {output[-500:]}")
    iops = float(found[-1])
    ios = iops * (time.monotonic() - started)
    cpu_us = (usage.ru_utime + usage.ru_stime) * 1e6 / ios
    moved = int(iops * max(int(seconds), 1) * load.size_bytes)
    return Sample(_figures(iops, load, cpu_us), moved, _loopback_bytes() - received)


def _figures(iops: float, load: Load, cpu_us_per_io: float) -> dict[str, float]:
    return {
        "iops": iops,
        "bytes_per_s": iops * load.size_bytes,
        "cpu_us_per_io": cpu_us_per_io,
        "cpu_us_per_mb": cpu_us_per_io / (load.size_bytes / 1e6),
    }


def _loopback_bytes() -> int:
    return int(Path("/sys/class/net/lo/statistics/rx_bytes").read_text())


def _row(cell: Cell, load: Load) -> dict[str, Any]:
    return {
        "rig": "native",
        "kernel": os.uname().release,
        "cell": cell.name,
        "peer": "libiscsi",
        "peer_version": _version(),
        "peer_kind": "peer",
        "mode": "copy",
        "profile": "throughput" if load.is_long else "default",
        "header_digest": False,
        "data_digest": False,
        "queues": 1,
        "depth": load.depth,
        "unit": cell.unit,
        "better": cell.better,
        "limited_by": None,
        "ceiling": None,
    }


def _version() -> str:
    command: Sequence[str] = ("dpkg-query", "-W", "-f", "libiscsi ${Version}", "libiscsi-bin")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout or "libiscsi"
