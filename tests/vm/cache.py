"""
Built things, each under a hash of what it was built from.

An entry is a file or a directory `NAME-KEY` in `${XDG_CACHE_HOME:-~/.cache}/isboot`.  It is made under
another name and renamed, so what is there is whole; a lock per name keeps two runs from building the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.vm.progress import say

REPOSITORY = Path(__file__).resolve().parents[2]

#: entries of one name that are kept; a guest may still be reading yesterday's
KEPT = 4


def directory() -> Path:
    """The cache directory, made if it is missing."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "isboot"
    path.mkdir(parents=True, exist_ok=True)
    return path


def fingerprint(*parts: str | bytes | Path) -> str:
    """
    Hash of a thing's inputs, 16 hex digits.

    :param parts: text, bytes, or a file or directory whose names, modes and content count
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in sorted(part.rglob("*")) if part.is_dir() else [part]:
                if file.is_file() and "__pycache__" not in file.parts:
                    mode = file.stat().st_mode & 0o111
                    digest.update(f"{file.name}\0{mode}\0{file.stat().st_size}\0".encode())
                    digest.update(file.read_bytes())
        else:
            data = part.encode() if isinstance(part, str) else part
            digest.update(f"{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache's lock of that name; says so when somebody else has it."""
    with open(directory() / f"{name}.lock", "a+") as file:
        file.seek(0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for the lock {name}, held by process {file.read().strip() or 'unknown'}")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def obtain(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """
    The entry, built by `make(path)` when it is not there.

    :param key: a fingerprint of everything `make` depends on
    :param make: creates a file or directory at the path it is given
    """
    final = directory() / f"{name}-{key}"
    if not final.exists():
        with locked(name):
            if not final.exists():
                _build(name, final, make)
    os.utime(final)
    return final


def _build(name: str, final: Path, make: Callable[[Path], None]) -> None:
    building = directory() / f".building-{final.name}"
    _remove(building)
    say(f"building {name}")
    started = time.monotonic()
    try:
        make(building)
        building.rename(final)
    finally:
        _remove(building)
    say(f"built {name} in {time.monotonic() - started:.1f} s")
    # a name may hold a dash ("guest" and "guest-6.12"): only a key of 16 hex digits follows ours
    mine = [p for p in directory().glob(f"{name}-*") if len(p.name) == len(final.name)]
    for old in sorted(mine, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
