"""A lane with the local front end on one end of a socket pair, a script on the other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from isboot._engine import ffi, lib

from isboot.engine.lane import Discard, Lane, Loss, Reason, make_error
from isboot.engine.requests import Request, RequestList
from isboot.values import NegotiatedSession, Portal
from tests.engine.peer import LUN, Peer, PeerClosed

Script = Callable[[Peer], None]
PEER_TIMEOUT_S = 10.0


def session(**changes: Any) -> NegotiatedSession:
    """Give a session with a target that needs no R2T for the first 64 KiB."""
    values: dict[str, Any] = {
        "fd": -1,
        "portal": Portal("192.0.2.1"),
        "target_name": "iqn.2026-11.org.example:t",
        "isid": bytes(6),
        "tsih": 1,
        "target_portal_group_tag": 1,
        "cid": 1,
        "lun": LUN,
        "cmd_sn": 1,
        "exp_stat_sn": 100,
        "max_cmd_sn": 32,
        "header_digest": False,
        "data_digest": False,
        "max_recv_data_segment_length_bytes": 1 << 18,
        "max_send_data_segment_length_bytes": 1 << 18,
        "first_burst_length_bytes": 1 << 16,
        "max_burst_length_bytes": 1 << 18,
        "initial_r2t": False,
        "immediate_data": True,
        "max_outstanding_r2t": 1,
        "time2wait_s": 0,
        "time2retain_s": 0,
    }
    return NegotiatedSession(**(values | changes))


class Engine:
    """A started lane. One script plays one session with it."""

    def __init__(
        self,
        *,
        depth: int = 8,
        max_io_bytes: int = 1 << 20,
        command_timeout_ms: int = 5000,
        nop_interval_ms: int = 5000,
        nop_timeout_ms: int = 5000,
        has_fua: bool = True,
        has_write_same: bool = True,
        discard: Discard = Discard.UNMAP,
    ) -> None:
        self._bytes = ffi.sizeof("struct isboot_shared")
        self._mapping = lib.isboot_shared_map(self._bytes, make_error())
        self.shared = ffi.cast("struct isboot_shared *", self._mapping)
        self.lane = Lane(
            index=0,
            device_id=0,
            depth=depth,
            max_io_bytes=max_io_bytes,
            block_size_bytes=512,
            command_timeout_ms=command_timeout_ms,
            nop_interval_ms=nop_interval_ms,
            nop_timeout_ms=nop_timeout_ms,
            has_fua=has_fua,
            has_write_same=has_write_same,
            discard=discard,
            buffers=None,
            shared=self.shared,
        )
        self.lane.start()
        self.counters = self.lane.counters

    def close(self) -> None:
        self.lane.close()
        lib.isboot_shared_unmap(self._mapping, self._bytes)

    def ask(self, *requests: Request) -> RequestList:
        """Give the lane its next list; play() moves it."""
        result = self._asked = RequestList(requests)  # its memory has to live as long as the lane uses it
        self.lane.open_local(result.array, result.count)
        return result

    def play(
        self,
        script: Script,
        agreed: NegotiatedSession | None = None,
        *,
        buffer_bytes: int = 0,
        **peer_values: Any,
    ) -> tuple[Reason, Loss]:
        """
        Attach a session whose target is `script`, and run until the lane comes back.

        :param agreed: what the session agreed on; session() if None
        :param buffer_bytes: how much the sockets hold; 0: as the kernel likes
        :raises AssertionError: from the script, whatever the lane said
        """
        agreed = agreed or session()
        ours, theirs = tcp_pair(buffer_bytes)
        theirs.settimeout(PEER_TIMEOUT_S)
        peer = Peer(
            theirs,
            agreed.header_digest,
            agreed.data_digest,
            agreed.exp_stat_sn,
            agreed.cmd_sn,
            **({"window": (agreed.max_cmd_sn - agreed.cmd_sn + 1) & 0xFFFFFFFF} | peer_values),
        )
        failures: list[BaseException] = []
        has_returned = threading.Event()

        def act() -> None:
            try:
                script(peer)
                has_returned.wait(PEER_TIMEOUT_S)  # a script that closes the connection says so
            except PeerClosed:
                pass  # what the engine does is the test's to judge
            except BaseException as error:
                failures.append(error)
            finally:
                theirs.close()

        thread = threading.Thread(target=act)
        self.lane.attach(replaced(agreed, ours.fileno()))
        thread.start()
        try:
            outcome = self.lane.run()
        finally:
            has_returned.set()
            ours.close()
            thread.join()
        if failures:
            raise failures[0]
        return outcome


def replaced(agreed: NegotiatedSession, fd: int) -> NegotiatedSession:
    from dataclasses import replace

    return replace(agreed, fd=fd)


@contextmanager
def started(**values: Any) -> Iterator[Engine]:
    engine = Engine(**values)
    try:
        yield engine
    finally:
        engine.close()


def tcp_pair(buffer_bytes: int) -> tuple[socket.socket, socket.socket]:
    """Give two ends of a connection on loopback: closer to what the engine meets than a socket pair."""
    ours = socket.socket()
    with socket.create_server(("127.0.0.1", 0)) as server:
        if buffer_bytes:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        ours.connect(server.getsockname())
        theirs = server.accept()[0]
    for end in (ours, theirs):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs
