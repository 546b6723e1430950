"""
Waiting for NICs at boot: all of them together, woken by the kernel's events, with a word every few seconds.

A boot needs one path: once one NIC is up the others get a moment only; the daemon takes them up when they
come (watch.py).
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from isboot.errors import ExitStatus, NetworkError
from isboot.network import nic as one_nic
from isboot.network import vlan, watch
from isboot.network.find import called, find_nic
from isboot.network.kernel import Done, Kernel, Mark, NotYetError, Places, Say, Wanted, unmarked
from isboot.network.plan import literals, needs_router, plan_routes
from isboot.network.rtnetlink import Rtnetlink
from isboot.values import NicConfig, NicState, Portal

TELL_S = 5.0  #: between two words about what is waited for
GRACE_S = 3.0  #: for the other NICs, once one is up
DUPLICATE_DETECTION_S = 5.0  # RFC 4862 §5.4: one probe, one second, and its random delay of up to one more
ROUTER_S = 12.0  # RFC 4861 §6.3.7: three solicitations, four seconds apart

SIOCGIFFLAGS = 0x8913  # linux/sockios.h
IFREQ = struct.Struct("16sH22x")
IFF_RUNNING = 0x40


@dataclass(slots=True)
class _Pending:
    wanted: Wanted
    since: float
    told_at: float
    done: Done
    problem: NotYetError | None = None
    warned: int = 0  #: warnings that were told


def configure(
    nic: NicConfig,
    portals: Sequence[Portal],
    *,
    carrier_timeout_s: float,
    nic_timeout_s: float = 10.0,
    mtu_bytes: int = 0,
    dropins_root: Path | None = Path("/run"),
    say: Say = lambda line: None,
    mark: Mark = unmarked,
) -> NicState:
    """
    Bring a NIC up so that the portals can be reached through it.

    :param portals: those named by an address get a host route
    :param carrier_timeout_s: seconds for the carrier; spanning tree alone may take 50
    :param nic_timeout_s: seconds for a driver to find the NIC
    :param mtu_bytes: 0 leaves it as it is
    :param dropins_root: where the network managers' drop-ins go; None for none
    :param say: told what is waited for, every few seconds
    :param mark: told of "nic", "carrier" and "address"
    :return: how it stands now and how many changes were made, drop-ins counted
    :raises NetworkError: no such NIC (NOTHING_THERE), no carrier (TRY_AGAIN), not root (NOT_PERMITTED)
    """
    wanted = Wanted(nic, tuple(portals), mtu_bytes)
    places = Places(run=dropins_root)
    states, faults = configure_all([wanted], carrier_timeout_s, nic_timeout_s, say, mark, places)
    if faults:
        raise faults[0]
    return states[nic.index]


def configure_all(
    wanted: Sequence[Wanted],
    carrier_timeout_s: float,
    nic_timeout_s: float,
    say: Say,
    mark: Mark = unmarked,
    places: Places | None = None,
) -> tuple[dict[int, NicState], list[NetworkError]]:
    """
    Bring several NICs up, side by side.

    :return: those that are up by their table's index, and the errors of the others
    """
    with Rtnetlink() as kernel:
        return bring_up(kernel, wanted, carrier_timeout_s, nic_timeout_s, say, mark, places or Places())


def reroute(interface: str, nic: NicConfig, portals: Sequence[Portal]) -> None:
    """
    Have the routes to where a target sends a login after a loss, while the root stands still.

    Nothing is waited for and no file of the root is read: who brings the NIC up is the launcher's watch.
    Where the routes are there no link is listed either: that takes RTNL, which a driver that loads its
    firmware from the root may hold.

    :param interface: of the NIC, now
    :param portals: named by their addresses
    :raises NetworkError: it cannot be done now (mostly TRY_AGAIN)
    """
    with Rtnetlink() as kernel:
        if not _has_routes(kernel, interface, nic, portals):
            wanted = Wanted(nic, tuple(portals))
            _, faults = bring_up(kernel, [wanted], 0, 0, _unsaid, unmarked, watch.PLACES, is_patient=False)
            if faults:
                raise faults[0]


def _unsaid(_line: str) -> None:
    """For what the watch says already."""


def _has_routes(kernel: Kernel, interface: str, nic: NicConfig, portals: Sequence[Portal]) -> bool:
    if needs_router(nic, portals) or any(one.is_link_local for one in literals(portals)):
        return False  # the router may be another one now, and so may the NIC's own link-local address
    try:
        ifindex = socket.if_nametoindex(interface)
        present = kernel.routes(nic.address.version if nic.address else 4, ifindex)
    except OSError:
        return False
    return all(one.route in present for one in plan_routes(nic, portals, ifindex))


def bring_up(
    kernel: Kernel,
    wanted: Sequence[Wanted],
    carrier_timeout_s: float,
    nic_timeout_s: float,
    say: Say,
    mark: Mark,
    places: Places,
    clock: Callable[[], float] = time.monotonic,
    *,
    is_patient: bool = True,
) -> tuple[dict[int, NicState], list[NetworkError]]:
    """
    Do what `configure_all` does, with a kernel and a clock given.

    :param is_patient: False: nothing is waited for, addresses and routers neither
    """
    bounds = {
        "nic": nic_timeout_s,
        "carrier": carrier_timeout_s,
        "address": DUPLICATE_DETECTION_S if is_patient else 0,
        "router": ROUTER_S if is_patient else 0,
    }
    pending = [_Pending(one, clock(), clock(), Done(mark)) for one in wanted]
    states: dict[int, NicState] = {}
    faults: list[NetworkError] = []
    first_up_at: float | None = None
    while True:
        for one in list(pending):
            outcome = _try(kernel, one, places, bounds, say, clock)
            if outcome is None:
                continue
            pending.remove(one)
            if isinstance(outcome, NetworkError):
                faults.append(outcome)
                continue
            states[one.wanted.nic.index] = outcome
            first_up_at = clock() if first_up_at is None else first_up_at
        if first_up_at is not None and clock() >= first_up_at + GRACE_S:
            faults += [one.problem.after(round(clock() - one.since, 1)) for one in pending if one.problem]
            pending.clear()
        if not pending:
            return states, faults
        due = [one.since + bounds[one.problem.kind] for one in pending if one.problem]
        due += [one.told_at + TELL_S for one in pending]
        due += [first_up_at + GRACE_S] if first_up_at is not None else []
        kernel.wait(min(due))


def _try(
    kernel: Kernel,
    one: _Pending,
    places: Places,
    bounds: dict[str, float],
    say: Say,
    clock: Callable[[], float],
) -> NicState | NetworkError | None:
    """Take a step with a NIC: how it stands, what went wrong, or None while it has to be waited for."""
    try:
        return one_nic.step(kernel, one.wanted, places, one.done)
    except NetworkError as error:
        return error
    except OSError as error:
        return one_nic.explain(error, one.wanted.nic)
    except NotYetError as problem:
        now = clock()
        if one.problem is None or one.problem.kind != problem.kind:
            one.since = one.told_at = now
        one.problem = problem
        bound_s = bounds[problem.kind]
        if now >= one.since + bound_s:
            return problem.after(bound_s)
        if now >= one.told_at + TELL_S:
            one.told_at = now
            say(f"{problem.doing}: {now - one.since:.0f} s of {bound_s:g} s are over")
        return None
    finally:
        for warning in one.done.warnings[one.warned :]:
            say(warning)
        one.warned = len(one.done.warnings)


def locate(nic: NicConfig, portal: Portal) -> str:
    """
    Give the interface of a NIC that was not there at boot; who keeps it up is the launcher's watch.

    :raises NetworkError: it is not there yet (TRY_AGAIN)
    """
    with Rtnetlink() as kernel:
        links = kernel.links()
        link = find_nic(links, nic, Places().sysfs_net)
        if link is not None and nic.vlan:
            link = vlan.find(links, link, nic.vlan)
    if link is None:
        raise NetworkError(
            f"connecting to {portal}: the NIC {called(nic)} is not there",
            "it is taken up when it comes",
            ExitStatus.TRY_AGAIN,
        )
    return link.name


def need_carrier(name: str, nic: NicConfig, portal: Portal) -> None:
    """
    Refuse to connect through a NIC without a cable or its address: another path may be tried at once.

    Without this connect() would send into the void until its time-out: without a route Linux takes any host
    for a neighbour of the NIC that a socket is bound to.

    :param name: of the interface
    :raises NetworkError: something is missing (TRY_AGAIN)
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, IFREQ.pack(name.encode(), 0))
        except OSError:
            return  # it is gone, or cannot say: connect() tells
    doing = f"connecting to {portal} through {name}"
    if not IFREQ.unpack(answer)[1] & IFF_RUNNING:
        raise NetworkError(f"{doing}: no carrier", "check cable and switch port", ExitStatus.TRY_AGAIN)
    if nic.address is None or nic.address.ip.is_link_local:
        return
    family = socket.AF_INET if nic.address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as own_socket:
            own_socket.bind((str(nic.address.ip), 0))
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            return  # no free port, a filter of a control group: nothing that TCP's connect() has to share
        raise NetworkError(
            f"{doing}: {nic.address.ip}: {error.strerror}",
            "somebody took the address away: it is put back",
            ExitStatus.TRY_AGAIN,
        ) from error
