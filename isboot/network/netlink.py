"""
Netlink's wire format and the two things done over it: a request with its answers, and waiting for events.

Why not pyroute2, which does all this?  Importing any part of it runs its whole package, 370 modules: 120 ms
natively, more than 1 s under emulation, and 26 MiB in every process, where all of ours are locked in memory.
The whole network stage without it costs 10 ms and 1 MiB.  The tests hold it against pyroute2.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import NamedTuple, Self

# linux/netlink.h
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSGERR_ATTR_MSG = 1
NLA_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
ATTRIBUTE_HEADER = struct.Struct("=HH")  # length, type
ERRNO = struct.Struct("=i")
RECEIVE_BYTES = 64 * 1024  # the kernel fills at most 32 KiB of it in one dump message
EVENT_BUFFER_BYTES = 16 * 1024  # more events than that are as good as one: somebody looks

Attributes = Mapping[int, bytes]


class Message(NamedTuple):
    """One message without its header: `body` is the fixed part and the attributes."""

    type: int
    flags: int
    sequence: int
    body: bytes


def _align(length: int) -> int:
    return (length + 3) & ~3


def encode_attributes(attributes: Attributes) -> bytes:
    """Encode attributes, each padded to 4 bytes. A nested one is the encoding of what is in it."""
    encoded = bytearray()
    for kind, value in attributes.items():
        encoded += ATTRIBUTE_HEADER.pack(ATTRIBUTE_HEADER.size + len(value), kind) + value
        encoded += bytes(_align(len(value)) - len(value))
    return bytes(encoded)


def decode_attributes(data: bytes) -> dict[int, bytes]:
    """
    Decode attributes; of two with the same type the last counts.

    :raises ValueError: an attribute is shorter than its header or runs past the data
    """
    attributes: dict[int, bytes] = {}
    offset = 0
    while offset + ATTRIBUTE_HEADER.size <= len(data):
        length, kind = ATTRIBUTE_HEADER.unpack_from(data, offset)
        if length < ATTRIBUTE_HEADER.size or offset + length > len(data):
            raise ValueError(f"netlink attribute at {offset} has length {length} of {len(data) - offset}")
        attributes[kind & NLA_TYPE_MASK] = data[offset + ATTRIBUTE_HEADER.size : offset + length]
        offset += _align(length)
    return attributes


def encode_message(message: Message) -> bytes:
    """Encode one message as it is sent to the kernel (port 0)."""
    length = HEADER.size + len(message.body)
    return HEADER.pack(length, message.type, message.flags, message.sequence, 0) + message.body


def decode_messages(data: bytes) -> Iterator[Message]:
    """
    Give the messages of one datagram.

    :raises ValueError: a message is shorter than its header or runs past the datagram
    """
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size or offset + length > len(data):
            raise ValueError(f"netlink message at {offset} has length {length} of {len(data) - offset}")
        yield Message(kind, flags, sequence, data[offset + HEADER.size : offset + length])
        offset += _align(length)


class NetlinkSocket:
    """
    A socket to rtnetlink: `request` for one operation, `dump` for lists, `wait` for news.

    :param groups: the RTMGRP_* mask of the events `wait` reports; 0 for a socket only for requests
    """

    def __init__(self, groups: int = 0) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        # EXT_ACK: the kernel's own words on why it refused (Linux 4.12); CAP_ACK: without our request echoed.
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        try:
            # what a dump asks for is left out by the kernel, not by us (Linux 4.20)
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            pass  # everything comes, and is sorted out here
        if groups:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, EVENT_BUFFER_BYTES)
        self._socket.bind((0, groups))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; a second time does nothing."""
        self._socket.close()

    def fileno(self) -> int:
        """Give what poll(2) takes."""
        return self._socket.fileno()

    def request(self, kind: int, body: bytes, flags: int = 0) -> None:
        """
        Do one operation and wait for its acknowledgement.

        :param flags: NLM_F_CREATE and its kin; REQUEST and ACK are added
        :raises OSError: the kernel's errno, with its own explanation as the text where it gives one
        """
        for _ in self._exchange(kind, body, flags | NLM_F_ACK):
            pass

    def dump(self, kind: int, body: bytes) -> list[Message]:
        """
        Give a whole list, as it stood at one moment: an interrupted dump is started again.

        :raises OSError: the kernel's errno
        """
        while True:
            messages = list(self._exchange(kind, body, NLM_F_DUMP))
            if not any(message.flags & NLM_F_DUMP_INTR for message in messages):
                return messages

    def wait(self, deadline: float) -> bool:
        """
        Wait for an event and swallow all that are there: whoever is woken looks at the state itself.

        :param deadline: on time.monotonic()'s clock
        :return: False when the deadline came first
        """
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        left_ms = max(0, round((deadline - time.monotonic()) * 1000))
        if not poll.poll(left_ms):
            return False
        while True:
            try:
                self._socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # events were lost; what matters is that there were some
                    raise

    def _exchange(self, kind: int, body: bytes, flags: int) -> Iterator[Message]:
        self._sequence += 1
        request = Message(kind, flags | NLM_F_REQUEST, self._sequence, body)
        self._socket.sendto(encode_message(request), (0, 0))
        while True:
            data, (port, _) = self._socket.recvfrom(RECEIVE_BYTES)
            if port != 0:  # not from the kernel
                continue
            for message in decode_messages(data):
                if message.sequence != self._sequence:
                    continue
                if message.type == NLMSG_DONE:
                    _check(message)  # of a dump that failed on its way
                    return
                if message.type == NLMSG_ERROR:
                    _check(message)
                    return
                yield message


def _check(message: Message) -> None:
    """Raise what an NLMSG_ERROR or NLMSG_DONE message says; errno 0 is the acknowledgement."""
    number = ERRNO.unpack_from(message.body)[0] if len(message.body) >= ERRNO.size else 0
    if number >= 0:
        return
    text = os.strerror(-number)
    if message.type == NLMSG_ERROR and message.flags & NLM_F_ACK_TLVS:
        # struct nlmsgerr: errno, the request's header, and its body where it is not capped
        start = ERRNO.size + HEADER.size
        if not message.flags & NLM_F_CAPPED:
            (length, *_) = HEADER.unpack_from(message.body, ERRNO.size)
            start = ERRNO.size + _align(length)
        explanation = decode_attributes(message.body[start:]).get(NLMSGERR_ATTR_MSG, b"")
        if explanation:
            text = f"{text} ({explanation.rstrip(bytes(1)).decode(errors='replace')})"
    raise OSError(-number, text)
