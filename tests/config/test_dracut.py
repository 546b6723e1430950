"""What users of dracut bring along: every option is obeyed or named."""

from __future__ import annotations

import pytest

from isboot.config import dracut, parameters
from isboot.config.cmdline import parse
from isboot.errors import ConfigError
from isboot.values import Policy

#: every option of dracut.cmdline(7), "iSCSI" and its deprecated ones, with a value it may have
OF_DRACUT = {
    "rd.iscsi.initiator": "iqn.2001-04.com.example:me",
    "rd.iscsi.target.name": "iqn.2009-06.dracut:target0",
    "rd.iscsi.target.ip": "192.0.2.9",
    "rd.iscsi.target.port": "3260",
    "rd.iscsi.target.group": "1",
    "rd.iscsi.username": "me",
    "rd.iscsi.password": "twelve-bytes",
    "rd.iscsi.in.username": "disk",
    "rd.iscsi.in.password": "other-twelve",
    "rd.iscsi.login_retry_max": "3",
    "rd.iscsi.param": "node.session.timeo.replacement_timeout=30",
    "rd.iscsi.firmware": "1",
    "rd.iscsi.ibft": "1",
    "rd.iscsi.mp": "1",
    "rd.iscsi.waitnet": "0",
    "rd.iscsi.testroute": "0",
    "rd.iscsi.transport": "bnx2i",
}


def test_every_option_of_dracut_is_known() -> None:
    known = {*dracut.OBEYED, *dracut.NEEDLESS, *dracut.FIRMWARE, "rd.iscsi.param"}
    assert known == set(OF_DRACUT)
    warnings = parse(" ".join(f"{name}={value}" for name, value in OF_DRACUT.items())).warnings
    named = {warning.split()[3].partition("=")[0] for warning in warnings if "left out" in warning}
    assert named == set(dracut.NEEDLESS)


@pytest.mark.parametrize("option", dracut.NEEDLESS)
def test_an_option_that_has_nothing_to_do_here_is_told_of_with_the_reason(option: str) -> None:
    (warning,) = parse(f"{option}={OF_DRACUT[option]}").warnings
    assert warning == (
        f"kernel command line: {option}={OF_DRACUT[option]} is left out: {dracut.NEEDLESS[option]}"
    )


@pytest.mark.parametrize(("old", "new"), dracut.ALIASES.items())
def test_the_older_names_are_the_newer_ones(old: str, new: str) -> None:
    value = OF_DRACUT[new]
    try:
        wanted = parse(f"{new}={value}")
    except ConfigError:
        with pytest.raises(ConfigError):
            parse(f"{old}={value}")
        return
    assert parse(f"{old}={value}") == wanted


def test_firmware_switched_off_is_told_of_and_switched_on_is_not() -> None:
    for option in dracut.FIRMWARE:
        assert parse(f"{option}=1 {option}").warnings == ()
        (warning,) = parse(f"{option}=0").warnings
        assert "rd.isboot=0" in warning


def test_an_option_nobody_knows_is_told_of() -> None:
    (warning,) = parse("rd.iscsi.magic=1").warnings
    assert warning == "kernel command line: rd.iscsi.magic is no option isboot knows of dracut: left out"


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("node.session.timeo.replacement_timeout=30", "give_up_ms", 30_000),
        ("node.conn[0].timeo.login_timeout=20", "login_timeout_ms", 20_000),
        ("node.conn[0].timeo.noop_out_interval=5", "nop_interval_ms", 5_000),
        ("node.conn[0].timeo.noop_out_timeout=5", "nop_timeout_ms", 5_000),
        ("node.session.queue_depth=32", "depth", 32),
        ("node.session.iscsi.InitialR2T=Yes", "initial_r2t", True),
        ("node.session.iscsi.ImmediateData=No", "immediate_data", False),
        ("node.conn[0].iscsi.HeaderDigest=CRC32C", "header_digest", True),
        ("node.conn[0].iscsi.DataDigest=CRC32C,None", "data_digest", True),
        ("node.conn[0].iscsi.DataDigest=None,CRC32C", "data_digest", False),
        ("node.session.auth.chap_algs=SHA256,MD5", "chap_algorithms", ("sha256", "md5")),
    ],
)
def test_a_setting_of_open_iscsi_is_a_parameter_here(setting: str, name: str, value: object) -> None:
    options = parse(f"rd.iscsi.param={setting}")
    assert options.warnings == ()
    assert getattr(options.policy(Policy()), name) == value


def test_every_setting_names_a_parameter() -> None:
    assert {setting.parameter for setting in dracut.SETTINGS.values()} <= set(parameters.BY_NAME)


@pytest.mark.parametrize(
    "setting",
    [
        "node.session.timeo.replacement_timeout=-1",
        "node.session.timeo.replacement_timeout=0",
        "node.session.err_timeo.lu_reset_timeout=30",
        "node.session.iscsi.InitialR2T=perhaps",
        "node.conn[0].iscsi.HeaderDigest=MD5",
        "node.session.auth.chap_algs=MD4",
        "nonsense",
    ],
)
def test_a_setting_without_a_counterpart_is_told_of(setting: str) -> None:
    options = parse(f"rd.iscsi.param={setting}")
    assert options.policy(Policy()) == Policy()
    (warning,) = options.warnings
    assert f"rd.iscsi.param={setting.partition('=')[0]} is left out" in warning


def test_chap_of_the_command_line_is_read_and_never_shown() -> None:
    of_dracut = ("rd.iscsi.username", "rd.iscsi.password", "rd.iscsi.in.username", "rd.iscsi.in.password")
    for names in (of_dracut, [f"rd.iscsi.param={name}" for name in dracut.CREDENTIALS]):
        values = ("me", "twelve-bytes", "disk", "other-12")
        options = parse(" ".join(f"{name}={value}" for name, value in zip(names, values, strict=True)))
        assert options.credentials is not None
        assert (options.credentials.name, options.credentials.reverse_name) == ("me", "disk")
        assert options.credentials.secret.reveal() == b"twelve-bytes"
        assert options.credentials.reverse_secret.reveal() == b"other-12"
        assert "twelve-bytes" not in repr(options)
        assert "other-12" not in repr(options)


def test_a_secret_set_twice_is_told_of_without_it() -> None:
    text = "rd.iscsi.username=me rd.iscsi.password=twelve-bytes rd.iscsi.password=other-bytes"
    shown = repr(parse(text))
    assert "CHAP secret is set twice" in shown
    assert "twelve-bytes" not in shown
    assert "other-bytes" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "rd.iscsi.username=me",
        "rd.iscsi.password=twelve-bytes",
        "rd.iscsi.username=me rd.iscsi.password=same-secret rd.iscsi.in.password=same-secret",
        "rd.iscsi.username=me rd.iscsi.password=twelve-bytes rd.iscsi.in.username=disk",
    ],
)
def test_half_a_chap_stops_the_boot(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert "twelve-bytes" not in caught.value.message


def test_half_a_target_is_told_of() -> None:
    for text in ("rd.iscsi.target.name=iqn.2009-06.dracut:target0", "rd.iscsi.target.ip=192.0.2.9"):
        (warning,) = parse(text).warnings
        assert "only together" in warning


@pytest.mark.parametrize("option", ["bond=bond0:eth0,eth1", "team=a:b", "bridge=br0:eth0", "rd.route=a:b"])
def test_what_is_not_served_of_the_network_is_told_of(option: str) -> None:
    (warning,) = parse(option).warnings
    assert f"{option.partition('=')[0]} is left out" in warning


def test_the_companions_of_ip_are_read() -> None:
    options = parse(
        "ifname=storage0:52:54:00:12:34:56 vlan=storage0.7:storage0 nameserver=[2001:db8::53] "
        "bootdev=storage0 BOOTIF=01-52-54-00-12-34-57 ip=storage0.7:dhcp"
    )
    assert options.macs == (("storage0", "52:54:00:12:34:56"),)
    assert options.vlans == (("storage0.7", "storage0", 7),)
    assert [str(address) for address in options.nameservers] == ["2001:db8::53"]
    assert (options.boot_mac, options.boot_interface) == ("52:54:00:12:34:56", "")
    assert options.warnings == ()


@pytest.mark.parametrize(
    "option", ["ifname=a", "vlan=a", "vlan=eth0.0:eth0", "nameserver=a", "BOOTIF=a", "ip=auto6"]
)
def test_a_wrong_companion_is_left_out_with_a_warning(option: str) -> None:
    (warning,) = parse(option).warnings
    assert warning.endswith("left out")
