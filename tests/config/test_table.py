from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface, ip_address

import pytest

from isboot.config.boot import from_sources
from isboot.config.cmdline import KernelOptions
from isboot.config.table import from_table
from isboot.errors import ConfigError, ExitStatus
from isboot.values import Credentials, IbftTable, Policy, Portal, Secret
from tests.firmware.tables import CHAP_TABLE, CHAP_TARGET, INITIATOR, NIC, TABLE, TARGET

NIC1 = replace(NIC, index=1, header_index=1, mac="52:54:00:12:34:57", ip=ip_address("10.0.3.15"))
TARGET1 = replace(TARGET, index=1, header_index=1, ip=ip_address("10.0.3.2"), nic=1)
MUTUAL = replace(
    CHAP_TARGET, chap="mutual", reverse_chap_name="storage", reverse_chap_secret=Secret(b"other secret")
)


def of(**changes: object) -> IbftTable:
    return replace(TABLE, **changes)


def test_a_table_gives_initiator_nic_and_path() -> None:
    config = from_table(TABLE, Policy(depth=7))
    assert (config.source, config.initiator_name, config.is_boot) == ("iBFT (file)", INITIATOR.name, True)
    assert config.policy == Policy(depth=7)
    (nic,) = config.nics
    assert (nic.mac, nic.pci, nic.address) == (NIC.mac, "00:03.0", IPv4Interface("10.0.2.15/24"))
    assert (nic.gateway, nic.dns, nic.vlan, nic.origin) == (NIC.gateway, NIC.dns, 0, "dhcp")
    (path,) = config.paths
    assert (path.index, path.nic, path.portal) == (0, nic, Portal("10.0.2.2", 3260))
    assert (path.target_name, path.lun, path.credentials) == (TARGET.name, TARGET.lun, None)
    assert config.warnings == ()


def test_every_pair_is_a_path_and_the_selected_one_comes_first() -> None:
    first = replace(TARGET, flags=1, boot_selected=False)
    config = from_table(of(nics=(NIC, NIC1), targets=(first, TARGET1)), Policy())
    assert [path.portal.host for path in config.paths] == ["10.0.3.2", "10.0.2.2"]
    assert [path.index for path in config.paths] == [0, 1]
    assert [path.nic and path.nic.index for path in config.paths] == [1, 0]
    assert [nic.index for nic in config.nics] == [0, 1]


def test_where_all_are_selected_the_order_of_the_table_stands() -> None:
    config = from_table(of(nics=(NIC, NIC1), targets=(TARGET, TARGET1)), Policy())
    assert [path.portal.host for path in config.paths] == ["10.0.2.2", "10.0.3.2"]


def test_among_selected_targets_that_of_a_selected_nic_comes_first() -> None:
    nic = replace(NIC, flags=1, boot_selected=False)
    config = from_table(of(nics=(nic, NIC1), targets=(TARGET, TARGET1)), Policy())
    assert [path.portal.host for path in config.paths] == ["10.0.3.2", "10.0.2.2"]


def test_chap_comes_with_its_secrets() -> None:
    assert from_table(CHAP_TABLE, Policy()).paths[0].credentials == Credentials(
        "guest", Secret(b"twelve bytes")
    )
    credentials = from_table(of(targets=(MUTUAL,)), Policy()).paths[0].credentials
    assert credentials is not None
    assert credentials.is_mutual
    assert credentials.reverse_name == "storage"


def test_secrets_of_a_table_that_switches_chap_off_are_not_used() -> None:
    assert from_table(of(targets=(replace(MUTUAL, chap="none"),)), Policy()).paths[0].credentials is None
    credentials = from_table(of(targets=(replace(MUTUAL, chap="chap"),)), Policy()).paths[0].credentials
    assert credentials is not None
    assert not credentials.is_mutual


def test_chap_without_its_secret_is_tried_and_named() -> None:
    config = from_table(of(targets=(replace(CHAP_TARGET, chap_secret=Secret(b"")),)), Policy())
    assert config.paths[0].credentials == Credentials("guest", Secret(b""))
    assert "its secret is empty" in config.warnings[0]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (replace(MUTUAL, reverse_chap_secret=Secret(b"")), "mutual CHAP, but a secret is missing"),
        (replace(MUTUAL, chap_secret=Secret(b"")), "mutual CHAP, but a secret is missing"),
        (replace(MUTUAL, reverse_chap_secret=MUTUAL.chap_secret), "the same secret"),
        (replace(TARGET, flags=0, valid=False, boot_selected=False), "neither valid nor boot-selected"),
        (replace(TARGET, ip=None), "no address"),
        (replace(TARGET, name="disk"), "is no target name"),
    ],
)
def test_a_target_that_cannot_be_used_is_left_out(target: object, reason: str) -> None:
    config = from_table(of(nics=(NIC, NIC1), targets=(target, TARGET1)), Policy())
    assert [path.portal.host for path in config.paths] == ["10.0.3.2"]
    assert reason in config.warnings[0]
    with pytest.raises(ConfigError, match=reason) as caught:
        from_table(of(targets=(target,)), Policy())
    assert caught.value.exit_status == ExitStatus.MALFORMED


@pytest.mark.parametrize(
    "nic",
    [
        replace(NIC, mac="00:00:00:00:00:00"),
        replace(NIC, mac="01:00:5e:00:00:01"),
        replace(NIC, vlan=4095),
        replace(NIC, flags=0, valid=False, boot_selected=False),
    ],
)
def test_a_nic_that_cannot_be_used_takes_its_path_along(nic: object) -> None:
    config = from_table(of(nics=(nic, NIC1), targets=(TARGET, TARGET1)), Policy())
    assert [found.index for found in config.nics] == [1]
    assert [path.portal.host for path in config.paths] == ["10.0.3.2"]
    assert len(config.warnings) == 2
    with pytest.raises(ConfigError, match="nic0 is not used"):
        from_table(of(nics=(nic,)), Policy())


def test_a_target_without_a_nic_takes_the_only_one_or_the_hosts_routes() -> None:
    target = replace(TARGET, nic=None)
    assert from_table(of(targets=(target,)), Policy()).paths[0].nic is not None
    config = from_table(of(nics=(NIC, NIC1), targets=(target,)), Policy())
    assert config.paths[0].nic is None
    assert "the host's routes decide" in config.warnings[0]
    assert from_table(of(nics=(), targets=(target,)), Policy()).nics == ()


@pytest.mark.parametrize(
    ("ip", "prefix", "address"),
    [
        ("10.0.2.15", 0, IPv4Interface("10.0.2.15/32")),
        ("10.0.2.15", 64, IPv4Interface("10.0.2.15/32")),
        ("2001:db8::15", 64, IPv6Interface("2001:db8::15/64")),
        ("2001:db8::15", 200, IPv6Interface("2001:db8::15/128")),
    ],
)
def test_a_prefix_that_cannot_be_is_that_of_the_host_alone(ip: str, prefix: int, address: object) -> None:
    nic = replace(NIC, ip=ip_address(ip), prefix=prefix)
    assert from_table(of(nics=(nic,)), Policy()).nics[0].address == address


def test_port_0_is_the_default_port() -> None:
    assert from_table(of(targets=(replace(TARGET, port=0),)), Policy()).paths[0].portal.port == 3260


@pytest.mark.parametrize(
    "changes", [{"initiator": None}, {"targets": ()}, {"initiator": replace(INITIATOR, name="me")}]
)
def test_a_table_without_what_is_needed_is_malformed(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_table(of(**changes), Policy())
    assert caught.value.exit_status == ExitStatus.MALFORMED


def test_a_secret_too_short_for_the_standard_is_warned_of_once() -> None:
    short = replace(CHAP_TARGET, chap_secret=Secret(b"elevenbytes"))
    both = replace(short, chap="mutual", reverse_chap_name="storage", reverse_chap_secret=Secret(b"other"))
    config = from_sources([of(targets=(short, replace(short, index=1, header_index=1)))], KernelOptions())
    (warning,) = config.warnings
    assert warning.startswith("CHAP as guest: the secret is shorter than 12 bytes (RFC 7143 §9.2.1)")
    assert len(config.paths) == 2
    (first, second) = from_sources([of(targets=(both,))], KernelOptions()).warnings
    assert second.startswith("CHAP as guest: the reverse secret is shorter")
    assert "elevenbytes" not in first + second
    assert from_sources([CHAP_TABLE], KernelOptions()).warnings == ()
