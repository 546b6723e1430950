"""Outages put together from events, across the end of a worker."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from isboot.trace.clock import Clock
from isboot.trace.events import (
    ConnectionLost,
    ConnectionResumed,
    Event,
    IoResumed,
    LaneStarted,
    ReconnectAttempt,
    WorkerEnded,
)
from isboot.trace.reconnects import CAUSES, Reconnects

ENGINE_H = Path(__file__).resolve().parents[2] / "cdefs" / "engine.h"
MS = 1_000_000
OLD, NEW = 100, 101


def fed(*events: Event) -> tuple[Reconnects, list[str]]:
    report = Reconnects(Clock(0))
    printed = [text for event in events if (text := report.take(event))]
    report.finish({}, 20.0)
    return report, printed


def lost(ms: int, *, pid: int = OLD, device: int = 0, lane: int = 0, cause: int = 1, code: int = 0) -> Event:
    return ConnectionLost(ms * MS, pid, device, lane, cause, code, 3)


def attempt(ms: int, number: int, code: int = 0, *, pid: int = OLD, lane: int = 0) -> Event:
    return ReconnectAttempt(ms * MS, pid, 0, lane, number, code)


def stands(ms: int, *, pid: int = OLD, lane: int = 0) -> Event:
    return ConnectionResumed(ms * MS, pid, 0, lane, 3)


def io(ms: int, *, pid: int = OLD, lane: int = 0) -> Event:
    return IoResumed(ms * MS, pid, 0, lane)


def test_lost_connection_is_one_block_when_io_went_on() -> None:
    events = (lost(1000, cause=2, code=-104), attempt(1020, 1, -75), attempt(1040, 2), stands(1041), io(1050))
    report, printed = fed(*events)
    (block,) = printed
    assert block.splitlines()[0].endswith(
        "  ublkb0 lane 0: connection lost: an error of the socket (ECONNRESET, Connection reset by peer); "
        "3 commands in flight"
    )
    assert block.splitlines()[1:] == [
        "    +0.020000 s  attempt 1: no connection, to be tried again (75)",
        "    +0.040000 s  attempt 2: logged in",
        "    +0.041000 s  session stands, 3 commands issued again",
        "    +0.050000 s  first I/O done",
        "        I/O stood for 0.050 s",
    ]
    (outage,) = report.document()["outages"]
    assert (outage["cause"], outage["errno"], outage["in_flight"]) == ("socket", "ECONNRESET", 3)
    assert outage["lost_at"] == "1970-01-01T00:00:01.000000Z"
    assert [(one["attempt"], one["exit_status"]) for one in outage["attempts"]] == [(1, 75), (2, 0)]
    assert (outage["session_after_s"], outage["reissued"], outage["io_after_s"]) == (0.041, 3, 0.05)
    assert outage["old_pid"] == outage["new_pid"] == OLD
    assert report.text() == "\n1 outage in 20.0 s"


def test_outage_reaches_into_the_worker_that_takes_over() -> None:
    report, printed = fed(
        WorkerEnded(1000 * MS, OLD, 0),
        LaneStarted(1045 * MS, NEW, 0, 0, 2),
        attempt(1060, 1, pid=NEW),
        stands(1061, pid=NEW),
        io(1070, pid=NEW),
    )
    (block,) = printed
    assert "ublkb0 lane 0: lost, worker 100 ended" in block
    assert "+0.045000 s  worker 101 serves, generation 2" in block
    assert "I/O stood for 0.070 s" in block
    (outage,) = report.document()["outages"]
    assert (outage["cause"], outage["old_pid"], outage["new_pid"]) == ("worker", OLD, NEW)
    assert report.document()["ended_workers"] == []


def test_each_lane_has_an_outage_by_the_same_death_and_only_one() -> None:
    report, _ = fed(
        WorkerEnded(1000 * MS, OLD, 0),
        stands(1060, pid=NEW),
        io(1061, pid=NEW),
        stands(1062, pid=NEW, lane=1),
        io(1063, pid=NEW, lane=1),
        stands(5000, pid=NEW),
        io(5001, pid=NEW),
    )
    assert [(one.lane, one.resumed_ns) for one in report.outages] == [(0, 1061 * MS), (1, 1063 * MS)]


def test_worker_that_ends_while_it_reconnects_goes_on_with_the_outage() -> None:
    report, printed = fed(
        lost(1000), WorkerEnded(1500 * MS, OLD, 0), attempt(1600, 1, pid=NEW), stands(1601, pid=NEW), io(1700)
    )
    assert len(report.outages) == 1
    assert "+0.500000 s  worker 100 ended" in printed[0]
    assert "I/O stood for 0.700 s" in printed[0]


def test_lost_again_before_io_ends_the_first_block() -> None:
    report, printed = fed(lost(1000), stands(1100), lost(1200), stands(1300), io(1400))
    assert len(printed) == len(report.outages) == 2
    assert printed[0].endswith("no I/O has been done since")
    assert report.document()["outages"][0]["io_after_s"] is None


def test_outage_that_lasts_is_told_at_the_end() -> None:
    report, printed = fed(lost(1000), attempt(1100, 1, -66))
    assert printed == []
    assert report.text().splitlines()[1:3] == [
        "    +0.100000 s  attempt 1: target or LUN not there (66)",
        "        no session since",
    ]


def test_worker_nobody_follows_is_told() -> None:
    report, _ = fed(WorkerEnded(1000 * MS, OLD, 3))
    assert "ublkb3: worker 100 ended, none followed" in report.text()
    assert report.document()["ended_workers"][0]["pid"] == OLD


def test_first_session_of_a_device_is_no_outage() -> None:
    report, printed = fed(LaneStarted(MS, OLD, 0, 0, 0), stands(2), io(3))
    assert (printed, report.outages) == ([], [])
    assert report.text() == "no connection and no worker was lost in 20.0 s"


def test_records_that_did_not_fit_are_told() -> None:
    report = Reconnects(Clock(0))

    class Value:
        value = 2

    report.finish({"dropped": [(0, Value)]}, 1.0)
    assert "2 records did not fit the buffer" in report.text()
    json.dumps(report.document())


def test_causes_are_those_of_the_engine() -> None:
    names = re.findall(r"ISBOOT_CAUSE_(\w+) = (\d+)", ENGINE_H.read_text(encoding="utf-8"))
    assert {int(number): name.lower().replace("_", "-") for name, number in names} == {
        number: name for number, (name, _) in CAUSES.items()
    }


@pytest.mark.parametrize("code", [-1, -65, -69, -77, -3])
def test_every_refusal_has_words(code: int) -> None:
    _, printed = fed(lost(1), attempt(2, 1, code), io(3))
    assert re.search(rf"attempt 1: [a-zL ]+ \((-3|{-code})\)", printed[0])
