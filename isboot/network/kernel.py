"""What the network stage asks of the kernel, where it looks, and what it says while it has to wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from isboot.errors import ExitStatus, NetworkError
from isboot.network.rtnetlink import Address, Link, Route
from isboot.values import IpAddress, IpInterface, NicConfig, Portal


class Kernel(Protocol):
    """The part of rtnetlink.Rtnetlink that is used; the tests have one made of lists."""

    def wait(self, deadline: float) -> bool:
        """Wait for a change until a deadline on time.monotonic()'s clock; False when that came first."""

    def links(self) -> list[Link]: ...
    def addresses(self, ifindex: int = 0) -> list[Address]: ...
    def routes(self, version: int, ifindex: int) -> list[Route]: ...
    def set_up(self, ifindex: int) -> None: ...
    def set_mtu(self, ifindex: int, mtu_bytes: int) -> None: ...
    def release(self, ifindex: int) -> None: ...
    def add_vlan(self, lower: int, vlan: int, name: str) -> None: ...
    def put_address(self, ifindex: int, interface: IpInterface) -> None: ...
    def remove_address(self, ifindex: int, interface: IpInterface) -> None: ...
    def put_route(self, route: Route, *, is_onlink: bool = False, is_beside: bool = False) -> None: ...


class Places(NamedTuple):
    """
    Where files are.

    :param run: where the network managers' and resolvers' drop-ins go; None for none
    :param alias_files: which module drives which device, in the order to be asked; {release} is the kernel's
    """

    run: Path | None = Path("/run")
    sysfs_net: Path = Path("/sys/class/net")
    sysfs_bus: Path = Path("/sys/bus")
    sysfs_module: Path = Path("/sys/module")
    sysctls: Path = Path("/proc/sys/net")
    #: isboot's world has no modules: /proc/1/root is the initramfs while a NIC is looked for
    alias_files: tuple[str, ...] = (
        "/lib/modules/{release}/modules.alias",
        "/proc/1/root/lib/modules/{release}/modules.alias",
        "/proc/1/root/usr/lib/isboot/nic-modules.alias",
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    A NIC as it shall be.

    :param portals: to be reached through it; those named by an address of its family get a host route
    :param mtu_bytes: 0 leaves it as it is
    """

    nic: NicConfig
    portals: Sequence[Portal] = ()
    mtu_bytes: int = 0


Say = Callable[[str], None]
Mark = Callable[[str, str], None]  #: a step that was reached, and words to it


def unmarked(_step: str, _words: str) -> None:
    """Where nobody asks how long a step took."""


@dataclass(slots=True)
class Done:
    """
    How far a NIC has come.

    :param changes: a word or two each
    :param warnings: a line each
    :param router: of IPv6, that was used where the table names none
    """

    mark: Mark = unmarked
    changes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    router: IpAddress | None = None

    def reach(self, step: str, words: str) -> None:
        """Mark a step, the first time."""
        if step not in self.reached:
            self.reached.add(step)
            self.mark(step, words)

    def warn(self, line: str) -> None:
        """Keep a warning, once."""
        if line not in self.warnings:
            self.warnings.append(line)


class NotYetError(Exception):
    """
    Something is not there, but may come: looked for again after the next event.

    :param kind: what is waited for: "nic", "carrier", "address", "router"; each has its own clock
    :param doing: the beginning of the message
    :param outcome: the rest of it; {seconds} stands for how long it was waited for
    :param details: asked at the end of the waiting only: more of the message, and a hint instead of `hint`
    """

    def __init__(
        self,
        kind: str,
        doing: str,
        outcome: str,
        hint: str,
        exit_status: ExitStatus = ExitStatus.TRY_AGAIN,
        details: Callable[[], tuple[str, str]] | None = None,
    ) -> None:
        super().__init__(doing)
        self.kind = kind
        self.doing = doing
        self.outcome = outcome
        self.hint = hint
        self.exit_status = exit_status
        self.details = details

    def after(self, seconds: float) -> NetworkError:
        """Give the error it is when nothing came in so many seconds."""
        more, hint = self.details() if self.details else ("", "")
        message = f"{self.doing}: {self.outcome.replace('{seconds}', f'{seconds:g}')}{more}"
        return NetworkError(message, hint or self.hint, self.exit_status)
