"""The report of `isboot trace latency`, from the tables its program fills."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from isboot.trace.histogram import bucket_of
from isboot.trace.latency import PHASES, Latency

MS = 1_000_000


def tables(*operations: tuple[int, int, int, list[tuple[int, int, int]]]) -> dict[str, list[tuple[Any, Any]]]:
    """As the kernel has them: device, lane, operation, I/Os as durations of the three phases."""
    totals = []
    buckets: dict[tuple[int, int, int, int, int], int] = {}
    for device, lane, operation, ios in operations:
        spans = [(sum(io), *io) for io in ios]
        value = SimpleNamespace(
            count=len(ios),
            errors=0,
            unanswered=0,
            length_bytes=4096 * len(ios),
            sum_ns=[sum(span[phase] for span in spans) for phase in range(4)],
            maximum_ns=[max(span[phase] for span in spans) for phase in range(4)],
        )
        totals.append((SimpleNamespace(device=device, lane=lane, operation=operation), value))
        for span in spans:
            for phase, duration_ns in enumerate(span):
                key = (device, lane, operation, phase, bucket_of(duration_ns))
                buckets[key] = buckets.get(key, 0) + 1
    names = ("device", "lane", "operation", "phase", "bucket")
    rows = [
        (SimpleNamespace(**dict(zip(names, key, strict=True))), SimpleNamespace(value=count))
        for key, count in buckets.items()
    ]
    return {"totals": totals, "buckets": rows}


def finished(*operations: tuple[int, int, int, list[tuple[int, int, int]]]) -> Latency:
    report = Latency()
    report.finish(tables(*operations), 10.0)
    return report


def test_lanes_of_a_device_are_added_up() -> None:
    one, other = [(1000, 5 * MS, 2000)] * 3, [(1000, 40 * MS, 2000)]
    document = finished((0, 0, 0, one), (0, 1, 0, other), (2, 0, 1, one)).document()
    assert [device["device"] for device in document["devices"]] == ["ublkb0", "ublkb2"]
    (read,) = document["devices"][0]["operations"]
    assert (read["operation"], read["count"], read["bytes"], read["errors"]) == ("read", 4, 16384, 0)
    target = next(phase for phase in read["phases"] if phase["phase"] == "target")
    assert (target["from"], target["to"]) == ("sent", "answered")
    assert (target["max_ns"], target["mean_ns"]) == (40 * MS, 55 * MS // 4)
    assert target["p50_ns"] == pytest.approx(5 * MS, rel=0.125)
    assert [bucket["count"] for bucket in target["buckets"]] == [3, 1]
    json.dumps(document)


def test_phases_add_up_to_the_whole() -> None:
    document = finished((0, 0, 2, [(1000, 3000, 500), (2000, 4000, 700)])).document()
    means = {phase["phase"]: phase["mean_ns"] for phase in document["devices"][0]["operations"][0]["phases"]}
    assert means["whole"] == means["waiting"] + means["target"] + means["commit"]
    assert list(means) == [phase.name for phase in PHASES]


def test_text_has_a_block_an_operation_with_a_column_a_phase() -> None:
    text = finished((0, 0, 0, [(500, 20 * MS, 3000)] * 5), (0, 0, 2, [(500, 900, 3000)])).text()
    read, flush = text.split("\n\n")
    assert read.startswith("ublkb0 read: 5 done, 0/s, 20.0 KiB, no errors, in 10.0 s\n")
    assert flush.startswith("ublkb0 flush: 1 done")
    titles = read.splitlines()[1]
    for title in ("whole", "in -> sent", "sent -> answered", "answered -> committed"):
        assert title in titles
    row = next(line for line in read.splitlines() if "16384 -> 32767" in line)
    # whole and sent -> answered
    assert row.count("5 |***********") == 2


def test_nothing_done_is_said() -> None:
    assert finished().text() == "no I/O was done in 10.0 s"
    assert finished().document() == {"duration_s": 10.0, "devices": []}
