"""
docs/messages.md is what the code says, and every message a boot can end with has a test that makes it happen.
"""

from __future__ import annotations

import ast
import difflib
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isboot.errors import ExitStatus
from tools.catalogue import document, proofs, reach, rows, source
from tools.catalogue.rows import Row
from tools.catalogue.template import Choice, Hole, Template, choose, join, pattern, text, weight

PAGE = Path("docs/messages.md")
ANEW = "tools/messages > docs/messages.md"
RECORD = f"write a test that makes it happen, then: tools/messages --record && {ANEW}"
ROWS = rows.all_rows()
PROOFS = proofs.read()


def found(words: str) -> Row:
    """Give the row whose text holds these words."""
    [row] = [row for row in ROWS if words in row.text]
    return row


# --- the page ---


def test_the_page_is_what_the_code_says() -> None:
    made = document.page(ROWS, PROOFS)
    changes = [
        line
        for line in difflib.unified_diff(
            PAGE.read_text("utf-8").splitlines(), made.splitlines(), n=0, lineterm=""
        )
        if re.match(r"[-+][^-+]", line)
    ]
    assert not changes, "\n".join([f"docs/messages.md is out of date: {ANEW}", *changes[:10]])


def test_every_message_a_boot_can_meet_has_a_test() -> None:
    missing = [f"{row.places[0]}: {row.text}" for row in reach.without(ROWS, PROOFS)]
    assert not missing, "\n".join([f"no test makes these happen; {RECORD}", *missing])


def test_every_test_named_is_there() -> None:
    gone = {test for tests in PROOFS.values() for test in tests if not proofs.exists(test)}
    assert not gone, f"{RECORD}\n" + "\n".join(sorted(gone))


def test_no_message_is_proven_that_there_is_not() -> None:
    known = {row.key for row in ROWS}
    gone = sorted(key for key in PROOFS if key not in known)
    assert not gone, f"{RECORD}\n" + "\n".join(gone)


def test_every_excuse_is_needed() -> None:
    for words, why in reach.UNPROVEN:
        excused = [row for row in ROWS if re.search(words, row.text)]
        assert excused, f"no message is like {words!r}"
        assert [row for row in excused if row.key not in PROOFS], f"{words!r} ({why}): all have tests"


# --- what holds for every message ---


def test_every_message_has_a_stage_and_an_exit_status() -> None:
    assert {row.stage for row in ROWS} <= set(rows.STAGES)
    assert {name for row in ROWS for name in row.statuses} <= {status.name for status in ExitStatus}
    assert all(row.statuses for row in ROWS)


def test_a_message_says_what_was_being_done_and_what_came_back() -> None:
    """Between the two stands a colon, or a verb of what the target did."""
    spare = re.compile(r"[:;] | refused|was redirected")
    bad = [
        row.text
        for row in ROWS
        if not reach.elsewhere(row) and not row.is_bare and not spare.search(row.text)
    ]
    assert bad == []


def test_every_message_says_what_to_do() -> None:
    told = [row for row in ROWS if not reach.elsewhere(row) and not reach.excuse(row)]
    assert [row.key for row in told if not document.hint(row)] == []


def test_every_advice_is_needed() -> None:
    bare = [row.key for row in ROWS if not reach.elsewhere(row) and document.hint(row) != text(row.hint)]
    assert [words for words, _advice in reach.ADVICE if not any(re.search(words, key) for key in bare)] == []


def test_no_two_messages_of_a_stage_are_alike() -> None:
    keys = [row.key for row in ROWS]
    assert sorted(set(keys)) == sorted(keys)


def test_no_message_or_hint_holds_a_secret() -> None:
    holes = re.compile(r"\{[^}]*(secret|password)[^}]*\}")
    assert [row.text for row in ROWS if holes.search(row.text) or holes.search(text(row.hint))] == []


# --- that the extraction finds what it is for ---


@pytest.mark.parametrize(
    ("words", "stage", "status", "hint"),
    [
        ("refused: authentication failure", "session", "NOT_PERMITTED", "check CHAP name"),  # of a table
        ("connection refused", "network", "TRY_AGAIN", "is the target running"),  # of another
        ("it names no host", "config", "MALFORMED", "netroot=iscsi:"),  # by a function that makes errors
        ("waiting for the carrier of {name}", "network", "TRY_AGAIN", "check cable"),  # raised later
        ("is not there: {found}", "session", "NOTHING_THERE", "the target has LUN"),  # two hints
        ("the header digest of a PDU", "session", "TRY_AGAIN", "a new session cures it"),  # bare, own hint
        ("a negotiation text with more than 64 keys", "session", "MALFORMED", "is this an iSCSI target"),
        ("making the ring of a lane", "engine", "FAILED", ""),  # of C
        ("mounting a ramfs on", "boot", "FAILED", ""),  # of isboot-boot
    ],
)
def test_a_message_is_found_with_all_that_belongs_to_it(
    words: str, stage: str, status: str, hint: str
) -> None:
    row = found(words)
    assert (row.stage, row.statuses[0]) == (stage, status)
    assert hint in text(row.hint)


def test_no_raise_of_an_error_is_overlooked() -> None:
    program = source.load()
    places = {place for row in ROWS for place in row.places} | set(reach.PASSED_ON)
    overlooked = []
    for module in program.modules.values():
        for function in rows.functions(module):
            for node in rows.own(function):
                is_raise = isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
                name = getattr(node.exc.func, "id", "") if is_raise else ""
                if program.is_error(name) and f"{module.path}: {function.name}" not in places:
                    overlooked.append(f"{module.path}: {function.name}: {name}")
    assert overlooked == []


def test_the_branch_that_holds_decides_what_a_name_stands_for() -> None:
    code = """
class IsbootError(Exception):
    stage = "config"
    def __init__(self, message, hint="", exit_status=ExitStatus.FAILED): ...
def one(is_there, what):
    message = "first"
    if is_there:
        message = f"{what}: there"
        raise IsbootError(message)
    message = "none" if what else "nothing"
    message += " at all"
    if what:
        message += ", really"
    raise IsbootError(message, exit_status=ExitStatus.USAGE)
"""
    module = source.Module(Path("isboot/one.py"), ast.parse(code))
    module.functions["one"] = module.tree.body[1]  # type: ignore[assignment]
    program = source.Program({"isboot.one": module}, source._error_classes({"isboot.one": module}))
    made = {row.text: row.statuses for row in rows.rows_of(program)}
    assert made == {"{what}: there": ("FAILED",), "(none|nothing) at all[, really]": ("USAGE",)}


TEMPLATES: st.SearchStrategy[Template] = st.recursive(
    st.lists(
        st.one_of(st.text("ab :{}|[](.*", max_size=5), st.builds(Hole, st.just("name"))), max_size=3
    ).map(lambda parts: join(tuple(parts))),
    lambda inner: st.tuples(inner, st.lists(inner, min_size=1, max_size=3)).map(
        lambda pair: join(pair[0], choose(*pair[1]))
    ),
    max_leaves=6,
)


def said(template: Template, data: st.DataObject) -> str:
    """Give a text the template may become."""
    parts = []
    for part in template:
        if isinstance(part, Hole):
            parts.append(data.draw(st.text("xyz.\\n", max_size=4)))
        elif isinstance(part, Choice):
            parts.append(said(data.draw(st.sampled_from(part.options)), data))
        else:
            parts.append(part)
    return "".join(parts)


@settings(max_examples=30)
@given(TEMPLATES, st.data())
def test_whatever_a_message_becomes_is_recognised(template: Template, data: st.DataObject) -> None:
    became = said(template, data)
    assert re.fullmatch(pattern(template), became)
    assert weight(template) <= len(became)


def test_a_message_reads_well() -> None:
    template: Template = ("a ", Hole("b"), Choice(((" c",), ())), Choice((("d",), ("e",))))
    assert text(template) == "a {b}[ c](d|e)"
