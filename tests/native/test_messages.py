"""
What isboot-boot says when it cannot make its world: every step of it is made to fail, by strace, in a mount
namespace where nothing of this machine can be touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("strace", "gcc", "unshare")
pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces need root"),
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason=f"needs {', '.join(PROGRAMS)}"),
]
#: no /dev/kmsg, so that it speaks to standard error; a /run and a world of the test's own
PRIVATE = "mount -t tmpfs test /run; mount -t tmpfs test /dev; exec"


@dataclass(frozen=True)
class Row:
    """
    :ivar inject: strace's: which system call fails, how, and the how manieth of them
    :ivar said: the line on standard error
    """

    inject: str
    said: str
    command: str = "world"


def mount(number: int) -> str:
    return f"mount:error=EPERM:when={number}"


NO = "Operation not permitted"
WORLD = "/run/isboot/world"
ROWS = (
    Row(mount(1), f"making programs executable under /run/initramfs: {NO}"),
    Row("mkdir:error=EROFS:when=3", f"making {WORLD}: Read-only file system"),
    Row("unshare:error=EPERM", f"unsharing the mount namespace: {NO}"),
    Row(mount(3), f"making private /: {NO}"),
    Row(mount(4), f"mounting a ramfs on {WORLD}: {NO}"),
    Row("mkdir:error=ENOSPC:when=6", f"making {WORLD}/proc: No space left on device"),
    Row(mount(5), f"binding /dev: {NO}"),
    Row(mount(6), f"binding /run: {NO}"),
    Row(mount(7), f"mounting /proc: {NO}"),
    Row(mount(8), f"mounting /sys: {NO}"),
    Row("chdir:error=ENOENT:when=1", f"entering {WORLD}: No such file or directory"),
    Row(mount(9), f"moving it over /: {NO}"),
    Row("chroot:error=EPERM", f"changing root to {WORLD}: {NO}"),
    Row("none", "running /no/such/program: No such file or directory"),
    Row("none", "reading a pid from {tree}/none: No such file or directory", "join {tree}/none"),
    Row("openat:error=ESRCH:when=2", "opening /proc/{pid}/ns/mnt: No such process", "join {tree}/pid"),
    Row("setns:error=EPERM", "joining /proc/{pid}/ns/mnt: " + NO, "join {tree}/pid"),
)


@pytest.fixture(scope="module")
def isboot_boot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("boot") / "isboot-boot"
    sources = sorted(map(str, Path("tools/boot").glob("*.c")))
    subprocess.run(["gcc", "-std=gnu11", "-O1", "-static", "-o", str(program), *sources], check=True)
    return program


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("of the world")
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    return tmp_path


def run(program: Path, arguments: list[str], inject: str = "none") -> subprocess.CompletedProcess[str]:
    """Run isboot-boot where it can do no harm."""
    traced = [] if inject == "none" else ["strace", "-f", "-o", "/run/trace", "-e", f"inject={inject}"]
    script = f'{PRIVATE} "$@"'
    command = ["unshare", "--mount", "sh", "-ec", script, "sh", *traced, str(program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.said.partition(":")[0].replace("/", "-"))
def test_a_world_that_cannot_be_made_says_what_failed(isboot_boot: Path, tree: Path, row: Row) -> None:
    words = row.command.format(tree=tree).split()
    arguments = [*words, *([str(tree / "tree")] if row.command == "world" else []), "/no/such/program"]
    done = run(isboot_boot, arguments, row.inject)
    said = row.said.format(tree=tree, pid=os.getpid())
    assert done.stderr.splitlines() == [f"<5>isboot: making a world in memory: {said}"]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("inject", "said"),
    [
        ("none", "looking at {tree}/tree/none: No such file or directory"),
        ("sendfile:error=ENOSPC", f"writing {WORLD}/file: No space left on device"),
    ],
)
def test_a_tree_that_cannot_be_copied_is_named(isboot_boot: Path, tree: Path, inject: str, said: str) -> None:
    where = tree / "tree" / ("none" if inject == "none" else "")
    done = run(isboot_boot, ["world", str(where), "/no/such/program"], inject)
    assert done.stderr.splitlines() == [f"<5>isboot: copying into memory: {said.format(tree=tree)}"]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("inject", "said"),
    [
        ("socket:error=EMFILE:when=1", "listening on /run/isboot/notify: Too many open files"),
        ("clone:error=EAGAIN:when=1", "forking: Resource temporarily unavailable"),
        ("pidfd_open:error=EMFILE", "watching the process: Too many open files"),
        ("poll:error=ENOMEM", "waiting for the process: Cannot allocate memory"),
        ("wait4:error=ECHILD", "asking how it ended: No child processes"),
        ("none", "it ended before its disk was there, exit status 1"),
        ("chroot:signal=KILL", "it ended before its disk was there, by signal 9"),
    ],
)
def test_a_start_that_fails_says_how(isboot_boot: Path, tree: Path, inject: str, said: str) -> None:
    done = run(isboot_boot, ["start", str(tree / "tree"), "/no/such/program"], inject)
    assert f"<5>isboot: starting: {said}" in done.stderr.splitlines()
    assert done.returncode == 1
