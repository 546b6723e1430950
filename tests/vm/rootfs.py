"""
Debian 13 trees in the cache, and layers on top of them.

A tree is what mmdebstrap made.  A layer is the upper directory of an overlay over a tree and other layers:
what one more step (a kernel, our package) added.  All mounts are made in a mount namespace of their own,
which the kernel takes away with the last process in it, however that process ends.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm import apt, cache
from tests.vm.progress import RigError

SUITE = "trixie"


@dataclass(frozen=True)
class Tree:
    """One mmdebstrap run."""

    name: str
    variant: str
    packages: tuple[str, ...]


#: what guests run; our package's dependencies are in it so that installing the package takes seconds
GUEST = Tree(
    "guest",
    "minbase",
    (
        "ca-certificates", "systemd-sysv", "udev", "dbus", "kmod", "procps", "iproute2", "e2fsprogs",
        "dracut",
        "python3", "python3-bpfcc", "python3-pyroute2", "python3-cffi-backend", "python3-crc32c", "liburing2",
        "libisal2", "python3-pytest", "python3-hypothesis", "fio", "strace", "nftables", "iputils-ping",
        "busybox-static", "psmisc", "tcpdump",
    ),
)  # fmt: skip

#: where the package and the C engine are built, and whence GRUB comes
TOOLS = Tree(
    "tools",
    "buildd",
    (
        "debhelper", "dh-python", "python3-all-dev", "python3-cffi", "python3-setuptools", "liburing-dev",
        "libisal-dev", "systemtap-sdt-dev", "pybuild-plugin-pyproject", "grub-pc-bin", "grub-efi-amd64-bin",
        "grub-common", "lintian",
    ),
)  # fmt: skip


def tree(which: Tree) -> Path:
    """The tree's directory in the cache, made by mmdebstrap (about a minute) when it is not there."""
    key = cache.fingerprint(which.variant, SUITE, " ".join(which.packages))

    def make(path: Path) -> None:
        command = [
            "mmdebstrap", f"--variant={which.variant}", "--mode=root", "--components=main",
            f"--keyring={apt.KEYRING}", f"--include={','.join(which.packages)}",
            '--aptopt=Acquire::Languages "none"', *(f"--aptopt={file}" for file in apt.options()),
            SUITE, str(path), apt.mirror(),
        ]  # fmt: skip
        run(command)

    return cache.obtain(f"tree-{which.name}", key, make)


def archives(which: Tree, packages: Sequence[str]) -> Path:
    """The .deb files that installing these packages in the tree would take, as a directory in the cache."""
    base = tree(which)
    script = f"""
    echo 'deb {apt.mirror()} {SUITE} main' > /etc/apt/sources.list.d/archives.list
    apt-get -q update
    apt-get -qy --no-install-recommends --download-only -o Dir::Cache::archives=/result install \
        {" ".join(packages)}
    rm -r /result/partial /result/lock
    """

    def make(path: Path) -> None:
        path.mkdir()
        run_inside([base], script, binds=((path, "/result"),))

    key = cache.fingerprint(base.name, SUITE, *packages)
    return cache.obtain(f"archives-{packages[0]}", key, make)


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """
    Run a build step quietly.

    :raises RigError: it failed; the message ends with the last 40 lines it wrote
    """
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=environment
    )
    if done.returncode:
        tail = "\n".join(done.stdout.decode(errors="replace").splitlines()[-40:])
        raise RigError(f"{shlex.join(command)[:200]}: exit {done.returncode}\n{tail}")


def run_inside(
    lower: Sequence[Path],
    script: str,
    *,
    upper: Path | None = None,
    binds: Sequence[tuple[Path, str]] = (),
    is_chroot: bool = True,
) -> None:
    """
    Run a shell script over the merged layers.

    :param lower: topmost first
    :param upper: a directory that keeps what the script changes; None throws it away
    :param binds: (path here, path inside): directories and files to show inside
    :param is_chroot: run inside, with /proc, /sys and /dev; otherwise run here, the merged root being `$ROOT`
        without those mounts
    :raises RigError: the script failed
    """
    with _work_directory() as work:
        top = upper or work / "upper"
        top.mkdir(exist_ok=True)
        (work / "work").mkdir()
        mounts = ",".join(
            ["lowerdir=" + ":".join(map(str, lower)), f"upperdir={top}", f"workdir={work}/work"]
        )
        _run_mounted(
            f"mount -t overlay overlay -o {mounts} {work}/root", work / "root", script, binds, is_chroot
        )


def run_inside_image(
    image: Path,
    offset_bytes: int,
    script: str,
    *,
    binds: Sequence[tuple[Path, str]] = (),
    is_chroot: bool = True,
) -> None:
    """
    Run a shell script over the ext4 file system in an image, changing it; parameters as in `run_inside`.

    :param offset_bytes: where the file system starts
    """
    with _work_directory() as work:
        mount = f"mount -t ext4 -o loop,offset={offset_bytes} {image} {work}/root"
        _run_mounted(mount, work / "root", script, binds, is_chroot)


@contextmanager
def _work_directory() -> Iterator[Path]:
    # an overlay wants its work directory on the file system of its upper directory: both are in the cache
    with tempfile.TemporaryDirectory(prefix=".work-", dir=cache.directory()) as name:
        (Path(name) / "root").mkdir()
        yield Path(name)


def _run_mounted(
    mount: str, root: Path, script: str, binds: Sequence[tuple[Path, str]], is_chroot: bool
) -> None:
    steps = ["set -e", mount]
    for here, inside in binds:
        target = f"{root}{inside}"
        steps.append(
            f"mkdir -p {target}" if here.is_dir() else f"mkdir -p {Path(target).parent}; : > {target}"
        )
        steps.append(f"mount --bind {here} {target}")
    if is_chroot:
        steps += [
            f"mount -t proc proc {root}/proc", f"mount --rbind /sys {root}/sys",
            f"mount --rbind /dev {root}/dev", f"mount -t tmpfs tmpfs {root}/run",
            f"cat /etc/resolv.conf > {root}/etc/resolv.conf",
            f"chroot {root} /bin/sh -euc {shlex.quote(script)}", f"rm -f {root}/etc/resolv.conf",
        ]  # fmt: skip
    else:
        steps += [f"export ROOT={root}", script]
    variables = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
        "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive",
    }  # fmt: skip
    unshare = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
    run([*unshare, "sh", "-c", "\n".join(steps)], {**os.environ, **variables})
