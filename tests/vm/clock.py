"""How fast this machine's time stamp counter runs: emulated guests see it, and have to be told."""

from __future__ import annotations

import ctypes
import mmap
import platform
import time
from functools import cache

#: rdtsc; shl rdx, 32; or rax, rdx; ret
READ_COUNTER = bytes.fromhex("0f31 48c1e220 4809d0 c3")
MEASURE_S = 0.05


@cache
def counter_khz() -> int:
    """
    Measure the counter against CLOCK_MONOTONIC for 50 ms; 0 on another processor than x86-64.

    QEMU's emulation hands the guest this very counter.  Its kernel measures it with the emulated PIT, which
    on a loaded machine gave 58.6 MHz for 2596: a guest whose clock ran 44 times too fast.
    """
    if platform.machine() != "x86_64":
        return 0
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as code:
        code.write(READ_COUNTER)
        start = ctypes.c_char.from_buffer(code)
        read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(start))
        best = min((_measure(read) for _ in range(3)), key=lambda row: row[0])
        del read, start
    return round(best[1])


def _measure(read: ctypes._CFunctionType) -> tuple[int, float]:
    """Give how long both ends took to read in nanoseconds, and the rate in kHz."""
    first, began, again = time.monotonic_ns(), read(), time.monotonic_ns()
    time.sleep(MEASURE_S)
    last, ended, over = time.monotonic_ns(), read(), time.monotonic_ns()
    elapsed_ns = (last + over - first - again) / 2
    return (again - first) + (over - last), (ended - began) * 1e6 / elapsed_ns
