"""isboot boot-report: recorded marks, told again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot import cli
from isboot.commands import boot_report
from isboot.commands.boot_report import WIDTH, bar, draw, initramfs, report, taken
from isboot.daemon.timeline import NAMES, Mark
from isboot.errors import ExitStatus

#: of a boot under BIOS on 6.12 in an emulated guest, with a target that was started late
RECORDED = [
    Mark(9.41, "start"),
    Mark(11.932114, "python"),
    Mark(12.604118, "table", "iBFT (memory), 1 paths"),
    Mark(12.911006, "nic", "enp0s3 (e1000) 52:54:00:99:00:00"),
    Mark(14.920771, "carrier"),
    Mark(14.951302, "address", "10.99.0.2/24"),
    Mark(15.204551, "connect", "", "connecting to 10.99.0.1:3260 through enp0s3: connection refused"),
    Mark(15.411904, "connect", "", "connecting to 10.99.0.1:3260 through enp0s3: connection refused"),
    Mark(16.013377, "connect", "10.99.0.1:3260"),
    Mark(16.160902, "login", "iqn.2001-04.com.example:rig"),
    Mark(16.212377, "lun", "IET VIRTUAL-DISK, 8388608 blocks"),
    Mark(16.514203, "device", "/dev/ublkb0"),
    Mark(18.770015, "root", "/dev/ublkb0p3 on /sysroot"),
]
SYSTEMD = {"initrd_s": 6.2, "userspace_s": 20.5}
SIZE = {"files": 412, "bytes": 25 << 20, "packed_bytes": 9 << 20}
NOTHING = {"files": None, "bytes": None, "packed_bytes": None}


def test_every_step_is_told_once_and_the_times_add_up() -> None:
    document = report(RECORDED, SYSTEMD, SIZE)
    steps = document["steps"]
    assert [step["step"] for step in steps] == list(NAMES)
    assert [step["at_s"] for step in steps] == sorted(step["at_s"] for step in steps)
    assert sum(step["took_s"] for step in steps) == pytest.approx(steps[-1]["at_s"])
    assert document["isboot_s"] == pytest.approx(16.514203 - 9.41)
    assert document["root_s"] == 18.770015
    assert (document["unreached"], document["failures"]) == ([], [])


def test_attempts_that_failed_are_told_with_the_step_they_failed_at() -> None:
    step = next(step for step in report(RECORDED, SYSTEMD, SIZE)["steps"] if step["step"] == "connect")
    assert [failure["at_s"] for failure in step["failures"]] == [15.204551, 15.411904]
    assert step["took_s"] == pytest.approx(16.013377 - 14.951302)


def test_of_a_road_taken_twice_the_second_time_counts() -> None:
    again = [
        *RECORDED[:9],
        Mark(16.1, "login", "", "target not found"),
        Mark(21.2, "connect", "10.99.0.1:3260"),
        Mark(21.3, "login", "iqn"),
    ]
    steps = {step.step: step for step in taken(again)}
    assert steps["connect"].at_s == 21.2
    assert steps["login"].took_s == pytest.approx(0.1)
    assert steps["login"].failures == ((16.1, "target not found"),)


def test_a_boot_that_came_to_nothing_names_what_is_missing() -> None:
    marks = [*RECORDED[:6], Mark(15.2, "connect", "", "connection refused")]
    document = report(marks, {"initrd_s": None, "userspace_s": None}, NOTHING)
    assert document["unreached"] == ["connect", "login", "lun", "device", "root"]
    assert document["failures"] == [{"at_s": 15.2, "step": "connect", "message": "connection refused"}]
    assert (document["isboot_s"], document["root_s"]) == (None, None)
    assert "FAILED: connection refused" in "\n".join(draw(document))


def test_the_drawing_shows_every_step_on_one_axis() -> None:
    lines = draw(report(RECORDED, SYSTEMD, SIZE))
    rows = [line for line in lines if "|" in line]
    assert [row.split()[0] for row in rows] == [
        "start", "python", "table", "NIC", "carrier", "address", "connect", "login", "LUN", "device", "root",
    ]  # fmt: skip
    drawings = [row[row.index("|") + 1 : row.rindex("|")] for row in rows]
    assert {len(drawing) for drawing in drawings} == {WIDTH}
    begins = [len(drawing) - len(drawing.lstrip()) for drawing in drawings]
    assert begins == sorted(begins)
    assert drawings[0].startswith("█" * 10)
    text = "\n".join(lines)
    assert "2 attempts failed before" in text
    assert "isboot: 7.10 s from its start to the device" in text
    assert "root:   18.77 s after the kernel's start; systemd of the root began 1.73 s later" in text
    assert "size:   25.0 MiB in the initramfs (412 files), about 9.0 MiB of its image" in text


@given(st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e5), st.integers(1, 200))
def test_a_bar_is_as_wide_as_its_place_and_never_empty(a: float, b: float, c: float, width: int) -> None:
    begin, end, whole = sorted((a, b, c))
    drawing = bar(begin, end, whole, width)
    assert len(drawing) == width
    assert drawing.strip()


@given(
    st.lists(
        st.builds(Mark, st.floats(0, 1e6), st.sampled_from(NAMES), st.text(), st.sampled_from(["", "x"]))
    )
)
def test_any_marks_make_a_report(marks: list[Mark]) -> None:
    document = report(marks, SYSTEMD, SIZE)
    assert all(step["took_s"] >= 0 for step in document["steps"])
    assert json.loads(json.dumps(document)) == document
    assert draw(document)


def test_the_size_is_what_was_noted_when_the_initramfs_was_made(tmp_path: Path) -> None:
    (tmp_path / "size").write_text("412 26214400 9437184\n")
    assert initramfs(tmp_path / "size") == SIZE
    (tmp_path / "size").write_text("rubbish")
    assert initramfs(tmp_path / "size") == initramfs(tmp_path / "none") == NOTHING


def test_a_machine_booted_otherwise_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(boot_report, "FILE", tmp_path / "marks")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert cli.main(["boot-report"]) == ExitStatus.NOTHING_THERE
    assert "holds no marks" in capsys.readouterr().err
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert cli.main(["boot-report"]) == ExitStatus.NOT_PERMITTED
