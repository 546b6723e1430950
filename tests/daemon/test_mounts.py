"""The root file system in PID 1's list of mounts."""

from __future__ import annotations

import select
from pathlib import Path

import pytest

from isboot.daemon.channel import Live
from isboot.daemon.launcher import Launcher
from isboot.daemon.log import Log
from isboot.daemon.mounts import RootWatch, find_root
from isboot.daemon.timeline import Timeline, read
from isboot.values import BootConfig, Policy
from tests.block.test_parameters import LUN

EARLY = """\
1 1 0:2 / / rw - rootfs rootfs rw,size=991208k
22 1 0:20 / /proc rw,nosuid,nodev shared:5 - proc proc rw
26 1 0:24 / /run rw shared:2 - tmpfs tmpfs rw
40 26 0:30 / /run/isboot/world rw - ramfs isboot rw
"""


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("", ""),
        (EARLY, ""),
        (EARLY + "55 1 259:3 / /sysroot rw - ext4 /dev/ublkb0p3 rw\n", "/dev/ublkb0p3 on /sysroot"),
        (EARLY + "55 1 0:40 /@ /root rw master:1 - btrfs /dev/ublkb0p3 rw\n", "/dev/ublkb0p3 on /root"),
        (EARLY + "55 1 259:3 / / rw shared:1 - ext4 /dev/mapper/root rw\n", "/dev/mapper/root on /"),
        ("not a line of it\n55 1 259:3 / - \n", ""),
    ],
)
def test_the_root_is_found_where_an_initramfs_mounts_it(lines: str, found: str) -> None:
    assert find_root(lines) == found


def test_where_a_root_is_mounted_already_nothing_is_watched(tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    path.write_text("29 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
    watch = RootWatch(path)
    assert (watch.fileno(), watch.look()) == (-1, "")
    assert RootWatch(tmp_path / "none").fileno() == -1


def test_the_root_is_seen_when_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    path.write_text(EARLY)
    watch = RootWatch(path)
    assert watch.look() == ""
    path.write_text(EARLY + "55 1 259:3 / /sysroot rw - ext4 /dev/ublkb0p3 rw\n")
    assert watch.look() == "/dev/ublkb0p3 on /sysroot"
    watch.close()
    assert watch.fileno() == -1


def test_a_launcher_marks_the_root_and_lets_go_of_the_list(tmp_path: Path) -> None:
    config = BootConfig("test", "iqn.2001-04.com.example:host", (), (), Policy(), is_boot=True)
    timeline = Timeline(tmp_path / "marks")
    made = Launcher(config, {}, Log(to_kernel=False), lambda device: None, 0.0, False, timeline)
    path = tmp_path / "mountinfo"
    path.write_text(EARLY)
    watch = made._root = RootWatch(path)
    live = Live(0, 1, 128, LUN)
    made._watch_root(watch, live)
    assert (read(tmp_path / "marks"), made._root) == ([], watch)
    path.write_text(EARLY + "55 1 259:3 / /root rw - ext4 /dev/ublkb0p3 rw\n")
    made._watch_root(watch, live)
    [mark] = read(tmp_path / "marks")
    assert (mark.step, mark.words) == ("root", "/dev/ublkb0p3 on /root")
    assert (watch.fileno(), made._root) == (-1, None)


def test_the_list_of_mounts_can_be_waited_for() -> None:
    with open("/proc/self/mountinfo", "rb", buffering=0) as file:
        poll = select.poll()
        poll.register(file, select.POLLPRI)
        assert poll.poll(0) == []
