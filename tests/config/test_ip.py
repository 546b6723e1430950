from __future__ import annotations

import contextlib
from ipaddress import ip_address, ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.config.ip import METHODS, parse_ip, parse_mac, split_fields
from isboot.errors import ConfigError, ExitStatus
from tests.firmware.tables import PROPERTY


@pytest.mark.parametrize(
    ("text", "method", "interface", "address"),
    [
        ("dhcp", "dhcp", "", None),
        ("on", "dhcp", "", None),
        ("any", "dhcp", "", None),
        ("single-dhcp", "dhcp", "", None),
        ("", "dhcp", "", None),
        ("ibft", "ibft", "", None),
        ("off", "static", "", None),
        ("none", "static", "", None),
        ("eth0:dhcp", "dhcp", "eth0", None),
        ("eth0:dhcp:9000", "dhcp", "eth0", None),
        ("192.0.2.15::192.0.2.1:255.255.255.0:host:eth0:none", "static", "eth0", "192.0.2.15/24"),
        ("192.0.2.15::192.0.2.1:24::eth0:off", "static", "eth0", "192.0.2.15/24"),
        ("192.0.2.15::192.0.2.1:24::eth0", "static", "eth0", "192.0.2.15/24"),
        ("192.0.2.15:192.0.2.9:192.0.2.1:24", "static", "", "192.0.2.15/24"),
        ("10.0.0.15", "static", "", "10.0.0.15/8"),
        ("172.16.0.15::::::none", "static", "", "172.16.0.15/16"),
        ("192.0.2.15::::::none", "static", "", "192.0.2.15/24"),
        ("[2001:db8::15]::[2001:db8::1]:64::eth0:none", "static", "eth0", "2001:db8::15/64"),
        ("[2001:db8::15/56]::::::none", "static", "", "2001:db8::15/56"),
        ("[2001:db8::15]::::::none", "static", "", "2001:db8::15/64"),
        (":::::eth0:dhcp", "dhcp", "eth0", None),
        ("192.0.2.15:::::eth0:dhcp", "dhcp", "eth0", None),
        ("::::host:eth0", "dhcp", "eth0", None),
    ],
)
def test_the_forms_of_kernel_and_dracut_are_read(
    text: str, method: str, interface: str, address: str | None
) -> None:
    one = parse_ip(text)
    assert (one.method, one.interface) == (method, interface)
    assert one.address == (ip_interface(address) if address else None)
    assert one.shown == f"ip={text}"


def test_gateway_hostname_mtu_and_name_servers_are_read() -> None:
    one = parse_ip("192.0.2.15::192.0.2.1:24:diskless:eth0:none:1400")
    assert (one.gateway, one.hostname, one.mtu, one.dns) == (ip_address("192.0.2.1"), "diskless", "1400", ())
    one = parse_ip("192.0.2.15::192.0.2.1:24::eth0:none:192.0.2.53:[2001:db8::53]")
    assert (one.mtu, one.dns) == ("", (ip_address("192.0.2.53"), ip_address("2001:db8::53")))
    assert parse_ip("eth0:dhcp:1400").mtu == "1400"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("eth0:dhcp:1500:52:54:00:12:34:56", "the MAC 52:54:00:12:34:56 is not set"),
        ("192.0.2.15::192.0.2.1:24::eth0:none:1500:52:54:00:12:34:56", "the MAC 52:54:00:12:34:56"),
        ("192.0.2.15:192.0.2.9:192.0.2.1:24::eth0:none", "the peer 192.0.2.9 is not used"),
    ],
)
def test_a_part_that_is_not_used_is_told(text: str, words: str) -> None:
    (warning,) = parse_ip(text).warnings
    assert words in warning


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("192.0.2.300::::::none", ExitStatus.MALFORMED),
        ("192.0.2.15:::33:::none", ExitStatus.MALFORMED),
        ("192.0.2.15:::255.0.255.0:::none", ExitStatus.MALFORMED),
        ("192.0.2.15::gateway:24:::none", ExitStatus.MALFORMED),
        ("192.0.2.15:::24:::sometimes", ExitStatus.MALFORMED),
        ("0.0.0.0:::24:::none", ExitStatus.MALFORMED),
        ("224.0.0.1:::24:::none", ExitStatus.MALFORMED),
        ("192.0.2.15:::24:::none:names", ExitStatus.MALFORMED),
        ("auto6", ExitStatus.UNAVAILABLE),
        ("dhcp6", ExitStatus.UNAVAILABLE),
        ("eth0:link6", ExitStatus.UNAVAILABLE),
        ("either6", ExitStatus.UNAVAILABLE),
    ],
)
def test_what_is_no_ip_option_or_not_served_is_told(text: str, status: ExitStatus) -> None:
    with pytest.raises(ConfigError, match="reading ip=") as caught:
        parse_ip(text)
    assert caught.value.exit_status == status
    assert caught.value.hint


def test_the_mac_of_pxe_is_read() -> None:
    assert parse_mac("01-52-54-00-12-34-56") == "52:54:00:12:34:56"
    assert parse_mac("52:54:00:AB:34:56") == "52:54:00:ab:34:56"
    for text in ("", "eth0", "01-52-54-00-12", "20-52-54-00-12-34-56"):
        with pytest.raises(ConfigError):
            parse_mac(text)


def test_brackets_keep_an_address_together() -> None:
    assert split_fields("[2001:db8::1]:a::b") == ["2001:db8::1", "a", "", "b"]


@PROPERTY
@given(
    st.lists(st.sampled_from([*METHODS, "192.0.2.15", "[2001:db8::1]", "24", "eth0", "[", "]"]), max_size=10)
)
def test_any_fields_are_an_option_or_a_config_error(fields: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        one = parse_ip(":".join(fields))
        assert one.method in ("dhcp", "static", "ibft")
        assert one.address is None or one.method == "static"
