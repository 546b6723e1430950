from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.config.url import from_url, parse_portal
from isboot.errors import ConfigError, ExitStatus, UsageError
from isboot.values import BootConfig, Credentials, Policy, Portal, Secret
from tests.firmware.tables import PROPERTY

ME = "iqn.2001-04.com.example:me"
DISK = "iqn.2001-04.com.example:disk0"
CHAP = Credentials("", Secret(b"twelve bytes"))


def read(url: str, credentials: Credentials | None = None) -> BootConfig:
    return from_url(url, initiator_name=ME, credentials=credentials, policy=Policy())


@pytest.mark.parametrize(
    ("host", "portal"),
    [
        ("192.0.2.9", Portal("192.0.2.9", 3260)),
        ("192.0.2.9:860", Portal("192.0.2.9", 860)),
        ("storage.example.com", Portal("storage.example.com", 3260)),
        ("[2001:db8::9]", Portal("2001:db8::9", 3260)),
        ("[2001:db8::9]:3261", Portal("2001:db8::9", 3261)),
        ("[fe80::1%eth0]:3261", Portal("fe80::1%eth0", 3261)),
    ],
)
def test_a_url_names_one_path(host: str, portal: Portal) -> None:
    config = read(f"iscsi://{host}/{DISK}/1")
    (path,) = config.paths
    assert (path.portal, path.target_name, path.lun.hex()) == (portal, DISK, "0001000000000000")
    assert (path.nic, path.credentials) == (None, None)
    assert (config.source, config.initiator_name, config.is_boot) == ("URL", ME, False)


def test_the_lun_may_be_its_bytes() -> None:
    assert read(f"iscsi://a/{DISK}/4100000000000000").paths[0].lun.hex() == "4100000000000000"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://a/b/0",
        f"iscsi://a/{DISK}",
        f"iscsi://a/{DISK}/",
        f"iscsi://a/{DISK}/x",
        f"iscsi://a/{DISK}/1/2",
        "iscsi://a/disk0/0",
        "iscsi://a",
        f"iscsi:///{DISK}/0",
        f"iscsi://a:/{DISK}/0",
        f"iscsi://a:0/{DISK}/0",
        f"iscsi://a:65536/{DISK}/0",
        f"iscsi://2001:db8::9/{DISK}/0",
        f"iscsi://[2001:db8::9/{DISK}/0",
        f"iscsi://[2001:db8::9]x/{DISK}/0",
        f"iscsi://[::g]/{DISK}/0",
        f"iscsi://a b/{DISK}/0",
        f"iscsi://-a/{DISK}/0",
        f"iscsi://@a/{DISK}/0",
    ],
)
def test_what_is_no_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(url, CHAP if "@" in url else None)
    assert caught.value.message.startswith("reading the ")
    assert caught.value.exit_status == ExitStatus.USAGE


def test_the_chap_name_comes_from_the_url_or_the_file() -> None:
    named = Credentials("guest", Secret(b"twelve bytes"))
    assert read(f"iscsi://guest@a/{DISK}/0", CHAP).paths[0].credentials == named
    assert read(f"iscsi://guest@a/{DISK}/0", named).paths[0].credentials == named
    assert read(f"iscsi://a/{DISK}/0", named).paths[0].credentials == named
    assert read(f"iscsi://a%40b%25@a/{DISK}/0", CHAP).paths[0].credentials == Credentials("a@b%", CHAP.secret)


def test_a_chap_name_without_its_secret_or_with_another_name_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a secret"):
        read(f"iscsi://guest@a/{DISK}/0")
    with pytest.raises(UsageError, match="for 'other'"):
        read(f"iscsi://guest@a/{DISK}/0", Credentials("other", CHAP.secret))
    with pytest.raises(UsageError, match="neither it nor the CHAP file"):
        read(f"iscsi://a/{DISK}/0", CHAP)


@pytest.mark.parametrize("url", [f"iscsi://guest:hunter22@a/{DISK}/0", f"iscsi://guest:hunter22@a/{DISK}/x"])
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="a secret must not stand in a URL") as caught:
        read(url, CHAP)
    assert "hunter22" not in caught.value.message + caught.value.hint


def test_the_initiator_name_must_be_one() -> None:
    with pytest.raises(ConfigError):
        from_url(f"iscsi://a/{DISK}/0", initiator_name="me", credentials=None, policy=Policy())


@PROPERTY
@given(st.one_of(st.ip_addresses().map(str), st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9]", fullmatch=True)),
       st.integers(1, 65535))  # fmt: skip
def test_a_portal_is_read_as_it_is_written(host: str, port: int) -> None:
    assert parse_portal(str(Portal(host, port))) == Portal(host, port)


@PROPERTY
@given(st.text(max_size=60))
def test_any_text_is_a_url_or_a_usage_error(text: str) -> None:
    for url in (text, f"iscsi://{text}", f"iscsi://{text}/{DISK}/0", f"iscsi://a/{text}"):
        with contextlib.suppress(UsageError):
            assert read(url).paths


def test_a_short_secret_is_warned_of() -> None:
    (warning,) = read(f"iscsi://guest@a/{DISK}/0", Credentials("guest", Secret(b"elevenbytes"))).warnings
    assert warning.startswith("CHAP as guest: the secret is shorter than 12 bytes")
