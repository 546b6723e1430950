from __future__ import annotations

import os
from pathlib import Path

import pytest

from isboot.config.credentials import read_chap_file
from isboot.errors import ConfigError, ExitStatus

GOOD = 'name = "guest"\nsecret = "twelve bytes"\n'
MUTUAL = GOOD + 'reverse_name = "storage"\nreverse_secret = "other secret"\n'


def chap_file(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "chap.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_one_way_and_mutual_files_are_read(tmp_path: Path) -> None:
    one_way = read_chap_file(chap_file(tmp_path, GOOD))
    assert (one_way.name, one_way.secret.reveal(), one_way.is_mutual) == ("guest", b"twelve bytes", False)
    mutual = read_chap_file(chap_file(tmp_path, MUTUAL))
    assert (mutual.reverse_name, mutual.reverse_secret.reveal()) == ("storage", b"other secret")
    assert mutual.is_mutual
    assert "secret'" not in repr(mutual)
    assert "bytes" not in repr(mutual)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o601, 0o666])
def test_a_file_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match=f"mode is {mode:04o}") as caught:
        read_chap_file(chap_file(tmp_path, GOOD, mode))
    assert caught.value.exit_status == ExitStatus.NOT_PERMITTED
    assert caught.value.hint.startswith("chmod 600 ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away; run as root")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = chap_file(tmp_path, GOOD)
    os.chown(path, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to user 12345") as caught:
        read_chap_file(path)
    assert caught.value.exit_status == ExitStatus.NOT_PERMITTED


def test_a_missing_file_is_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        read_chap_file(tmp_path / "missing")
    assert caught.value.exit_status == ExitStatus.NOTHING_THERE


@pytest.mark.parametrize(
    "text",
    [
        "",
        'name = "guest"\n',
        'secret = ""\n',
        "secret = 5\n",
        'secret = "unclosed-verysecret\n',
        GOOD + 'password-verysecret = "x"\n',
        GOOD + 'reverse_name = "storage"\n',
        GOOD + 'reverse_name = "storage"\nreverse_secret = "twelve bytes"\n',
        b"secret = \"\xff\xfe\"",
        "secret = \"" + "x" * 1025 + "\"\n",
        "# " + "x" * 20_000,
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused_without_showing_it(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        read_chap_file(chap_file(tmp_path, text))
    assert caught.value.exit_status == ExitStatus.MALFORMED
    assert "verysecret" not in caught.value.message
    assert caught.value.__cause__ is None
