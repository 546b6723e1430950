"""
Runs fio on a block device, and reads beside it what the whole machine spent; prints one JSON document.

Usage: load.py DEVICE NIC SECONDS PATTERN SIZE_BYTES DEPTH
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

#: of /proc/stat's first line: all but idle and iowait; guest time is in user time already
BUSY = (0, 1, 2, 5, 6)


def machine(nic: str) -> dict[str, float]:
    lines = Path("/proc/stat").read_text().splitlines()
    ticks = [int(word) for word in lines[0].split()[1:]]
    switches = next(int(line.split()[1]) for line in lines if line.startswith("ctxt "))
    counters = Path(f"/sys/class/net/{nic}/statistics")
    wire = sum(int((counters / name).read_text()) for name in ("rx_bytes", "tx_bytes"))
    busy_s = sum(ticks[index] for index in BUSY) / os.sysconf("SC_CLK_TCK")
    return {"busy_s": busy_s, "switches": switches, "wire_bytes": wire}


def main() -> None:
    device, nic, seconds, pattern, size_bytes, depth = sys.argv[1:]
    if not stat.S_ISBLK(os.stat(device).st_mode):
        raise SystemExit(f"{device} is no block device")
    command = [
        "fio", "--name=load", f"--filename={device}", "--direct=1", "--ioengine=libaio", f"--rw={pattern}",
        f"--bs={size_bytes}", f"--iodepth={depth}", "--time_based", f"--runtime={seconds}", "--norandommap",
        "--randrepeat=0", "--output-format=json", "--group_reporting",
    ]  # fmt: skip
    before = machine(nic)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    after = machine(nic)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    document = json.loads(done.stdout[done.stdout.index("{") :])
    job = document["jobs"][0]["write" if "write" in pattern else "read"]
    percentiles = job["clat_ns"]["percentile"]
    spent = {name: after[name] - before[name] for name in before}
    ios, moved = job["total_ios"], job["io_bytes"]
    figures = {
        "iops": job["iops"],
        "bytes_per_s": job["bw_bytes"],
        "p50_us": percentiles["50.000000"] / 1000,
        "p999_us": percentiles["99.900000"] / 1000,
        "cpu_us_per_io": spent["busy_s"] * 1e6 / ios,
        "cpu_us_per_mb": spent["busy_s"] * 1e6 / (moved / 1e6),
        "switches_per_io": spent["switches"] / ios,
    }
    print(json.dumps({"figures": figures, "moved_bytes": moved, "wire_bytes": spent["wire_bytes"]}))


if __name__ == "__main__":
    main()
