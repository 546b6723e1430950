"""Facts of a LUN as a document."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from isboot.session.document import from_document, negotiated_line, to_document
from isboot.values import LunFacts, NegotiatedSession, Portal
from tests.fakes.disk import Disk
from tests.session.test_lun import facts_of


def test_what_was_written_is_read() -> None:
    facts = facts_of(Disk())
    assert from_document(json.loads(json.dumps(to_document(facts)))) == facts


@given(st.builds(LunFacts, lun=st.binary(min_size=8, max_size=8)))
def test_any_facts_are_read_as_they_were_written(facts: LunFacts) -> None:
    assert from_document(json.loads(json.dumps(to_document(facts))) | {"ok": True}) == facts


def test_a_weak_identity_is_told() -> None:
    facts = replace(facts_of(Disk()), serial="", designators=())
    assert "no worldwide unique designator" in to_document(facts)["weak_identity"]
    assert to_document(facts_of(Disk()))["weak_identity"] is None


def test_what_was_negotiated_is_one_line() -> None:
    session = NegotiatedSession(
        7, Portal("192.0.2.9"), "iqn.2001-04.com.example:disk0", b"\x80\0\0\0\0\1", 3, 1, 0, bytes(8),
        9, 9, 99, True, False, 262_144, 8192, 65_536, 262_144, True, False, 1, 2, 0,
    )  # fmt: skip
    line = negotiated_line(session)
    for words in (
        "portal=192.0.2.9:3260",
        "isid=800000000001",
        "header_digest=True",
        "max_outstanding_r2t=1",
    ):
        assert f" {words}" in line
    assert "cmd_sn" not in line
