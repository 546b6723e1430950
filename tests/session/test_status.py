"""Login status codes and target addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import ExitStatus, RedirectError
from isboot.session import status
from isboot.session.pdu import ProtocolError
from isboot.session.status import LoginRefused
from isboot.values import Portal

DOING = "login to iqn.x at 192.0.2.1:3260"


@pytest.mark.parametrize(
    ("status_class", "detail", "exit_status", "is_retryable"),
    [
        (2, 0x00, ExitStatus.FAILED, False),
        (2, 0x01, ExitStatus.NOT_PERMITTED, False),
        (2, 0x02, ExitStatus.NOT_PERMITTED, False),
        (2, 0x03, ExitStatus.NOTHING_THERE, False),
        (2, 0x04, ExitStatus.NOTHING_THERE, False),
        (2, 0x05, ExitStatus.UNAVAILABLE, False),
        (2, 0x06, ExitStatus.TRY_AGAIN, True),
        (2, 0x99, ExitStatus.FAILED, False),
        (3, 0x00, ExitStatus.TRY_AGAIN, True),
        (3, 0x01, ExitStatus.TRY_AGAIN, True),
        (3, 0x02, ExitStatus.TRY_AGAIN, True),
        (3, 0x77, ExitStatus.TRY_AGAIN, True),
    ],
)
def test_a_refusal_says_whether_trying_again_helps(
    status_class: int, detail: int, exit_status: ExitStatus, is_retryable: bool
) -> None:
    with pytest.raises(LoginRefused, match=f"class {status_class}, detail {detail}") as caught:
        status.raise_for_status(status_class, detail, {}, DOING)
    assert caught.value.exit_status is exit_status
    assert caught.value.status.is_retryable is is_retryable
    assert caught.value.message.startswith(DOING)
    assert caught.value.hint


def test_a_class_the_standard_does_not_know_is_no_status() -> None:
    with pytest.raises(ProtocolError, match="unknown class 9"):
        status.raise_for_status(9, 0, {}, DOING)


@pytest.mark.parametrize(("detail", "is_permanent"), [(1, False), (2, True)])
def test_a_redirection_says_where_to(detail: int, is_permanent: bool) -> None:
    with pytest.raises(RedirectError) as caught:
        status.raise_for_status(1, detail, {"TargetAddress": "[2001:db8::5]:3261,7"}, DOING)
    assert (caught.value.host, caught.value.port) == ("2001:db8::5", 3261)
    assert caught.value.is_permanent is is_permanent


def test_a_redirection_puts_no_line_of_its_own_into_the_log() -> None:
    # The message is printed; only the address as it was read may be in it.
    for address in ("[2001:db8::5]:3261,7", "a.example:3261,007", "a.example:0xcbd"):
        with pytest.raises(RedirectError) as caught:
            status.raise_for_status(1, 1, {"TargetAddress": address}, DOING)
        assert caught.value.message.endswith(f"to {Portal(caught.value.host, 3261)}")
    for address in ("a.example:3260\n<3>isboot: all is lost", "a.example:3260,1\n"):
        with pytest.raises(ProtocolError) as refused:
            status.raise_for_status(1, 1, {"TargetAddress": address}, DOING)
        assert refused.value.message.isprintable()


def test_a_redirection_without_an_address_is_refused() -> None:
    with pytest.raises(ProtocolError, match="where to"):
        status.raise_for_status(1, 1, {}, DOING)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("192.0.2.1", ("192.0.2.1", 3260, None)),
        ("192.0.2.1:3261,1", ("192.0.2.1", 3261, 1)),
        ("[fe80::1]", ("fe80::1", 3260, None)),
        ("[fe80::1]:860,65535", ("fe80::1", 860, 65535)),
        ("storage.example.org:3260,0", ("storage.example.org", 3260, 0)),
    ],
)
def test_target_addresses_are_read(text: str, parts: tuple[str, int, int | None]) -> None:
    assert status.parse_target_address(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "", ":3260", "h:0", "h:65536", "h:x", "[::1", "[::1]x", "h,65536", "h,", "a b", "a\nb", "h" * 256,
        "é",
        # what int() would take
        "h:32_60", "h: 3260", "h:+3260", "h:3260\n", "h:３２６０", "h:3260,1_0", "h:3260, 1", "h:",
        "h:3260,-0",
    ],
)  # fmt: skip
def test_what_is_no_target_address_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="HOST"):
        status.parse_target_address(text)


@given(st.text(max_size=50))
def test_any_target_address_is_read_or_refused(text: str) -> None:
    try:
        host, port, tag = status.parse_target_address(text)
    except ProtocolError:
        return
    assert host
    assert 0 < port < 65536
    assert tag is None or 0 <= tag < 65536
