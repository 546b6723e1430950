"""The native rig, run: that it measures and checks, never how fast anything is."""

from __future__ import annotations

import pytest

from tests.bench import native
from tests.bench.guests import Options
from tests.native.targets import missing

pytestmark = [pytest.mark.native, pytest.mark.slow]


@pytest.mark.skipif(bool(missing("iscsi-perf")), reason=f"{missing('iscsi-perf')}: libiscsi-bin has it")
def test_the_native_rig_measures_both_sides() -> None:
    options = Options(seconds=1, rounds=1, cells=("cpu-per-4k-read-qd32",), peers=(), say=lambda _text: None)
    (row,) = native.measure(options)
    assert (row["rig"], row["peer"], row["rounds"]) == ("native", "libiscsi", 1)
    assert row["peer_version"].startswith("libiscsi 1.")
    assert row["ours"] > 0
    assert row["theirs"] > 0
