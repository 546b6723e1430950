"""bcc's side, against a bcc of our own: the real one is tried in guests (tests/vm/test_trace.py)."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from isboot.errors import ExitStatus, TraceError
from isboot.trace import loader
from isboot.trace.catalogue import TRACES, Trace
from isboot.trace.engines import Engine

REPOSITORY = Path(__file__).resolve().parents[2]
ENGINE = Engine(Path("/proc/9/map_files/1-2"), "/usr/lib/isboot/_engine.so", (9,))
LATENCY = next(trace for trace in TRACES if trace.name == "latency")


@dataclass(frozen=True)
class Probe:
    name: bytes
    num_locations: int = 1
    provider: bytes = b"isboot"


class FakeBcc(ModuleType):
    """Has these probes; compiles where `needed` is among the flags."""

    def __init__(self, probes: list[Probe], needed: str = "") -> None:
        super().__init__("bcc")
        self.tried: list[list[str]] = []
        self.attached: list[tuple[str, str]] = []
        outer = self

        class USDTException(Exception):  # noqa: N818 - bcc's name
            pass

        class USDT:
            def __init__(self, path: str) -> None:
                assert path == str(ENGINE.path)

            def enumerate_probes(self) -> list[Probe]:
                return probes

            def enable_probe(self, probe: str, fn_name: str) -> None:
                outer.attached.append((probe, fn_name))

        class BPF:
            def __init__(self, text: str, cflags: list[str], usdt_contexts: list[Any]) -> None:
                outer.tried.append(cflags)
                if needed and needed not in cflags:
                    os.write(2, b"/virtual/main.c:7:1: error: wanted something else\nwarning: x\n")
                    raise Exception("Failed to compile BPF module <text>")

            def cleanup(self) -> None:
                pass

        self.USDTException, self.USDT, self.BPF = USDTException, USDT, BPF


def load(monkeypatch: pytest.MonkeyPatch, bcc: ModuleType, trace: Trace = LATENCY) -> loader.Program:
    monkeypatch.setitem(sys.modules, "bcc", bcc)
    return loader.Program(trace, ENGINE, 3, lambda event: None)


def test_program_is_attached_to_its_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    bcc = FakeBcc([Probe(b"io_done"), Probe(b"io_done", 2, b"other")])
    load(monkeypatch, bcc).close()
    assert bcc.attached == [("isboot:io_done", "on_io_done")]
    assert bcc.tried == [["-DDEVICE=3"]]


def test_headers_of_newer_kernels_get_their_flags_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bcc = FakeBcc([Probe(b"io_done")], needed="-fms-extensions")
    load(monkeypatch, bcc)
    assert bcc.tried[1] == ["-DDEVICE=3", "-fms-extensions", "-Wno-microsoft-anon-tag"]
    assert capfd.readouterr().err == ""


def test_failure_tells_the_first_error_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader.platform, "release", lambda: "")  # /lib/modules//build: see below
    monkeypatch.setattr(loader, "Path", lambda _: SimpleNamespace(exists=lambda: True))
    with pytest.raises(TraceError, match=r"bpf/latency\.c on kernel .*: .*wanted something else") as caught:
        loader_program_with_source(monkeypatch, FakeBcc([Probe(b"io_done")], needed="-nothing"))
    assert caught.value.exit_status == ExitStatus.UNAVAILABLE


def test_absent_headers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader.platform, "release", lambda: "1.2.3-none")
    with pytest.raises(TraceError, match=r"headers of kernel 1\.2\.3-none are not installed") as caught:
        loader_program_with_source(monkeypatch, FakeBcc([Probe(b"io_done")], needed="-nothing"))
    assert caught.value.hint == "install linux-headers-1.2.3-none"


def loader_program_with_source(monkeypatch: pytest.MonkeyPatch, bcc: ModuleType) -> loader.Program:
    monkeypatch.setattr(loader, "source", lambda name: "")
    return load(monkeypatch, bcc)


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ([], r"process 9\): no io_done"),
        ([Probe(b"io_done", provider=b"other")], r"no io_done"),
        ([Probe(b"io_done", 2)], r"io_done at more than one place"),
    ],
)
def test_probe_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, probes: list[Probe], message: str
) -> None:
    with pytest.raises(TraceError, match=message) as caught:
        load(monkeypatch, FakeBcc(probes))
    assert caught.value.exit_status == ExitStatus.UNAVAILABLE


@pytest.mark.parametrize("other", [None, ModuleType("bcc")])
def test_absent_and_wrong_bcc_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, other: ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, "bcc", other)
    with pytest.raises(TraceError, match="another project" if other else "not installed") as caught:
        loader.import_bcc()
    assert caught.value.exit_status == ExitStatus.UNAVAILABLE
    assert "python3-bpfcc" in caught.value.hint


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.name)
def test_trace_has_a_program_with_a_function_a_probe_and_an_explanation(trace: Trace) -> None:
    text = loader.source(f"{trace.name}.c")
    assert set(re.findall(r"^int on_(\w+)\(struct pt_regs \*ctx\)", text, re.MULTILINE)) == set(trace.probes)
    for table in (*trace.tables, *filter(None, [trace.workers_table])):
        assert re.search(rf"^BPF_\w+\({table},", text, re.MULTILINE)
    for word in ("What ", "Unit ", "Probe", "Overhead "):
        assert f" * {word}" in text.split("*/")[0]
    assert f"isboot trace {trace.name}" in loader.source(f"{trace.name}.txt")


def test_probes_are_in_the_engine_with_the_arguments_the_programs_read() -> None:
    """An argument is read by its number and is nothing where its width differs."""
    header = (REPOSITORY / "isboot/engine/probes.h").read_text(encoding="utf-8").replace("\\\n", " ")
    widths = {"uint32_t": "u32", "int32_t": "s32", "uint64_t": "u64"}
    for trace in TRACES:
        text = loader.source(f"{trace.name}.c")
        for probe in trace.probes:
            listed = re.search(rf"STAP_PROBE\d+\(isboot, {probe},(.*)", header)
            assert listed, probe
            types = [widths[one] for one in re.findall(r"\((u?int\d+_t)\)", listed[1])]
            body = text[text.index(f"int on_{probe}(") :].split("\n}\n")[0]
            for number, name in re.findall(r"bpf_usdt_readarg\((\d+), ctx, &([\w.]+)\)", body):
                assert declared_type(trace, probe, body, name) == types[int(number) - 1], (probe, name)


def declared_type(trace: Trace, probe: str, body: str, name: str) -> str:
    """The type of a variable of the function, or of a member of its record."""
    if name.startswith("event."):
        from isboot.trace.events import c_declarations, c_name

        (kind,) = (kind for kind in trace.records if c_name(kind) == probe)
        found = re.search(rf"(\w+) {name.removeprefix('event.')};", c_declarations([kind]))
    else:
        found = re.search(rf"(\w+) (?:\w+ = 0, )*{name} = 0", body)
    assert found, name
    return found[1]
