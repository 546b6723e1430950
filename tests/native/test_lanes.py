"""Two lanes on one LUN: a thread, a ring, a connection, a session each; only the counters are shared."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest
from isboot._engine import ffi, lib

from isboot import boot
from isboot.config import url
from isboot.engine.lane import Lane, Reason, make_error
from isboot.engine.requests import RequestList, read, write
from isboot.values import Policy
from tests.native.targets import Tgtd, missing

pytestmark = pytest.mark.native

LANES = 2
SHARE_BYTES = 8 << 20
INITIATOR = "iqn.2026-11.org.example:lanes"


def test_two_lanes_move_blocks_side_by_side(tmp_path: Path) -> None:
    if reason := missing("tgtd"):
        pytest.skip(reason)
    shared = ffi.cast(
        "struct isboot_shared *", lib.isboot_shared_map(ffi.sizeof("struct isboot_shared"), make_error())
    )
    failures: list[BaseException] = []

    def live(index: int, port: int) -> None:
        try:
            serve(index, port)
        except BaseException as error:
            failures.append(error)

    def serve(index: int, port: int) -> None:
        config = url.from_url(
            f"iscsi://127.0.0.1:{port}/iqn.2026-11.org.example:disk0/1",
            initiator_name=INITIATOR,
            credentials=None,
            policy=Policy(),
        )
        attached = boot.connect(config, config.paths[0], {}, index, lambda text: None, expected=None)
        lane = Lane(
            index=index,
            device_id=0,
            depth=16,
            max_io_bytes=1 << 18,
            block_size_bytes=512,
            command_timeout_ms=10_000,
            nop_interval_ms=10_000,
            nop_timeout_ms=10_000,
            has_fua=True,
            buffers=None,
            shared=shared,
        )
        lane.start()
        lane.attach(attached.session)
        rng = random.Random(index)
        pieces = [rng.randbytes(1 << 15) for _ in range(SHARE_BYTES >> 15)]
        start = index * SHARE_BYTES
        written = RequestList(write(start + (at << 15), piece) for at, piece in enumerate(pieces))
        lane.open_local(written.array, written.count)
        assert lane.run()[0] == Reason.IDLE
        done = RequestList(read(start + (at << 15), 1 << 15) for at in range(len(pieces)))
        lane.open_local(done.array, done.count)
        assert lane.run()[0] == Reason.IDLE
        assert [done.data(at) for at in range(done.count)] == pieces
        lane.close()
        attached.sock.close()

    with Tgtd(tmp_path / "tgtd") as target:
        target.add_target("disk0")
        target.add_lun(1, 1, size_bytes=LANES * SHARE_BYTES)
        threads = [threading.Thread(target=live, args=(index, target.port)) for index in range(LANES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures, failures
    for index in range(LANES):
        counters = shared.lanes[index]
        assert counters.read_bytes == counters.written_bytes == SHARE_BYTES
        assert counters.reconnects == 0
