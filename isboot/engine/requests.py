"""
The local front end's lists: requests of this process, with a buffer each.

`isboot bench` and the tests move blocks through them, with no block device in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from isboot._engine import ffi
from isboot.engine.lane import Operation


class Request(NamedTuple):
    """
    :param data: what a WRITE writes; ignored otherwise
    :param length_bytes: of what it is about; a WRITE has that of its data, a FLUSH none
    """

    operation: Operation
    offset_bytes: int = 0
    length_bytes: int = 0
    data: bytes = b""
    fua: bool = False


def read(offset_bytes: int, length_bytes: int) -> Request:
    return Request(Operation.READ, offset_bytes, length_bytes)


def write(offset_bytes: int, data: bytes, *, fua: bool = False) -> Request:
    return Request(Operation.WRITE, offset_bytes, len(data), data, fua)


def discard(offset_bytes: int, length_bytes: int) -> Request:
    return Request(Operation.DISCARD, offset_bytes, length_bytes)


def write_zeroes(offset_bytes: int, length_bytes: int) -> Request:
    return Request(Operation.WRITE_ZEROES, offset_bytes, length_bytes)


FLUSH = Request(Operation.FLUSH)


class RequestList:
    """Requests as the engine takes them: `array` and `count` go to Lane.open_local(); results stand in it."""

    def __init__(self, requests: Iterable[Request]) -> None:
        wanted = list(requests)
        self.count = len(wanted)
        self.array: Any = ffi.new("struct isboot_request[]", max(1, self.count))
        moving = [one for one in wanted if one.operation <= Operation.WRITE]
        self._memory: Any = ffi.new("char[]", max(1, sum(request.length_bytes for request in moving)))
        at = 0
        for entry, request in zip(self.array, wanted, strict=False):
            entry.operation = request.operation
            entry.fua = request.fua
            entry.offset_bytes = request.offset_bytes
            entry.length_bytes = request.length_bytes
            if request.operation > Operation.WRITE:
                continue
            entry.buffer = self._memory + at
            if request.data:
                ffi.memmove(entry.buffer, request.data, len(request.data))
            at += request.length_bytes

    def result(self, index: int) -> int:
        """Give the length moved, 0 where nothing moves (FLUSH, DISCARD ...), or a negative errno."""
        return int(self.array[index].result)

    def data(self, index: int) -> bytes:
        entry = self.array[index]
        return bytes(ffi.buffer(entry.buffer, entry.length_bytes))
