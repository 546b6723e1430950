"""tests/data/precedence.toml, row by row: which source wins, what it says, which warning names whom."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from isboot.commands.boot import origin_lines, plan
from isboot.config import boot, cmdline
from isboot.errors import ConfigError
from isboot.firmware.decode import decode
from isboot.firmware.encode import encode
from isboot.values import BootConfig, Secret
from tests.firmware.tables import CHAP_TABLE, CHAP_TARGET, TABLE, TARGET

ROWS: list[dict[str, Any]] = tomllib.loads(Path("tests/data/precedence.toml").read_text(encoding="utf-8"))[
    "row"
]
PLAIN = replace(TABLE, source="acpi")
RAW = encode(PLAIN)
MUTUAL = replace(
    CHAP_TARGET, chap="mutual", reverse_chap_name="disk", reverse_chap_secret=Secret(b"twelve others")
)
TABLES = {
    "plain": PLAIN,
    "other": replace(
        PLAIN, source="memory", targets=(replace(TARGET, name="iqn.2001-04.com.example:other"),)
    ),
    "unusable": replace(PLAIN, nics=(replace(PLAIN.nics[0], mac="00:00:00:00:00:00"),)),
    "broken": decode(RAW[:9] + bytes([RAW[9] ^ 1]) + RAW[10:], "acpi"),
    "chap": replace(CHAP_TABLE, source="acpi"),
    "mutual": replace(CHAP_TABLE, source="acpi", targets=(MUTUAL,)),
}


def configure(row: dict[str, Any], root: Path) -> tuple[BootConfig, tuple[str, ...]]:
    """Give the configuration of a row and every warning on the way."""
    (root / "etc/iscsi").mkdir(parents=True)
    (root / "etc/iscsi/initiatorname.iscsi").write_text("InitiatorName=iqn.1993-08.org.debian:01:machine\n")
    options = cmdline.parse(row.get("command_line", ""))
    config = boot.from_sources([TABLES[name] for name in row.get("tables", [])], options, root=root)
    if not config.paths:
        leased = replace(config.nics[0], mac="52:54:00:00:00:01", address=ip_interface("192.0.2.50/24"))
        config = boot.with_root_path(boot.with_leases(config, [leased]), row["root_path"], leased, options)
    return config, (*options.warnings, *config.warnings)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["says"].replace(" ", "-"))
def test_the_source_wins_that_the_row_names(row: dict[str, Any], tmp_path: Path) -> None:
    if "error" in row:
        with pytest.raises(ConfigError) as caught:
            configure(row, tmp_path)
        assert row["error"] in caught.value.message
        assert caught.value.exit_status == row["status"]
        print(f"{row['says']}: {caught.value.message}")
        return
    config, warnings = configure(row, tmp_path)
    origins = {origin.what: origin for origin in config.origins}
    print(f"{row['says']}:", *origin_lines(config), sep="\n    ")
    for what, (source, value) in row["wins"].items():
        assert (origins[what].source, origins[what].value) == (source, value)
    wanted = row.get("warns", [])
    assert len(warnings) == len(wanted), warnings
    for words in wanted:
        assert any(all(word in warning for word in words) for warning in warnings), warnings
    for secret in ("twelve-bytes", "another-twelve", "twelve others"):
        assert secret not in repr(config)
        assert secret not in plan(config)


def test_there_are_rows_for_every_source_that_can_win() -> None:
    sources = {source for row in ROWS for source, _value in row.get("wins", {}).values()}
    assert len(ROWS) >= 20
    assert {"iBFT (acpi)", "iBFT (memory)", "kernel command line", "root-path of DHCP", "DHCP"} <= sources


def test_what_is_said_of_the_origins_is_what_is_used(tmp_path: Path) -> None:
    for row in ROWS:
        if "error" in row:
            continue
        config, _ = configure(row, tmp_path / row["says"].replace(" ", "-"))
        said = {origin.what: origin.value for origin in config.origins}
        assert said["initiator name"] == config.initiator_name
        assert said["portal"] == str(config.paths[0].portal)
        assert said["target"].startswith(f"{config.paths[0].target_name} LUN ")
        address = config.nics[0].address
        assert said["NIC 0 address"] == (str(address) if address else "by DHCP")
        assert config.paths[0].nic == config.nics[0]
        credentials = config.paths[0].credentials
        assert ("CHAP" in said) == (credentials is not None)
        for name in ("depth", "give_up_ms", "mtu_bytes"):
            assert said.get(name, str(getattr(config.policy, name))) == str(getattr(config.policy, name))


def test_the_dry_run_says_who_won(tmp_path: Path) -> None:
    row = next(row for row in ROWS if row["says"] == "ip= over the table's address")
    config, _ = configure(row, tmp_path)
    assert (
        "NIC 0 address     10.0.2.77/24 <- ip=10.0.2.77::10.0.2.1:255.255.255.0:::none, "
        "over 10.0.2.15/24 by the iBFT (acpi)"
    ) in plan(config)
