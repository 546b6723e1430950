"""Entries are whole or absent, built once, and the old ones go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.vm import cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_an_entry_is_built_once_and_found_again() -> None:
    built: list[Path] = []

    def make(path: Path) -> None:
        built.append(path)
        path.write_text("content")

    first = cache.obtain("thing", "0" * 16, make)
    assert cache.obtain("thing", "0" * 16, make) == first
    assert first.read_text() == "content"
    assert len(built) == 1


def test_a_failed_build_leaves_nothing() -> None:
    def make(path: Path) -> None:
        path.mkdir()
        (path / "half").touch()
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        cache.obtain("thing", "0" * 16, make)
    assert [path.name for path in cache.directory().iterdir()] == ["thing.lock"]


def test_old_entries_of_the_same_name_go() -> None:
    for number in range(6):
        path = cache.obtain("thing", f"{number:016x}", Path.touch)
        os.utime(path, (number, number))
    cache.obtain("thing-6.12", "0" * 16, Path.touch)
    left = sorted(path.name for path in cache.directory().iterdir() if not path.name.endswith(".lock"))
    kept = [f"thing-{number:016x}" for number in range(6 - cache.KEPT, 6)]
    assert left == [*kept, "thing-6.12-" + "0" * 16]


def test_fingerprint_depends_on_content_name_and_mode(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    file = tree / "a"
    seen = set()
    for content, name, mode in (("x", "a", 0o644), ("y", "a", 0o644), ("y", "b", 0o644), ("y", "b", 0o755)):
        file = file.rename(tree / name) if file.exists() else tree / name
        file.write_text(content)
        file.chmod(mode)
        seen.add(cache.fingerprint(tree))
    assert len(seen) == 4
    # where one part ends and the next begins counts too
    assert cache.fingerprint("ab", "c") != cache.fingerprint("a", "bc")
