"""boot.from_sources and attach.from_arguments: which source says what."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path

import pytest
from hypothesis import given

from isboot.config import attach, boot, cmdline
from isboot.errors import ConfigError, ExitStatus, UsageError
from isboot.firmware.decode import decode
from isboot.firmware.encode import encode
from isboot.values import BootConfig, IbftTable, Policy, iscsi_name_fault
from tests.firmware.tables import PROPERTY, TABLE, TARGET, tables

ME = "iqn.2001-04.com.example:me"
DISK = "iqn.2001-04.com.example:netroot"
NETROOT = f"netroot=iscsi:192.0.2.9::::{DISK}"
GOOD = replace(TABLE, source="acpi")
OTHER = replace(GOOD, source="memory", targets=(replace(TARGET, name="iqn.2001-04.com.example:other"),))
RAW = encode(GOOD)
BROKEN = decode(RAW[:9] + bytes([RAW[9] ^ 1]) + RAW[10:], "acpi")


def read(tables: list[IbftTable], text: str = "", root: Path = Path("/nonexistent")) -> BootConfig:
    return boot.from_sources(tables, cmdline.parse(text), root=root)


def test_the_table_wins_over_netroot_and_both_are_named() -> None:
    config = read([GOOD], NETROOT)
    assert config.source == "iBFT (acpi)"
    assert config.paths[0].target_name == TARGET.name
    (warning,) = config.warnings
    assert TARGET.name in warning
    assert DISK in warning


def test_a_netroot_that_says_the_same_is_no_matter() -> None:
    assert read([GOOD], f"netroot=iscsi:10.0.2.2:::1:{TARGET.name}").warnings == ()


def test_the_command_line_wins_over_the_table() -> None:
    config = read([GOOD], f"rd.isboot.param=depth=64 rd.iscsi.initiator={ME}")
    assert config.policy == Policy(depth=64)
    assert config.initiator_name == ME
    (warning,) = config.warnings
    assert TABLE.initiator is not None
    assert TABLE.initiator.name in warning
    assert ME in warning


def test_netroot_serves_where_no_table_is(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    config = read([], f"{NETROOT} netroot=iscsi:192.0.2.10::::{DISK}", tmp_path)
    assert config.source == "kernel command line"
    assert config.initiator_name.startswith("iqn.2026-11.org.isboot:")
    assert [path.portal.host for path in config.paths] == ["192.0.2.9", "192.0.2.10"]
    assert [path.index for path in config.paths] == [0, 1]
    assert config.is_boot
    # as in dracut: without any ip= the address comes by DHCP, on whatever NIC has a server
    (nic,) = config.nics
    assert (nic.mac, nic.name, nic.address, nic.origin) == ("", "", None, "dhcp")
    assert read([], f"{NETROOT} ip=off", tmp_path).nics == ()


def test_netroot_serves_where_the_table_is_broken() -> None:
    config = read([BROKEN], f"{NETROOT} rd.iscsi.initiator={ME}")
    assert config.initiator_name == ME
    assert "cannot be booted from" in config.warnings[0]


def test_a_broken_table_hides_no_good_one() -> None:
    assert read([BROKEN, OTHER]).source == "iBFT (memory)"


def test_a_table_that_cannot_be_used_hides_no_other_source() -> None:
    # whole as a table, and yet of no use: its only target belongs to a NIC that is none
    unusable = replace(GOOD, nics=(replace(GOOD.nics[0], mac="00:00:00:00:00:00"),))
    for found, text, source in (
        ([unusable, OTHER], "", "iBFT (memory)"),
        ([unusable], f"{NETROOT} rd.iscsi.initiator={ME}", "kernel command line"),
    ):
        config = read(found, text)
        assert config.source == source
        assert any("is the MAC of no NIC: another source" in warning for warning in config.warnings)
    with pytest.raises(ConfigError, match="is the MAC of no NIC"):
        read([unusable])


def test_the_table_asked_for_is_taken() -> None:
    assert read([GOOD, OTHER], "rd.isboot.acpi_table=1").source == "iBFT (memory)"


@pytest.mark.parametrize(
    ("tables", "text", "status", "message"),
    [
        ([], "", ExitStatus.NOTHING_THERE, "there is no iBFT"),
        ([BROKEN], "", ExitStatus.MALFORMED, "checksum_ok: the bytes sum up"),
        ([BROKEN, GOOD], "rd.isboot.acpi_table=0", ExitStatus.MALFORMED, "number 0"),
        ([GOOD], "rd.isboot.acpi_table=1", ExitStatus.NOTHING_THERE, "there are 1"),
        ([], "netroot=iscsi:a::::bad", ExitStatus.MALFORMED, "reading netroot="),
        ([GOOD], "rd.isboot=0", ExitStatus.NOTHING_THERE, "rd.isboot=0 forbids it"),
    ],
)
def test_nothing_to_boot_from_is_told_with_its_reason(
    tables: list[IbftTable], text: str, status: ExitStatus, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tables, text)
    assert caught.value.exit_status == status


@PROPERTY
@given(tables())
def test_any_table_gives_a_config_or_an_error_for_people(table: IbftTable) -> None:
    decoded = decode(encode(table), "acpi")
    try:
        config = read([decoded])
    except ConfigError:
        return
    assert decoded.is_bootable
    for path in config.paths:
        assert not iscsi_name_fault(path.target_name)
        target = next(target for target in decoded.targets if target.name == path.target_name)
        assert target.valid or target.boot_selected
    # CHAP is never less than what some target of that name and address asks for.
    asked = {(target.name, str(target.ip), target.chap) for target in decoded.targets}
    for path in config.paths:
        chap = "none"
        if path.credentials is not None:
            chap = "mutual" if path.credentials.is_mutual else "chap"
        assert (path.target_name, path.portal.host, chap) in asked


def test_the_arguments_of_attach_give_a_config(tmp_path: Path) -> None:
    chap = tmp_path / "chap"
    chap.write_text('name = "guest"\nsecret = "twelve bytes"\n')
    chap.chmod(0o600)
    config = attach.from_arguments(
        f"iscsi://192.0.2.9/{DISK}/1",
        chap_file=chap,
        initiator_name=ME,
        digests="header,data",
        depth=16,
        parameters=["queues=2", "depth=32"],
    )
    assert config.policy == Policy(queues=2, depth=32, header_digest=True, data_digest=True)
    assert config.paths[0].credentials is not None
    assert config.paths[0].credentials.name == "guest"
    assert not config.is_boot


@pytest.mark.parametrize(
    "arguments",
    [{"digests": "body"}, {"depth": 0}, {"queues": 99}, {"profile": "fast"}, {"parameters": ["depth"]}],
)
def test_a_wrong_argument_of_attach_is_a_usage_error(arguments: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        attach.from_arguments(f"iscsi://192.0.2.9/{DISK}/1", initiator_name=ME, **arguments)
    assert "depth" in attach.parameter_help()


def test_a_machine_that_tells_nothing_of_itself_is_named_by_its_nic(tmp_path: Path) -> None:
    config = read([], NETROOT, tmp_path)
    assert config.initiator_name == ""  # until DHCP has chosen a NIC
    nic = replace(config.nics[0], mac="52:54:00:12:34:56", address=ip_interface("192.0.2.50/24"))
    leased = boot.with_leases(config, [nic])
    assert not iscsi_name_fault(leased.initiator_name)
    assert leased.paths[0].nic == nic
    (row,) = [row for row in leased.origins if row.what == "initiator name"]
    assert (row.value, row.source) == (leased.initiator_name, "MAC of NIC 0")
    same = read([], f"{NETROOT} ip=192.0.2.50:::24:::none BOOTIF=01-52-54-00-12-34-56", tmp_path)
    assert same.initiator_name == leased.initiator_name
    with pytest.raises(ConfigError, match="making an initiator name"):
        read([], f"{NETROOT} ip=192.0.2.50:::24::eth0:none", tmp_path)
