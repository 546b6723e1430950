from __future__ import annotations

from pathlib import Path

import pytest

from isboot.config.initiator import PREFIX, checked_name, default_name
from isboot.errors import ConfigError, ExitStatus
from isboot.values import iscsi_name_fault

MACHINE_ID = "0123456789abcdef0123456789abcdef"


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_the_file_of_open_iscsi_comes_first(tmp_path: Path) -> None:
    write(tmp_path, "etc/machine-id", MACHINE_ID + "\n")
    write(tmp_path, "etc/iscsi/initiatorname.iscsi", "# ours\nInitiatorName=iqn.1993-08.org.debian:01:abc\n")
    assert default_name(tmp_path) == "iqn.1993-08.org.debian:01:abc"


def test_a_machine_has_one_name_that_does_not_show_its_id(tmp_path: Path) -> None:
    write(tmp_path, "etc/machine-id", MACHINE_ID + "\n")
    name = default_name(tmp_path)
    assert name == default_name(tmp_path)
    assert name.startswith(PREFIX)
    assert iscsi_name_fault(name) == ""
    assert MACHINE_ID[:8] not in name
    write(tmp_path, "etc/machine-id", MACHINE_ID[::-1] + "\n")
    assert default_name(tmp_path) != name


@pytest.mark.parametrize("machine_id", [None, "", "uninitialized\n", "x" * 32])
def test_without_file_and_id_there_is_no_name(tmp_path: Path, machine_id: str | None) -> None:
    if machine_id is not None:
        write(tmp_path, "etc/machine-id", machine_id)
    with pytest.raises(ConfigError) as caught:
        default_name(tmp_path)
    assert caught.value.exit_status == ExitStatus.NOTHING_THERE


def test_a_file_with_what_is_no_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "etc/iscsi/initiatorname.iscsi", "InitiatorName=me\n")
    with pytest.raises(ConfigError, match="'me' is no iSCSI name") as caught:
        default_name(tmp_path)
    assert caught.value.exit_status == ExitStatus.MALFORMED


@pytest.mark.parametrize(
    "name",
    [
        "iqn.2001-04.com.example",
        "iqn.2001-04.com.example:storage.disk-0:a",
        "iqn.2005-10.org.freenas.ctl:my_disk",
        "IQN.2004-04.com.QNAP:TS-453",
        "eui.02004567A425678D",
        "naa.52004567BA64678D",
        "naa.62004567BA64678D0123456789ABCDEF",
        "iqn.2001-04.com.example:" + "a" * 199,
    ],
)
def test_an_iscsi_name_is_taken(name: str) -> None:
    assert checked_name(name, "testing") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "disk0",
        "iqn.2001-04",
        "iqn.2001-13.com.example",
        "iqn.01-04.com.example",
        "iqn.2001-04.com.example:a b",
        "iqn.2001-04.com.example:a\n",
        "iqn.2001-04.com.example:../../etc",
        "iqn.2001-04.com.exämple",
        "eui.0200",
        "naa.5200",
        "eui.02004567A425678G",
        "iqn.2001-04.com.example:" + "a" * 200,
    ],
)
def test_what_is_no_iscsi_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_name(name, "testing")
    assert caught.value.message.startswith("testing: ")
    assert "\n" not in caught.value.message
