from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.config.cmdline import KernelOptions, parse, words
from isboot.config.reading import Reading
from isboot.errors import ConfigError, ExitStatus, UsageError
from isboot.values import Policy
from tests.firmware.tables import PROPERTY

DISK = "iqn.2009-06.dracut:target0"
NETROOT = f"netroot=iscsi:192.0.2.9::::{DISK}"


def test_a_command_line_of_others_changes_nothing() -> None:
    options = parse("BOOT_IMAGE=/vmlinuz root=UUID=1 ro quiet console=ttyS0 netroot=nbd:a:1 rd.neednet=1\n")
    assert options == KernelOptions(foreign="netroot=nbd")
    assert options.is_for_others
    assert options.policy(Policy()) == Policy()


def test_every_option_is_read() -> None:
    options = parse(
        "rd.isboot=1 rd.isboot.acpi_table=2 rd.isboot.verbose=1 rd.isboot.debug=3 rd.isboot.netns=0 "
        "rd.isboot.luns=0,1 rd.isboot.queues=2 rd.isboot.profile=small rd.isboot.param=nop_timeout_ms=5000 "
        "rd.isboot.give_up=60 rd.iscsi.initiator=iqn.2001-04.com.example:me " + NETROOT
    )
    assert (options.enabled, options.table_index, options.verbose) == (True, 2, True)
    assert options.debug == 3
    assert options.luns == (bytes(8), b"\0\1" + bytes(6))
    assert options.initiator_name == "iqn.2001-04.com.example:me"
    assert [netroot.target_name for netroot in options.netroots] == [DISK]
    assert options.warnings == ()
    policy = options.policy(Policy())
    assert (policy.queues, policy.profile, policy.depth) == (2, "small", 32)
    assert (policy.nop_timeout_ms, policy.give_up_ms) == (5000, 60_000)


@pytest.mark.parametrize("text", ["rd.isboot=0", "rd.isboot=1 rd.isboot=0", "rd.isboot=0 rd.isboot=1"])
def test_isboot_can_be_switched_off(text: str) -> None:
    assert not parse(text).enabled


def test_a_switch_without_a_value_is_on() -> None:
    assert parse("rd.isboot.verbose").verbose


def test_dashes_stand_for_underscores() -> None:
    assert parse("rd.isboot.acpi-table=1").table_index == 1


def test_quotes_keep_a_word_together() -> None:
    assert words('a "b c" d="e f" g"') == ["a", "b c", "d=e f", "g"]


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("rd.isboot.queues=2 rd.isboot.queues=4", "rd.isboot.queues=2", "rd.isboot.queues=4"),
        ("rd.isboot.param=queues=2 rd.isboot.queues=4", "rd.isboot.param=queues=2", "rd.isboot.queues=4"),
        ("rd.isboot.give_up=1 rd.isboot.give_up=2", "give_up_ms=1000", "give_up_ms=2000"),
        ("rd.isboot=1 rd.isboot=0", "rd.isboot=0", "rd.isboot=1"),
        (f"{NETROOT} {NETROOT}x", f"{DISK} and", f"{DISK}x"),
    ],
)
def test_a_value_set_twice_differently_is_a_warning_that_names_both(
    text: str, first: str, second: str
) -> None:
    (warning,) = parse(text).warnings
    assert first in warning
    assert second in warning


def test_a_value_set_twice_the_same_way_is_no_matter() -> None:
    assert parse(f"rd.isboot.queues=2 rd.isboot.queues=2 {NETROOT} {NETROOT}").warnings == ()


def test_the_latter_of_two_values_holds() -> None:
    assert parse("rd.isboot.queues=2 rd.isboot.queues=4").policy(Policy()).queues == 4


@pytest.mark.parametrize(
    "text",
    [
        "rd.isboot.queues=0",
        "rd.isboot.queues=many",
        "rd.isboot.profile=fast",
        "rd.isboot.param=depth",
        "rd.isboot.param=depth=-1",
        "rd.isboot.param=nothing=1",
        "rd.isboot.give_up=x",
        "rd.isboot.debug=4",
        "rd.isboot.verbose=yes",
        "rd.isboot.netns=1",
        "rd.isboot.unknown=1",
        "netroot=iscsi:192.0.2.9::::disk",
    ],
)
def test_a_wrong_value_that_only_tunes_is_left_out_with_a_warning(text: str) -> None:
    options = parse(text)
    assert options.policy(Policy()) == Policy()
    (warning,) = options.warnings
    assert warning.endswith("left out")
    assert warning.startswith(("kernel command line: ", "reading "))


@pytest.mark.parametrize("text", ["rd.isboot=2", "rd.isboot.acpi_table=-1", "rd.isboot.luns=some"])
def test_a_wrong_value_that_decides_what_boots_is_an_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert text.partition("=")[0] in caught.value.message


def test_a_wrong_initiator_name_is_malformed() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("rd.iscsi.initiator=me")
    assert caught.value.exit_status == ExitStatus.MALFORMED


def test_several_netroots_to_one_target_are_several_paths() -> None:
    options = parse(f"{NETROOT} netroot=iscsi:192.0.2.10::::{DISK}")
    assert [str(netroot.portal) for netroot in options.netroots] == ["192.0.2.9:3260", "192.0.2.10:3260"]
    assert options.warnings == ()


def test_dracuts_empty_netroot_means_the_firmware() -> None:
    options = parse("netroot=iscsi: rd.iscsi.ibft=1")
    assert (options.netroots, options.warnings) == ((), ())


def test_root_may_carry_what_netroot_does() -> None:
    assert len(parse(f"root=iscsi:192.0.2.9::::{DISK}").netroots) == 1


def test_what_is_read_half_way_shows_no_secret() -> None:
    reading = Reading()
    for word in ("rd.iscsi.password=hunter22", "netroot=iscsi:u:hunter22@a::::bad", "netroot=nbd:hunter22"):
        reading.take(word)
    assert "hunter22" not in repr(reading)


@pytest.mark.parametrize("more", ["netroot=dhcp", NETROOT, "netroot=iscsi:a::::bad"])
def test_a_netroot_of_another_kind_is_for_others_unless_isboot_is_asked_as_well(more: str) -> None:
    assert parse("netroot=nfs:192.0.2.1:/srv").is_for_others
    assert not parse(f"netroot=nfs:192.0.2.1:/srv {more}").is_for_others
    assert not parse("netroot=iscsi netroot=").is_for_others


def test_a_secret_shows_in_nothing_that_is_printed() -> None:
    options = parse(f"netroot=iscsi:u:hunter22@192.0.2.9::::{DISK} netroot=iscsi:u:hunter22@a::::bad")
    assert "hunter22" not in repr(options)


@PROPERTY
@given(
    st.text(max_size=60),
    st.sampled_from(["", "rd.isboot", "rd.isboot.", "rd.isboot.param=", "netroot=iscsi:"]),
)
def test_any_text_gives_options_or_an_error_for_people(text: str, prefix: str) -> None:
    with contextlib.suppress(UsageError, ConfigError):
        assert isinstance(parse(prefix + text).policy(Policy()), Policy)
