"""docs/messages.md, from the rows: for whoever stands before a console that says one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from isboot.errors import ExitStatus
from tools.catalogue import reach
from tools.catalogue.rows import STAGES, Row
from tools.catalogue.template import Hole, text

unproven = reach.without

INTRODUCTION = """\
# Messages

What a boot says when it cannot go on, by stage. Made from the code by `tools/messages`; do not edit.

On the console a failed boot looks like this: the cause, what to do about it, how far it came, and whether
it is tried again.

```
isboot: boot failed at session: login to iqn.2001-04.com.example:a at 192.0.2.9:3260 refused: ...
isboot: hint: check CHAP name and secret on both sides, and that the target asks for CHAP
isboot:   table    ok after 0.7 s: iBFT (acpi), 1 paths
isboot:   NIC      ok after 0.3 s: eth0 (e1000) 52:54:00:12:34:56
isboot:   carrier  ok after 2.0 s
isboot:   address  ok after 0.0 s: 192.0.2.20/24
isboot:   connect  ok after 0.1 s: 192.0.2.9:3260
isboot:   login    FAILED
isboot:   LUN      -
isboot:   device   -
isboot:   root     -
isboot: exit status 77 (not permitted): nothing is tried again
```

In a message `{name}` stands for what is known only then, `[...]` for what may be left out, `(one|other)` for
one of several, `…` and `{doing}` for what was being done: `login to TARGETNAME at PORTAL`. *What to do*
is the hint that comes with the message, or advice where it brings none, *test* the one that makes it happen.

| exit status | means | a boot then |
|---|---|---|
"""
#: in the order of the exit statuses: what it means, what a boot does
MEANINGS = {
    ExitStatus.FAILED: ("the operation failed half way", "ends"),
    ExitStatus.USAGE: ("a value on the kernel command line cannot be used", "ends"),
    ExitStatus.MALFORMED: ("malformed input: a table, a name, a target that breaks the standard", "ends"),
    ExitStatus.NOTHING_THERE: (
        "nothing there: no table, no NIC, no such target or LUN",
        "ends; where a target or a LUN is not there it tries again, every 5 s",
    ),
    ExitStatus.UNAVAILABLE: ("the other side, or the kernel, lacks what is needed", "ends"),
    ExitStatus.TRY_AGAIN: ("not now: no carrier, refused, a time-out", "tries again until it works"),
    ExitStatus.NOT_PERMITTED: ("not permitted: not root, authentication refused, ACL", "ends"),
}
TOLD = {
    "usage": "Values given on the kernel command line.",
    "boot": "Before Python runs (isboot-boot), and the command itself.",
    "firmware": "Looking for the table.",
    "config": "What to boot from: the table, netroot=, and the kernel command line.",
    "network": "The NIC, its carrier, its address, routes, and the connection to the portal.",
    "session": "Login and negotiation, then what the LUN says of itself.",
    "engine": "The I/O engine.",
    "block": "The block device, and the root file system on it.",
    "daemon": "The processes that keep the device.",
    "trace": "Traces.",
}
BARE = "the target breaks the standard: "


def page(rows: Sequence[Row], proofs: Mapping[str, Sequence[str]]) -> str:
    """Give the whole page."""
    parts = [INTRODUCTION]
    parts += [f"| {int(status)} | {means} | {then} |\n" for status, (means, then) in MEANINGS.items()]
    here = [row for row in rows if not reach.elsewhere(row)]
    for stage in STAGES:
        of_stage = [row for row in here if row.stage == stage]
        if of_stage:
            parts += _stage(stage, of_stage, proofs)
    parts.append("\n## Not in a boot\n\nThese belong to other commands.\n\n")
    parts.append("| exit status | message | what to do | of |\n|---|---|---|---|\n")
    parts += [
        f"| {_numbers(row)} | {_message(row)} | {_hint(row)} | {reach.elsewhere(row)} |\n"
        for row in rows
        if reach.elsewhere(row)
    ]
    return "".join(parts)


def _stage(stage: str, rows: Sequence[Row], proofs: Mapping[str, Sequence[str]]) -> list[str]:
    parts = [f"\n## {stage}\n\n{TOLD[stage]}\n"]
    firsts = list(dict.fromkeys(row.statuses[0] for row in rows))
    for name in firsts:
        parts.append(f"\n### {int(ExitStatus[name])}: {MEANINGS[ExitStatus[name]][0]}\n\n")
        parts.append("| message | what to do | test |\n|---|---|---|\n")
        parts += [
            f"| {_message(row)}{_note(row)} | {_hint(row)} | {_tests(row, proofs)} |\n"
            for row in rows
            if row.statuses[0] == name
        ]
    return parts


def _message(row: Row) -> str:
    return _code(("… " + BARE if row.is_bare else "") + row.text)


def _note(row: Row) -> str:
    notes = []
    if len(row.statuses) > 1:
        others = "/".join(str(int(ExitStatus[name])) for name in row.statuses[1:])
        notes.append(f"also {others}, by what came back")
    if reach.is_afterwards(row):
        notes.append("only once the device has lived")
    return f" ({'; '.join(notes)})" if notes else ""


def hint(row: Row) -> str:
    """What to do: the hint that comes with the message, else the catalogue's own advice; "" for neither."""
    own = text(row.hint)
    is_told = bool(own) and not (len(row.hint) == 1 and isinstance(row.hint[0], Hole))
    return own if is_told else reach.advice(row)


def _hint(row: Row) -> str:
    return _escape(hint(row)) or "–"


def _numbers(row: Row) -> str:
    return "/".join(str(int(ExitStatus[name])) for name in row.statuses)


def _tests(row: Row, proofs: Mapping[str, Sequence[str]]) -> str:
    tests = proofs.get(row.key, ())
    if not tests:
        return reach.excuse(row) or "**none**"
    return "<br>".join(_code(_short(test)) for test in tests)


def _short(test: str) -> str:
    file, _, name = test.partition("::")
    return (
        f"{file.removeprefix('tests/').removesuffix('.py')}: {name.rpartition('::')[2].removeprefix('test_')}"
    )


def _code(words: str) -> str:
    fence = "``" if "`" in words else "`"
    return f"{fence}{words}{fence}".replace("|", "\\|")


def _escape(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")


def missing(rows: Iterable[Row], proofs: Mapping[str, Sequence[str]]) -> list[str]:
    """Give the keys of messages without a test."""
    return [row.key for row in reach.without(rows, proofs)]
