"""Cells against a running target: tgtd and istgt on this machine's loopback, LIO inside a guest."""

from __future__ import annotations

import itertools
import json
import os
import platform
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tests.matrix.cells import Cell
from tests.matrix.rows import Row, Verdict
from tests.native.targets import Istgt, Tgtd
from tests.vm.guest import Guest
from tests.vm.lio import Lio
from tests.vm.progress import RigError
from tests.vm.rig import Rig
from tests.vm.target import Lun

INITIATOR = "iqn.2001-04.com.example:matrix"
LUN_MIB = 8
#: block size -> LUN
LUNS = {"512": 1, "4096": 2}
#: requests, and the area they go to; short segments make long work
VERIFY = {"512": ("64", "1M"), "8192": ("96", "2M"), "262144": ("96", "4M")}
BENCH_S = 180

Outcome = dict[str, Any]  # status, seconds, output, messages: as inside.run gives them


class Place(Protocol):
    """A target of a kind that may be set up anew, and where isboot runs."""

    version: str
    kernel: str

    def setting(self, cell: Cell) -> tuple[str, ...]:
        """What of a cell the target has to be set up for."""

    def set_up(self, cell: Cell) -> None:
        """Do that."""

    def url(self, cell: Cell) -> str:
        """The LUN of a cell."""

    def run(self, commands: Sequence[list[str]]) -> Iterator[Outcome]:
        """Run isboot's bench with these arguments, one after the other."""


def arguments(cell: Cell, url: str) -> list[str]:
    """Give what `isboot bench` is told for a cell."""
    requests, area = VERIFY[cell["segment"]]
    digests = {"none": "", "both": "header,data"}.get(cell["digests"], cell["digests"])
    parameters = {
        "initial_r2t": str(int(cell["initial_r2t"] == "yes")),
        "immediate_data": str(int(cell["immediate_data"] == "yes")),
        "max_recv_data_segment_length_bytes": cell["segment"],
    }
    words = ["--json", "--initiator", INITIATOR, "--verify", requests, "--area", area, "--digests", digests]
    for name, value in parameters.items():
        words += ["--param", f"{name}={value}"]
    return [*words, url]


def expected(cell: Cell) -> dict[str, object]:
    """Give what both sides have to agree on."""
    return {
        "header_digest": cell["digests"] in ("header", "both"),
        "data_digest": cell["digests"] in ("data", "both"),
        "initial_r2t": cell["initial_r2t"] == "yes",
        "immediate_data": cell["immediate_data"] == "yes",
        "max_recv_data_segment_length_bytes": int(cell["segment"]),
        "max_send_data_segment_length_bytes": int(cell["segment"]),
    }


def judge(cell: Cell, place: Place, outcome: Outcome) -> Row:
    """Give the row of a bench that ran."""
    said = outcome["output"]
    figures = json.loads(said) if said.startswith("{") else {}
    session = figures.get("session", {})
    faults = [
        f"{name} is {session.get(name)}, not {value}"
        for name, value in expected(cell).items()
        if figures and session.get(name) != value
    ]
    for name in ("differ", "io_errors", "protocol_errors", "digest_errors", "reconnects"):
        if figures.get(name):
            faults.append(f"{name}: {figures[name]}")
    if outcome["status"]:
        faults.insert(0, f"exit {outcome['status']}: {outcome['messages'].strip()[-500:]}")
    return Row(
        cell=cell.key,
        kernel=place.kernel,
        firmware="-",
        table="URL",
        target=place.version,
        verdict=Verdict.FAIL if faults else Verdict.PASS,
        seconds=round(outcome["seconds"], 2),
        verified_bytes=figures.get("bytes", 0),
        negotiated=session,
        reason="; ".join(faults),
    )


def run(cells: Sequence[Cell], place: Place) -> Iterator[Row]:
    """Run cells of one target, those of one setting together."""
    ordered = sorted(cells, key=place.setting)
    for _, some in itertools.groupby(ordered, place.setting):
        batch = list(some)
        place.set_up(batch[0])
        outcomes = place.run([arguments(cell, place.url(cell)) for cell in batch])
        for cell, outcome in zip(batch, outcomes, strict=True):
            yield judge(cell, place, outcome)


def package_version(name: str) -> str:
    """Give the version of a Debian package of this machine."""
    command = ["dpkg-query", "-W", "-f", "${Version}", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Native:
    """isboot on this machine, without a block device."""

    # without what a maker of kernels adds
    kernel = platform.release().partition("-")[0]

    def run(self, commands: Sequence[list[str]]) -> Iterator[Outcome]:
        for words in commands:
            started = time.monotonic()
            command = [sys.executable, "-m", "isboot", "bench", *words]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=BENCH_S, env=os.environ
                )
                status, output, messages = done.returncode, done.stdout, done.stderr
            except subprocess.TimeoutExpired:
                status, output, messages = -9, "", f"not over after {BENCH_S} s"
            seconds = time.monotonic() - started
            yield {"status": status, "seconds": seconds, "output": output, "messages": messages}


class TgtPlace(Native):
    """tgtd; its side of every key is set by tgtadm, for the next login."""

    def __init__(self, directory: Path) -> None:
        self.version = f"tgt {package_version('tgt')}"
        self.tgtd = Tgtd(directory / "tgtd")

    def __enter__(self) -> TgtPlace:
        self.tgtd.start()
        self.tgtd.admin("--op", "new", "--mode", "portal", "--param", f"portal=[::1]:{self.tgtd.port}")
        self.name = self.tgtd.add_target("matrix")
        for block, lun in LUNS.items():
            self.tgtd.add_lun(1, lun, size_bytes=LUN_MIB << 20, block_size_bytes=int(block))
        # what isboot asks for decides, so the target has to allow it
        self._set("InitialR2T", "No")
        return self

    def __exit__(self, *_: object) -> None:
        self.tgtd.stop()

    def _set(self, key: str, value: str) -> None:
        self.tgtd.admin("--op", "update", "--mode", "target", "--tid", "1", "-n", key, "-v", value)

    def setting(self, cell: Cell) -> tuple[str, ...]:
        return (cell["segment"], cell["digests"])

    def set_up(self, cell: Cell) -> None:
        self._set("MaxRecvDataSegmentLength", cell["segment"])
        for key, name in (("HeaderDigest", "header"), ("DataDigest", "data")):
            # with both allowed tgt takes CRC32C out of any list, whatever comes first
            self._set(key, "CRC32C" if cell["digests"] in (name, "both") else "None")

    def url(self, cell: Cell) -> str:
        host = {"ipv4": "127.0.0.1", "ipv6": "[::1]"}[cell["address"]]
        return f"iscsi://{host}:{self.tgtd.port}/{self.name}/{LUNS[cell['block']]}"


class IstgtPlace(Native):
    """istgt: all is in a file it reads when it starts, the block size is the target's."""

    def __init__(self, directory: Path) -> None:
        self.version = f"istgt {package_version('istgt')}"
        self.directory = directory
        self.istgt: Istgt | None = None

    def __enter__(self) -> IstgtPlace:
        return self

    def __exit__(self, *_: object) -> None:
        if self.istgt:
            self.istgt.stop()

    def setting(self, cell: Cell) -> tuple[str, ...]:
        return (cell["address"], cell["segment"], cell["block"])

    def set_up(self, cell: Cell) -> None:
        self.__exit__()
        self.istgt = Istgt(
            self.directory / "-".join(self.setting(cell)),
            size_mebibytes=LUN_MIB,
            block_size_bytes=int(cell["block"]),
            address={"ipv4": "127.0.0.1", "ipv6": "[::1]"}[cell["address"]],
            parameters={"MaxRecvDataSegmentLength": cell["segment"]},
        )
        self.istgt.start()

    def url(self, cell: Cell) -> str:
        assert self.istgt
        return f"iscsi://{self.istgt.address}:{self.istgt.port}/{self.istgt.name}/0"


def native(target: str, directory: Path) -> TgtPlace | IstgtPlace:
    """Give the place of a target that is a program of this machine."""
    return TgtPlace(directory) if target == "tgt" else IstgtPlace(directory)


class LioPlace:
    """LIO and isboot in one guest, over its loopback."""

    def __init__(self, rig: Rig, label: str) -> None:
        self._guest: Guest = rig.quick(label)
        luns = [Lun(number=lun, block_size_bytes=int(block), size_mib=LUN_MIB) for block, lun in LUNS.items()]
        self._lio: Lio = rig.lio(*luns, guest=self._guest, parameters={"InitialR2T": "No"})
        self.version = self._lio.version()
        self.kernel = self.version.rsplit(" ", 1)[1]

    def setting(self, cell: Cell) -> tuple[str, ...]:
        return (cell["segment"],)

    def set_up(self, cell: Cell) -> None:
        # LIO declares the longest segment it would send as the longest it takes
        self._lio.set_parameter("MaxXmitDataSegmentLength", cell["segment"])

    def url(self, cell: Cell) -> str:
        return self._lio.url(("ipv4", "ipv6").index(cell["address"]), LUNS[cell["block"]])

    def run(self, commands: Sequence[list[str]]) -> Iterator[Outcome]:
        channel = self._guest.channel
        channel.write("/tmp/commands.json", json.dumps(list(commands)).encode())
        pending = channel.start("python3 -m tests.matrix.inside /tmp/commands.json", BENCH_S * len(commands))
        yield from _lines(pending, len(commands))


def _lines(pending: Any, count: int) -> Iterator[Outcome]:
    """Give each line of JSON as it comes."""
    pieces: queue.Queue[bytes | BaseException] = queue.Queue()

    def wait() -> None:
        try:
            status, output = pending.wait(pieces.put)
            tail = output[-2000:].decode(errors="replace")
            pieces.put(RigError(f"{pending.name}: exit {status} before its time\n{tail}"))
        except RigError as error:
            pieces.put(error)

    threading.Thread(target=wait, daemon=True).start()
    text = b""
    for _ in range(count):
        while b"\n" not in text:
            piece = pieces.get()
            if isinstance(piece, BaseException):
                raise piece
            text += piece
        line, _, text = text.partition(b"\n")
        yield json.loads(line)
