"""
A dirty flood on the root and an eater of memory that must swap, until the time is up.

Usage: pressure.py SECONDS DIRECTORY PIDS_FILE

The pids of the writers, then the eater's, go to PIDS_FILE; what each did goes to standard output as JSON.
What is written is checked: the files at the end, each page of the eater whenever it comes round.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time
from pathlib import Path

WRITERS = 3
CHUNK_BYTES = 1 << 20
CHUNKS = 64  #: of a writer's file, which is written over and over
SYNC_EVERY = 48  #: chunks between two fsync
BLOCK_BYTES = 64 << 10  #: of the eater
BLOCKS = 4096  #: 256 MiB
HEADER_BYTES = 16


def chunk(pool: bytes, writer: int, turn: int) -> bytes:
    """Give what a writer's file holds where the `turn`-th chunk was written last."""
    header = f"{writer:04d}{turn:012d}".encode()
    return header + pool[turn % 4096 : turn % 4096 + CHUNK_BYTES - HEADER_BYTES]


def write(number: int, file: Path, pool: bytes, end: float) -> dict[str, int]:
    """Write until the end, buffered, with an fsync now and then; then read all of it from the disk."""
    turn = 0
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    while time.monotonic() < end:
        os.pwrite(descriptor, chunk(pool, number, turn), turn % CHUNKS * CHUNK_BYTES)
        turn += 1
        if turn % SYNC_EVERY == 0:
            os.fsync(descriptor)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    wrong = 0
    for last in range(max(0, turn - CHUNKS), turn):
        found = os.pread(descriptor, CHUNK_BYTES, last % CHUNKS * CHUNK_BYTES)
        wrong += found != chunk(pool, number, last)
    return {"chunks": turn, "wrong": wrong}


def eat(pool: bytes, end: float) -> dict[str, int]:
    """Write every page of a memory that is larger than the machine's, round after round."""
    memory = mmap.mmap(-1, BLOCKS * BLOCK_BYTES)
    turn = wrong = 0
    while time.monotonic() < end:
        where = slice(turn % BLOCKS * BLOCK_BYTES, (turn % BLOCKS + 1) * BLOCK_BYTES)
        if turn >= BLOCKS:
            wrong += memory[where] != block(pool, turn - BLOCKS)
        memory[where] = block(pool, turn)
        turn += 1
    return {"blocks": turn, "wrong": wrong}


def block(pool: bytes, turn: int) -> bytes:
    """Give what the eater writes: no page is empty, for such pages the kernel keeps out of the swap."""
    return f"{turn:016d}".encode() + pool[turn % 4096 : turn % 4096 + BLOCK_BYTES - HEADER_BYTES]


def main() -> None:
    seconds, directory, pids_file = float(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    pool = os.urandom(CHUNK_BYTES + 8192)
    end = time.monotonic() + seconds
    children: list[tuple[int, int]] = []
    for number in range(WRITERS + 1):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            if number < WRITERS:
                result = write(number, directory / f"flood{number}", pool, end)
            else:
                result = eat(pool, end)
            os.write(writing, json.dumps(result).encode())
            os._exit(0)
        os.close(writing)
        children.append((pid, reading))
    pids_file.write_text(" ".join(str(pid) for pid, _ in children))
    results = []
    for pid, reading in children:
        os.waitpid(pid, 0)
        results.append(json.loads(os.read(reading, 4096) or b'{"died": 1}'))
    print(json.dumps({"writers": results[:WRITERS], "eater": results[WRITERS]}))


if __name__ == "__main__":
    main()
