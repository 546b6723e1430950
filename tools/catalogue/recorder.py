"""
A plugin of pytest that writes down which test makes which message happen, into tests/messages.json.

A message counts when isboot itself made it: constructed in isboot, or said by a guest on its console or by a
command in it.  Used by `tools/messages --record`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isboot.errors import IsbootError
from tools.catalogue import proofs
from tools.catalogue.rows import Row, all_rows

MIN_WEIGHT = 8  #: letters a text must have in common with a row that is found by its text alone
SAID = re.compile(r"isboot: (?:boot (?:failed|waits) at \w*: )?(.*)")
#: what a line of the log has around a message
AROUND = re.compile(r"^  also at \w+: |; trying again.*$| \(hint: .*\)$|; going on without it.*$")


class Recorder:
    def __init__(self) -> None:
        self.rows = all_rows()
        self.patterns = [(row, re.compile(row.pattern)) for row in self.rows]
        self.by_place: dict[str, list[tuple[Row, re.Pattern[str]]]] = {}
        for row, pattern in self.patterns:
            for place in row.places:
                self.by_place.setdefault(place, []).append((row, pattern))
        self.seen: dict[str, set[str]] = {}  #: key of a row -> tests
        self.ran: set[str] = set()
        self.test = ""
        self._known: dict[str, Row | None] = {}

    def made(self, error: IsbootError) -> None:
        """Take note of an error that isboot's code constructs."""
        frame: Any = sys._getframe(2)
        places: list[str] = []
        while frame is not None and len(places) < 8:
            path = Path(frame.f_code.co_filename)
            if "isboot" not in path.parts or path.parts[-2:] == ("isboot", "errors.py"):
                if path.suffix == ".py" and "tests" in path.parts and not places:
                    return
            else:
                place = path.parts[path.parts.index("isboot", len(path.parts) - 3) :]
                places.append(f"{'/'.join(place)}: {frame.f_code.co_name}")
            frame = frame.f_back
        near = [pair for place in places for pair in self.by_place.get(place, ())]
        self._note(self._find(str(error), near) or self._find_text(str(error)))

    def said(self, output: str) -> None:
        """Take note of what a guest has said."""
        for found in SAID.finditer(output):
            line = AROUND.sub("", found[1])
            if line not in self._known:
                self._known[line] = self._find_text(line)
            self._note(self._known[line])

    def _find_text(self, text: str) -> Row | None:
        return self._find(text, [pair for pair in self.patterns if pair[0].weight >= MIN_WEIGHT])

    @staticmethod
    def _find(text: str, pairs: list[tuple[Row, re.Pattern[str]]]) -> Row | None:
        fitting = [row for row, pattern in pairs if pattern.fullmatch(text)]
        return max(fitting, key=lambda row: row.weight, default=None)

    def _note(self, row: Row | None) -> None:
        if row is not None and self.test:
            self.seen.setdefault(row.key, set()).add(self.test)

    # --- hooks ---

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.test = item.nodeid.partition("[")[0]
        self.ran.add(self.test)
        try:
            return (yield)
        finally:
            self.test = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        rig = getattr(item, "funcargs", {}).get("rig")
        for guest in getattr(rig, "guests", ()):
            self.said(re.sub(r"(?m)^\[ *[\d.]+\] ", "", guest.qemu.text().replace("\r", "")))

    def pytest_sessionfinish(self) -> None:
        proofs.update(self.seen, self.ran)


def pytest_configure(config: pytest.Config) -> None:
    """Watch every error, and every command in a guest."""
    recorder = Recorder()
    original = IsbootError.__init__

    def construct(self: IsbootError, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        recorder.made(self)

    IsbootError.__init__ = construct  # type: ignore[method-assign]
    from tests.vm.channel import Pending

    end = Pending.wait

    def wait_and_note(self: Pending, *arguments: Any, **options: Any) -> Any:
        status, output = end(self, *arguments, **options)
        if b"isboot: " in output:
            # what forker.py answers is JSON
            recorder.said(output.decode(errors="replace").replace("\\n", "\n"))
        return status, output

    Pending.wait = wait_and_note  # type: ignore[method-assign]
    wait = subprocess.Popen.communicate

    def communicate(self: Any, *arguments: Any, **options: Any) -> Any:
        told = wait(self, *arguments, **options)
        for text in told:
            words = text.decode(errors="replace") if isinstance(text, bytes) else text
            if words and "isboot: " in words:
                recorder.said(words)
        return told

    subprocess.Popen.communicate = communicate  # type: ignore[method-assign]
    config.pluginmanager.register(recorder, "messages")
