"""What is said of a device that ended without its target."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from isboot.daemon import leave
from isboot.daemon.channel import Done
from isboot.daemon.log import Log
from isboot.daemon.shared import Shared
from isboot.errors import DaemonError, ExitStatus

WHY = "every path to it is down"


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = Shared.make(depth=1, max_io_bytes=4096)
    yield made
    os.close(made.fd)


def test_what_was_not_flushed_is_an_error(shared: Shared) -> None:
    shared.counters.written_since_flush = 1
    with pytest.raises(DaemonError) as caught:
        leave.without_target("ublkb0", WHY, shared, Log(to_kernel=False))
    assert caught.value.message == (
        "ending ublkb0: it is gone, but no flush and no logout reached the target: every path to it is down;"
        " it was written to since the last flush"
    )
    assert "write its cache to the medium" in caught.value.hint
    assert caught.value.exit_status is ExitStatus.FAILED


def test_where_all_was_flushed_before_it_is_only_said(
    shared: Shared, capsys: pytest.CaptureFixture[str]
) -> None:
    done = leave.without_target("ublkb0", WHY, shared, Log(to_kernel=False))
    assert isinstance(done, Done)
    assert done.word == "finish"
    assert done.warning.endswith("every path to it is down; all that was written had been flushed before")
    assert done.warning in capsys.readouterr().err
