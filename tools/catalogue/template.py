"""
The text of a message before it is said: literal words, holes for what is known only then, and choices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hole:
    """What stands there is known when the message is said."""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several texts; an empty one among them makes the others optional."""

    options: tuple[Template, ...]


Part = str | Hole | Choice
Template = tuple[Part, ...]


def join(*templates: Template) -> Template:
    """Give one after the other, neighbouring words made one."""
    parts: list[Part] = []
    for part in (part for template in templates for part in template):
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        elif part != "":
            parts.append(part)
    return tuple(parts)


def choose(*options: Template) -> Template:
    """Give a choice, or the one text where all are alike."""
    different = tuple(dict.fromkeys(options))
    return different[0] if len(different) == 1 else (Choice(different),)


def text(template: Template) -> str:
    """Give it as people read it: {hole}, [optional], (one|other)."""
    return "".join(_text(part) for part in template)


def _text(part: Part) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Hole):
        return "{" + part.name + "}"
    words = [text(option) for option in part.options if option]
    is_optional = len(words) < len(part.options)
    inner = "|".join(words)
    return f"[{inner}]" if is_optional else f"({inner})"


def pattern(template: Template) -> str:
    """Give the regular expression of all texts it may become."""
    return "".join(_pattern(part) for part in template)


def _pattern(part: Part) -> str:
    if isinstance(part, str):
        # log lines have single blanks
        return re.escape(" ".join(part.split(" ")))
    if isinstance(part, Hole):
        return "(?s:.*?)"
    return "(?:" + "|".join(pattern(option) for option in part.options) + ")"


def weight(template: Template) -> int:
    """Say how much of it is words: of two that fit a text, the heavier is meant."""
    total = 0
    for part in template:
        if isinstance(part, str):
            total += len(part)
        elif isinstance(part, Choice):
            total += min(weight(option) for option in part.options)
    return total
