"""The Debian archive is found in both formats of apt's sources, among others that are not it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import apt
from tests.vm.progress import RigError

DEB822 = """Types: deb
URIs: http://vendor.example/tools
Suites: nodistro
Components: main

Types: deb
# a comment
URIs: http://archive.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://archive.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
"""

ONE_LINE = """# deb http://old.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb http://archive.example/debian-security bookworm-security main
deb [arch=amd64 signed-by=/usr/share/keyrings/k.gpg] https://archive.example/debian trixie main contrib
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(apt, "APT", tmp_path)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "apt.conf.d").mkdir()
    return tmp_path


def test_mirror_is_found_in_deb822_sources(settings: Path) -> None:
    (settings / "sources.list.d/debian.sources").write_text(DEB822)
    assert apt.mirror() == "http://archive.example/debian"


def test_mirror_is_found_in_one_line_sources(settings: Path) -> None:
    (settings / "sources.list").write_text(ONE_LINE)
    assert apt.mirror() == "https://archive.example/debian"


def test_no_mirror_is_an_error(settings: Path) -> None:
    (settings / "sources.list").write_text("deb http://vendor.example/tools nodistro main\n")
    with pytest.raises(RigError, match="no Debian archive"):
        apt.mirror()


def test_options_that_run_programs_stay_here(settings: Path) -> None:
    (settings / "apt.conf.d/10check").write_text('Acquire::Check-Date "false";\n')
    (settings / "apt.conf.d/20hook").write_text('DPkg::Post-Invoke { "true"; };\n')
    assert [file.name for file in apt.options()] == ["10check"]
