"""
Bringing a boot NIC up: found by MAC, link, carrier, address, routes.

`step` does what can be done now and raises NotYetError for what has to be waited for; who waits, and how
long, is its caller's affair (bringup.py at boot, watch.py ever after).  Whatever is in place already is left
as it is, so a second run makes no change.  Nothing of others is removed, but for the NIC's own address with
another prefix, and the bridge or bond that took it as a port.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace

from isboot.errors import ExitStatus, NetworkError
from isboot.network import address, resolver, sysctls, vlan
from isboot.network.dropins import keep_managers_away
from isboot.network.find import called, find_nic, no_such_nic, read_hardware
from isboot.network.kernel import Done, Kernel, NotYetError, Places, Wanted
from isboot.network.plan import DEFAULT_ROUTE_METRIC, PlannedRoute, needs_router, plan_routes
from isboot.network.rtnetlink import Link
from isboot.values import NicConfig, NicState


def step(kernel: Kernel, wanted: Wanted, places: Places, done: Done) -> NicState:
    """
    Bring a NIC as far up as it goes.

    :param done: what was changed is noted there, also of a step that ends with NotYetError
    :return: how it stands, once all is in place
    :raises NotYetError: something has to be waited for
    :raises NetworkError: something that waiting does not mend
    :raises OSError: the kernel refused a change
    """
    nic = wanted.nic
    links = kernel.links()
    hardware = find_nic(links, nic, places.sysfs_net)
    if hardware is None:
        if places.run is not None and nic.address is not None and nic.mac:
            # it may come when the managers of the root are there already
            keep_managers_away(places.run, (nic.mac,), (), has_vlan=bool(nic.vlan))
        raise no_such_nic(links, nic, places)
    driver = read_hardware(hardware.name, places.sysfs_net).driver or hardware.kind
    done.reach("nic", f"{hardware.name} ({driver}) {hardware.mac}")
    link = vlan.find(links, hardware, nic.vlan) if nic.vlan else None
    # The managers first: one that is running must not see the NIC change before it is told to let go.
    if places.run is not None and nic.address is not None:
        macs = tuple(dict.fromkeys(mac for mac in (nic.mac, hardware.mac) if mac))
        names = vlan.names_of(hardware, nic.vlan, link)
        written = keep_managers_away(places.run, macs, names, has_vlan=bool(nic.vlan))
        done.changes += ["drop-in"] * written
        done.changes += ["name servers"] * resolver.hand_over(places.run, nic, hardware.mac, names[-1])
    if hardware.master:
        kernel.release(hardware.ifindex)
        done.changes.append("taken out of " + _name(links, hardware.master))
    version = nic.address.version if nic.address is not None else 4
    vlan.put_mtu(kernel, hardware, wanted.mtu_bytes, version, done)
    if nic.vlan:
        _set_up(kernel, hardware, done)
        if link is None:
            link = vlan.add(kernel, hardware, nic.vlan)
            done.changes.append(f"VLAN {nic.vlan}")
        vlan.put_mtu(kernel, link, wanted.mtu_bytes, version, done)
    else:
        link = hardware
    # before it is up: the kernel would make addresses of its own at once
    _put_sysctls(kernel, wanted, link, links, places, done)
    _set_up(kernel, link, done)
    _need_carrier(kernel, link, is_fresh=not done.changes)
    done.reach("carrier", "")
    if nic.address is not None:
        address.put(kernel, link, nic.address, done)
        address.put_link_local(kernel, link, wanted.portals, done)
        routed = _with_router(kernel, wanted, link, done)
        _put_routes(kernel, link, plan_routes(routed, wanted.portals, link.ifindex), done)
    done.reach("address", str(nic.address or "none"))
    return NicState(
        mac=nic.mac or hardware.mac,
        name=link.name,
        ifindex=link.ifindex,
        driver=driver,
        address=nic.address,
        changes=len(done.changes),
    )


def explain(error: OSError, nic: NicConfig) -> NetworkError:
    """Give the error of what the kernel refused."""
    message = f"configuring the NIC {called(nic)}: {error.strerror}"
    if error.errno in (errno.EPERM, errno.EACCES):
        return NetworkError(message, "run as root", ExitStatus.NOT_PERMITTED)
    is_ipv6 = nic.address is not None and nic.address.version == 6
    if is_ipv6 and error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
        hint = "this kernel runs without IPv6: is ipv6.disable=1 on its command line?"
        return NetworkError(message, hint, ExitStatus.UNAVAILABLE)
    return NetworkError(message)


def _name(links: Sequence[Link], ifindex: int) -> str:
    return next((link.name for link in links if link.ifindex == ifindex), f"link {ifindex}")


def _set_up(kernel: Kernel, link: Link, done: Done) -> None:
    if not link.is_up:
        kernel.set_up(link.ifindex)
        done.changes.append(f"{link.name} up")


def _put_sysctls(
    kernel: Kernel, wanted: Wanted, link: Link, links: Sequence[Link], places: Places, done: Done
) -> None:
    own = wanted.nic.address
    if own is None:
        return
    others = sysctls.neighbours(links, kernel.addresses(), link, own)
    situations = ["shared"] if others else []
    if wanted.nic.gateway is not None:
        situations.append("gateway")
    elif needs_router(wanted.nic, wanted.portals):
        situations.append("router")
    try:
        done.changes += sysctls.put(places.sysctls, link.name, own, situations, others)
    except OSError as error:
        # in a container /proc/sys may be read-only; the NIC is used as it is
        done.warn(f"writing {error.filename}: {error.strerror}")


def _need_carrier(kernel: Kernel, link: Link, *, is_fresh: bool) -> None:
    # a machine full of containers has a thousand links: they are listed again only where something changed
    now: Link | None = link
    if not is_fresh:
        now = next((one for one in kernel.links() if one.ifindex == link.ifindex), None)
    if now is None or not now.has_carrier:
        raise NotYetError(
            "carrier",
            f"waiting for the carrier of {link.name} ({link.mac})",
            "none after {seconds} s",
            "check cable, switch port and spanning tree; rd.isboot.param=carrier_timeout_ms sets the time",
        )


def _with_router(kernel: Kernel, wanted: Wanted, link: Link, done: Done) -> NicConfig:
    """
    Give the NIC with the router that advertises itself, where a portal needs one and the table names none.

    Neither DHCPv6 nor a SLAAC-derived address brings a gateway along: it comes by router advertisement only.
    One that was used stays until another one advertises itself in its place.

    :raises NotYetError: no router has advertised itself yet
    """
    nic = wanted.nic
    if not needs_router(nic, wanted.portals):
        return nic
    routes = [route for route in kernel.routes(6, link.ifindex) if route.gateway is not None]
    ours = DEFAULT_ROUTE_METRIC + nic.index
    advertised = [one.gateway for one in routes if not one.destination.prefixlen and one.metric != ours]
    used = [one.gateway for one in routes if str(one.destination[0]) in {p.host for p in wanted.portals}]
    for router in (*used, done.router):
        if router is not None and (router in advertised or not advertised):
            break
    else:
        router = advertised[0] if advertised else None
    if router is None:
        raise NotYetError(
            "router",
            f"waiting for a router on {link.name} ({link.mac})",
            "no advertisement after {seconds} s",
            "the table names no gateway, the target is not on the link: does the router send advertisements?",
        )
    done.router = router
    return replace(nic, gateway=router)


def _put_routes(kernel: Kernel, link: Link, routes: Sequence[PlannedRoute], done: Done) -> None:
    for route, is_onlink, is_beside in routes:
        if route in kernel.routes(route.destination.version, link.ifindex):
            continue
        to = f"route to {route.destination}" + (f" via {route.gateway}" if route.gateway else "")
        try:
            kernel.put_route(route, is_onlink=is_onlink, is_beside=is_beside)
        except OSError as error:
            raise NetworkError(
                f"adding the {to} on {link.name}: {error.strerror}",
                hint="do address, prefix and gateway of the NIC fit together? see isboot ibft",
                exit_status=ExitStatus.NOT_PERMITTED if error.errno == errno.EPERM else ExitStatus.FAILED,
            ) from error
        done.changes.append(to)
