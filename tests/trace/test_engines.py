"""Which engines run, read from /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from isboot.errors import ExitStatus, TraceError
from isboot.trace.engines import find

SO = "isboot/_engine.cpython-313-x86_64-linux-gnu.so"
MAP = "00007f00{n}000-00007f00{n}fff r--p 00000000 {device} {inode}      {name}\n"
OTHER = MAP.format(n=9, device="fd:00", inode=5, name="/usr/lib/x86_64-linux-gnu/libc.so.6")


def proc_with(directory: Path, processes: dict[int, str]) -> Path:
    (directory / "self").mkdir()
    for pid, text in processes.items():
        (directory / str(pid)).mkdir()
        (directory / str(pid) / "maps").write_text(text)
    return directory


def engine(inode: int, name: str = f"/usr/lib/python3/dist-packages/{SO}", device: str = "00:17") -> str:
    return OTHER + MAP.format(n=1, device=device, inode=inode, name=name) + OTHER


def test_file_is_given_once_for_all_processes_that_share_it(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, {12: engine(1), 7: OTHER, 9: engine(1), 30: engine(1), 4: ""})
    (found,) = find(proc=proc)
    assert found.pids == (9, 12, 30)
    assert found.path == proc / "9" / "map_files" / "7f001000-7f001fff"
    assert found.name.endswith(SO)


def test_files_differ_by_device_and_inode(tmp_path: Path) -> None:
    processes = {1: engine(1), 2: engine(2), 3: engine(1, device="00:18"), 4: engine(2, f"/x/{SO} (deleted)")}
    found = find(proc=proc_with(tmp_path, processes))
    assert [one.pids for one in found] == [(1,), (2, 4), (3,)]


def test_only_the_engines_of_a_process_are_given(tmp_path: Path) -> None:
    (found,) = find([12], proc_with(tmp_path, {9: engine(1), 12: engine(2), 13: engine(2)}))
    assert found.pids == (12, 13)


@pytest.mark.parametrize("name", ["/usr/lib/other/_engine.so", "/tmp/isboot/_engine.so.bak", "[heap]"])
def test_no_engine_is_an_error_that_says_what_to_do(tmp_path: Path, name: str) -> None:
    with pytest.raises(TraceError, match="no process uses it") as caught:
        find(proc=proc_with(tmp_path, {9: engine(1, name)}))
    assert caught.value.exit_status == ExitStatus.NOTHING_THERE
    assert "isboot attach" in caught.value.hint
