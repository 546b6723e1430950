from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.config import parameters
from isboot.config.parameters import PARAMETERS, PROFILES, apply, parse_value
from isboot.errors import UsageError
from isboot.values import Policy
from tests.firmware.tables import PROPERTY


def test_every_field_of_the_policy_is_one_row_with_its_default() -> None:
    assert {row.name: row.default for row in PARAMETERS} == {
        field.name: getattr(Policy(), field.name) for field in fields(Policy)
    }
    assert len(PARAMETERS) == len(parameters.BY_NAME)


@pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: row.name)
def test_a_row_says_unit_source_and_meaning_and_takes_its_default(row: parameters.Parameter) -> None:
    assert row.source
    assert row.meaning
    is_number = isinstance(row.default, int) and not isinstance(row.default, bool)
    assert bool(row.unit) == is_number
    assert parse_value(row.name, row.default_text) == row.default
    assert type(parse_value(row.name, row.default_text)) is type(row.default)
    assert row.name in parameters.help_text()


@pytest.mark.parametrize("row", [row for row in PARAMETERS if row.maximum], ids=lambda row: row.name)
def test_a_number_beyond_its_range_is_refused(row: parameters.Parameter) -> None:
    assert parse_value(row.name, str(row.minimum)) == row.minimum
    assert parse_value(row.name, str(row.maximum)) == row.maximum
    for text in (str(row.minimum - row.step), str(row.maximum + row.step), "", "x", "1.5", "0x10", "²"):
        with pytest.raises(UsageError, match=row.name):
            parse_value(row.name, text)


def test_a_size_must_be_whole_pages() -> None:
    with pytest.raises(UsageError, match="a multiple of 4096"):
        parse_value("max_io_bytes", "5000")


def test_a_zero_with_a_meaning_of_its_own_is_taken_below_the_range() -> None:
    assert parse_value("mtu_bytes", "0") == 0
    for text in ("1", "575", "65536"):
        with pytest.raises(UsageError, match=r"0 \(as it is\), 576 to 65535 bytes"):
            parse_value("mtu_bytes", text)


def test_a_list_is_taken_in_its_order_each_word_once() -> None:
    assert parse_value("chap_algorithms", "md5") == ("md5",)
    assert parse_value("chap_algorithms", "sha1,sha256") == ("sha1", "sha256")
    for text in ("", "md4", "md5,", "md5,md5", "md5 sha1"):
        with pytest.raises(UsageError, match="one or more of sha3-256,sha256,sha1,md5"):
            parse_value("chap_algorithms", text)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match="there is none of that name"):
        parse_value("dept", "4")
    with pytest.raises(UsageError, match="KEY=VALUE"):
        parameters.split_assignment("depth")


def test_a_boolean_takes_words() -> None:
    assert [parse_value("data_digest", text) for text in ("1", "yes", "On", "0", "FALSE")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    with pytest.raises(UsageError):
        parse_value("data_digest", "2")


def test_what_is_set_by_name_wins_over_the_profile_wherever_it_stands() -> None:
    for assignments in ([("depth", "7"), ("profile", "small")], [("profile", "small"), ("depth", "7")]):
        policy = apply(Policy(), assignments)
        assert (policy.profile, policy.depth, policy.max_io_bytes) == ("small", 7, 64 * 1024)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_sets_values_its_parameters_take(name: str) -> None:
    policy = apply(Policy(), [("profile", name)])
    for row in PARAMETERS:
        value = getattr(policy, row.name)
        assert parse_value(row.name, replace(row, default=value).default_text) == value


@PROPERTY
@given(st.sampled_from(PARAMETERS), st.text(max_size=20))
def test_any_text_is_taken_or_refused_as_usage(row: parameters.Parameter, text: str) -> None:
    try:
        value = parse_value(row.name, text)
    except UsageError:
        return
    assert type(value) is type(row.default)
