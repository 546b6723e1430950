"""Random reads and writes, and what each read of them must give: the model of `isboot bench --verify`."""

from __future__ import annotations

import random
from collections.abc import Iterator

from isboot.engine.lane import Operation
from isboot.engine.requests import Request, RequestList, read, write

TRIES = 50  #: to find a place that no request of the same round touches


class Model:
    """
    The bytes an area of a disk holds.

    Requests of one round are under way at once, in any order; so a write touches nothing another request of
    its round touches, and what each read must give is known beforehand.

    :param content: of the area, which starts at byte 0 of the disk
    :param longest_bytes: of a request
    """

    def __init__(self, content: bytes, block_size_bytes: int, longest_bytes: int, seed: int) -> None:
        self.content = bytearray(content)
        self._block = block_size_bytes
        self._longest = max(1, min(longest_bytes, len(content) // 4) // block_size_bytes)
        self._rng = random.Random(seed)

    def round(self, count: int) -> list[Request]:
        """Give requests that may be under way at once, `count` of them at most, one at least."""
        taken: list[tuple[int, int, bool]] = []
        requests: list[Request] = []
        for _ in range(count):
            is_write = self._rng.random() < 0.5
            place = self._place(taken, is_write)
            if place is None:
                break
            start, end = place
            taken.append((start, end, is_write))
            length = end - start
            requests.append(write(start, self._rng.randbytes(length)) if is_write else read(start, length))
        return requests

    def check(self, requests: list[Request], done: RequestList) -> Iterator[tuple[Request, int]]:
        """Give each request that failed or differs, with its result; take what was written into the model."""
        for index, request in enumerate(requests):
            start, end = request.offset_bytes, request.offset_bytes + request.length_bytes
            result = done.result(index)
            if result != request.length_bytes:
                yield request, result
            elif request.operation == Operation.WRITE:
                self.content[start:end] = request.data
            elif done.data(index) != self.content[start:end]:
                yield request, result

    def _place(self, taken: list[tuple[int, int, bool]], is_write: bool) -> tuple[int, int] | None:
        blocks = len(self.content) // self._block
        for _ in range(TRIES):
            length = min(self._length(), blocks)
            start = self._rng.randrange(blocks - length + 1) * self._block
            end = start + length * self._block
            if all(
                end <= other or start >= until or not (is_write or writes) for other, until, writes in taken
            ):
                return start, end
        return None

    def _length(self) -> int:
        """Half of the requests are short, as those of a file system are; the others have any length."""
        if self._rng.random() < 0.5:
            return self._rng.randint(1, min(16, self._longest))
        return self._rng.randint(1, self._longest)
