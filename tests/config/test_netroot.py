from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.config.netroot import parse_netroot
from isboot.errors import ConfigError, ExitStatus
from isboot.values import Portal
from tests.firmware.tables import PROPERTY

DISK = "iqn.2009-06.dracut:target0"


@pytest.mark.parametrize(
    ("text", "portal", "lun"),
    [
        (f"iscsi:192.168.50.1::::{DISK}", Portal("192.168.50.1"), "0000000000000000"),
        (f"iscsi:192.168.50.1:6:3261:1:{DISK}", Portal("192.168.50.1", 3261), "0001000000000000"),
        (f"iscsi:192.168.50.1:::1f:{DISK}", Portal("192.168.50.1"), "001f000000000000"),
        (f"iscsi:192.168.50.1:::4752-3A4F-6b7e-2F99:{DISK}", Portal("192.168.50.1"), "47523a4f6b7e2f99"),
        (f"iscsi:192.168.50.1:::4101-2:{DISK}", Portal("192.168.50.1"), "4101000200000000"),
        (f"iscsi:192.168.50.1:::0001000000000000:{DISK}", Portal("192.168.50.1"), "0001000000000000"),
        (f"iscsi:[2001:db8::1]::::{DISK}", Portal("2001:db8::1"), "0000000000000000"),
        (f"iscsi:[2001:db8::1]:6:860:2:{DISK}", Portal("2001:db8::1", 860), "0002000000000000"),
        (f"iscsi:192.168.50.1:::::2:{DISK}", Portal("192.168.50.1"), "0002000000000000"),
        (f"iscsi:storage.example.com::::{DISK}", Portal("storage.example.com"), "0000000000000000"),
        (f"iscsi:192.168.50.1:{DISK}", Portal("192.168.50.1"), "0000000000000000"),
    ],
)
def test_the_forms_of_rfc_4173_and_dracut_are_read(text: str, portal: Portal, lun: str) -> None:
    netroot = parse_netroot(text)
    assert (netroot.portal, netroot.lun.hex(), netroot.target_name) == (portal, lun, DISK)
    assert netroot.credentials is None
    assert netroot.warnings == ()


def test_a_target_name_may_hold_what_looks_like_another() -> None:
    assert (
        parse_netroot("iscsi:a::::iqn.2001-04.com.x:iqn.2:eui.3").target_name
        == "iqn.2001-04.com.x:iqn.2:eui.3"
    )


def test_the_nic_of_dracut_is_taken_and_open_iscsis_interface_named_as_not_used() -> None:
    netroot = parse_netroot(f"iscsi:192.168.50.1:::offload:eth0:2:{DISK}")
    assert (netroot.nic, netroot.lun.hex()) == ("eth0", "0002000000000000")
    (warning,) = netroot.warnings
    assert "'offload' is not used" in warning
    assert parse_netroot(f"iscsi:192.168.50.1:::eth0:2:{DISK}").nic == "eth0"


def test_an_at_with_nothing_before_it_is_no_credentials() -> None:
    assert parse_netroot(f"iscsi:@192.168.50.1::::{DISK}").credentials is None


def test_a_lun_that_people_may_mean_in_decimal_is_told() -> None:
    (warning,) = parse_netroot(f"iscsi:192.168.50.1:::10:{DISK}").warnings
    assert "in decimal 16" in warning


def test_what_dhcp_gives_is_named_by_its_source() -> None:
    with pytest.raises(ConfigError, match="reading root-path iscsi:a"):
        parse_netroot("iscsi:a:17:::iqn.2001-04.com.x:y", "root-path ")


def test_dracuts_secrets_are_taken_with_a_warning_and_not_shown() -> None:
    netroot = parse_netroot(f"iscsi:iqn.2001-04.com.x:hunter22hunter:storage:secret33secret@[::1]::::{DISK}")
    assert netroot.credentials is not None
    assert netroot.credentials.name == "iqn.2001-04.com.x"
    assert netroot.credentials.secret.reveal() == b"hunter22hunter"
    assert netroot.credentials.reverse_name == "storage"
    assert netroot.credentials.reverse_secret.reveal() == b"secret33secret"
    assert "can be read by every user" in netroot.warnings[0]
    shown = repr(netroot) + netroot.shown
    assert "hunter22" not in shown
    assert "secret33" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "iscsi:",
        f"iscsi:192.168.50.1:::a:b:c:2:{DISK}",
        "iscsi:192.168.50.1",
        f"iscsi:::::{DISK}",
        "iscsi:192.168.50.1::::disk",
        "iscsi:192.168.50.1::::iqn.2001-99.com.x",
        f"iscsi:192.168.50.1:17:::{DISK}",
        f"iscsi:192.168.50.1::0::{DISK}",
        f"iscsi:192.168.50.1::port::{DISK}",
        f"iscsi:192.168.50.1:::12345:{DISK}",
        f"iscsi:192.168.50.1:::1-2-3-4-5:{DISK}",
        f"iscsi:192.168.50.1:::xyz:{DISK}",
        f"iscsi:192.168.50.1:a:b:c:d:e:f:{DISK}",
        f"iscsi:[2001:db8::1::::{DISK}",
        f"iscsi:user-hunter22@192.168.50.1::::{DISK}",
        f"iscsi:user:hunter22:reverse@192.168.50.1::::{DISK}",
        f"iscsi:user:hunter22:reverse:hunter22@192.168.50.1::::{DISK}",
    ],
)
def test_what_is_no_netroot_is_malformed(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_netroot(text)
    assert caught.value.exit_status == ExitStatus.MALFORMED
    assert "hunter22" not in caught.value.message
    assert caught.value.hint


@PROPERTY
@given(st.text(max_size=80))
def test_any_text_is_a_netroot_or_a_config_error(text: str) -> None:
    for whole in (
        f"iscsi:{text}",
        f"iscsi:{text}:{DISK}",
        f"iscsi:{text}@a::::{DISK}",
        f"iscsi:a:{text}:{DISK}",
    ):
        with contextlib.suppress(ConfigError):
            assert parse_netroot(whole).target_name
