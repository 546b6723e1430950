"""
What a program in the kernel tells, record by record: one table for both sides.

A class of EVENTS is the row: its annotations are the types in C, its name in snake case the name of the
struct.  `c_declarations` gives the structs to the program (as -DEVENTS), `decode` reads what it wrote.

Every record begins with its kind.  Wide members come first and the rest is filled up, so there is no padding:
the verifier refuses to hand over bytes nobody wrote.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_args, get_type_hints

U64 = Annotated[int, ctypes.c_uint64]
U32 = Annotated[int, ctypes.c_uint32]
S32 = Annotated[int, ctypes.c_int32]

_C_NAMES: dict[Any, str] = {ctypes.c_uint64: "u64", ctypes.c_uint32: "u32", ctypes.c_int32: "s32"}


@dataclass(frozen=True, slots=True)
class Event:
    """
    :param ns: CLOCK_MONOTONIC
    :param pid: of the process it happened in
    :param device: N of ublkbN
    """

    ns: U64
    pid: U32
    device: U32


@dataclass(frozen=True, slots=True)
class LaneStarted(Event):
    """A lane takes requests from now on; the generation counts the device's workers."""

    lane: U32
    worker_generation: U32


@dataclass(frozen=True, slots=True)
class ConnectionLost(Event):
    """
    :param cause: enum isboot_cause
    :param code: negative errno of the socket, or 0
    :param in_flight: commands that wait to be issued again
    """

    lane: U32
    cause: U32
    code: S32
    in_flight: U32


@dataclass(frozen=True, slots=True)
class ReconnectAttempt(Event):
    """An attempt has ended. `code` is 0, or the negative exit status of its error."""

    lane: U32
    attempt: U32
    code: S32


@dataclass(frozen=True, slots=True)
class ConnectionResumed(Event):
    """A session stands; `reissued` commands are issued again on it."""

    lane: U32
    reissued: U32


@dataclass(frozen=True, slots=True)
class IoResumed(Event):
    """The first I/O is done on that session."""

    lane: U32


@dataclass(frozen=True, slots=True)
class WorkerEnded(Event):
    """The process that served the device has ended."""


def c_name(kind: type[Event]) -> str:
    """Give the name of the struct: ConnectionLost -> connection_lost."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", kind.__name__).lower()


def members(kind: type[Event]) -> tuple[tuple[str, Any], ...]:
    """Give the struct's members and their ctypes, in the order of both sides."""
    hints = get_type_hints(kind, include_extras=True)
    rows = [(field.name, get_args(hints[field.name])[1]) for field in fields(kind)]
    rows.sort(key=lambda row: -ctypes.sizeof(row[1]))
    rows.insert(0, ("kind", ctypes.c_uint64))
    if sum(ctypes.sizeof(row[1]) for row in rows) % 8:
        rows.append(("unused", ctypes.c_uint32))
    return tuple(rows)


def structure(kind: type[Event]) -> type[ctypes.Structure]:
    """Give the record as ctypes see it."""
    return type(kind.__name__, (ctypes.Structure,), {"_fields_": members(kind)})


def c_declarations(kinds: Sequence[type[Event]]) -> str:
    """Give the structs, and KIND_name of each, as C in one line."""
    text = []
    for number, kind in enumerate(kinds, 1):
        declared = " ".join(f"{_C_NAMES[c_type]} {name};" for name, c_type in members(kind))
        text.append(f"enum {{ KIND_{c_name(kind)} = {number} }}; struct {c_name(kind)} {{ {declared} }};")
    return " ".join(text)


def decode(record: bytes, kinds: Sequence[type[Event]]) -> Event:
    """
    Read one record.

    :param record: may be longer than the struct: ring buffers round up
    :raises ValueError: a kind that is not in `kinds`, or too few bytes
    """
    number = int.from_bytes(record[:8], "little")
    if not 1 <= number <= len(kinds):
        raise ValueError(f"a record of kind {number}")
    kind = kinds[number - 1]
    values = structure(kind).from_buffer_copy(record)
    return kind(**{field.name: getattr(values, field.name) for field in fields(kind)})
