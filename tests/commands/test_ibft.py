from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from isboot import cli
from isboot.commands import ibft
from isboot.firmware import find, layout
from isboot.firmware.decode import decode
from isboot.firmware.encode import encode
from isboot.values import IbftTable
from tests.firmware.tables import CHAP_TABLE, NIC, TABLE, TARGET

GOOD = encode(CHAP_TABLE)
BROKEN = GOOD[:9] + bytes([GOOD[9] ^ 1]) + GOOD[10:]
TABLE_KEYS = [
    "source", "signature", "revision", "length", "checksum_ok", "oem_id", "oem_table_id", "control",
    "initiator", "nics", "targets", "problems", "verdict", "quirks",
]  # fmt: skip
TARGET_KEYS = [
    "index", "header_index", "name", "ip", "port", "lun", "nic", "chap", "chap_name", "reverse_chap_name",
    "has_secret", "has_reverse_secret", "radius_chap", "radius_reverse_chap", "flags", "valid",
    "boot_selected",
]  # fmt: skip


@pytest.fixture
def table_file(tmp_path: Path) -> str:
    path = tmp_path / "table"
    path.write_bytes(GOOD)
    return str(path)


def write(path: Path, raw: bytes) -> str:
    path.write_bytes(raw)
    return str(path)


def test_the_document_has_every_key_in_its_order(table_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ibft", "--file", table_file, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == TABLE_KEYS
    assert list(document["targets"][0]) == TARGET_KEYS
    assert document["source"] == "file"
    assert document["verdict"] == "accept"


def test_secrets_are_shown_only_when_asked_for(table_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ([], ["--json"], ["--hex"]):
        assert cli.main(["ibft", "--file", table_file, *form]) == 0
        shown = capsys.readouterr()
        assert "twelve bytes" not in shown.out + shown.err
        assert b"twelve".hex(" ") not in shown.out
    for form in ([], ["--json"]):
        assert cli.main(["ibft", "--file", table_file, "--show-secrets", *form]) == 0
        assert "twelve bytes" in capsys.readouterr().out
    assert cli.main(["ibft", "--file", table_file, "--show-secrets", "--hex"]) == 0
    assert b"twelve".hex(" ") in capsys.readouterr().out


def test_show_secrets_adds_two_keys_to_each_target(
    table_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["ibft", "--file", table_file, "--json", "--show-secrets"])
    (target,) = json.loads(capsys.readouterr().out)["targets"]
    assert list(target) == [*TARGET_KEYS, "chap_secret", "reverse_chap_secret"]
    assert (target["chap_secret"], target["reverse_chap_secret"]) == ("twelve bytes", "")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_rejected_table_is_printed_all_the_same(
    tmp_path: Path, form: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ibft", "--file", write(tmp_path / "t", BROKEN), *form]) == 65
    shown = capsys.readouterr().out
    assert TARGET.name in shown
    assert "checksum" in shown


@pytest.mark.parametrize("length", [0, 3, 47, 48, 100, len(GOOD) - 1])
def test_a_truncated_table_is_65_with_a_document(
    tmp_path: Path, length: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ibft", "--file", write(tmp_path / "t", GOOD[:length]), "--json"]) == 65
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "reject"
    assert "length" in [problem["code"] for problem in document["problems"]]


def test_a_missing_file_is_66_with_nothing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ibft", "--file", "/nonexistent", "--json"]) == 66
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("isboot: reading an iBFT from /nonexistent: No such file")


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--list"], ["--list", "--json"]])
def test_a_machine_without_a_table_is_66_with_nothing_on_stdout(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(find, "find_tables", list)
    assert cli.main(["ibft", *arguments]) == 66
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "there is none" in shown.err


def several(monkeypatch: pytest.MonkeyPatch) -> list[IbftTable]:
    sysfs = replace(TABLE, source="sysfs", revision=None, length=None, checksum_ok=None)
    tables = [decode(BROKEN, "acpi"), decode(GOOD, "memory"), sysfs]
    monkeypatch.setattr(find, "find_tables", lambda: tables)
    return tables


def test_the_list_is_an_array_with_a_row_for_each_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    several(monkeypatch)
    assert cli.main(["ibft", "--list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    common = {"signature": "iBFT", "oem_id": "FENSYS", "oem_table_id": "iPXE"}
    assert rows == [
        {"index": 0, "source": "acpi", **common, "length": len(GOOD), "verdict": "reject"},
        {"index": 1, "source": "memory", **common, "length": len(GOOD), "verdict": "accept"},
        {"index": 2, "source": "sysfs", **common, "length": None, "verdict": "accept"},
    ]
    assert list(rows[0]) == ["index", "source", "signature", "oem_id", "oem_table_id", "length", "verdict"]
    assert cli.main(["ibft", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_the_first_good_table_is_shown_or_the_one_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    several(monkeypatch)
    assert cli.main(["ibft", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == "memory"
    assert cli.main(["ibft", "--json", "--index", "0"]) == 65
    assert json.loads(capsys.readouterr().out)["source"] == "acpi"
    assert cli.main(["ibft", "--json", "--index", "2"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [document[key] for key in ("revision", "length", "checksum_ok")] == [None, None, None]
    assert cli.main(["ibft", "--json", "--index", "3"]) == 66
    assert capsys.readouterr().out == ""


def test_the_other_tables_are_named_beside_the_one_that_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    several(monkeypatch)
    assert cli.main(["ibft"]) == 0
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("  0: iBFT found (acpi), FENSYS iPXE: cannot be booted from: table.checksum_ok: ")
    assert second == "  2: iBFT found (sysfs), FENSYS iPXE"


def test_one_table_alone_names_no_other(table_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ibft", "--file", table_file]) == 0
    assert "other tables" not in capsys.readouterr().out


def test_people_see_the_quirks_before_the_problems() -> None:
    lines = list(ibft.describe(decode(encode(replace(CHAP_TABLE, signature="BIFT")), "acpi")))
    (at,) = [number for number, line in enumerate(lines) if line == "quirks"]
    assert lines[at + 1] == "  bift (Broadcom offload): table.signature"
    assert lines[at + 2].startswith('    the signature is "BIFT"; it is a table like any other')
    assert lines[at + 3 :] == ["", "no problems"]


def test_bytes_of_the_kernels_tree_cannot_be_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    several(monkeypatch)
    assert cli.main(["ibft", "--hex", "--index", "2"]) == 66
    assert "there are none" in capsys.readouterr().err


def test_a_table_that_says_it_has_no_bytes_is_malformed(tmp_path: Path) -> None:
    raw = GOOD[:4] + bytes(4) + GOOD[8:]
    assert cli.main(["ibft", "--file", write(tmp_path / "t", raw), "--hex"]) == 65


@pytest.mark.parametrize("form", ["--json", "--list"])
def test_hex_stands_alone(form: str, table_file: str) -> None:
    assert cli.main(["ibft", "--file", table_file, "--hex", form]) == 2


def test_people_see_every_field_and_the_problems_last() -> None:
    table = decode(encode(replace(CHAP_TABLE, nics=(replace(NIC, vlan=5000),))), "memory")
    lines = list(ibft.describe(table))
    for structure in (layout.INITIATOR, layout.NIC, layout.TARGET):
        for field in structure.fields:
            assert any(line.startswith(f"  {field.label} ") for line in lines), field.label
    for value in ("FENSYS", "52:54:00:12:34:56", "10.0.2.15", "00:03.0", "1 (0001000000000000)", "guest"):
        assert any(value in line for line in lines)
    assert lines[0] == "iBFT in low memory: can be booted from"
    assert lines[-2] == "problems"
    assert lines[-1].startswith("  warning: nic0.vlan at ")
    assert list(ibft.describe(decode(GOOD, "memory")))[-1] == "no problems"


def test_a_table_is_made_from_a_specification(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('[initiator]\nname = "iqn.2001-04.com.example:me"\n[[nics]]\nmac = "52:54:00:12:34:56"\n')
    output = tmp_path / "table"
    assert cli.main(["ibft", "make", str(spec), "-o", str(output)]) == 0
    table = decode(output.read_bytes(), "file")
    assert table.initiator is not None
    assert table.initiator.name == "iqn.2001-04.com.example:me"
    assert output.stat().st_mode & 0o777 == 0o600
    assert cli.main(["ibft", "--file", str(output)]) == 65  # it has no target


def test_making_a_table_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text("nonsense = 1\n")
    output = str(tmp_path / "table")
    assert cli.main(["ibft", "make", str(spec), "-o", output]) == 65
    assert cli.main(["ibft", "make", str(tmp_path / "missing"), "-o", output]) == 66
    spec.write_text("")
    assert cli.main(["ibft", "make", str(spec), "-o", str(tmp_path / "no" / "table")]) == 1
    assert cli.main(["ibft", "make", str(spec)]) == 2
    assert cli.main(["ibft", "-o", output]) == 2
    assert capsys.readouterr().out == ""
