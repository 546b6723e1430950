"""The facts of a LUN as a document of JSON, and back: what `isboot inquiry --json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from isboot.session import identity
from isboot.values import LunFacts, NegotiatedSession

#: of a session, beside what was negotiated: changes all the time, or is told elsewhere
_OF_THE_MOMENT = frozenset({"fd", "cmd_sn", "exp_stat_sn", "max_cmd_sn", "lun", "warnings"})


def to_document(facts: LunFacts) -> dict[str, Any]:
    """Give every fact under its name in values.py, and why the identity is weak (null: it is not)."""
    document: dict[str, Any] = {field.name: getattr(facts, field.name) for field in fields(LunFacts)}
    document["lun"] = facts.lun.hex()
    document["designators"] = list(facts.designators)
    document["weak_identity"] = identity.weakness(facts) or None
    return document


def negotiated_line(session: NegotiatedSession) -> str:
    """Give what a login agreed upon, under its names in values.py."""
    words = []
    for field in fields(NegotiatedSession):
        if field.name not in _OF_THE_MOMENT:
            value = getattr(session, field.name)
            words.append(f"{field.name}={value.hex() if isinstance(value, bytes) else value}")
    return f"negotiated: {' '.join(words)}"


def from_document(document: Mapping[str, Any]) -> LunFacts:
    """
    Give the facts of such a document; what else is in it is not looked at.

    :raises KeyError: a fact is missing: it is the document of another version
    """
    values = {field.name: document[field.name] for field in fields(LunFacts)}
    values["lun"] = bytes.fromhex(document["lun"])
    values["designators"] = tuple(document["designators"])
    return LunFacts(**values)
