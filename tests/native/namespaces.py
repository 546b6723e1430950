"""Network namespaces of a test's own: a NIC of ours, v0, wired to another machine."""

import ctypes
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CLONE_NEWNET = 0x40000000
MAC = "52:54:00:12:34:56"
libc = ctypes.CDLL(None, use_errno=True)  # os.setns and os.unshare came with Python 3.12


def ip(*arguments: str) -> Any:
    """Run the program ip in this thread's namespace; with -j first, give what it prints."""
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout or "[]") if arguments[0] == "-j" else None


class Namespace:
    """A network namespace, alive as long as its file is open here."""

    def __init__(self) -> None:
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        ip("link", "set", "lo", "up")
        assert libc.setns(own, CLONE_NEWNET) == 0
        os.close(own)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in this namespace, with this thread and what it starts."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        assert libc.setns(self.fd, CLONE_NEWNET) == 0
        try:
            yield
        finally:
            assert libc.setns(own, CLONE_NEWNET) == 0
            os.close(own)


@contextmanager
def two_machines() -> Iterator[Namespace]:
    """Be in a namespace with v0 (down, no address); this is the other one, with v1 up."""
    ours, other = Namespace(), Namespace()
    try:
        with ours.entered():
            make_veth(other, "v0", "v1", MAC)
            with other.entered():
                for address in ("192.0.2.1/24", "2001:db8::1/64"):
                    ip("address", "add", address, "dev", "v1", *(["nodad"] if ":" in address else []))
                for address in ("198.51.100.9/32", "2001:db8:1::9/128"):
                    ip("address", "add", address, "dev", "lo")
                ip("link", "set", "v1", "up")
            yield other
    finally:
        os.close(ours.fd)
        os.close(other.fd)


def make_veth(other: Namespace, here: str, there: str, mac: str) -> None:
    """Wire this namespace to another one; both ends are down."""
    ip("link", "add", here, "address", mac, "type", "veth", "peer", "name", there)
    ip("link", "set", there, "netns", f"/proc/{os.getpid()}/fd/{other.fd}")
