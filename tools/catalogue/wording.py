"""
What a piece of code says, without running it: for names what they stand for, where the code tells that.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from tools.catalogue.source import Function, Module, Program, statuses
from tools.catalogue.template import Hole, Template, choose, join

MAX_DEPTH = 6
Path = tuple[tuple[int, str, int], ...]  #: from the function down: node, its field, the place in that


@dataclass(frozen=True, slots=True)
class Value:
    """What a name stands for: a text, or something with attributes, and the exit statuses it may be."""

    template: Template = ()
    attributes: Mapping[str, Template] | None = None
    statuses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scope:
    program: Program
    module: Module
    function: Function | None
    bound: Mapping[str, Value]
    depth: int = 0

    def inner(self, module: Module, function: Function, bound: Mapping[str, Value]) -> Scope:
        return Scope(self.program, module, function, bound, self.depth + 1)


def _name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        return _name_of(node.value)
    if isinstance(node, ast.Call):
        if node.args and not (
            isinstance(node.func, ast.Attribute) and node.func.attr in ("join", "strerror")
        ):
            return _name_of(node.args[-1])
        if isinstance(node.func, ast.Attribute) and node.func.attr == "join":
            return _name_of(node.args[0]) if node.args else "list"
        return _name_of(node.func)
    if isinstance(node, ast.BinOp):
        name = _name_of(node.left)
        return _name_of(node.right) if name.isupper() else name
    if isinstance(node, ast.GeneratorExp | ast.ListComp):
        return _name_of(node.generators[0].iter)
    if isinstance(node, ast.IfExp):
        return _name_of(node.body)
    return "value"


@cache
def paths_of(function: Function) -> dict[int, Path]:
    """Give where each node of a function stands."""
    found: dict[int, Path] = {}

    def visit(node: ast.AST, path: Path) -> None:
        found[id(node)] = path
        for field, value in ast.iter_fields(node):
            children = value if isinstance(value, list) else [value]
            for place, child in enumerate(children):
                if isinstance(child, ast.AST):
                    visit(child, (*path, (id(node), field, place)))

    visit(function, ())
    return found


def _always_before(earlier: Path, later: Path) -> bool:
    """Whether a statement has always been carried out when another one is."""
    *block, (node, field, place) = earlier
    other = later[len(block)] if len(later) > len(block) else None
    return (
        later[: len(block)] == tuple(block)
        and other is not None
        and other[:2] == (node, field)
        and place < other[2]
    )


def _assigned(scope: Scope, name: str, use: ast.expr) -> list[ast.expr]:
    """Give what the function has assigned to a name where it is used: several of branches."""
    if scope.function is None:
        return []
    paths = paths_of(scope.function)
    found: list[ast.expr] = []
    for node in ast.walk(scope.function):
        if isinstance(node, ast.NamedExpr) and node.target.id == name:
            found.append(node.value)
    assigns = [
        node
        for node in ast.walk(scope.function)
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        and node.lineno < use.lineno
    ]
    for node in sorted(assigns, key=lambda one: one.lineno):
        if _always_before(paths[id(node)], paths.get(id(use), ())):
            found = [node.value]
        elif not _excludes(paths[id(node)], paths.get(id(use), ())):
            found.append(node.value)
    return found


def _excludes(one: Path, other: Path) -> bool:
    """Whether two statements stand in different branches of one `if`."""
    for first, second in zip(one, other, strict=False):
        if first[0] != second[0]:
            return False
        if first[1] != second[1] and {first[1], second[1]} == {"body", "orelse"}:
            return True
    return False


def _is_text(node: ast.expr) -> bool:
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def evaluate(node: ast.expr | None, scope: Scope) -> Template:
    """Give the text of an expression, as far as the code tells it."""
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return ()
    if isinstance(node, ast.Constant):
        return (str(node.value),) if node.value != "" else ()
    if isinstance(node, ast.JoinedStr):
        return join(*(evaluate(part, scope) for part in node.values))
    if isinstance(node, ast.FormattedValue):
        return _formatted(node, scope)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and _is_text(node):
        return join(evaluate(node.left, scope), evaluate(node.right, scope))
    if isinstance(node, ast.IfExp):
        return choose(evaluate(node.body, scope), evaluate(node.orelse, scope))
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
        first = evaluate(node.values[0], scope)
        rest = evaluate(node.values[1], scope)
        if not first:
            return rest
        return first if any(isinstance(part, str) for part in first) else choose(first, rest)
    if isinstance(node, ast.Name):
        return _evaluate_name(node, scope)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        value = scope.bound.get(node.value.id)
        if value is not None and value.attributes is not None:
            return value.attributes.get(node.attr, (Hole(node.attr),))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("str", "shown"):
        return evaluate(node.args[0], scope)
    return (Hole(_name_of(node)),)


def _formatted(node: ast.FormattedValue, scope: Scope) -> Template:
    """Give what stands in the braces of an f-string; a number that is a constant as it is written out."""
    spec = node.format_spec
    if (
        isinstance(node.value, ast.Name)
        and isinstance(spec, ast.JoinedStr)
        and node.value.id not in scope.bound
    ):
        found = scope.program.constant(scope.module, node.value.id)
        words = [part.value for part in spec.values if isinstance(part, ast.Constant)]
        if found and isinstance(found[1], ast.Constant) and isinstance(found[1].value, int | float):
            return (format(found[1].value, str(words[0])),)
    return evaluate(node.value, scope)


def _evaluate_name(node: ast.Name, scope: Scope) -> Template:
    if node.id in scope.bound:
        value = scope.bound[node.id]
        return value.template if value.template or value.attributes is None else (Hole(node.id),)
    texts = [one for one in _assigned(scope, node.id, node) if _is_text(one)]
    if texts and scope.depth < MAX_DEPTH:
        inner = Scope(scope.program, scope.module, scope.function, scope.bound, scope.depth + 1)
        return join(choose(*(evaluate(one, inner) for one in texts)), *_added(node, inner))
    found = scope.program.constant(scope.module, node.id)
    if found and _is_text(found[1]):
        return evaluate(found[1], Scope(scope.program, found[0], None, {}, scope.depth + 1))
    if found and isinstance(found[1], ast.Constant):
        return (str(found[1].value),)
    return (Hole(node.id),)


def _added(use: ast.Name, scope: Scope) -> list[Template]:
    """Give what `name += text` has put after it; what is added in a branch may be left out."""
    assert scope.function is not None
    paths = paths_of(scope.function)
    found = []
    for node in ast.walk(scope.function):
        is_it = (
            isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id == use.id
        )
        if is_it and node.lineno < use.lineno and _is_text(node.value):
            more = evaluate(node.value, scope)
            is_sure = _always_before(paths[id(node)], paths.get(id(use), ()))
            found.append(more if is_sure else choose((), more))
    return found


def statuses_of(node: ast.expr | None, scope: Scope) -> tuple[str, ...]:
    """Give the exit statuses an expression may be."""
    if node is None:
        return ()
    if isinstance(node, ast.Name) and node.id in scope.bound:
        return scope.bound[node.id].statuses
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        value = scope.bound.get(node.value.id)
        if value is not None and value.attributes is not None and not list(statuses(node)):
            return value.statuses
    found = list(statuses(node))
    if isinstance(node, ast.Name):
        for assigned in _assigned(scope, node.id, node):
            found += list(statuses(assigned))
    for one in ast.walk(node):
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Name):
            made = scope.program.function(scope.module, one.func.id)
            found += list(statuses(made[1])) if made else []
        elif isinstance(one, ast.Name):
            constant = scope.program.constant(scope.module, one.id)
            found += list(statuses(constant[1])) if constant else []
    return tuple(dict.fromkeys(found))
