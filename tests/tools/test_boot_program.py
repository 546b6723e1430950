"""isboot-boot: `start` and `keep`, where a service manager is missing or late; what launchers are told."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(os.geteuid() != 0, reason="mount namespaces need root"),
]

SOURCES = Path(__file__).resolve().parents[2] / "tools/boot"
#: the process that is started: says what it is told to NOTIFY_SOCKET, then waits or ends
PROGRAM = r"""
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int count, char **words)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	strcpy(address.sun_path, getenv("NOTIFY_SOCKET"));
	for (int i = 2; i < count; i++)
		sendto(fd, words[i], strlen(words[i]), 0, (struct sockaddr *)&address, sizeof(address));
	if (strcmp(words[1], "wait") == 0)
		for (;;)
			pause();
	return atoi(words[1]);
}
"""
#: a /run as initramfs-tools leaves it; the machine's own mounts are not touched
NAMESPACE = ("unshare", "--mount", "--propagation=private", "sh", "-euc")
PREPARE = "mount -t tmpfs -o noexec,nosuid,nodev,mode=0755 run /run; mkdir -m 700 /run/initramfs; "


def compile_static(program: Path, *sources: Path, flags: str = "") -> None:
    command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Werror", "-static", "-o", str(program)]
    subprocess.run([*command, *flags.split(), *map(str, sources)], check=True)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give isboot-boot, and a tree that holds /program."""
    directory = tmp_path_factory.mktemp("boot")
    source = directory / "program.c"
    source.write_text(PROGRAM, encoding="ascii")
    (directory / "tree").mkdir()
    compile_static(directory / "tree/program", source)
    compile_static(directory / "isboot-boot", *sorted(SOURCES.glob("*.c")))
    return directory / "isboot-boot", directory / "tree"


def start(places: tuple[Path, Path], words: str, after: str = "") -> tuple[int, list[str]]:
    """Give the exit status of `start`, and what the shell said after it; what it started is ended."""
    program, tree = places
    # the shell is PID 1 of a namespace of its own: what was started ends with it
    command = [NAMESPACE[0], "--pid", "--fork", "--kill-child", "--mount-proc", *NAMESPACE[1:]]
    text = f"{PREPARE} status=0; {program} start {tree} /program {words} || status=$?; echo $status; {after}"
    done = subprocess.run([*command, text], capture_output=True, text=True, check=True, timeout=20)
    status, *rest = done.stdout.splitlines()
    return int(status), rest


def test_start_returns_when_the_process_says_ready_and_leaves_it_alone(places: tuple[Path, Path]) -> None:
    after = "cat /proc/2/cmdline | tr '\\0' ' '; echo; ls /run/isboot; readlink /proc/2/fd/0 /proc/2/fd/2; "
    after += "cut -d' ' -f6 /proc/2/stat; ls /proc/2/root"
    after = after.replace("/proc/2/", "/proc/$(pgrep -f '^@isboot')/")
    status, said = start(places, 'wait STATUS=soon "X=READY=1" "STATUS=now\nREADY=1"', after)
    assert status == 0
    # its name; no socket is left; neither its input nor its messages are the shell's
    assert said[:4] == ["@isboot wait STATUS=soon X=READY=1 STATUS=now", "READY=1 ", "world", "/dev/null"]
    assert said[4] == "/dev/kmsg"
    assert said[5] not in ("0", "1")  # a session of its own
    assert said[6:] == ["dev", "proc", "program", "run", "sys", "tmp"]


@pytest.mark.parametrize(("words", "status"), [("66", 66), ("0", 1), ("75 STATUS=READY=1", 75)])
def test_start_tells_how_a_process_ended_that_never_was_ready(
    places: tuple[Path, Path], words: str, status: int
) -> None:
    assert start(places, words)[0] == status


def test_start_hears_a_process_that_ends_right_after_it_was_ready(places: tuple[Path, Path]) -> None:
    assert start(places, "0 READY=1")[0] == 0


def test_programs_for_the_shutdown_can_be_run_though_run_is_noexec(places: tuple[Path, Path]) -> None:
    after = f"cp {places[0]} /run/isboot-boot; cp {places[0]} /run/initramfs/shutdown; "
    after += "test -x /run/isboot-boot || echo not there; test -x /run/initramfs/shutdown && echo here"
    assert start(places, "wait READY=1", after)[1] == ["not there", "here"]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Give the service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        end.setblocking(False)
        yield end


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """Give the pids of a launcher, by its name, and of its worker."""
    script = "sleep 60 > /dev/null & echo $!; wait"
    with subprocess.Popen(
        ["@isboot", "-c", script], executable="/bin/sh", stdout=subprocess.PIPE, text=True
    ) as launcher:
        assert launcher.stdout is not None
        worker = int(launcher.stdout.readline())
        yield launcher.pid, worker
        os.kill(worker, signal.SIGKILL)


def keep(places: tuple[Path, Path], manager: socket.socket, worker: int | str) -> int:
    """Run `keep` for a worker and give its exit status; the program to run instead gives 9."""
    file = Path(manager.getsockname()).with_name("worker")
    file.write_text(f"{worker}\n", encoding="ascii")
    command = [str(places[0]), "keep", str(file), "/bin/sh", "-c", "exit 9"]
    environment = {**os.environ, "NOTIFY_SOCKET": manager.getsockname()}
    return subprocess.run(command, env=environment, check=False, timeout=20).returncode


def heard(manager: socket.socket) -> str:
    """Give what the service manager was told, "" for nothing."""
    try:
        return manager.recv(100).decode()
    except BlockingIOError:
        return ""


def test_keep_makes_the_launcher_that_lives_the_units_main_process(
    places: tuple[Path, Path], manager: socket.socket, family: tuple[int, int]
) -> None:
    launcher, worker = family
    assert keep(places, manager, worker) == 0
    assert heard(manager) == f"MAINPID={launcher}\nREADY=1\n"


def test_keep_runs_another_launcher_where_the_workers_parent_is_none(
    places: tuple[Path, Path], manager: socket.socket, family: tuple[int, int]
) -> None:
    launcher, _ = family
    assert keep(places, manager, launcher) == 9  # its parent is this test
    assert heard(manager) == ""


@pytest.mark.parametrize("worker", ["", "0", "4194305"])
def test_keep_without_a_worker_fails(places: tuple[Path, Path], manager: socket.socket, worker: str) -> None:
    assert keep(places, manager, worker) == 1
    assert heard(manager) == ""


#: a launcher that gives each client the next of its answers, then is gone
LAUNCHER = """
import os, socket, subprocess, sys
program, *answers = sys.argv[1:]
os.makedirs("/run/isboot/control")
server = socket.socket(socket.AF_UNIX)
server.bind("/run/isboot/control/ublkb0")
server.listen()
teller = subprocess.Popen([program, "tell", "finish"])
heard = []
for answer in answers:
    client = server.accept()[0]
    heard.append(client.recv(100).decode().strip())
    client.sendall(answer.encode())
    client.close()
server.close()
print(teller.wait(), *sorted(set(heard)), len(heard))
"""
AGAIN = '{"ok": false, "message": "the device is being recovered", "exit_status": 75}\n'


@pytest.mark.parametrize(
    ("answers", "status"),
    [
        ([AGAIN, AGAIN, '{"ok": true}\n'], 0),
        ([AGAIN], 1),  # and ends without having done it
        (['{"ok": false, "message": "it is mounted", "exit_status": 70}\n'], 1),
    ],
    ids=["done", "gone", "refused"],
)
def test_who_asks_to_try_again_is_told_again(
    places: tuple[Path, Path], answers: list[str], status: int
) -> None:
    text = 'mount -t tmpfs run /run; exec "$@"'
    command = [*NAMESPACE, text, "sh", sys.executable, "-c", LAUNCHER, str(places[0]), *answers]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == f'{status} {{"do": "finish"}} {len(answers)}\n'


#: no machine is rebooted here, and the rounds are short
WRAPPERS = """
#include <unistd.h>
long __wrap_syscall(long number, ...) { _exit(write(2, "rebooted\\n", 9) != 9); }
int __wrap_reboot(int command) { _exit(9); }
int __wrap_nanosleep(const void *time, void *left) { return usleep(1000); }
"""
#: a root that is busy, and on it the mount of a FUSE server that never answers; argument: how it is busy
DEAD_SERVER = """
import ctypes, os, socket, subprocess, sys, threading
place, program, how = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def mount(kind, where, data=""):
    os.makedirs(where, exist_ok=True)
    if libc.mount(kind.encode(), where.encode(), kind.encode(), 0, data.encode()):
        raise OSError(ctypes.get_errno(), where)
mount("tmpfs", place)
for kind, where in (("proc", "/proc"), ("tmpfs", "/oldroot")):
    mount(kind, place + where)
os.makedirs(place + "/run/isboot/control")
fuse = os.open("/dev/fuse", os.O_RDWR)
dead = place + "/oldroot/dead"
mount("fuse", dead, f"fd={fuse},rootmode=40000,user_id=0,group_id=0")
held = [os.open(dead, os.O_PATH)] if how == "held" else []
file = open(place + "/oldroot/busy", "w") if how == "held" else None
server = socket.socket(socket.AF_UNIX)
server.bind(place + "/run/isboot/control/ublkb0")
server.listen()
def serve():
    client = server.accept()[0]
    os.write(2, client.recv(100))
    client.sendall(b'{"ok": true}\\n')
threading.Thread(target=serve, daemon=True).start()
subprocess.run(["cp", program, place + "/shutdown"], check=True)
sys.exit(subprocess.run(["chroot", place, "/shutdown", "poweroff"], check=False).returncode)
"""


@pytest.fixture(scope="module")
def shutdown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give /shutdown as it is, but for its end."""
    directory = tmp_path_factory.mktemp("shutdown")
    (directory / "wrappers.c").write_text(WRAPPERS, encoding="ascii")
    flags = "-Wl,--wrap=syscall,--wrap=reboot,--wrap=nanosleep"
    sources = (directory / "wrappers.c", *sorted(SOURCES.glob("*.c")))
    compile_static(directory / "program", *sources, flags=flags)
    return directory / "program"


@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="this kernel has no FUSE")
@pytest.mark.parametrize(("how", "word"), [("held", "flush"), ("free", "finish")])
def test_a_server_that_is_dead_does_not_keep_the_disk_from_its_flush(
    shutdown: Path, tmp_path: Path, how: str, word: str
) -> None:
    command = [*NAMESPACE[:1], "--pid", "--fork", "--kill-child", "--mount-proc", *NAMESPACE[1:3]]
    script = [sys.executable, "-c", DEAD_SERVER, str(tmp_path), str(shutdown), how]
    done = subprocess.run([*command, *script], capture_output=True, text=True, check=False, timeout=20)
    said = done.stderr.splitlines()
    assert done.returncode == 0, said
    assert said[-1] == "rebooted"
    assert f'{{"do": "{word}"}}' in said
    assert ("<5>isboot: shutdown: root unmounted" in said) == (how == "free")
    if how == "held":
        # who holds it is looked for after the flush
        assert said.index('{"do": "flush"}') < next(n for n, line in enumerate(said) if "hold" in line)
