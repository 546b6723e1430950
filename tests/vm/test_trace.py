"""isboot trace in a guest, on both kernels: what it tells is true, also when a worker is replaced."""

from __future__ import annotations

import ctypes
import heapq
import itertools
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.vm.guest import Guest
from tests.vm.network import Network
from tests.vm.rig import Rig

pytestmark = pytest.mark.guest

LATE_S = 0.020
RELAY_PORT = 3270
CLONE_NEWNET = 0x40000000


class Relay:
    """
    Stands before a target; what the target says passes `late_s` later, which may be changed at any time.

    :param port: the target's
    """

    def __init__(self, network: Network, port: int) -> None:
        self.late_s = 0.0
        self._network = network
        self._port = port
        self._is_ready = threading.Event()
        self._end, self._ended = os.pipe()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Relay:
        self._thread.start()
        assert self._is_ready.wait(10), "the relay does not listen"
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ended)
        self._thread.join()
        os.close(self._end)

    def _run(self) -> None:
        # a thread has a network namespace of its own, and its sockets stay there
        with open(f"/run/netns/{self._network.name}") as namespace:
            assert ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) == 0
        with socket.create_server(("0.0.0.0", RELAY_PORT)) as server:
            self._is_ready.set()
            self._serve(server)

    def _serve(self, server: socket.socket) -> None:
        peers: dict[socket.socket, socket.socket] = {}
        clients: set[socket.socket] = set()
        due: list[tuple[float, int, socket.socket, bytes]] = []
        numbers = itertools.count()
        while True:
            wait_s = max(due[0][0] - time.monotonic(), 0) if due else None
            readable = select.select([server, self._end, *peers], [], [], wait_s)[0]
            while due and due[0][0] <= time.monotonic():
                _, _, receiver, data = heapq.heappop(due)
                if receiver in peers:
                    receiver.sendall(data)
            if self._end in readable:
                break
            if server in readable:
                client = server.accept()[0]
                target = socket.create_connection(("127.0.0.1", self._port))
                for end in (client, target):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients.add(client)
                peers |= {client: target, target: client}
            for end in peers.keys() & set(readable):
                data = end.recv(1 << 20)
                if not data:
                    other = peers.pop(end)
                    del peers[other]
                    for gone in (end, other):
                        gone.close()
                    break
                if end in clients:
                    peers[end].sendall(data)
                else:
                    heapq.heappush(due, (time.monotonic() + self.late_s, next(numbers), peers[end], data))
        for end in peers:
            end.close()


class Trace:
    """A trace that runs in the guest; `document` is there when the block is left."""

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self._files = f"/tmp/trace-{name}"
        command = f"echo $$ > {self._files}.pid; exec python3 -m isboot trace {name} ublkb0 --json"
        self._pending = guest.channel.start(f"{command} > {self._files}.out 2> {self._files}.err", 180)
        self.document: dict[str, Any] = {}

    def __enter__(self) -> Trace:
        # compiling takes 5 to 20 s here
        self._guest.channel.run(f"until grep -q . {self._files}.err; do sleep 0.1; done", 90)
        said = self._read("err")
        assert said == "tracing ublkb0, ^C ends it\n", said
        return self

    def __exit__(self, *error: object) -> None:
        self._guest.channel.kill(int(self._read("pid")), signal.SIGINT)
        status, _ = self._pending.wait()
        if not any(error):
            assert status == 0, self._read("err")
            self.document = json.loads(self._read("out"))

    def _read(self, suffix: str) -> str:
        return self._guest.channel.read(f"{self._files}.{suffix}").decode()


@contextmanager
def attached(rig: Rig, label: str, url: str) -> Iterator[Guest]:
    """A guest with that LUN as /dev/ublkb0."""
    guest = rig.quick(label)
    run = guest.channel.run
    initiator = "iqn.2001-04.com.example:guest"
    run(f"modprobe ublk_drv; python3 -m isboot attach --initiator {initiator} {url}", 60)
    yield guest
    run("python3 -m isboot detach ublkb0", 60)


def status(guest: Guest) -> dict[str, Any]:
    devices = json.loads(guest.channel.run("python3 -m isboot status --json").output)["devices"]
    return dict(devices[0])


def median_ms(trace: Trace) -> dict[tuple[str, str], float]:
    """The medians of each phase of each operation."""
    (device,) = trace.document["devices"]
    return {
        (operation["operation"], phase["phase"]): phase["p50_ns"] / 1e6
        for operation in device["operations"]
        for phase in operation["phases"]
    }


FIO = "fio --name=io --filename=/dev/ublkb0 --size=32m --bs=4k --direct=1 --ioengine=psync"


def test_late_target_moves_the_phase_of_the_target_only(rig: Rig, kernel_label: str) -> None:
    target = rig.target()
    url = target.url().replace(f":{target.port}/", f":{RELAY_PORT}/")
    medians = []
    with Relay(rig.network(), target.port) as relay, attached(rig, kernel_label, url) as guest:
        for late_s in (0.0, LATE_S):
            relay.late_s = late_s
            with Trace(guest, "latency") as trace:
                guest.channel.run(f"{FIO} --rw=randread --number_ios=150", 60)
                guest.channel.run(f"{FIO} --rw=randwrite --number_ios=100 --fsync=1", 60)
            medians.append(median_ms(trace))
            counts = {one["operation"]: one["count"] for one in trace.document["devices"][0]["operations"]}
            assert counts["read"] >= 150
            assert counts["write"] == 100
            assert counts["flush"] >= 99
        relay.late_s = 0.0
    prompt, late = medians
    assert len(prompt) == 12
    for (operation, phase), before_ms in prompt.items():
        moved_ms = late[operation, phase] - before_ms
        expected_ms = LATE_S * 1000 if phase in ("whole", "target") else 0
        assert moved_ms == pytest.approx(expected_ms, abs=4), (operation, phase, before_ms, moved_ms)


def test_outages_are_told_across_the_replacement_of_a_worker(rig: Rig, kernel_label: str) -> None:
    target = rig.target()
    with attached(rig, kernel_label, target.url()) as guest:
        before = status(guest)
        io = guest.channel.start(f"{FIO} --rw=randread --time_based --runtime=600", 600)
        read = "dd if=/dev/ublkb0 of=/dev/null bs=4k count=1 iflag=direct"
        with Trace(guest, "reconnects") as trace:
            target.kill()
            guest.qemu.wait_for(r"isboot: connecting to \S+ connection refused; trying again", 20)
            target.start()
            guest.channel.run(read, 30)
            guest.channel.kill(before["worker_pid"])
            guest.channel.run(read, 30)
            after = status(guest)
            target.restart()
            guest.channel.run(read, 30)
        guest.channel.run("kill $(pidof fio)")
        io.wait()
    first, second, third = trace.document["outages"]
    assert [one["cause"] in ("closed", "socket") for one in (first, second, third)] == [True, False, True]
    for one in (first, second, third):
        *refused, last = one["attempts"]
        assert last["exit_status"] == 0
        # 75 while nothing listens; a tgtd that listens before it has its LUNs says "target not found"
        assert all(attempt["exit_status"] != 0 for attempt in refused)
        assert 0 < last["after_s"] <= one["session_after_s"] <= one["io_after_s"] < 10
    assert len(first["attempts"]) > 1
    assert first["attempts"][0]["exit_status"] == 75
    assert (second["cause"], second["old_pid"]) == ("worker", before["worker_pid"])
    assert second["new_pid"] == after["worker_pid"] == before["standby_pid"]
    assert first["old_pid"] == first["new_pid"] == before["worker_pid"]
    assert third["old_pid"] == third["new_pid"] == after["worker_pid"]
    assert trace.document["ended_workers"] == []
    assert trace.document["dropped_records"] == 0
