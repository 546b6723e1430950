"""The Debian package holds what the repository has for it, as it has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.vm import package, source
from tests.vm.rig import missing

pytestmark = [pytest.mark.guest, pytest.mark.skipif(bool(missing()), reason=missing() or "all there")]

#: where files of the repository go, below the root
PLACES = {
    "tools/dracut/90isboot": "usr/lib/dracut/modules.d/90isboot",
    "tools/initramfs": "usr/lib/isboot/initramfs",
    "tools/initramfs-tools": "usr/share/initramfs-tools",
    "tools/systemd": "usr/lib/udev/rules.d",
    "isboot": "usr/lib/python3/dist-packages/isboot",
}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package")
    subprocess.run(["dpkg-deb", "--raw-extract", str(package.package()), str(path)], check=True)
    return path


@pytest.mark.parametrize(("folder", "suffixes"), [
    ("tools/dracut/90isboot", ()), ("tools/initramfs", ()), ("tools/initramfs-tools", ()),
    ("tools/systemd", (".rules",)), ("isboot", (".py",)),
])  # fmt: skip
def test_files_are_packed_with_content_and_mode(
    unpacked: Path, folder: str, suffixes: tuple[str, ...]
) -> None:
    chosen = [file for file in source.files(folder) if not suffixes or file.name.endswith(suffixes)]
    assert chosen
    for file in chosen:
        packed = unpacked / PLACES[folder] / Path(file.name).relative_to(folder)
        assert packed.read_bytes() == file.data, file.name
        assert bool(packed.stat().st_mode & 0o100) == file.is_executable, file.name


def test_engine_is_packed_and_its_sources_are_not(unpacked: Path) -> None:
    assert len(list(unpacked.glob("usr/lib/python3/dist-packages/isboot/_engine.*.so"))) == 1
    assert not list(unpacked.glob("usr/lib/python3/dist-packages/isboot/engine/*.[ch]"))


def test_dependencies_name_what_python_imports_and_c_links(unpacked: Path) -> None:
    control = (unpacked / "DEBIAN/control").read_text()
    depends = next(line for line in control.splitlines() if line.startswith("Depends:"))
    for name in (
        "python3-cffi-backend",
        "python3-pyroute2",
        "python3-crc32c",
        "liburing2",
        "libisal2",
    ):
        assert name in depends
    # a Debian 13 as it comes keeps initramfs-tools, one with dracut keeps dracut
    assert "initramfs-tools | dracut," in depends
    recommends = next(line for line in control.splitlines() if line.startswith("Recommends:"))
    assert "python3-bpfcc" in recommends


def test_version_is_the_python_package_s(unpacked: Path) -> None:
    text = next(file.data for file in source.files("isboot/__init__.py")).decode()
    control = (unpacked / "DEBIAN/control").read_text()
    version = next(line.split()[1] for line in control.splitlines() if line.startswith("Version:"))
    assert f'__version__ = "{version}"' in text
