"""Which routes a NIC needs, from the table's words alone."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from isboot.network.plan import DEFAULT_ROUTE_METRIC, PlannedRoute, needs_router, plan_routes
from isboot.network.rtnetlink import Route
from isboot.values import NicConfig, Portal

IFINDEX = 7


def make_nic(address: str | None, gateway: str | None = None, index: int = 0) -> NicConfig:
    return NicConfig(
        index=index,
        mac="52:54:00:00:00:01",
        pci=None,
        address=ip_interface(address) if address else None,
        gateway=ip_address(gateway) if gateway else None,
        dns=(),
        vlan=0,
        hostname="",
        origin="manual",
    )


def plan(nic: NicConfig, *hosts: str) -> list[tuple[str, str | None, int, bool]]:
    """Give (destination, gateway, metric, onlink) of every route; the source is the NIC's address always."""
    planned = [
        one for one in plan_routes(nic, [Portal(host) for host in hosts], IFINDEX) if not one.is_beside
    ]
    assert all(one.route.ifindex == IFINDEX and one.route.source == nic.address.ip for one in planned)
    return [(str(r.destination), r.gateway and str(r.gateway), r.metric, onlink) for r, onlink, _ in planned]


def own_networks(nic: NicConfig, *hosts: str) -> list[tuple[str, str | None, int]]:
    """Give (destination, source, metric) of the routes that come with addresses."""
    planned = [
        one.route for one in plan_routes(nic, [Portal(host) for host in hosts], IFINDEX) if one.is_beside
    ]
    return [(str(r.destination), r.source and str(r.source), r.metric) for r in planned]


def test_own_network_is_routed_as_the_kernel_does() -> None:
    assert own_networks(make_nic("192.0.2.15/24")) == [("192.0.2.0/24", "192.0.2.15", 0)]
    assert own_networks(make_nic("2001:db8::15/64")) == [("2001:db8::/64", None, 256)]
    assert own_networks(make_nic("192.0.2.15/32")) == own_networks(make_nic("2001:db8::15/128")) == []


def test_link_local_network_is_routed_where_something_of_it_is_needed() -> None:
    link_local = ("fe80::/64", None, 256)
    assert link_local in own_networks(make_nic("2001:db8::15/64"), "fe80::9")
    assert link_local in own_networks(make_nic("2001:db8::15/64", "fe80::1"))
    assert own_networks(make_nic("fe80::15/64"), "fe80::9") == [link_local]


@pytest.mark.parametrize(
    ("address", "gateway", "host", "expected"),
    [
        ("2001:db8::15/64", None, "2001:db8:1::9", True),
        ("2001:db8::15/64", "fe80::1", "2001:db8:1::9", False),
        ("2001:db8::15/64", None, "2001:db8::9", False),
        ("2001:db8::15/64", None, "fe80::9", False),
        ("192.0.2.15/24", None, "198.51.100.9", False),  # reached by proxy ARP, if at all
        ("192.0.2.15/24", None, "2001:db8:1::9", False),
    ],
)
def test_router_is_needed_for_what_is_not_on_the_link(
    address: str, gateway: str | None, host: str, expected: bool
) -> None:
    assert needs_router(make_nic(address, gateway), [Portal(host)]) is expected


def test_portal_on_the_subnet_gets_a_host_route_without_gateway() -> None:
    assert plan(make_nic("192.0.2.15/24"), "192.0.2.9") == [("192.0.2.9/32", None, 0, False)]


def test_portal_off_the_subnet_gets_a_host_route_through_the_gateway() -> None:
    assert plan(make_nic("192.0.2.15/24", "192.0.2.1"), "198.51.100.9") == [
        ("198.51.100.9/32", "192.0.2.1", 0, False),
        ("0.0.0.0/0", "192.0.2.1", DEFAULT_ROUTE_METRIC, False),
    ]


def test_portal_that_is_the_gateway_is_reached_directly() -> None:
    # With a /32 address the gateway is off the subnet: a route to it through itself would be refused.
    assert plan(make_nic("192.0.2.15/32", "192.0.2.1"), "192.0.2.1") == [
        ("192.0.2.1/32", None, 0, False),
        ("0.0.0.0/0", "192.0.2.1", DEFAULT_ROUTE_METRIC, True),
    ]


def test_gateway_off_the_subnet_is_marked_as_neighbour() -> None:
    assert plan(make_nic("192.0.2.15/32", "192.0.2.1"), "198.51.100.9")[0] == (
        "198.51.100.9/32",
        "192.0.2.1",
        0,
        True,
    )


def test_link_local_gateway_needs_no_such_mark() -> None:
    assert plan(make_nic("2001:db8::15/64", "fe80::1"), "2001:db8:1::9") == [
        ("2001:db8:1::9/128", "fe80::1", 1024, False),
        ("::/0", "fe80::1", DEFAULT_ROUTE_METRIC, False),
    ]


def test_no_gateway_means_no_default_route() -> None:
    assert plan(make_nic("192.0.2.15/24"), "198.51.100.9") == [("198.51.100.9/32", None, 0, False)]


def test_second_nic_has_metrics_of_its_own() -> None:
    assert plan(make_nic("192.0.2.16/24", "192.0.2.1", index=1), "192.0.2.9") == [
        ("192.0.2.9/32", None, 1, False),
        ("0.0.0.0/0", "192.0.2.1", DEFAULT_ROUTE_METRIC + 1, False),
    ]


def test_two_portals_on_one_host_share_a_route() -> None:
    nic = make_nic("192.0.2.15/24")
    planned = plan_routes(nic, [Portal("192.0.2.9", 3260), Portal("192.0.2.9", 3261)], IFINDEX)
    source = ip_address("192.0.2.15")
    assert planned[1:] == (PlannedRoute(Route(ip_network("192.0.2.9/32"), IFINDEX, None, source, 0), False),)


@pytest.mark.parametrize("host", ["storage.example", "2001:db8::9", "192.0.2.15", "127.0.0.1"])
def test_host_that_needs_no_route_gets_none(host: str) -> None:
    # a name, another family, the NIC itself, loopback
    assert plan(make_nic("192.0.2.15/24"), host) == []


@pytest.mark.parametrize("host", ["fe80::9", "fe80::9%eth0"])
def test_link_local_portal_gets_no_route(host: str) -> None:
    assert plan(make_nic("2001:db8::15/64"), host) == []


def test_gateway_of_another_family_is_not_used() -> None:
    assert plan(make_nic("192.0.2.15/24", "2001:db8::1"), "198.51.100.9") == [
        ("198.51.100.9/32", None, 0, False)
    ]


def test_nic_without_an_address_gets_no_routes() -> None:
    assert plan_routes(make_nic(None, "192.0.2.1"), [Portal("192.0.2.9")], IFINDEX) == ()
