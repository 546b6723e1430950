"""Initramfs archives and the order modules are loaded in."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.vm import kernel
from tests.vm.kernel import Archive, Kernel


def test_archive_is_what_cpio_unpacks(tmp_path: Path) -> None:
    archive = Archive()
    archive.directory("dev")
    archive.file("rig/tree/a", b"odd", 0o755)
    archive.file("rig/tree/b", b"")
    archive.link("rig/link", "tree/a")
    packed = archive.packed()
    assert len(packed) % 512 == 0
    command = ["cpio", "--extract", "--quiet", "--make-directories"]
    subprocess.run(command, input=packed, cwd=tmp_path, check=True)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "dev", "rig", "rig/link", "rig/tree", "rig/tree/a", "rig/tree/b",
    ]  # fmt: skip
    assert (tmp_path / "rig/link").read_bytes() == b"odd"
    assert (tmp_path / "rig/tree/a").stat().st_mode & 0o777 == 0o755


def test_modules_come_after_what_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "QUICK_MODULES", ("ext4", "9p", "built-in"))
    modules = tmp_path / "usr/lib/modules/6.12.1"
    modules.mkdir(parents=True)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.12.1").touch()
    (modules / "modules.dep").write_text(
        "fs/ext4.ko.xz: fs/jbd2.ko.xz lib/crc16.ko.xz\nfs/jbd2.ko.xz:\nlib/crc16.ko.xz:\n"
        "net/9p.ko: net/9pnet.ko lib/crc16.ko.xz\nnet/9pnet.ko: lib/crc16.ko.xz\n"
    )
    order = [file.name.split(".")[0] for file in kernel.module_files(Kernel("6.12", tmp_path))]
    assert order == ["crc16", "jbd2", "ext4", "9pnet", "9p"]
