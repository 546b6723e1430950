"""
isboot trace NAME [DEV]: look inside running devices, by probes; what is not traced costs nothing.

A trace ends after --duration seconds, by ^C or by SIGTERM, and prints its report then.  When it looks, it
says so on standard error in a line that begins with "tracing".  With --json there is one document at the end:

latency
    {"trace": "latency", "duration_s": 10.0, "devices": [{"device": "ublkb0", "operations": [
        {"operation": "read|write|flush", "count": 0, "errors": 0, "unanswered": 0, "bytes": 0, "phases": [
            {"phase": "whole|waiting|target|commit",
             "from": "in|sent|answered", "to": "sent|answered|committed",
             "p50_ns": null, "p99_ns": null, "p999_ns": null, "max_ns": null, "mean_ns": null,
             "buckets": [{"from_ns": 0, "to_ns": 0, "count": 0}]}]}]}]}
    The phases waiting, target, commit add up to whole.  `unanswered` of `count` have no phases but whole.
    Quantiles are right within 12.5 % (below 1 us: 125 ns); null where nothing was counted.  Buckets without a
    count are left out.

reconnects
    {"trace": "reconnects", "duration_s": 10.0, "dropped_records": 0, "outages": [
        {"device": "ublkb0", "lane": 0, "lost_at": "2026-01-01T12:00:00.000000Z",
         "cause": "closed|...|worker", "errno": "ECONNRESET"|null, "in_flight": 0|null,
         "old_pid": 0, "new_pid": 0,
         "attempts": [{"attempt": 1, "after_s": 0.0, "exit_status": 0}],
         "session_after_s": 0.0|null, "reissued": 0|null, "io_after_s": 0.0|null}],
     "ended_workers": [{"device": "ublkb0", "pid": 0, "at": "..."}]}
    `cause` is a name of isboot.trace.reconnects.CAUSES, or worker: the process ended.  Times `after_s` count
    from the loss; null: it has not come to that.  `ended_workers` are those no other took over from.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import time
from contextlib import ExitStack
from typing import Any

from isboot.errors import ExitStatus, TraceError, UsageError

NAME = "trace"
HELP = "look inside running devices: latency, reconnects"
EXAMPLE = "isboot trace latency --duration 10 /dev/ublkb0"
POLL_S = 0.2  #: how late a record may be printed, and ^C be heeded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from isboot.trace.catalogue import TRACES

    subparsers = parser.add_subparsers(metavar="NAME", required=True)
    for trace in TRACES:
        sub = subparsers.add_parser(trace.name, help=trace.help, description=f"{trace.help}.")
        sub.add_argument("device", metavar="DEV", nargs="?", help="ublkb0 or /dev/ublkb0 (default: all)")
        sub.add_argument("--duration", type=float, metavar="S", help="seconds to look (default: until ^C)")
        sub.add_argument("--json", action="store_true", help="one JSON document on standard output")
        sub.set_defaults(trace=trace)


def run(arguments: argparse.Namespace) -> ExitStatus:
    duration_s = math.inf if arguments.duration is None else arguments.duration
    if not duration_s > 0:
        raise UsageError(f"--duration {duration_s:g}: not a number of seconds above 0")
    if os.geteuid() != 0:
        raise TraceError(
            "tracing: not permitted", "probes are root's: run it as root", ExitStatus.NOT_PERMITTED
        )
    from isboot.trace import engines, loader
    from isboot.trace.clock import Clock

    loader.import_bcc()
    device, launcher_pids, workers = _served(arguments.device)
    found = engines.find(launcher_pids)
    report = arguments.trace.report(Clock.read())

    def take(event: Any) -> None:
        text = report.take(event)
        if text and not arguments.json:
            print(text, flush=True)

    with ExitStack() as stack:
        programs = []
        for engine in found:
            program = loader.Program(arguments.trace, engine, device, take)
            stack.callback(program.close)
            program.name_workers(workers)
            programs.append(program)
        what = "all devices" if device is None else f"ublkb{device}"
        until = "^C ends it" if duration_s == math.inf else f"for {duration_s:g} s"
        print(f"tracing {what}, {until}", file=sys.stderr, flush=True)
        ends = _ends()
        began = time.monotonic()
        while not ends and (left_s := began + duration_s - time.monotonic()) > 0:
            for program in programs:
                program.poll(min(left_s, POLL_S / len(programs)))
        lasted_s = time.monotonic() - began
        tables: dict[str, list[tuple[Any, Any]]] = {}
        for program in programs:
            program.poll(0)
            for name, rows in program.tables().items():
                tables.setdefault(name, []).extend(rows)
    report.finish(tables, lasted_s)
    if arguments.json:
        print(json.dumps({"trace": arguments.trace.name, **report.document()}, indent=1))
    else:
        print(report.text())
    return ExitStatus.FINE


def _ends() -> list[int]:
    """
    Give a list that is filled when ^C or SIGTERM comes.

    An exception would be lost where it hits the function bcc calls for each record.
    """
    came: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: came.append(number))
    return came


def _served(name: str | None) -> tuple[int | None, list[int], dict[int, int]]:
    """
    Ask the launchers: the number of the device, the launchers to look at, which worker serves which device.

    :param name: None: all devices, also of processes that have no launcher (isboot bench)
    :raises DaemonError: there is no such device (exit status 66)
    """
    from isboot.daemon import control

    device: int | None = None
    launchers: list[int] = []
    if name is not None:
        path = control.find(name)
        device = int(name.removeprefix("/dev/").removeprefix("ublkb"))
        launchers.append(int(path.name))
    workers: dict[int, int] = {}
    for path in control.launchers():
        for row in control.devices_of(path):
            if row["worker_pid"]:
                workers[row["worker_pid"]] = int(row["device"].removeprefix("ublkb"))
    return device, launchers, workers
