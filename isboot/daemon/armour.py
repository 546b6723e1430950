"""What every process of isboot puts on before it serves a root (ARCHITECTURE.md, "Never lose the root")."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from isboot._engine import ffi, lib
from isboot.daemon.log import Level, Log

HEAP_RESERVE_BYTES = 8 << 20
THREAD_STACK_BYTES = 256 << 10  #: mlockall locks whole stacks; the default is 8 MiB each
PRIORITY = 1  #: of SCHED_FIFO: the class is what gives access to the page allocator's reserve
MIN_FREE_KIB = 16384


def put_on(log: Log, *, is_armed: bool) -> None:
    """
    Harden the calling process; what cannot be had is said once and lived without.

    :param is_armed: whether the guard against SIGSTOP runs from the start
    """
    error = ffi.new("struct isboot_error *")
    threading.stack_size(THREAD_STACK_BYTES)
    steps: tuple[Callable[[], int], ...] = (
        lambda: lib.isboot_guard_install(is_armed, error),
        lambda: lib.isboot_process_harden(HEAP_RESERVE_BYTES, error),
        lambda: lib.isboot_thread_realtime(PRIORITY, error),
    )
    for step in steps:
        if step() < 0:
            log.say_once("armour", f"hardening the process: {ffi.string(error.text).decode()}", Level.WARNING)
    _write("/proc/self/oom_score_adj", "-1000", log)
    # The collector would touch every object and so copy every page shared with the parent.
    gc.freeze()
    sys.setswitchinterval(0.0005)


def ignore_endings() -> None:
    """
    Let no SIGTERM end the disk of the root: not of `systemctl kill`, not of `killall python3`.

    Called before the first fork, so that the children ignore them as well; SIGKILL remains.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def make_real_time(log: Log) -> None:
    """Put the calling thread into SCHED_FIFO; the class is not inherited by threads made before."""
    error = ffi.new("struct isboot_error *")
    if lib.isboot_thread_realtime(PRIORITY, error) < 0:
        log.say_once("armour", f"hardening a thread: {ffi.string(error.text).decode()}", Level.WARNING)


def keep_memory_free(log: Log) -> None:
    """Raise vm.min_free_kbytes: with less, writing pages back starves the network that would carry them."""
    path = Path("/proc/sys/vm/min_free_kbytes")
    try:
        if int(path.read_text(encoding="ascii")) < MIN_FREE_KIB:
            _write(str(path), str(MIN_FREE_KIB), log)
    except (OSError, ValueError):
        return


def _write(path: str, text: str, log: Log) -> None:
    try:
        Path(path).write_text(text, encoding="ascii")
    except OSError as error:
        log.say_once(path, f"writing {text} to {path}: {error.strerror}", Level.WARNING)
