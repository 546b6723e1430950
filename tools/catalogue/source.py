"""
The modules of isboot as syntax trees: constants, classes of errors, functions that make errors.

Nothing is run: a message is what the code says it is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path("isboot")
BASE = "IsbootError"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class Module:
    path: Path
    tree: ast.Module
    constants: dict[str, ast.expr] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)  #: also methods, by their bare name
    imported: dict[str, tuple[str, str]] = field(default_factory=dict)  #: name -> module, name there

    @property
    def name(self) -> str:
        return ".".join(self.path.with_suffix("").parts)


@dataclass(slots=True)
class ErrorClass:
    name: str
    module: Module
    base: str
    node: ast.ClassDef

    @property
    def init(self) -> Function | None:
        return next(
            (one for one in self.node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"),
            None,
        )


@dataclass(slots=True)
class Program:
    modules: dict[str, Module]
    errors: dict[str, ErrorClass]

    def constant(self, module: Module, name: str) -> tuple[Module, ast.expr] | None:
        """Give what a name of a module stands for, also where it was imported."""
        if name in module.constants:
            return module, module.constants[name]
        if name in module.imported:
            where, there = module.imported[name]
            other = self.modules.get(where)
            return self.constant(other, there) if other else None
        return None

    def function(self, module: Module, name: str) -> tuple[Module, Function] | None:
        """Give a function by its name: of the module, or imported into it."""
        if name in module.functions:
            return module, module.functions[name]
        if name in module.imported:
            where, there = module.imported[name]
            other = self.modules.get(where)
            return self.function(other, there) if other else None
        return None

    def function_of(self, module: Module, owner: str, name: str) -> tuple[Module, Function] | None:
        """Give `owner.name`, the owner being an imported module, or self."""
        if owner in ("self", "cls"):
            return self.function(module, name)
        if owner in module.imported:
            where, there = module.imported[owner]
            other = self.modules.get(f"{where}.{there}")
            return self.function(other, name) if other else None
        return None

    def is_error(self, name: str) -> bool:
        return name in self.errors

    def stage(self, name: str) -> str:
        """Give the stage of a class of errors, its own or the one it has from its base."""
        found = self.errors[name]
        for one in found.node.body:
            if isinstance(one, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == "stage" for target in one.targets
            ):
                return str(ast.literal_eval(one.value))
        return self.stage(found.base) if found.base in self.errors else ""


@cache
def load(package: Path = PACKAGE) -> Program:
    """Read every module."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        if not path.name.startswith("_engine"):
            module = _read(path)
            modules[module.name.removesuffix(".__init__")] = module
    return Program(modules, _error_classes(modules))


def _read(path: Path) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = Module(path, tree)
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            module.constants[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            module.constants[node.target.id] = node.value
    for one in ast.walk(tree):
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            module.functions.setdefault(one.name, one)
        elif isinstance(one, ast.ImportFrom) and one.module:
            for alias in one.names:
                module.imported[alias.asname or alias.name] = (one.module, alias.name)
    return module


def _error_classes(modules: dict[str, Module]) -> dict[str, ErrorClass]:
    found: dict[str, ErrorClass] = {}
    classes = [
        (module, node)
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    ]
    known = {BASE}
    # until no class is added: a base may stand in a later module
    while True:
        before = len(found)
        for module, node in classes:
            bases = [
                base.id if isinstance(base, ast.Name) else getattr(base, "attr", "") for base in node.bases
            ]
            base = next((one for one in bases if one in known), "")
            if node.name not in found and (base or node.name == BASE):
                found[node.name] = ErrorClass(node.name, module, base, node)
                known.add(node.name)
        if len(found) == before:
            return found


def statuses(node: ast.AST) -> Iterator[str]:
    """Give every ExitStatus.NAME in a piece of code, in its order."""
    for one in ast.walk(node):
        if (
            isinstance(one, ast.Attribute)
            and isinstance(one.value, ast.Name)
            and one.value.id == "ExitStatus"
        ):
            yield one.attr
