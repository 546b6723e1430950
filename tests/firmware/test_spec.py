from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isboot import cli
from isboot.errors import ExitStatus, FirmwareError
from isboot.firmware.decode import decode
from isboot.firmware.document import to_document
from isboot.firmware.encode import encode
from isboot.firmware.spec import build, from_document
from isboot.values import IbftTable, Secret
from tests.firmware.tables import PROPERTY, tables

SPEC = """
oem_id = "VENDOR"
length = 1024
[control]
pairs = 3
[initiator]
name = "iqn.2001-04.com.example:guest"
radius = ["10.0.2.5"]
[[nics]]
mac = "52:54:00:12:34:56"
ip = "10.0.2.15"
prefix = 24
pci = "00:03.0"
vlan = 7
global = true
[[targets]]
name = "iqn.2001-04.com.example:disk0"
ip = "2001:db8::9"
lun = "0001000000000000"
chap = "chap"
chap_name = "guest"
chap_secret = "twelve bytes"
boot_selected = false
"""


def visible(table: IbftTable) -> IbftTable:
    """Give the table with secrets that survive being shown as text."""
    targets = tuple(
        replace(
            target,
            chap_secret=Secret(target.chap_secret.reveal().hex().encode()),
            reverse_chap_secret=Secret(target.reverse_chap_secret.reveal().hex().encode()),
        )
        for target in table.targets
    )
    return replace(table, targets=targets)


@PROPERTY
@given(tables())
def test_the_document_of_a_table_describes_that_table(table: IbftTable) -> None:
    raw = encode(visible(table))
    document = to_document(decode(raw, "file"), show_secrets=True)
    assert encode(from_document(document)) == raw


def toml(document: dict[str, object]) -> str:
    """Give a document as TOML: what is null, and what only a reader can say, is left out."""

    def value(given: object) -> str:
        return json.dumps(given)  # strings, numbers, booleans and lists of strings look the same

    def keys(part: dict[str, object]) -> str:
        return "".join(f"{key} = {value(given)}\n" for key, given in part.items() if given is not None)

    plain = {key: given for key, given in document.items() if not isinstance(given, dict | list)}
    text = keys(plain)
    for name in ("control", "initiator"):
        if document[name] is not None:
            text += f"[{name}]\n{keys(document[name])}"
    for name in ("nics", "targets"):
        for part in document[name]:
            no_nic = {"nic": "none"} if name == "targets" and part["nic"] is None else {}
            text += f"[[{name}]]\n{keys(part | no_nic)}"
    return text


def shown(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    cli.main(["ibft", "--file", str(path), "--json", "--show-secrets"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("form", ["toml", "json"])
def test_what_make_made_has_the_values_it_was_made_of(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, made = tmp_path / "spec", tmp_path / "made"

    @settings(PROPERTY, max_examples=50)
    @given(tables())
    def check(table: IbftTable) -> None:
        document = to_document(decode(encode(visible(table)), "file"), show_secrets=True)
        spec.write_text(toml(document) if form == "toml" else json.dumps(document))
        assert cli.main(["ibft", "make", str(spec), "-o", str(made)]) == 0
        again = shown(made, capsys)
        for key in set(document) - {"problems"}:
            assert again[key] == document[key], key
        # A string is laid elsewhere, so that only the places of problems may differ.
        for one, other in zip(again["problems"], document["problems"], strict=True):
            assert {**one, "offset": 0} == {**other, "offset": 0}

    check()


@pytest.mark.parametrize("name", ["ipxe-bios-two-paths", "edk2-four-attempts", "three-pairs", "ipv6"])
def test_a_real_table_made_again_has_its_values(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = shown(Path(f"tests/data/ibft/{name}.bin"), capsys)
    (tmp_path / "spec").write_text(toml(document))
    assert cli.main(["ibft", "make", str(tmp_path / "spec"), "-o", str(tmp_path / "made")]) == 0
    again = shown(tmp_path / "made", capsys)
    layouts = {"problems", "quirks"}  # tell of where things lie, too
    assert {key: again[key] for key in set(again) - layouts} == {
        key: document[key] for key in set(document) - layouts
    }


def test_a_target_without_a_nic_is_that_of_the_nic_beside_it() -> None:
    nics = '[[nics]]\nmac = "52:54:00:00:00:01"\n[[nics]]\nmac = "52:54:00:00:00:02"\n'
    target = '[[targets]]\nname = "iqn.2001-04.com.example:disk"\nip = "10.0.0.1"\n'
    assert [t.nic for t in decode(build(nics + target * 3), "file").targets] == [0, 1, 0]
    assert [t.nic for t in decode(build(target), "file").targets] == [None]
    none = nics + target + 'nic = "none"\n'
    assert [t.nic for t in decode(build(none), "file").targets] == [None]


def test_a_specification_gives_the_table_it_describes() -> None:
    table = decode(build(SPEC), "file")
    assert table.problems == ()
    assert (table.length, table.oem_id, table.control and table.control.pairs) == (1024, "VENDOR", 3)
    (nic,) = table.nics
    assert (nic.vlan, nic.is_global, nic.flags) == (7, True, 7)
    (target,) = table.targets
    assert (target.port, target.valid, target.boot_selected) == (3260, True, False)
    assert target.chap_secret == Secret(b"twelve bytes")


def test_damage_goes_in_last_under_a_good_checksum() -> None:
    table = decode(build(SPEC + '[raw]\n48 = "07"\n0x24 = "01 02"\n'), "file")
    assert table.checksum_ok
    assert [problem.code for problem in table.problems] == ["reserved", "structure-id"]


def test_the_checksum_is_wrong_on_demand() -> None:
    for spec in ("checksum_ok = false\n" + SPEC, SPEC + '[raw]\n9 = "00"\n'):
        assert [problem.code for problem in decode(build(spec), "file").problems] == ["checksum"]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ("x = ", "the specification"),
        ("nonsense = 1", "table.nonsense"),
        ("{", "the specification"),
        ('{"nics": 1}', "nics"),
        ("length = 60", "table.length"),
        ("control = 1", "control"),
        ("[control]\npairs = 1", "control.pairs"),
        ("[[nics]]\nindex = 32", "nic0.index"),
        ("[[nics]]\n[[nics]]\nindex = 0", "nic0.index"),
        ("[[targets]]\nnic = 0", "target0.nic"),
        ('{"targets": [{"chap_secret": "\\ud800"}]}', "target0.chap_secret"),
        (f"[[targets]]\nname = '{'x' * 2049}'", "target0.name"),
        ("nics = 1", "nics"),
        ("initiator = 1", "initiator"),
        ("[initiator]\nnames = 'x'", "initiator.names"),
        ("[initiator]\nname = 'ä'", "initiator.name"),
        ("[initiator]\nradius = ['::1', '::1', '::1']", "initiator.radius"),
        ("[initiator]\nvalid = 1", "initiator.valid"),
        ("[[nics]]\nmac = 'x'", "nic0.mac"),
        ("[[nics]]\nip = '10.0.0'", "nic0.ip"),
        ("[[nics]]\nvlan = 65536", "nic0.vlan"),
        ("[[nics]]\norigin = 'ether'", "nic0.origin"),
        ("[[nics]]\npci = '00:20.0'", "nic0.pci"),
        ("[[targets]]\nlun = '1'", "target0.lun"),
        ("[[targets]]\nlun = -1", "target0.lun"),
        ("[[targets]]\nlun = true", "target0.lun"),
        ("[[targets]]\nchap = 'both'", "target0.chap"),
        ("[[targets]]\nchap_secret = 5", "target0.chap_secret"),
        ("[control]\npairs = -1", "control.pairs"),
        ("[raw]\nx = '00'", "raw.x"),
        ("[raw]\n0 = '0'", "raw.0"),
        ("[raw]\n99999 = '00'", "raw.99999"),
    ],
)
def test_what_no_table_can_hold_is_refused_by_name(spec: str, where: str) -> None:
    with pytest.raises(FirmwareError) as caught:
        build(spec)
    assert caught.value.message.startswith(f"building a table: {where}: ")
    assert caught.value.exit_status == ExitStatus.MALFORMED


@PROPERTY
@given(st.dictionaries(st.sampled_from(["signature", "length", "control", "initiator", "nics", "targets"]),
                       st.one_of(st.integers(), st.text(), st.lists(st.dictionaries(st.text(), st.text())),
                                 st.dictionaries(st.text(), st.integers()))))  # fmt: skip
def test_any_document_is_a_table_or_an_error_for_people(given_document: dict[str, object]) -> None:
    with contextlib.suppress(FirmwareError):
        assert decode(encode(from_document(given_document)), "file").checksum_ok


@pytest.mark.parametrize(("given", "lun"), [("7", "0007"), ("300", "412c"), ('"8325000000000000"', "8325")])
def test_a_lun_is_its_bytes_or_a_number(given: str, lun: str) -> None:
    table = decode(build(f"[[targets]]\nlun = {given}\n"), "file")
    assert table.targets[0].lun.hex() == lun.ljust(16, "0")


def test_the_example_of_the_manual_is_a_table() -> None:
    manual = Path("docs/isboot.8").read_text(encoding="utf-8")
    (example,) = re.findall(r"\.EX\n(\[initiator\]\n.*?)\.EE\n", manual, re.DOTALL)
    table = decode(build(example.replace("\\-", "-")), "file")
    assert table.is_bootable
    assert [problem.code for problem in table.problems] == ["reserved"]
