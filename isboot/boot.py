"""
The story of a boot: bytes the firmware left -> a configuration -> a NIC -> a session -> a disk.

Each step is one stage; what passes between them stands in values.py.  The same road is taken again after
every lost connection, from `connect` on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from isboot.block import parameters, provisioning, udev
from isboot.block.device import Control, Device
from isboot.config import boot as sources
from isboot.config import cmdline
from isboot.errors import ExitStatus, NetworkError, RedirectError
from isboot.firmware import find
from isboot.network import bringup, watch
from isboot.network import connect as tcp
from isboot.session import connection, fence, identity, inventory, isid, lun, redirect
from isboot.session.control import Control as ScsiControl
from isboot.session.control import Wait, sleep
from isboot.values import (
    BootConfig,
    IbftTable,
    LunFacts,
    NegotiatedSession,
    NicConfig,
    NicState,
    PathConfig,
    Portal,
)

if TYPE_CHECKING:
    from isboot.network.lease import Lease

CONNECT_TIMEOUT_S = 5.0
FENCE_WAIT_S = 30.0  #: where LOGICAL UNIT RESET is refused: what most targets give a command at most

Say = Callable[[str], None]


class Marks(Protocol):
    """Told how far the road was taken (daemon/timeline.py has the steps); `NoMarks` where nobody asks."""

    def attempt(self, step: str) -> None: ...
    def reach(self, step: str, words: str) -> None: ...
    def fail(self, message: str) -> None: ...


class NoMarks:
    def attempt(self, step: str) -> None:
        pass

    def reach(self, step: str, words: str) -> None:
        pass

    def fail(self, message: str) -> None:
        pass


NO_MARKS = NoMarks()


@dataclass(frozen=True, slots=True)
class Attached:
    """A session in full feature phase, and the disk that was found behind it."""

    sock: socket.socket
    session: NegotiatedSession
    facts: LunFacts
    path: PathConfig
    interface: str  #: "" where the host routes
    disks: tuple[bytes, ...] = ()  #: of the target, where all of them are to be attached


def find_table(options: cmdline.KernelOptions, root: Path = Path("/")) -> list[IbftTable]:
    """Stage 1, firmware: every table there is; none at all is no error yet (netroot= may serve)."""
    has_other = bool(options.netroots or options.asks_dhcp)
    return find.find_tables(root, has_other_source=has_other) if options.enabled else []


def configure(tables: list[IbftTable], options: cmdline.KernelOptions) -> BootConfig:
    """Stage 2, config: what to boot from, by the precedence of the sources."""
    return sources.from_sources(tables, options)


def lease(
    config: BootConfig, options: cmdline.KernelOptions, say: Say, marks: Marks = NO_MARKS
) -> tuple[BootConfig, list[Lease]]:
    """
    Stage 3, network, where addresses come by DHCP: the configuration with them, and with the root-path.

    A NIC that gets none is left as it is as long as another has an address: a boot needs one path.

    :return: the leases, to be kept
    :raises NetworkError: no NIC got an address
    :raises ConfigError: there is no root-path, or it is none of iSCSI
    """
    from isboot.network import lease as dhcp  # a boot from a table with addresses has no use for it

    nics: list[NicConfig] = []
    leases: list[Lease] = []
    faults: list[NetworkError] = []
    for wanted in config.nics:
        nics.append(wanted)
        if wanted.address is None and wanted.origin == "dhcp":
            marks.attempt("nic")
            try:
                leases.append(
                    dhcp.obtain(
                        wanted,
                        needs_root_path=not config.paths,
                        timeout_s=config.policy.dhcp_timeout_ms / 1000,
                        carrier_timeout_s=config.policy.carrier_timeout_ms / 1000,
                        say=say,
                        mark=marks.reach,
                    )
                )
                nics[-1] = leases[-1].configured
            except NetworkError as error:
                marks.fail(error.message)
                faults.append(error)
    if faults and not any(nic.address for nic in nics):
        raise faults[0]
    config = sources.with_leases(config, nics)
    if leases and not config.policy.mtu_bytes:
        mtu_bytes = max(one.mtu_bytes for one in leases)
        config = replace(config, policy=replace(config.policy, mtu_bytes=mtu_bytes))
    if leases and not config.paths:
        best = next((one for one in leases if one.root_path), leases[0])
        config = sources.with_root_path(config, best.root_path, best.configured, options)
    return config, leases


def bring_up(config: BootConfig, say: Say, marks: Marks = NO_MARKS) -> dict[int, NicState]:
    """
    Stage 3, network: every NIC that a path needs, by its index.

    One that does not come up is left out as long as another does: a boot needs one path.

    :raises NetworkError: none came up; of several errors one that waiting may mend
    """
    policy = config.policy
    marks.attempt("nic")
    states, faults = bringup.configure_all(
        watch.of(config), policy.carrier_timeout_ms / 1000, policy.nic_timeout_ms / 1000, say, marks.reach
    )
    for fault in faults:
        marks.fail(fault.message)
    if faults and not states:
        raise next((fault for fault in faults if fault.exit_status == ExitStatus.TRY_AGAIN), faults[0])
    for fault in faults:
        say(f"{fault.message}; going on without it until it comes")
    return states


def resolve(config: BootConfig, nics: Mapping[int, NicState] | None = None) -> BootConfig:
    """
    Give every portal by address: after a loss no resolver may be asked, its files may be on the root.

    A name with several addresses becomes as many paths.

    :param nics: those that are up; paths of others come last.  None where no NIC is ours
    :raises NetworkError: a name is unknown
    """
    paths: list[PathConfig] = []
    for path in sorted(config.paths, key=lambda one: bool(one.nic and nics and one.nic.index not in nics)):
        for portal in tcp.resolve(path.portal):
            if not any(
                known.portal == portal and known.lun == path.lun for known in paths if known.nic == path.nic
            ):
                paths.append(replace(path, index=len(paths), portal=portal))
    return replace(config, paths=tuple(paths))


def connect(
    config: BootConfig,
    path: PathConfig,
    nics: Mapping[int, NicState],
    lane: int,
    say: Say,
    *,
    expected: LunFacts | None,
    portals: redirect.Memory | None = None,
    marks: Marks = NO_MARKS,
    wait: Wait = sleep,
) -> Attached:
    """
    Stage 4, session: connect, log in, see what disk is there.

    :param say: told the first login, and what takes time
    :param expected: the disk this must be, after a loss: it is then fenced from commands of the old session
        before anything is issued on the new one
    :param portals: where permanent redirections lead, known to all processes of the device
    :param wait: makes the pauses for a disk that is busy, or does not end older commands at once
    :raises IsbootError: of the network or the session stage
    """
    trail = redirect.Trail(
        path.portal, f"login to {path.target_name}", config.policy.redirect_max, portals or redirect.Memory(),
        is_after_loss=expected is not None,
    )  # fmt: skip
    portal: Portal = trail.portal
    interface = _interface(path.nic, nics.get(path.nic.index), portal) if path.nic else None
    name = isid.compute(config.initiator_name, path.nic.mac if path.nic else "", lane, lun=path.lun)
    while True:
        sock = tcp.connect(
            portal,
            interface=interface,
            timeout_s=CONNECT_TIMEOUT_S,
            resolve_names=expected is None,
        )
        marks.reach("connect", str(portal))
        try:
            session = connection.login(sock, path, config.initiator_name, config.policy, name, portal)
            marks.reach("login", session.target_name)
            if expected is None:
                say(f"login: {session.target_name} at {session.portal}")
            for warning in session.warnings:
                say(warning)  # after a loss as well: a downgrade is never silent
            control = ScsiControl(sock, session, say=say, wait=wait)
            facts = lun.inspect(control, expected)
            marks.reach("lun", f"{facts.vendor} {facts.product}, {facts.capacity_blocks} blocks")
            if expected is not None:
                identity.check(expected, facts)
                if fence.fence(control, session.lun) is not fence.Fence.COMPLETE:
                    say(f"{path.target_name} refuses LOGICAL UNIT RESET: old commands get {FENCE_WAIT_S:g} s")
                    fence.outlast(control, FENCE_WAIT_S)
            trail.arrived(redirect.peer_of(sock))
            disks = tuple(inventory.list_disks(control)) if expected is None and config.luns == "all" else ()
            return Attached(sock, control.negotiated(), facts, path, interface or "", disks)
        except RedirectError as redirection:
            sock.close()
            say(redirection.message)
            trail.turn(redirection)
            if path.nic and trail.portal != portal:
                # bound to the NIC, a portal without a route would be looked for on the link
                there = tcp.resolve(trail.portal)
                if expected is None:
                    bringup.configure(path.nic, there, carrier_timeout_s=CONNECT_TIMEOUT_S, dropins_root=None)
                else:
                    bringup.reroute(interface or "", path.nic, there)
            portal = trail.portal
        except BaseException:
            sock.close()
            raise


def _interface(nic: NicConfig, state: NicState | None, portal: Portal) -> str:
    """
    Give the NIC's name of now: it may have been renamed, or made anew, since it was brought up.

    :raises NetworkError: it is not there, or has no cable or no address
    """
    try:
        name = socket.if_indextoname(state.ifindex if state else 0)
    except OSError:
        name = bringup.locate(nic, portal)
    bringup.need_carrier(name, nic, portal)
    return name


def make_disk(control: Control, attached: Attached, config: BootConfig, queues: int) -> Device:
    """Stage 6, block: the device with the LUN's parameters and its names for udev, not started yet."""
    policy = config.policy
    device = Device.add(
        control, queues=queues, depth=policy.depth // queues, max_io_bytes=policy.max_io_bytes
    )
    try:
        words = udev.properties(attached.facts, attached.path, device.depth, is_boot_lun=config.is_boot_lun)
        udev.write(device.name, words)
        basic = parameters.from_lun(attached.facts, policy.max_io_bytes)
        device.set_parameters(basic, provisioning.from_lun(attached.facts))
    except BaseException:
        device.delete()
        raise
    return device
