"""The quick guest's disk with the peers on it: kept apart, so that other guests stay small."""

from __future__ import annotations

from pathlib import Path

from tests.vm import apt, cache, rootfs
from tests.vm.kernel import KERNELS, Kernel

PACKAGES = ("open-iscsi", "qemu-utils", "qemu-block-extra", "libiscsi-bin", "iperf3")


def image(which: Kernel) -> Path:
    """An ext4 image of the guest tree, the kernel and PACKAGES, kept in the cache; it takes a minute."""
    script = f"""
    echo 'deb {apt.mirror()} {rootfs.SUITE} main' > /etc/apt/sources.list.d/bench.list
    apt-get -q update
    apt-get -qy --no-install-recommends install {" ".join(PACKAGES)}
    apt-get -qy --no-install-recommends -t {KERNELS[which.label]} install linux-perf
    apt-get clean
    rm -rf /var/lib/apt/lists/*
    """

    def install(path: Path) -> None:
        rootfs.run_inside(which.layers, script, upper=path)

    key = cache.fingerprint(which.layer.name, script)
    layer = cache.obtain(f"bench-{which.label}", key, install)

    def make(path: Path) -> None:
        write = f"truncate -s 5G {path}; mke2fs -q -t ext4 -L root -d $ROOT {path}; sync {path}"
        rootfs.run_inside([layer, *which.layers], write, is_chroot=False)

    return cache.obtain(f"bench-image-{which.label}", cache.fingerprint(layer.name, "root"), make)
