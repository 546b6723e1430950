"""
Every error the program can end with, as rows: from the syntax trees to stage, message, hint and exit status.

What a function that makes an error (`_malformed(doing, reason)`) is given is put into its text; what a table
of rows holds (a login status, an errno) gives a row each.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from isboot.errors import ExitStatus
from tools.catalogue import csource
from tools.catalogue.source import BASE, Function, Module, Program, load
from tools.catalogue.template import Hole, Part, Template, choose, join, pattern, text, weight
from tools.catalogue.wording import MAX_DEPTH, Scope, Value, evaluate, statuses_of

STAGES = ("usage", "boot", "firmware", "config", "network", "session", "engine", "block", "daemon", "trace")
#: a variable that is a row of a table: where it is used, what it is called, whose rows they are
TABLES = {
    ("isboot.session.status", "row"): ("isboot.session.status", "STATUSES"),
    ("isboot.network.connect", "failure"): ("isboot.network.connect", "FAILURES"),
}
#: where only one of the rows can be meant
ONLY = {("isboot.network.connect", "find_endpoints"): "no such NIC"}
#: raised without context, which Connection.blame() adds
BARE = "ProtocolError"
#: no error yet: nic.py raises it for what has to be waited for, and makes a NetworkError of it in the end
LATER = "NotYetError"
BLAME = ("isboot.session.connection", "blame")
#: what the daemon's processes send each other instead of raising it
MESSAGES = {"Failed": "daemon"}


@dataclass(frozen=True, slots=True)
class Row:
    """
    :ivar statuses: names of ExitStatus; several where the code decides by what came back
    :ivar places: files and functions, "isboot/network/nic.py: find_nic"
    """

    stage: str
    message: Template
    hint: Template
    statuses: tuple[str, ...]
    places: tuple[str, ...]
    is_bare: bool = False

    @property
    def text(self) -> str:
        return text(self.message)

    @property
    def key(self) -> str:
        """By which tests refer to it; it does not change when lines move."""
        return f"{self.stage}: {self.text}"

    @property
    def pattern(self) -> str:
        before = r"(?:.*: the target breaks the standard: )?" if self.is_bare else ""
        return before + pattern(self.message)

    @property
    def weight(self) -> int:
        return weight(self.message)


@dataclass(frozen=True, slots=True)
class Made:
    """An error as it would be made."""

    kind: str
    message: Template
    hint: Template
    statuses: tuple[str, ...]


# --- errors ---


def _bind(function: Function, call: ast.Call, scope: Scope, module: Module) -> dict[str, Value]:
    """Give what a call means for the names of a function's parameters."""
    parameters = [one.arg for one in function.args.args if one.arg not in ("self", "cls")]
    given: dict[str, ast.expr] = dict(zip(parameters, call.args, strict=False))
    given |= {one.arg: one.value for one in call.keywords if one.arg}
    bound = {}
    for name, node in given.items():
        known = scope.bound.get(node.id) if isinstance(node, ast.Name) else None
        bound[name] = known or Value(evaluate(node, scope), None, statuses_of(node, scope))
    every = function.args.args[len(function.args.args) - len(function.args.defaults) :]
    defaults = dict(zip((one.arg for one in every), function.args.defaults, strict=True))
    defaults |= {
        one.arg: node
        for one, node in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
        if node
    }
    there = Scope(scope.program, module, None, {}, scope.depth + 1)
    for name, node in defaults.items():
        if name not in bound:
            bound[name] = Value(evaluate(node, there), None, statuses_of(node, there))
    return bound


def make(kind: str, bound: Mapping[str, Value], scope: Scope) -> Made:
    """Give an error of a class from the arguments of its __init__."""
    found = scope.program.errors[kind]
    init = found.init
    if init is None:
        return make(found.base, bound, scope)
    if kind == BASE:
        given = [bound.get(name, Value()) for name in ("message", "hint", "exit_status")]
        return Made(kind, given[0].template, given[1].template, given[2].statuses or ("FAILED",))
    inner = scope.inner(found.module, init, bound)
    made = None
    for node in ast.walk(init):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "__init__"
        ):
            base_init = _init_of(scope.program, found.base)
            made = make(found.base, _bind(base_init[1], node, inner, base_init[0]), inner)
    assert made is not None, f"{kind}.__init__ does not call its base's"
    for node in ast.walk(init):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            attribute = node.targets[0].attr
            if attribute == "hint":
                made = Made(kind, made.message, evaluate(node.value, inner), made.statuses)
            elif attribute == "exit_status":
                made = Made(kind, made.message, made.hint, statuses_of(node.value, inner) or made.statuses)
    return made


def _init_of(program: Program, kind: str) -> tuple[Module, Function]:
    found = program.errors[kind]
    return (found.module, found.init) if found.init else _init_of(program, found.base)


def errors_of(node: ast.expr, scope: Scope) -> Iterator[Made]:
    """Give the errors an expression makes; none for a name that holds one made elsewhere."""
    if isinstance(node, ast.IfExp):
        yield from errors_of(node.body, scope)
        yield from errors_of(node.orelse, scope)
    if not isinstance(node, ast.Call) or scope.depth > MAX_DEPTH:
        return
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if name == LATER:
        yield _later(node, scope)
        return
    if scope.program.is_error(name):
        module, init = _init_of(scope.program, name)
        made = make(name, _bind(init, node, scope, module), scope)
        yield Made(name, made.message, made.hint, made.statuses)
        return
    if isinstance(node.func, ast.Name):
        found = scope.program.function(scope.module, name)
    else:
        found = scope.program.function_of(scope.module, owner.id if isinstance(owner, ast.Name) else "", name)
    if found is None or not _makes_errors(scope.program, found[1]):
        return
    module, function = found
    for bound in _with_tables(scope.program, module, function, _bind(function, node, scope, module)):
        for one in own(function):
            if isinstance(one, ast.Return) and one.value is not None:
                yield from errors_of(one.value, scope.inner(module, function, bound))


def _later(node: ast.Call, scope: Scope) -> Made:
    """Give the error that a NotYetError becomes when nothing came: its `after`."""
    _kind, doing, outcome, hint, *rest = node.args
    message = join(evaluate(doing, scope), (": ",), _with_hole(evaluate(outcome, scope), "seconds"))
    return Made(
        "NetworkError",
        message,
        evaluate(hint, scope),
        statuses_of(rest[0], scope) if rest else ("TRY_AGAIN",),
    )


def _with_hole(template: Template, name: str) -> Template:
    parts: list[Template] = []
    for part in template:
        before, mark, after = part.partition("{" + name + "}") if isinstance(part, str) else (part, "", "")
        parts += [(before,), (Hole(name), after) if mark else ()]
    return join(*parts)


def _makes_errors(program: Program, function: Function) -> bool:
    returns = function.returns
    return isinstance(returns, ast.Name) and (program.is_error(returns.id) or returns.id == LATER)


def own(function: ast.AST) -> Iterator[ast.AST]:
    """Walk a function without the functions in it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from own(child)


def _with_tables(
    program: Program, module: Module, function: Function, bound: Mapping[str, Value]
) -> list[dict[str, Value]]:
    """Give the names bound, once for each row where one of them is a row of a table."""
    for (where, name), (table_module, table) in TABLES.items():
        if where == module.name and any(
            isinstance(one, ast.Name) and one.id == name for one in own(function)
        ):
            rows = getattr(importlib.import_module(table_module), table)
            return [{**bound, name: _record(row)} for row in _values(rows)]
    return [dict(bound)]


def _values(rows: Any) -> Sequence[Any]:
    return list(rows.values()) if isinstance(rows, Mapping) else list(rows)


def _record(row: Any) -> Value:
    names = getattr(row, "_fields", None) or [name for name in dir(type(row)) if not name.startswith("_")]
    attributes: dict[str, tuple[Part, ...]] = {}
    found: tuple[str, ...] = ()
    for name in names:
        value = getattr(row, name)
        if name == "exit_status":
            found = (value.name,)
        elif isinstance(value, str | int):
            attributes[name] = (str(value),) if value != "" else ()
    return Value((), attributes, found)


# --- all of them ---


def functions(module: Module) -> Iterator[Function]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def rows_of(program: Program) -> list[Row]:
    """Give every row of the program, each once."""
    found: dict[str, Row] = {}
    for module in program.modules.values():
        for function in functions(module):
            for row in _function_rows(program, module, function):
                found[row.key] = _merged(found[row.key], row) if row.key in found else row
    return list(found.values())


def _merged(one: Row, other: Row) -> Row:
    """Give the row of a text that is said at two places."""
    return replace(
        one,
        hint=choose(one.hint, other.hint),
        statuses=tuple(dict.fromkeys(one.statuses + other.statuses)),
        places=tuple(dict.fromkeys(one.places + other.places)),
    )


def _function_rows(program: Program, module: Module, function: Function) -> Iterator[Row]:
    for bound in _with_tables(program, module, function, {}):
        scope = Scope(program, module, function, bound)
        for node in own(function):
            value = None
            if isinstance(node, ast.Raise):
                value = node.exc
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MESSAGES:
                yield from _message_row(node, scope, module, function)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                value = node.value  # raised or told further on
            elif isinstance(node, ast.Return) and not _makes_errors(program, function):
                value = node.value
            if value is not None:
                only = ONLY.get((module.name, function.name), "")
                for made in errors_of(value, scope):
                    # a hole alone is somebody else's message, passed on
                    if only in text(made.message) and not _is_passed_on(made.message):
                        yield _row(made, program, module, function)


def _is_passed_on(message: Template) -> bool:
    return len(message) == 1 and isinstance(message[0], Hole)


def _row(made: Made, program: Program, module: Module, function: Function) -> Row:
    message, hint = made.message, made.hint
    is_bare = _descends(program, made.kind, BARE)
    if is_bare:
        where = program.modules[BLAME[0]]
        blame = where.functions[BLAME[1]]
        value = Value((), {"message": message, "hint": hint}, made.statuses)
        scope = Scope(program, where, blame, {"error": value})
        for one in own(blame):
            if isinstance(one, ast.Return) and one.value is not None:
                hint = next(errors_of(one.value, scope)).hint
    place = f"{module.path}: {function.name}"
    return Row(program.stage(made.kind) or "boot", message, hint, made.statuses, (place,), is_bare)


def _descends(program: Program, kind: str, base: str) -> bool:
    while kind in program.errors:
        if kind == base:
            return True
        kind = program.errors[kind].base
    return False


def _message_row(node: ast.Call, scope: Scope, module: Module, function: Function) -> Iterator[Row]:
    kind = node.func.id if isinstance(node.func, ast.Name) else ""
    if len(node.args) >= 2:
        yield Row(
            MESSAGES[kind], evaluate(node.args[0], scope), evaluate(node.args[1], scope), ("FAILED",),
            (f"{module.path}: {function.name}",),
        )  # fmt: skip


def all_rows() -> list[Row]:
    """Give every row of Python and of C, by stage, exit status and text."""
    rows: dict[str, Row] = {}
    for row in [*rows_of(load()), *c_rows()]:
        # texts that no reader could tell apart are one message
        shape = f"{row.stage} {row.is_bare} {row.pattern}"
        rows[shape] = _merged(rows[shape], row) if shape in rows else row
    return sorted(
        rows.values(), key=lambda row: (STAGES.index(row.stage), ExitStatus[row.statuses[0]], row.text)
    )


def c_rows() -> list[Row]:
    """Give what the parts in C say: the engine through Python, isboot-boot by itself."""
    return [Row(said.stage, said.message, (), ("FAILED",), (said.place,)) for said in csource.messages()]
