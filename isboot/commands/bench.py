"""isboot bench URL: the engine and a target, with no block device between: is it right, and how fast."""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isboot.errors import ExitStatus, IdentityError, IsbootError, UsageError
from isboot.units import KIB, MIB, format_bytes

if TYPE_CHECKING:
    from isboot import boot
    from isboot.engine.lane import Lane
    from isboot.engine.requests import RequestList
    from isboot.values import BootConfig

NAME = "bench"
HELP = "measure or verify a target, without a block device"
EXAMPLE = "isboot bench --size 64K iscsi://192.0.2.1/iqn.2001-04.com.example:disk0/1"
RECONNECT_S = 60.0
RECONNECT_PAUSE_S = 0.1
COPY_BYTES = 256 * KIB


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="iscsi://[CHAPNAME@]HOST[:PORT]/TARGETNAME/LUN")
    parser.add_argument(
        "--verify",
        type=int,
        metavar="N",
        help="N random reads and writes of random sizes, checked against a model. WRITES to the first --area "
        "of the LUN, and puts back what was there at the end: never on a LUN that is in use",
    )
    parser.add_argument("--area", type=size, default=64 * MIB, metavar="SIZE", help="for --verify (64M)")
    parser.add_argument("--count", type=int, default=100_000, metavar="N", help="I/Os to measure (100000)")
    parser.add_argument(
        "--size", type=size, default=4 * KIB, metavar="SIZE", help="of an I/O to measure (4K)"
    )
    parser.add_argument("--write", action="store_true", help="measure writes; needs --destroy")
    parser.add_argument("--destroy", action="store_true", help="yes, overwrite the LUN with rubbish")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="of the random numbers (1)")
    parser.add_argument("--depth", type=int, metavar="D", help="commands in flight, 1 to 4096 (128)")
    parser.add_argument("--digests", default="", metavar="LIST", help="header, data or header,data")
    parser.add_argument("--chap-file", type=Path, metavar="F", help="TOML, mode 0600: name, secret, ...")
    parser.add_argument("--initiator", metavar="NAME", help="initiator name (default: this machine's)")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE", help="as for attach")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def size(text: str) -> int:
    """Read 512, 4K, 1M or 2G."""
    found = re.fullmatch(r"([0-9]+)([kKmMgG]?)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 512, 4K, 1M")
    return int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[found[2].lower()]


class Bench:
    """A lane with a session, made again when it is lost."""

    def __init__(self, config: BootConfig) -> None:
        from isboot import boot
        from isboot._engine import ffi, lib
        from isboot.engine.lane import Lane, make_error

        self._config = boot.resolve(config)
        self._attached = self._connect(None)
        self.facts = self._attached.facts
        self.depth = config.policy.depth
        shared = lib.isboot_shared_map(ffi.sizeof("struct isboot_shared"), make_error())
        policy = config.policy
        self._lane: Lane = Lane(
            index=0,
            device_id=0,
            depth=policy.depth,
            max_io_bytes=policy.max_io_bytes,
            block_size_bytes=self.facts.block_size_bytes,
            command_timeout_ms=policy.command_timeout_ms,
            nop_interval_ms=policy.nop_interval_ms,
            nop_timeout_ms=policy.nop_timeout_ms,
            has_fua=self.facts.has_fua,
            buffers=None,
            shared=ffi.cast("struct isboot_shared *", shared),
        )
        self.counters = self._lane.counters
        self._lane.start()
        self._lane.attach(self._attached.session)

    @property
    def attached(self) -> boot.Attached:
        return self._attached

    def move(self, done: RequestList) -> None:
        """
        Do a list of requests; a lost connection is made again.

        :raises IsbootError: no connection within RECONNECT_S
        """
        from isboot.engine.lane import Reason

        self._lane.open_local(done.array, done.count)
        while True:
            reason, loss = self._lane.run()
            if reason == Reason.IDLE:
                return
            self._attached.sock.close()
            _complain(f"connection lost: {loss.cause_text} ({loss.detail})")
            time.sleep(loss.time2wait_s)
            self._attached = self._connect(self.facts)
            self._lane.attach(self._attached.session)

    def end(self) -> None:
        """Log out."""
        from dataclasses import replace

        from isboot.session.control import Control

        cmd_sn, exp_stat_sn, max_cmd_sn = self._lane.detach()
        session = replace(
            self._attached.session, cmd_sn=cmd_sn, exp_stat_sn=exp_stat_sn, max_cmd_sn=max_cmd_sn
        )
        Control(self._attached.sock, session).logout()

    def close(self) -> None:
        self._attached.sock.close()
        self._lane.close()

    def _connect(self, expected: Any) -> boot.Attached:
        from isboot import boot

        end = time.monotonic() + RECONNECT_S
        while True:
            try:
                say = _complain if expected else _ignore
                return boot.connect(self._config, self._config.paths[0], {}, 0, say, expected=expected)
            except IdentityError:
                raise
            except IsbootError:
                # a target that starts is not whole at once: its name, its LUNs may come later than its port
                if expected is None or time.monotonic() > end:
                    raise
                time.sleep(RECONNECT_PAUSE_S)


def _ignore(_text: str) -> None:
    """Take what nobody asked for."""


def _complain(text: str) -> None:
    print(f"isboot: {text}", file=sys.stderr)


def run(arguments: argparse.Namespace) -> ExitStatus:
    from isboot.config import attach as config_attach

    if arguments.write and not arguments.destroy:
        raise UsageError("--write overwrites the LUN with rubbish", "say --destroy if that is what you want")
    for name in ("verify", "count", "size", "area"):
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            raise UsageError(f"--{name} {value}: not a number from 1 on")
    config = config_attach.from_arguments(
        arguments.url,
        chap_file=arguments.chap_file,
        initiator_name=arguments.initiator,
        digests=arguments.digests,
        depth=arguments.depth,
        parameters=arguments.param,
    )
    bench = Bench(config)
    try:
        figures = verify(bench, arguments) if arguments.verify else measure(bench, arguments)
        figures |= session_figures(bench)
        bench.end()
    finally:
        bench.close()
    print(json.dumps(figures, indent=1) if arguments.json else describe(figures))
    return ExitStatus.FAILED if figures.get("differ") or figures["io_errors"] else ExitStatus.FINE


def whole(bench: Bench, area_bytes: int, content: bytes | None = None) -> bytes:
    """Read an area from byte 0 on, or write it."""
    from isboot.engine.requests import RequestList, read, write

    places = [(at, min(COPY_BYTES, area_bytes - at)) for at in range(0, area_bytes, COPY_BYTES)]
    done = RequestList(
        read(at, length) if content is None else write(at, content[at : at + length]) for at, length in places
    )
    bench.move(done)
    for index, (at, length) in enumerate(places):
        if done.result(index) != length:
            word = "reading" if content is None else "writing"
            raise IsbootError(f"{word} {length} bytes at {at}: {done.result(index)}")
    return b"".join(done.data(index) for index in range(done.count))


def verify(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """Do random reads and writes, compare all, put the old contents back."""
    from isboot.engine.model import Model
    from isboot.engine.requests import RequestList

    facts = bench.facts
    block = facts.block_size_bytes
    area_bytes = min(arguments.area, facts.capacity_blocks * block) // block * block
    # several bursts, so that a write takes several R2Ts
    longest = 4 * bench.attached.session.max_burst_length_bytes
    if facts.max_transfer_blocks:
        longest = min(longest, facts.max_transfer_blocks * block)
    before = whole(bench, area_bytes)
    model = Model(before, block, longest, arguments.seed)
    start = time.monotonic()
    left, wrong, moved = arguments.verify, 0, 0
    while left:
        requests = model.round(min(left, 64))
        done = RequestList(requests)
        bench.move(done)
        for request, result in model.check(requests, done):
            wrong += 1
            text = f"result {result}" if result != request.length_bytes else "other data"
            place = f"{request.length_bytes} bytes at {request.offset_bytes}"
            _complain(f"{request.operation.name} of {place}: {text}")
        left -= len(requests)
        moved += sum(request.length_bytes for request in requests)
    seconds = time.monotonic() - start
    after = whole(bench, area_bytes)
    wrong += (
        sum(after[at : at + block] != model.content[at : at + block] for at in range(0, area_bytes, block))
        if after != model.content
        else 0
    )
    whole(bench, area_bytes, before)
    return {
        "kind": "verify",
        "requests": arguments.verify,
        "differ": wrong,
        "bytes": moved,
        "seconds": round(seconds, 3),
        "seed": arguments.seed,
    }


def measure(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time random I/Os over the whole LUN."""
    from isboot._engine import ffi
    from isboot.engine.requests import RequestList

    facts = bench.facts
    if arguments.size % facts.block_size_bytes:
        raise UsageError(f"--size {arguments.size}: not in blocks of {facts.block_size_bytes} bytes")
    places = facts.capacity_blocks * facts.block_size_bytes // arguments.size
    if not places:
        raise UsageError(f"--size {arguments.size}: longer than the LUN")
    depth = (bench.attached.session and arguments.depth) or 128
    rng = random.Random(arguments.seed)
    done = RequestList([])
    done.count = arguments.count
    done.array = ffi.new("struct isboot_request[]", arguments.count)
    memory = ffi.new("char[]", depth * arguments.size)
    for index in range(arguments.count):
        entry = done.array[index]
        entry.operation = int(arguments.write)
        entry.offset_bytes = rng.randrange(places) * arguments.size
        entry.length_bytes = arguments.size
        entry.buffer = memory + index % depth * arguments.size
    usage, start = resource.getrusage(resource.RUSAGE_THREAD), time.monotonic()
    bench.move(done)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_THREAD)
    cpu_s = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    times = sorted(entry.committed_ns - entry.in_ns for entry in done.array)
    quantiles = {
        name: round(times[min(len(times) - 1, int(share * len(times)))] / 1000, 1)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))
    }
    return {
        "kind": "write" if arguments.write else "read",
        "requests": arguments.count,
        "depth": depth,
        "size_bytes": arguments.size,
        "seconds": round(seconds, 3),
        "iops": round(arguments.count / seconds),
        "bytes_per_s": round(arguments.count * arguments.size / seconds),
        "latency_us": quantiles,
        "cpu_us_per_io": round(cpu_s * 1e6 / arguments.count, 2),
        "page_faults": after.ru_minflt - usage.ru_minflt,
    }


def session_figures(bench: Bench) -> dict[str, Any]:
    session, counters = bench.attached.session, bench.counters
    names = (
        "reads",
        "writes",
        "wire_sent_bytes",
        "wire_received_bytes",
        "reconnects",
        "reissued",
        "retries",
        "io_errors",
        "digest_errors",
        "protocol_errors",
    )
    limits = (
        "header_digest",
        "data_digest",
        "initial_r2t",
        "immediate_data",
        "max_recv_data_segment_length_bytes",
        "max_send_data_segment_length_bytes",
        "first_burst_length_bytes",
        "max_burst_length_bytes",
    )
    return {name: getattr(counters, name) for name in names} | {
        "session": {name: getattr(session, name) for name in limits}
    }


def describe(figures: dict[str, Any]) -> str:
    """Give the figures as people read them."""
    if figures["kind"] == "verify":
        first = (
            f"{figures['requests']} requests, {format_bytes(figures['bytes'])} in {figures['seconds']} s: "
            f"{figures['differ']} differ"
        )
    else:
        times = ", ".join(f"{name} {value} us" for name, value in figures["latency_us"].items())
        first = (
            f"{figures['size_bytes']}-byte random {figures['kind']}s, depth {figures['depth']}: "
            f"{figures['iops']} IOPS, {figures['bytes_per_s'] / 1e6:.1f} MB/s, {times}, "
            f"CPU {figures['cpu_us_per_io']} us per I/O"
        )
    wire = (
        f"on the wire: {figures['wire_sent_bytes']} bytes sent, {figures['wire_received_bytes']} received; "
        f"{figures['reconnects']} reconnects, {figures['retries']} retries, {figures['io_errors']} errors"
    )
    return f"{first}\n{wire}"
