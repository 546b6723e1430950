"""
bcc's side: compiles a program of bpf/, attaches it to the probes of an engine, hands out what it tells.

bcc is Debian's python3-bpfcc.  The package named bcc on PyPI is another project.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import isboot
from isboot.errors import ExitStatus, TraceError
from isboot.trace.catalogue import Trace
from isboot.trace.engines import Engine
from isboot.trace.events import Event, c_declarations, decode

PROVIDER = "isboot"
PACKAGE_HINT = "install Debian's python3-bpfcc, and run isboot by the system's python3"

#: what clang is told beside our options, tried in turn: kernel headers from 6.19 on use structs without a
#: name the way Microsoft's C has them, and bcc before 0.37 does not say so to clang
FLAGS: tuple[tuple[str, ...], ...] = ((), ("-fms-extensions", "-Wno-microsoft-anon-tag"))


def import_bcc() -> Any:
    """
    Give iovisor's bcc.

    :raises TraceError: it is not there, or it is another bcc (exit status 69)
    """
    try:
        import bcc
    except ImportError as error:
        raise TraceError(
            f"loading bcc: not installed for this Python ({error})", PACKAGE_HINT, ExitStatus.UNAVAILABLE
        ) from error
    if not hasattr(bcc, "BPF") or not hasattr(bcc, "USDT"):
        raise TraceError(
            f"loading bcc: {getattr(bcc, '__file__', bcc)} is another project of that name",
            f"that is PyPI's bcc, remove it; {PACKAGE_HINT}",
            ExitStatus.UNAVAILABLE,
        )
    return bcc


def source(name: str) -> str:
    """
    Give the text of bpf/NAME: beside the package's modules when installed, in the tree else.

    :raises TraceError: it is not there
    """
    package = Path(isboot.__file__).parent
    for directory in (package / "bpf", package.parent / "bpf"):
        try:
            return (directory / name).read_text(encoding="utf-8")
        except OSError:
            continue
    raise TraceError(
        f"reading {package / 'bpf' / name}: not there", "install isboot again", ExitStatus.UNAVAILABLE
    )


class Program:
    """
    A program that runs in the kernel, attached to one engine, until `close`.

    :param device: N of ublkbN, None: all
    :raises TraceError: a probe is not in that engine, the program does not compile or load
    """

    def __init__(self, trace: Trace, engine: Engine, device: int | None, take: Callable[[Event], None]):
        self._trace = trace
        self._engine = engine
        self._bcc = import_bcc()
        self._check_probes()
        options = [f"-D{name}={value}" for name, value in trace.defines.items()]
        if trace.records:
            options.append(f"-DEVENTS={c_declarations(trace.records)}")
        if device is not None:
            options.append(f"-DDEVICE={device}")
        self._bpf = self._load(source(f"{trace.name}.c"), options)
        if trace.records:

            def callback(_context: Any, data: Any, length_bytes: int) -> None:
                take(decode(ctypes.string_at(data, length_bytes), trace.records))

            self._bpf["events"].open_ring_buffer(callback)

    def _check_probes(self) -> None:
        """Ask the file, not the version: which probes has it, and where."""
        found = {
            probe.name.decode(): probe.num_locations
            for probe in self._usdt().enumerate_probes()
            if probe.provider.decode() == PROVIDER
        }
        missing = [name for name in self._trace.probes if name not in found]
        if missing:
            raise TraceError(
                f"looking for probes in {self._engine.name} (process {self._engine.pids[0]}): "
                f"no {', '.join(missing)}",
                "that process runs another version of isboot than this command",
                ExitStatus.UNAVAILABLE,
            )
        several = [name for name in self._trace.probes if found[name] != 1]
        if several:
            raise TraceError(
                f"looking for probes in {self._engine.name}: {', '.join(several)} at more than one place",
                "this is a defect of isboot: see isboot/engine/probes.h",
                ExitStatus.UNAVAILABLE,
            )

    def _usdt(self) -> Any:
        try:
            return self._bcc.USDT(path=str(self._engine.path))
        except self._bcc.USDTException as error:
            raise TraceError(
                f"reading the probes of {self._engine.name}: {error}",
                "the process may have ended just now: try again",
                ExitStatus.TRY_AGAIN,
            ) from error

    def _load(self, text: str, options: Sequence[str]) -> Any:
        said = ""
        problem = "nothing was tried"
        for flags in FLAGS:
            usdt = self._usdt()
            for name in self._trace.probes:
                usdt.enable_probe(probe=f"{PROVIDER}:{name}", fn_name=f"on_{name}")
            with _standard_error() as read_error:
                try:
                    return self._bcc.BPF(text=text, cflags=[*options, *flags], usdt_contexts=[usdt])
                except Exception as error:  # bcc raises Exception itself
                    # the first try is the one whose complaints tell something
                    said = said or read_error()
                    problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _load_error(f"bpf/{self._trace.name}.c", problem, said)

    def name_workers(self, workers: Mapping[int, int]) -> None:
        """Tell the program which process serves which device: process -> N of ublkbN."""
        if not self._trace.workers_table:
            return
        table = self._bpf[self._trace.workers_table]
        for pid, device in workers.items():
            table[ctypes.c_uint32(pid)] = ctypes.c_uint32(device)

    def poll(self, timeout_s: float) -> None:
        """Hand out records that came, waiting for one for so long."""
        if self._trace.records:
            self._bpf.ring_buffer_poll(round(timeout_s * 1000))
        else:
            time.sleep(timeout_s)

    def tables(self) -> dict[str, list[tuple[Any, Any]]]:
        """Give the rows of the tables, and "dropped" where there are records."""
        names = [*self._trace.tables, *(["dropped"] if self._trace.records else [])]
        return {name: list(self._bpf[name].items()) for name in names}

    def close(self) -> None:
        self._bpf.cleanup()


@contextmanager
def _standard_error() -> Iterator[Callable[[], str]]:
    """Catch what clang writes to file descriptor 2; gives a function that reads it."""
    file = os.memfd_create("isboot-trace-stderr")
    kept = os.dup(2)
    os.dup2(file, 2)

    def read() -> str:
        return os.pread(file, 1 << 20, 0).decode(errors="replace")

    try:
        yield read
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(file)


def _load_error(name: str, problem: str, said: str) -> TraceError:
    release = platform.release()
    headers = (Path(f"/lib/modules/{release}/build"), Path("/sys/kernel/kheaders.tar.xz"))
    if not any(path.exists() for path in headers):
        return TraceError(
            f"compiling {name}: the headers of kernel {release} are not installed",
            f"install linux-headers-{release}",
            ExitStatus.UNAVAILABLE,
        )
    errors = [line.strip() for line in said.splitlines() if "error" in line.lower()]
    first = errors[0] if errors else problem
    return TraceError(
        f"compiling or loading {name} on kernel {release}: {first}",
        "this bcc may be too old for this kernel: a newer python3-bpfcc",
        ExitStatus.UNAVAILABLE,
    )
