"""The kernels guests run, and the small initramfs of the quick guest."""

from __future__ import annotations

import io
import lzma
import stat
from dataclasses import dataclass
from pathlib import Path

from tests.vm import apt, cache, rootfs
from tests.vm.progress import RigError

INSIDE = Path(__file__).parent / "inside"

#: label -> suite its linux-image-amd64 comes from
KERNELS = {"6.12": "trixie", "7.2": "trixie-backports"}

#: what the quick guest needs before its root file system, the rest is loaded from there
QUICK_MODULES = ("virtio_blk", "ext4", "crc32c_generic", "9p", "9pnet_virtio")


@dataclass(frozen=True)
class Kernel:
    """A kernel as a layer over the guest tree."""

    label: str
    layer: Path

    @property
    def layers(self) -> list[Path]:
        """Directories of the overlay, topmost first."""
        return [self.layer, rootfs.tree(rootfs.GUEST)]

    @property
    def image(self) -> Path:
        """The bzImage."""
        return next(self.layer.glob("boot/vmlinuz-*"))

    @property
    def release(self) -> str:
        """What `uname -r` says."""
        return self.image.name.removeprefix("vmlinuz-")

    @property
    def modules(self) -> Path:
        """`/lib/modules/RELEASE`."""
        return self.layer / "usr/lib/modules" / self.release


def kernel(label: str) -> Kernel:
    """
    The kernel of that label, installed as a layer when it is not in the cache.

    :raises RigError: the archive's kernel of that suite has moved on to another version
    """
    suite = KERNELS[label]
    base = rootfs.tree(rootfs.GUEST)
    # the initramfs is made by our package's layer; dracut's hook would only make one to be thrown away
    script = f"""
    echo 'deb {apt.mirror()} {suite} main' > /etc/apt/sources.list.d/kernel.list
    mv /etc/kernel/postinst.d/dracut /etc/kernel/dracut.later
    apt-get -q update
    apt-get -qy --no-install-recommends -t {suite} install linux-image-amd64 linux-headers-amd64
    mv /etc/kernel/dracut.later /etc/kernel/postinst.d/dracut
    apt-get clean
    rm -rf /var/lib/apt/lists/*
    ls /boot/vmlinuz-{label}.*
    """

    def make(path: Path) -> None:
        rootfs.run_inside([base], script, upper=path)

    key = cache.fingerprint(base.name, label, suite)
    found = Kernel(label, cache.obtain(f"kernel-{label}", key, make))
    if not found.release.startswith(f"{label}."):
        raise RigError(f"the kernel of {suite} is {found.release}, not {label}: mend KERNELS in {__file__}")
    return found


def quick_initramfs(which: Kernel) -> Path:
    """The initramfs that mounts /dev/vda and moves what was appended to the archive into its /run."""
    init = (INSIDE / "quick-init").read_bytes()
    busybox = (rootfs.tree(rootfs.GUEST) / "usr/bin/busybox").read_bytes()

    def make(path: Path) -> None:
        archive = Archive()
        for name in ("bin", "dev", "proc", "root", "lib", "rig"):
            archive.directory(name)
        archive.file("bin/busybox", busybox, 0o755)
        archive.file("init", init, 0o755)
        files = module_files(which)
        for position, file in enumerate(files):
            data = file.read_bytes()
            if file.suffix == ".xz":
                data = lzma.decompress(data)
            archive.file(f"lib/{position:03}-{file.name.removesuffix('.xz')}", data)
        path.write_bytes(archive.packed())

    key = cache.fingerprint(which.layer.name, init, " ".join(QUICK_MODULES))
    return cache.obtain(f"quick-initramfs-{which.label}", key, make)


def module_files(which: Kernel) -> list[Path]:
    """QUICK_MODULES and all they depend on, in the order to load them; what is built in is left out."""
    needs: dict[str, list[str]] = {}
    for line in (which.modules / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        needs[file] = rest.split()
    by_name = {Path(file).name.split(".")[0].replace("-", "_"): file for file in needs}
    order: list[str] = []
    for name in QUICK_MODULES:
        if name in by_name:
            file = by_name[name]
            # modules.dep lists the deepest dependency last
            order += [need for need in [*reversed(needs[file]), file] if need not in order]
    return [which.modules / file for file in order]


class Archive:
    """A cpio archive of format newc (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._inode = 0
        self._directories: set[str] = set()

    def directory(self, name: str) -> None:
        """Add a directory and its parents, once."""
        for parent in [*reversed(Path(name).parents), Path(name)]:
            if str(parent) != "." and str(parent) not in self._directories:
                self._directories.add(str(parent))
                self._entry(str(parent), stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file and the directories above it."""
        self.directory(str(Path(name).parent))
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name: str, to: str) -> None:
        """Add a symbolic link."""
        self.directory(str(Path(name).parent))
        self._entry(name, stat.S_IFLNK | 0o777, to.encode())

    def packed(self) -> bytes:
        """The whole archive, padded so that another may follow."""
        self._entry("TRAILER!!!", 0, b"")
        self._pad(512)
        return self._out.getvalue()

    def _entry(self, name: str, mode: int, data: bytes) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        self._out.write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self._pad(4)
        self._out.write(data)
        self._pad(4)

    def _pad(self, size: int) -> None:
        self._out.write(bytes(-self._out.tell() % size))
