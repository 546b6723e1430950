"""The files that keep network managers away: complete, right for several NICs, and written once."""

import configparser
from pathlib import Path

import pytest

from isboot.errors import ExitStatus, NetworkError
from isboot.network.dropins import DROPINS, EXCLUDE_PATH, escape_unit, keep_managers_away

MAC = "52:54:00:12:34:56"
OTHER_MAC = "52:54:00:12:34:57"


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_every_manager_is_told(tmp_path: Path) -> None:
    count = keep_managers_away(tmp_path, [MAC], ["eth0"])
    assert sorted(files(tmp_path)) == [
        "NetworkManager/conf.d/00-isboot-525400123456.conf",
        "network/ifstate.eth0",
        "systemd/network/00-isboot-525400123456.link",
        "systemd/network/00-isboot-525400123456.network",
        "systemd/system/ifup@eth0.service.d/50-isboot.conf",
        "systemd/system/networking.service.d/50-isboot.conf",
    ]
    assert count == 6


def test_second_run_writes_nothing(tmp_path: Path) -> None:
    keep_managers_away(tmp_path, [MAC], ["eth0"])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert keep_managers_away(tmp_path, [MAC], ["eth0"]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_networkd_leaves_the_nic_alone_by_its_address(tmp_path: Path) -> None:
    keep_managers_away(tmp_path, [MAC], ["eth0"])
    unit = configparser.ConfigParser()
    unit.optionxform = str
    unit.read(tmp_path / "systemd/network/00-isboot-525400123456.network")
    assert dict(unit["Match"]) == {"MACAddress": MAC, "Type": "ether"}
    assert dict(unit["Link"]) == {"Unmanaged": "yes", "RequiredForOnline": "no"}


def test_both_addresses_are_named_where_they_differ(tmp_path: Path) -> None:
    keep_managers_away(tmp_path, [MAC, OTHER_MAC], ["eth0"])
    present = files(tmp_path)
    assert f"MACAddress={MAC} {OTHER_MAC}\n" in present["systemd/network/00-isboot-525400123456.network"]
    assert (
        f"match-device=mac:{MAC};mac:{OTHER_MAC};interface-name:=eth0\n"
        in present["NetworkManager/conf.d/00-isboot-525400123456.conf"]
    )


def test_vlan_is_kept_from_them_too(tmp_path: Path) -> None:
    keep_managers_away(tmp_path, [MAC], ["eth0", "eth0.5"], has_vlan=True)
    present = files(tmp_path)
    assert "Type=ether vlan\n" in present["systemd/network/00-isboot-525400123456.network"]
    assert "Type=ether\n" in present["systemd/network/00-isboot-525400123456.link"]
    assert (
        f"mac:{MAC};interface-name:=eth0;interface-name:=eth0.5\n"
        in present["NetworkManager/conf.d/00-isboot-525400123456.conf"]
    )
    assert present["network/ifstate.eth0.5"] == "eth0.5\n"


def test_ifdown_at_shutdown_spares_every_nic(tmp_path: Path) -> None:
    # systemd keeps only the last assignment of a variable: two NICs must stand in one
    keep_managers_away(tmp_path, [MAC], ["eth0"])
    keep_managers_away(tmp_path, [OTHER_MAC], ["eth1"])
    assert files(tmp_path)[EXCLUDE_PATH].endswith('\nEnvironment="EXCLUDE_INTERFACES=eth0 eth1"\n')
    assert keep_managers_away(tmp_path, [MAC], ["eth0"]) == 0


def test_no_half_written_file_is_left(tmp_path: Path) -> None:
    (tmp_path / "systemd/network/00-isboot-525400123456.link").mkdir(parents=True)
    with pytest.raises(NetworkError, match=r"00-isboot-525400123456\.link: ") as caught:
        keep_managers_away(tmp_path, [MAC], ["eth0"])
    assert caught.value.exit_status is ExitStatus.FAILED
    assert not [path for path in files(tmp_path) if "/." in path]


@pytest.mark.parametrize(
    ("name", "unit"), [("eth0", "eth0"), ("eth0.5", "eth0.5"), ("br-lan", r"br\x2dlan"), ("a@b", r"a\x40b")]
)
def test_unit_names_are_escaped_as_systemd_does(name: str, unit: str) -> None:
    assert escape_unit(name) == unit


def test_every_row_says_where_it_is_documented() -> None:
    assert all(row.source.endswith(")") for row in DROPINS)


def test_nic_that_is_not_there_yet_is_known_by_its_address(tmp_path: Path) -> None:
    assert keep_managers_away(tmp_path, [MAC], []) == 3
    present = files(tmp_path)
    assert sorted(present) == [
        "NetworkManager/conf.d/00-isboot-525400123456.conf",
        "systemd/network/00-isboot-525400123456.link",
        "systemd/network/00-isboot-525400123456.network",
    ]
    assert f"match-device=mac:{MAC}\n" in present["NetworkManager/conf.d/00-isboot-525400123456.conf"]
    # once it is there, by its name as well
    assert keep_managers_away(tmp_path, [MAC], ["eth0"]) == 4
