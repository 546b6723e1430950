"""The messages of the parts in C: the engine's errors, and what isboot-boot says before Python runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tools.catalogue.template import Hole, Template, join

STRING = r'"((?:[^"\\]|\\.)*)"'
ENGINE = re.compile(rf"\bisboot_fail\((?:error|[&\w>.-]+),[^;]*?{STRING}\)", re.DOTALL)
WRITTEN = re.compile(rf"snprintf\(error->text, sizeof\(error->text\),\s*{STRING}", re.DOTALL)
FAIL = re.compile(rf"\bfail\({STRING}(?:,\s*([^;]*?))?\);", re.DOTALL)
SAY = re.compile(rf"\bsay\({STRING}", re.DOTALL)
FUNCTION = re.compile(r"^(?:static )?[\w ]+?[ *](\w+)\([^;]*?\)\n\{", re.MULTILINE | re.DOTALL)
#: of isboot-boot what runs before the boot's own Python; the rest runs at shutdown
EARLY = ("world.c", "copy.c", "start.c")
FORMAT = re.compile(r"%[-0-9.]*(?:l|ll|z)?[a-zA-Z]")


@dataclass(frozen=True, slots=True)
class Said:
    stage: str
    message: Template
    place: str


def messages(root: Path = Path()) -> Iterator[Said]:
    """Give every message of the C parts that a boot can meet."""
    for path in sorted((root / "isboot/engine").glob("*.c")):
        source = path.read_text(encoding="utf-8")
        for found in ENGINE.finditer(source):
            text = join(_template(found[1]), (": ", Hole("strerror")))
            yield Said("engine", text, f"{path}: {_function(source, found.start())}")
        for found in WRITTEN.finditer(source):
            if not found[1].startswith("%"):
                text = join(_fill(_template(found[1]), []))
                yield Said("block", text, f"{path}: {_function(source, found.start())}")
    for name in EARLY:
        path = root / "tools/boot" / name
        if path.exists():
            yield from _early(path)


def _early(path: Path) -> Iterator[Said]:
    source = path.read_text(encoding="utf-8")
    definition = re.search(rf"static int fail\(.*?\n\{{\n\tsay\({STRING}", source, re.DOTALL)
    for found in SAY.finditer(source):
        if definition and found.start() == definition.end() - len(found[0]):
            continue
        if not found[1].startswith("usage:"):
            yield Said("boot", _template(found[1]), f"{path}: {_function(source, found.start())}")
    if definition is None:
        return
    # making a world in memory: %s %s: %s
    shape = _template(definition[1])
    for found in FAIL.finditer(source):
        given = [(found[1],), _argument(found[2] or "")]
        yield Said("boot", _fill(shape, given), f"{path}: {_function(source, found.start())}")


def _argument(text: str) -> Template:
    string = re.fullmatch(STRING, text)
    return (string[1],) if string else (Hole(text.split("[")[0].lower()),)


def _template(text: str) -> Template:
    """Give a format of printf as a template; adjacent strings and line ends are the compiler's."""
    parts: list[Template] = []
    last = 0
    for number, found in enumerate(FORMAT.finditer(text)):
        parts += [(text[last : found.start()],), (Hole("value" if number else "what"),)]
        last = found.end()
    return join(*parts, (text[last:],))


def _fill(shape: Template, given: list[Template]) -> Template:
    left = list(given)
    parts = []
    for part in shape:
        parts.append(left.pop(0) if isinstance(part, Hole) and left else (part,))
    # the last hole is strerror(errno)
    end = parts[-1]
    if len(end) == 1 and isinstance(end[0], Hole):
        parts[-1] = (Hole("strerror"),)
    return join(*parts)


def _function(source: str, place: int) -> str:
    names = [found[1] for found in FUNCTION.finditer(source) if found.start() < place]
    return names[-1] if names else "?"
