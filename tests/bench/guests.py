"""Rigs 1 and 2: a guest, ours and a peer side by side on a target of each; one boot a kernel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.bench import image
from tests.bench.cells import GUEST_CELLS, LOADS, MIB, Cell, Load
from tests.bench.measure import BenchError, Rounds, Sample, judge
from tests.bench.sides import PEERS, Isboot, Portal, Side
from tests.vm.guest import Guest
from tests.vm.kernel import kernel
from tests.vm.rig import Rig
from tests.vm.target import Lun

LUN_MIB = 256
SCRIPT = "tests/bench/inside/load.py"
#: the requests of a 1 MiB load go out as they come, on both sides
LONG = (f"max_io_bytes={MIB}",)


@dataclass(frozen=True)
class Options:
    """How long, how often, and which cells."""

    seconds: float
    rounds: int
    cells: Sequence[str]  #: () means all
    peers: Sequence[str]
    say: Callable[[str], None]


def measure(rig_name: str, label: str, options: Options) -> Iterator[dict[str, Any]]:
    """
    Give the cells of one rig on one kernel.

    :param rig_name: "guest": tgtd beside the guest; "lio": LIO inside it, over its own loopback
    :raises BenchError: a side has no block device, or its data did not go over the wire
    """
    chosen = [cell for cell in GUEST_CELLS if not options.cells or cell.name in options.cells]
    for is_long in (False, True):
        cells = [cell for cell in chosen if LOADS[cell.load].is_long == is_long]
        if cells:
            with Rig(f"bench-{rig_name}-{label}") as rig:
                yield from _boot(rig, rig_name, label, cells, LONG if is_long else (), options)


def _boot(
    rig: Rig, rig_name: str, label: str, cells: Sequence[Cell], parameters: tuple[str, ...], options: Options
) -> Iterator[dict[str, Any]]:
    which = kernel(label)
    root = image.image(which)
    with ExitStack() as stack:
        portals = []
        if rig_name == "guest":
            portals = [_tgtd(rig, number) for number in range(len(options.peers) + 1)]
        guest = rig.quick(label, root=root, memory_mib=3072)
        if rig_name == "lio":
            portals = [_lio(rig, guest, number) for number in range(len(options.peers) + 1)]
        nic = "lo" if rig_name == "lio" else "eth0"
        ours = Isboot(guest.channel, portals[0], parameters)
        devices = {ours.name: ours.up()}
        peers = [
            PEERS[name](guest.channel, portal)
            for name, portal in zip(options.peers, portals[1:], strict=True)
        ]
        for peer in peers:
            devices[peer.name] = peer.up()
        facts = ours.facts()
        stack.callback(guest.channel.run, "python3 -m isboot detach ublkb0", 60)
        loads = dict.fromkeys(cell.load for cell in cells)
        for load in (LOADS[name] for name in loads):
            for peer in peers:
                rounds = _rounds(guest, nic, load, devices[ours.name], devices[peer.name], peer, options)
                for cell in (cell for cell in cells if cell.load == load.name):
                    yield _row(rig_name, which.release, cell, load, peer, facts) | judge(cell, rounds)


def _tgtd(rig: Rig, number: int) -> Portal:
    disk = rig.empty_disk(LUN_MIB, f"bench{number}.img")
    # not sparse: a hole is read at another speed
    with open(disk, "r+b") as file:
        for _ in range(LUN_MIB):
            file.write(b"\x5a" * MIB)
    target = rig.target(Lun(disk), name=f"iqn.2001-04.com.example:bench{number}", port=3260 + number)
    return Portal(rig.network().address(), target.port, target.name)


def _lio(rig: Rig, guest: Guest, number: int) -> Portal:
    lun = Lun(back_end="ramdisk", size_mib=LUN_MIB)
    target = rig.lio(lun, guest=guest, name=f"iqn.2001-04.com.example:bench{number}", port=3260 + number)
    return Portal("127.0.0.1", target.port, target.name)


def _rounds(
    guest: Guest, nic: str, load: Load, ours: str, theirs: str, peer: Side, options: Options
) -> Rounds:
    rounds = Rounds()
    for number in range(options.rounds):
        for device, into in ((ours, rounds.ours), (theirs, rounds.theirs)):
            words = (device, nic, f"{options.seconds:g}", load.pattern, load.size_bytes, load.depth)
            command = ["python3", SCRIPT, *map(str, words)]
            done = guest.channel.run(command, options.seconds + 60, is_checked=False)
            if done.status:
                raise BenchError(f"{load.name} on {device}: {done.output.strip()[-2000:]}")
            into.append(Sample.of(json.loads(done.output.splitlines()[-1]), f"{load.name} on {device}"))
        mine, other = rounds.ours[-1].figures, rounds.theirs[-1].figures
        texts = (
            f"{name} {figures['iops']:.0f} IOPS, {figures['cpu_us_per_io']:.0f} us CPU"
            for name, figures in (("isboot", mine), (peer.name, other))
        )
        options.say(f"{load.name} {number + 1}/{options.rounds}: {'; '.join(texts)}")
    return rounds


def _row(
    rig_name: str, release: str, cell: Cell, load: Load, peer: Side, facts: dict[str, Any]
) -> dict[str, Any]:
    return {
        "rig": rig_name,
        "kernel": release,
        "cell": cell.name,
        "peer": peer.name,
        "peer_version": peer.version(),
        "peer_kind": peer.kind,
        **facts,
        "depth": load.depth,
        "unit": cell.unit,
        "better": cell.better,
        "limited_by": None,
        "ceiling": None,
    }
