"""`isboot bench` against real targets: what was written is what is read, over every kind of session."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isboot import cli
from isboot.errors import ExitStatus
from tests.fakes.disk import Disk
from tests.fakes.login import Limits
from tests.fakes.target import FakeTarget
from tests.native.targets import Istgt, Tgtd, missing

pytestmark = [pytest.mark.native, pytest.mark.slow]

INITIATOR = "iqn.2026-11.org.example:bench"


@pytest.fixture
def tgtd(tmp_path: Path) -> Iterator[Tgtd]:
    """A tgtd with one target; its LUN 1 has blocks of 512 bytes, its LUN 2 of 4096."""
    if reason := missing("tgtd"):
        pytest.skip(reason)
    with Tgtd(tmp_path / "tgtd") as target:
        target.add_target("disk0")
        target.add_lun(1, 1, size_bytes=32 << 20)
        target.add_lun(1, 2, size_bytes=32 << 20, block_size_bytes=4096)
        yield target


def url(port: int, lun: int = 1, name: str = "disk0") -> str:
    return f"iscsi://127.0.0.1:{port}/iqn.2026-11.org.example:{name}/{lun}"


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status = cli.main(["bench", "--json", "--initiator", INITIATOR, *arguments])
    captured = capsys.readouterr()
    return status, json.loads(captured.out or "{}") | {"messages": captured.err}


@pytest.mark.parametrize("lun", [1, 2])
@pytest.mark.parametrize("digests", ["", "header", "data", "header,data"])
def test_tgtd_gives_back_what_was_written(
    tgtd: Tgtd, capsys: pytest.CaptureFixture[str], digests: str, lun: int
) -> None:
    for key in ("HeaderDigest", "DataDigest"):
        # with both allowed tgt takes CRC32C out of any list
        allowed = "CRC32C" if key.removesuffix("Digest").lower() in digests else "None"
        tgtd.admin("--op", "update", "--mode", "target", "--tid", "1", "-n", key, "-v", allowed)
    status, figures = bench(
        capsys, url(tgtd.port, lun), "--verify", "500", "--area", "16M", "--digests", digests
    )
    assert (status, figures["differ"]) == (ExitStatus.FINE, 0), figures
    assert figures["session"]["header_digest"] == ("header" in digests)
    assert figures["session"]["data_digest"] == ("data" in digests)
    assert figures["wire_sent_bytes"] > figures["bytes"] / 4
    assert figures["protocol_errors"] == 0


@pytest.mark.parametrize("initial_r2t", ["0", "1"])
@pytest.mark.parametrize("immediate_data", ["0", "1"])
def test_tgtd_takes_data_however_it_is_sent(
    tgtd: Tgtd, capsys: pytest.CaptureFixture[str], initial_r2t: str, immediate_data: str
) -> None:
    tgtd.admin("--mode", "target", "--op", "update", "--tid", "1", "-n", "InitialR2T", "-v", "No")
    status, figures = bench(
        capsys, url(tgtd.port), "--verify", "500", "--area", "16M",
        "--param", f"initial_r2t={initial_r2t}", "--param", f"immediate_data={immediate_data}",
    )  # fmt: skip
    assert (status, figures["differ"]) == (ExitStatus.FINE, 0), figures
    assert figures["session"]["initial_r2t"] == (initial_r2t == "1")
    assert figures["session"]["immediate_data"] == (immediate_data == "1")


def test_what_was_there_before_is_put_back(tgtd: Tgtd, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tgtd.directory / "disk1-1"
    before = bytes(range(256)) * (32 << 12)
    disk.write_bytes(before)
    status, _ = bench(capsys, url(tgtd.port), "--verify", "200", "--area", "4M")
    assert status == ExitStatus.FINE
    assert disk.read_bytes() == before


def test_a_target_that_starts_again_costs_nothing_but_time(
    tgtd: Tgtd, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping = threading.Event()

    def restart() -> None:
        while not stopping.wait(0.3):
            tgtd.stop()
            time.sleep(0.1)
            tgtd.start()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        status, figures = bench(capsys, url(tgtd.port), "--verify", "3000", "--area", "16M")
    finally:
        stopping.set()
        thread.join()
    assert (status, figures["differ"], figures["io_errors"]) == (ExitStatus.FINE, 0, 0), figures
    assert figures["reconnects"] >= 2


def test_istgt_gives_back_what_was_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if reason := missing("istgt"):
        pytest.skip(reason)
    with Istgt(tmp_path / "istgt") as target:
        for digests in ("", "header,data"):
            status, figures = bench(
                capsys, url(target.port, 0), "--verify", "400", "--area", "16M", "--digests", digests
            )
            assert (status, figures["differ"]) == (ExitStatus.FINE, 0), figures


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_recv_data_segment_length=512),
        Limits(first_burst_length=512, max_burst_length=512),
        Limits(initial_r2t=False),
        Limits(initial_r2t=True, immediate_data=False),
        Limits(),
    ],
    ids=str,
)
@pytest.mark.parametrize("separate_status", [False, True])
def test_the_scripted_target_gives_back_what_was_written(
    capsys: pytest.CaptureFixture[str], limits: Limits, separate_status: bool
) -> None:
    with FakeTarget(disk=Disk(), limits=limits) as target:
        target.separate_status = separate_status
        status, figures = bench(capsys, url(target.port, name="fake"), "--verify", "60", "--depth", "8")
    assert (status, figures["differ"]) == (ExitStatus.FINE, 0), figures


def test_io_is_measured(tgtd: Tgtd, capsys: pytest.CaptureFixture[str]) -> None:
    status, figures = bench(capsys, url(tgtd.port), "--count", "2000", "--depth", "16")
    assert status == ExitStatus.FINE
    assert (figures["reads"], figures["writes"]) == (2000, 0)
    assert figures["iops"] > 0
    assert figures["latency_us"]["p50"] <= figures["latency_us"]["p999"]
    status, figures = bench(capsys, url(tgtd.port), "--count", "500", "--size", "64K", "--write", "--destroy")
    assert (status, figures["writes"]) == (ExitStatus.FINE, 500)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["--write"], "--destroy"), (["--verify", "0"], "--verify"), (["--size", "7"], "--size")],
)
def test_what_cannot_be_meant_is_refused(
    tgtd: Tgtd, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str
) -> None:
    status, figures = bench(capsys, url(tgtd.port), *arguments)
    assert status == ExitStatus.USAGE
    assert word in figures["messages"]
