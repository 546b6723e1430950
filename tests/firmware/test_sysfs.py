from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import ExitStatus, FirmwareError
from isboot.firmware import document, find, layout, sysfs
from isboot.firmware.encode import encode
from isboot.values import IbftTable, IpAddress
from tests.firmware.tables import CHAP_TABLE, INITIATOR, NIC, PROPERTY, TABLE, TARGET

ORIGIN_NUMBERS = {name: number for number, name in layout.ORIGINS.items()}
CHAP_NUMBERS = {name: number for number, name in layout.CHAP_TYPES.items()}


def shown_address(address: IpAddress | None) -> str | None:
    """Give an address as the kernel's %pI4 and %pI6 do; None where the attribute is hidden."""
    return address.exploded if isinstance(address, IPv6Address) else address and str(address)


def shown_lun(lun: bytes) -> str:
    return "".join(f"{byte:x}" for byte in lun)


def write_tree(tree: Path, table: IbftTable) -> None:
    """Write what iscsi_ibft (6.12) shows for a table."""
    assert table.initiator is not None
    attributes: dict[str, object] = {
        "acpi_header/signature": table.signature,
        "acpi_header/oem_id": table.oem_id,
        "acpi_header/oem_table_id": table.oem_table_id,
        "initiator/index": 0,
        "initiator/flags": table.initiator.flags,
        "initiator/initiator-name": table.initiator.name,
        "initiator/isns-server": shown_address(table.initiator.isns),
    }
    for nic in table.nics:
        dns = [*map(shown_address, nic.dns), None, None]
        attributes |= {
            f"ethernet{nic.header_index}/{name}": value
            for name, value in {
                "index": nic.header_index, "flags": nic.flags, "ip-addr": shown_address(nic.ip),
                "prefix-len": nic.prefix, "subnet-mask": "255.255.255.0", "vlan": nic.vlan,
                "origin": ORIGIN_NUMBERS[nic.origin], "gateway": shown_address(nic.gateway),
                "primary-dns": dns[0], "secondary-dns": dns[1], "dhcp": shown_address(nic.dhcp),
                "mac": nic.mac, "hostname": nic.hostname or None,
            }.items()
        }  # fmt: skip
    for target in table.targets:
        attributes |= {
            f"target{target.header_index}/{name}": value
            for name, value in {
                "index": target.header_index, "flags": target.flags, "ip-addr": shown_address(target.ip),
                "port": target.port, "lun": shown_lun(target.lun), "chap-type": CHAP_NUMBERS[target.chap],
                "nic-assoc": target.nic, "target-name": target.name, "chap-name": target.chap_name or None,
                "chap-secret": target.chap_secret.reveal().decode() or None,
                "rev-chap-name": target.reverse_chap_name or None,
                "rev-chap-name-secret": target.reverse_chap_secret.reveal().decode() or None,
            }.items()
        }  # fmt: skip
    for name, value in attributes.items():
        if value is not None:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(f"{value}\n")
    for nic in table.nics:
        device = f"../../../devices/pci0000:00/0000:{nic.pci}"
        (tree / f"ethernet{nic.header_index}/device").symlink_to(device)


@pytest.mark.parametrize("name", ["ibft", "iscsi_boot0"])
def test_the_kernels_tree_gives_the_table_it_was_made_from(tmp_path: Path, name: str) -> None:
    write_tree(tmp_path / "sys/firmware" / name, CHAP_TABLE)
    (table,) = find.find_tables(tmp_path)
    expected = replace(CHAP_TABLE, source="sysfs", revision=None, length=None, checksum_ok=None)
    assert replace(table, control=None) == replace(expected, control=None)
    assert table.problems == ()


def test_ipv6_is_read_as_the_kernel_writes_it(tmp_path: Path) -> None:
    target = replace(TARGET, ip=IPv6Address("2001:db8::9"))
    write_tree(tmp_path / "sys/firmware/ibft", replace(TABLE, targets=(target,)))
    (table,) = find.find_tables(tmp_path)
    assert document.to_document(table)["targets"][0]["ip"] == "2001:db8::9"


def test_the_tree_of_a_table_found_elsewhere_is_not_another(tmp_path: Path) -> None:
    write_tree(tmp_path / "sys/firmware/ibft", TABLE)
    acpi = tmp_path / "sys/firmware/acpi/tables/iBFT"
    acpi.parent.mkdir(parents=True)
    acpi.write_bytes(encode(TABLE))
    assert [table.source for table in find.find_tables(tmp_path)] == ["acpi"]
    acpi.write_bytes(encode(replace(TABLE, nics=(replace(NIC, mac="52:54:00:00:00:01"),))))
    assert [table.source for table in find.find_tables(tmp_path)] == ["acpi", "sysfs"]


def test_what_a_tree_shows_and_what_it_may_leave_out() -> None:
    assert sysfs.is_same(TABLE, TABLE)
    assert sysfs.is_same(replace(TABLE, nics=(), targets=(), initiator=None), TABLE)
    assert not sysfs.is_same(TABLE, replace(TABLE, initiator=None))
    other = replace(INITIATOR, name="iqn.2001-04.com.example:other")
    assert not sysfs.is_same(replace(TABLE, initiator=other), TABLE)
    assert not sysfs.is_same(TABLE, replace(TABLE, targets=()))


def test_a_tree_that_may_not_be_read_is_named_and_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path / "sys/firmware/ibft", TABLE)
    opened = Path.open

    def refuse(self: Path, *args: object, **kwargs: object) -> object:
        if self.name == "chap-type":
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FirmwareError, match="reading /sys/firmware/ibft is not permitted") as caught:
        find.find_tables(tmp_path)
    assert caught.value.exit_status == ExitStatus.NOT_PERMITTED


def test_an_empty_tree_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "sys/firmware/ibft").mkdir(parents=True)
    assert find.find_tables(tmp_path) == []


def test_an_ambiguous_lun_is_named(tmp_path: Path) -> None:
    target = replace(TARGET, lun=bytes.fromhex("00ff000000000000"))
    write_tree(tmp_path / "sys/firmware/ibft", replace(TABLE, targets=(target,)))
    (table,) = find.find_tables(tmp_path)
    assert table.targets[0].lun == target.lun
    (problem,) = table.problems
    assert (problem.severity, problem.code, problem.where) == ("warning", "lun", "target0.lun")
    assert "taken as 00ff000000000000, but it may be 000ff00000000000" in problem.message


@PROPERTY
@given(st.binary(min_size=8, max_size=8))
def test_the_lun_that_was_shown_is_among_the_candidates(lun: bytes) -> None:
    assert lun in set(sysfs.lun_candidates(shown_lun(lun)))


@PROPERTY
@given(st.integers(0, 255))
def test_a_small_lun_is_the_likeliest_candidate(number: int) -> None:
    lun = number.to_bytes(2, "big") + bytes(6)
    assert next(sysfs.lun_candidates(shown_lun(lun))) == lun


@PROPERTY
@given(st.integers(256, 16383))
def test_a_flat_lun_is_among_the_first_candidates(number: int) -> None:
    lun = (0x4000 | number).to_bytes(2, "big") + bytes(6)
    assert lun in list(sysfs.lun_candidates(shown_lun(lun)))[:3]


@PROPERTY
@given(
    st.dictionaries(
        st.sampled_from(
            [
                *("initiator/flags", "initiator/initiator-name"),
                *("ethernet0/mac", "ethernet0/ip-addr", "ethernet0/origin", "ethernet0/prefix-len"),
                *("target0/lun", "target0/chap-type", "target0/ip-addr", "target0/port", "target0/nic-assoc"),
            ]
        ),
        st.binary(max_size=30),
    )
)
def test_arbitrary_attributes_give_a_document(
    tmp_path_factory: pytest.TempPathFactory, attributes: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("root")
    write_tree(root / "sys/firmware/ibft", CHAP_TABLE)
    for name, raw in attributes.items():
        (root / "sys/firmware/ibft" / name).write_bytes(raw)
    (table,) = find.find_tables(root)
    assert document.to_document(table)["verdict"] in ("accept", "reject")
