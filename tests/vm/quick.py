"""
The quick guest: a Debian 13 root on a local disk, the working tree of now, an agent, and nothing else.

QEMU loads the kernel; a small initramfs mounts the disk; PID 1 is a shell that runs the agent.  No init
system, no udev, no isboot package: what is imported is the working tree, in /run/rig/tree, with the C engine
built for the guest.  Six seconds from power-on to the first command.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.vm import cache, clock, engine, guest, ipxe, rootfs, source
from tests.vm.guest import Guest
from tests.vm.kernel import INSIDE, Archive, Kernel, kernel, quick_initramfs
from tests.vm.network import Network
from tests.vm.progress import RigError, say
from tests.vm.qemu import Drive, Machine
from tests.vm.target import Account

#: where the working tree is in the guest
TREE = "/run/rig/tree"


@dataclass(frozen=True)
class Hook:
    """The LUN iPXE logs in to before it loads the kernel, by one path or by several, one a NIC."""

    root_paths: Sequence[str]
    accounts: Sequence[Account] = ()
    initiator: str = "iqn.2001-04.com.example:diskless"


def image(which: Kernel) -> Path:
    """The quick guest's disk: ext4, the guest tree and the kernel's modules; never written by a guest."""

    def make(path: Path) -> None:
        # the page cache forgets an image that is not on the disk yet the moment QEMU opens it: sync first
        script = f"truncate -s 4G {path}; mke2fs -q -t ext4 -L root -d $ROOT {path}; sync {path}"
        rootfs.run_inside(which.layers, script, is_chroot=False)

    return cache.obtain(f"quick-image-{which.label}", cache.fingerprint(which.layer.name, "root"), make)


def working_tree() -> bytes:
    """The repository's files as they are now, tracked or not, as an archive to append to the initramfs."""
    archive = Archive()
    for file in source.files():
        archive.file(f"rig/tree/{file.name}", file.data, file.mode)
    try:
        built = engine.extension()
    except RigError as error:
        # half-written C must not stop tests that do without it; those that need it fail at their import
        say(f"THIS GUEST HAS NO isboot._engine: {error}")
        built = None
    if built:
        for extension in built.glob("*.so"):
            archive.file(f"rig/tree/isboot/{extension.name}", extension.read_bytes())
    for name in ("agent.py", "quick-root"):
        archive.file(f"rig/{name}", (INSIDE / name).read_bytes())
    return archive.packed()


def prepare(label: str) -> None:
    """Build what a quick guest needs, so that others are not kept waiting for the guest lock meanwhile."""
    which = kernel(label)
    image(which)
    quick_initramfs(which)
    with suppress(RigError):
        engine.extension()  # what does not compile is reported when the guest starts


@contextmanager
def quick_guest(
    label: str,
    name: str = "quick",
    *,
    firmware: str = "direct",
    hook: Hook | None = None,
    network: Network | None = None,
    directory: Path | None = None,
    drives: Sequence[Drive] = (),
    memory_mib: int = 2048,
    command_line: str = "",
    root: Path | None = None,
    extra: Sequence[str] = (),
) -> Iterator[Guest]:
    """
    A quick guest, ready for commands.  The caller holds `guest_lock`.

    Commands find the working tree with `PYTHONPATH` set and as their directory.  With a network, eth0 is
    10.99.0.2/24 (eth1 10.99.1.2/24 ...); without, QEMU's NAT, where 10.0.2.2 is this machine's 127.0.0.1.

    :param label: "6.12" or "7.2"
    :param firmware: "bios" or "uefi": iPXE logs in to the target of `hook` and leaves an iBFT; "direct"
    :param drives: more disks: /dev/vdb and so on
    :param command_line: more words for the kernel
    :param root: another disk than `image`
    :param extra: more arguments of QEMU
    """
    which = kernel(label)
    directory = directory or guest.new_directory(name)
    initramfs = directory / "initramfs.img"
    initramfs.write_bytes(quick_initramfs(which).read_bytes() + working_tree())
    nics = network.nics if network else 1
    # panic=-1 with QEMU's -no-reboot: a kernel that panics ends the run at once
    words = f"console=ttyS0 panic=-1 net.ifnames=0 tsc=reliable tsc_early_khz={clock.counter_khz()}"
    words += f" rig.nics={nics}"
    words += (
        f" rig.net={'tap' if network else 'user'} rig.host={network.host if network else 2} {command_line}"
    )
    if hook:
        if network is None:
            raise RigError("firmware needs a network to boot from")
        shutil.copyfile(which.image, directory / "vmlinuz")
        kernel_url = f"tftp://{network.address()}"
        text = ipxe.script(
            hook.root_paths, hook.accounts, initiator=hook.initiator, kernel=kernel_url, command_line=words
        )
        (directory / "boot.ipxe").write_text(text)
        network.start_dhcp(boot_file="boot.ipxe", tftp=directory)
    machine = Machine(
        firmware=firmware,
        kernel=which.image,
        initramfs=initramfs,
        command_line=words,
        network=network,
        nic="e1000" if hook else "virtio-net-pci",
        boots_from_network=hook is not None,
        drives=[Drive(root or image(which)), *drives],
        memory_mib=memory_mib,
        extra=extra,
    )
    with guest.running(machine, directory) as running:
        running.wait_agent(60 if firmware == "direct" else 120)
        say(f"quick guest up, kernel {which.release}, logs in {directory}")
        yield running
