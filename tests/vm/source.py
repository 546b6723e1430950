"""
The repository's files that go into a guest: the working tree as it is now, or one commit.

`ISBOOT_RIG_COMMIT=HEAD` (any name git knows) takes the commit: useful while a half-written change is in the
working tree.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm import cache
from tests.vm.cache import REPOSITORY

#: larger files are test data a guest has no use for
LARGEST_BYTES = 2 << 20


@dataclass(frozen=True)
class SourceFile:
    """One file, by its name in the repository."""

    name: str
    data: bytes
    is_executable: bool

    @property
    def mode(self) -> int:
        """Permission bits."""
        return 0o755 if self.is_executable else 0o644


def files(*below: str) -> list[SourceFile]:
    """The files of these directories (all, if none is named), in order; what git ignores is left out."""
    commit = os.environ.get("ISBOOT_RIG_COMMIT")
    found = _committed(commit) if commit else _present()
    wanted = tuple(f"{name}/" for name in below)
    return [file for file in found if not below or file.name in below or file.name.startswith(wanted)]


def fingerprint(chosen: Sequence[SourceFile]) -> str:
    """Hash of names, modes and content."""
    parts = [part for file in chosen for part in (file.name, str(file.mode), file.data)]
    return cache.fingerprint(*parts)


def write(chosen: Sequence[SourceFile], directory: Path) -> None:
    """Write them below a directory."""
    for file in chosen:
        path = directory / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(file.mode)


def _git(*arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-C", str(REPOSITORY), *arguments], stdout=subprocess.PIPE, check=True
    ).stdout


def _present() -> list[SourceFile]:
    names = set(_git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0"))
    found = []
    for name in sorted(filter(None, names)):
        path = REPOSITORY / name
        try:
            status = path.stat()
            if path.is_file() and status.st_size < LARGEST_BYTES:
                found.append(SourceFile(name, path.read_bytes(), bool(status.st_mode & 0o100)))
        except FileNotFoundError:
            continue  # deleted in the working tree, or just now
    return found


def _committed(commit: str) -> list[SourceFile]:
    found = []
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content and member.size < LARGEST_BYTES:
                found.append(SourceFile(member.name, content.read(), bool(member.mode & 0o100)))
    return sorted(found, key=lambda file: file.name)
