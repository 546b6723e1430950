"""Finding the NIC and bringing it up, against a kernel made of lists."""

import errno
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from isboot.errors import ExitStatus, NetworkError
from isboot.network.find import Hardware, find_nic, read_hardware
from isboot.network.kernel import Wanted
from isboot.network.rtnetlink import (
    IFA_F_DADFAILED,
    IFA_F_PERMANENT,
    IFA_F_TENTATIVE,
    IFF_LOWER_UP,
    IFF_RUNNING,
    IFF_UP,
    Address,
    Link,
)
from isboot.values import NicConfig, NicState
from tests.network.kernels import (
    CARRIER,
    MAC,
    NOWHERE,
    FakeKernel,
    make_link,
    make_nic,
    places,
    run,
    run_all,
)

# --- finding it


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ([make_link(2, "eth0", "52:54:00:00:00:09"), make_link(3, "eth1")], "eth1"),
        ([make_link(2, "eth0", "52:54:00:00:00:09")], None),
        # found by the hardware's own address although somebody changed the current one
        ([make_link(2, "eth0", "52:54:00:00:00:09", permanent_mac=MAC)], "eth0"),
        # of two, the one whose own address it is
        ([make_link(2, "eth0", permanent_mac="52:54:00:00:00:09"), make_link(3, "eth1")], "eth1"),
        # what stands upon the NIC borrows its MAC
        (
            [make_link(2, "br0", kind="bridge"), make_link(3, "eth0.5", kind="vlan"), make_link(4, "eth0")],
            "eth0",
        ),
        ([make_link(2, "bond0", kind="bond")], None),
        # no Ethernet
        ([make_link(2, "ib0", hardware_type=32)], None),
        # a failover pair: the master is the one to use
        ([make_link(2, "ens3nsby", master=4), make_link(3, "ens4", master=4), make_link(4, "ens3")], "ens3"),
        # a NIC that is a port of something else comes after one that is not
        ([make_link(2, "eth0", master=9), make_link(3, "eth1")], "eth1"),
        ([make_link(2, "eth0", master=9)], "eth0"),
    ],
)
def test_nic_is_found_by_mac(links: list[Link], expected: str | None) -> None:
    found = find_nic(links, make_nic(), Path("/nonexistent"))
    assert (found.name if found else None) == expected


def test_mac_in_capitals_is_found() -> None:
    nic = NicConfig(0, MAC.upper(), None, None, None, (), 0, "", "manual")
    assert find_nic([make_link(2, "eth0", "52:54:00:12:34:56")], nic, NOWHERE) is not None


def make_sysfs(root: Path, name: str, *device: str, driver: str = "e1000") -> None:
    """Lay out what /sys/class/net/NAME/device and its driver link look like."""
    path = root.joinpath("devices", *device)
    path.mkdir(parents=True)
    (root / "drivers" / driver).mkdir(parents=True, exist_ok=True)
    (path / "driver").symlink_to(root / "drivers" / driver)
    (root / "net" / name).mkdir(parents=True)
    (root / "net" / name / "device").symlink_to(path)


def test_pci_address_breaks_a_tie(tmp_path: Path) -> None:
    make_sysfs(tmp_path, "eth0", "pci0000:00", "0000:00:03.0")
    make_sysfs(tmp_path, "eth1", "pci0000:00", "0000:00:04.0")
    links = [make_link(2, "eth0"), make_link(3, "eth1")]
    found = find_nic(links, make_nic(pci="00:04.0"), tmp_path / "net")
    assert found is not None
    assert found.name == "eth1"


def test_port_of_a_failover_pair_is_not_used_although_it_has_the_pci_address(tmp_path: Path) -> None:
    make_sysfs(tmp_path, "ens3nsby", "pci0000:00", "0000:00:03.0", "virtio0")
    links = [make_link(2, "ens3nsby", master=3), make_link(3, "ens3")]
    found = find_nic(links, make_nic(pci="00:03.0"), tmp_path / "net")
    assert found is not None
    assert found.name == "ens3"


def test_wrong_pci_address_does_not_outweigh_the_mac(tmp_path: Path) -> None:
    make_sysfs(tmp_path, "eth0", "pci0000:00", "0000:00:03.0")
    assert find_nic([make_link(2, "eth0")], make_nic(pci="00:04.0"), tmp_path / "net") is not None


def test_virtio_nic_has_the_address_of_its_pci_device(tmp_path: Path) -> None:
    make_sysfs(tmp_path, "eth0", "pci0000:00", "0000:00:03.0", "virtio0", driver="virtio_net")
    assert read_hardware("eth0", tmp_path / "net") == Hardware("virtio_net", "0000:00:03.0")


def test_nic_without_a_device_has_neither(tmp_path: Path) -> None:
    assert read_hardware("eth0", tmp_path) == Hardware("", "")


def test_missing_nic_is_told_with_those_present(tmp_path: Path) -> None:
    make_sysfs(tmp_path, "eth0", "pci0000:00", "0000:00:03.0")
    kernel = FakeKernel(
        make_link(2, "eth0", "52:54:00:00:00:01"), make_link(3, "v0", "52:54:00:00:00:02", kind="veth")
    )
    _, (fault,) = run_all(kernel, Wanted(make_nic(pci="00:05.0")), where=places(sysfs_net=tmp_path / "net"))
    assert fault.message == (
        f"looking for the NIC with MAC {MAC} at PCI 00:05.0: none after 10 s; "
        "present: eth0 52:54:00:00:00:01 (e1000), v0 52:54:00:00:00:02 (veth)"
    )
    assert fault.exit_status is ExitStatus.NOTHING_THERE


def test_machine_without_any_nic_is_told_so() -> None:
    with pytest.raises(NetworkError, match=r"present: none$"):
        run(FakeKernel(make_link(1, "lo", "00:00:00:00:00:00", hardware_type=772)), make_nic())


def test_nic_that_appears_later_is_waited_for() -> None:
    def probe(kernel: FakeKernel) -> None:
        kernel.present[2] = make_link(2, "eth0")

    assert run(FakeKernel(events=[probe]), make_nic()).name == "eth0"


# --- bringing it up


def test_everything_is_put_in_place_and_counted(tmp_path: Path) -> None:
    def plug(kernel: FakeKernel) -> None:
        kernel.present[2] = make_link(2, "eth0")

    kernel = FakeKernel(make_link(2, "eth0", flags=0), events=[plug])
    state = run(kernel, make_nic(), "192.0.2.9", "198.51.100.9", root=tmp_path)
    steps = ["up", "put 192.0.2.15/24", "route 192.0.2.9/32", "route 198.51.100.9/32", "route 0.0.0.0/0"]
    assert kernel.log == steps
    written = sum(path.is_file() for path in tmp_path.rglob("*"))
    assert state == NicState(MAC, "eth0", 2, "", ip_interface("192.0.2.15/24"), changes=len(steps) + written)


def test_second_run_makes_no_change(tmp_path: Path) -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    run(kernel, make_nic(), "192.0.2.9", root=tmp_path)
    kernel.log.clear()
    assert run(kernel, make_nic(), "192.0.2.9", root=tmp_path).changes == 0
    assert kernel.log == []


@pytest.mark.parametrize("half", [0, IFF_RUNNING, IFF_LOWER_UP], ids=["neither", "RUNNING", "LOWER_UP"])
def test_no_carrier_is_told_with_the_time_waited(half: int) -> None:
    kernel = FakeKernel(make_link(2, "eth0", flags=IFF_UP | half))
    with pytest.raises(NetworkError) as caught:
        run(kernel, make_nic())
    assert caught.value.message == f"waiting for the carrier of eth0 ({MAC}): none after 30 s"
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_nic_that_vanishes_while_waiting_is_looked_for_again() -> None:
    kernel = FakeKernel(make_link(2, "eth0", flags=IFF_UP), events=[lambda kernel: kernel.present.clear()])
    with pytest.raises(NetworkError, match=r"looking for the NIC .*: none after 10 s"):
        run(kernel, make_nic())


def test_leased_address_is_made_permanent() -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    kernel.addresses_present = [Address(2, ip_interface("192.0.2.15/24"), 0)]
    run(kernel, make_nic())
    assert "put 192.0.2.15/24" in kernel.log


@pytest.mark.parametrize(
    ("wanted", "present", "steps"),
    [
        # IPv4: the new one first, else the routes from this address go; IPv6 cannot hold both
        ("192.0.2.15/24", "192.0.2.15/16", ["put 192.0.2.15/24", "remove 192.0.2.15/16"]),
        ("2001:db8::15/64", "2001:db8::15/128", ["remove 2001:db8::15/128", "put 2001:db8::15/64"]),
    ],
)
def test_same_address_with_another_prefix_gives_way(wanted: str, present: str, steps: list[str]) -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    kernel.addresses_present = [Address(2, ip_interface(present), IFA_F_PERMANENT)]
    run(kernel, make_nic(wanted))
    assert kernel.log[: len(steps)] == steps


def test_addresses_of_others_stay() -> None:
    others = [Address(2, ip_interface("203.0.113.5/24"), 0), Address(3, ip_interface("192.0.2.15/16"), 0)]
    kernel = FakeKernel(make_link(2, "eth0"))
    kernel.addresses_present = list(others)
    run(kernel, make_nic())
    assert set(others) < set(kernel.addresses_present)


def test_tentative_address_is_waited_for() -> None:
    address = Address(2, ip_interface("2001:db8::15/64"), IFA_F_PERMANENT | IFA_F_TENTATIVE)

    def settle(kernel: FakeKernel) -> None:
        kernel.addresses_present = [address._replace(flags=IFA_F_PERMANENT)]

    kernel = FakeKernel(make_link(2, "eth0"), events=[settle])
    kernel.addresses_present = [address]
    run(kernel, make_nic("2001:db8::15/64"))
    assert kernel.log == ["route 2001:db8::/64"]
    assert kernel.events == []


def test_address_in_use_elsewhere_is_told() -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    flags = IFA_F_PERMANENT | IFA_F_TENTATIVE
    kernel.addresses_present = [Address(2, ip_interface("2001:db8::15/64"), flags)]
    with pytest.raises(NetworkError, match="stays tentative") as caught:
        run(kernel, make_nic("2001:db8::15/64"))
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_duplicate_is_told_at_once() -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    flags = IFA_F_PERMANENT | IFA_F_TENTATIVE | IFA_F_DADFAILED
    kernel.addresses_present = [Address(2, ip_interface("2001:db8::15/64"), flags)]
    with pytest.raises(NetworkError, match="another machine has it") as caught:
        run(kernel, make_nic("2001:db8::15/64"))
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    assert kernel.now == 100.0


def test_nic_without_an_address_is_left_to_the_managers(tmp_path: Path) -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    assert run(kernel, make_nic(None), "192.0.2.9", root=tmp_path).changes == 0
    assert list(tmp_path.iterdir()) == []


def test_refused_route_names_route_and_reason() -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    kernel.refuses["route 0.0.0.0/0"] = OSError(errno.ENETUNREACH, "Network is unreachable (Nexthop invalid)")
    with pytest.raises(NetworkError) as caught:
        run(kernel, make_nic())
    assert caught.value.message == (
        "adding the route to 0.0.0.0/0 via 192.0.2.1 on eth0: Network is unreachable (Nexthop invalid)"
    )


# --- VLAN


def plug_vlan(kernel: FakeKernel) -> None:
    kernel.present[99] = kernel.present[99]._replace(flags=IFF_UP | CARRIER)


@pytest.mark.parametrize(
    ("lower", "name"),
    [("eth0", "eth0.5"), ("enx525400123456", "isboot.5")],  # a name has 15 characters at most
)
def test_vlan_is_made_and_carries_the_address(lower: str, name: str) -> None:
    kernel = FakeKernel(make_link(2, lower), events=[plug_vlan])
    state = run(kernel, make_nic(vlan=5))
    assert (state.name, state.ifindex) == (name, 99)
    assert kernel.log[:2] == ["vlan", "up"]
    assert [address.ifindex for address in kernel.addresses_present] == [99]
    assert run(kernel, make_nic(vlan=5)).changes == 0


def test_kernel_without_vlans_is_told() -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    kernel.refuses["vlan"] = OSError(errno.EOPNOTSUPP, "Operation not supported (Unknown device type)")
    with pytest.raises(NetworkError, match="adding VLAN 5 to eth0: Operation not supported") as caught:
        run(kernel, make_nic(vlan=5))
    assert caught.value.exit_status is ExitStatus.UNAVAILABLE
    assert "8021q" in caught.value.hint


def test_vlan_beside_a_link_of_its_name_gets_one_of_ours() -> None:
    kernel = FakeKernel(make_link(2, "eth0"), make_link(3, "eth0.5", kind="dummy"), events=[plug_vlan])
    assert run(kernel, make_nic(vlan=5)).name == "isboot.5"


def test_vlan_of_any_name_is_taken_as_it_is() -> None:
    storage = make_link(7, "storage", kind="vlan", lower=2, vlan=5)
    assert run(FakeKernel(make_link(2, "eth0"), storage), make_nic(vlan=5)).name == "storage"


def test_name_servers_are_handed_over_before_the_cable_is_there(tmp_path: Path) -> None:
    nic = replace(make_nic(vlan=5), dns=(ip_address("192.0.2.53"),))
    with pytest.raises(NetworkError, match="carrier"):
        run(FakeKernel(make_link(2, "eth0", flags=IFF_UP)), nic, root=tmp_path)
    assert (tmp_path / "systemd/resolved.conf.d/50-isboot-525400123456.conf").exists()
    assert (tmp_path / "resolvconf/interface/eth0.5.isboot").exists()


# --- MTU


def test_mtu_is_set_before_the_link_is_up() -> None:
    kernel = FakeKernel(make_link(2, "eth0", flags=0), events=[lambda kernel: plug(kernel, 2)])
    run(kernel, make_nic(), mtu_bytes=9000)
    assert kernel.log[:2] == ["mtu eth0 9000", "up"]
    kernel.log.clear()
    assert run(kernel, make_nic(), mtu_bytes=9000).changes == 0


def test_vlan_and_its_nic_get_the_same_mtu() -> None:
    kernel = FakeKernel(make_link(2, "eth0"), events=[plug_vlan])
    run(kernel, make_nic(vlan=5), mtu_bytes=9000)
    assert [step for step in kernel.log if step.startswith("mtu")] == ["mtu eth0 9000"]
    assert kernel.present[99].mtu == 9000
    # made earlier, with the MTU of then: the NIC first, it cannot be less than its VLAN's
    kernel = FakeKernel(make_link(2, "eth0"), make_link(9, "eth0.5", kind="vlan", lower=2, vlan=5))
    run(kernel, make_nic(vlan=5), mtu_bytes=9000)
    assert kernel.log[:2] == ["mtu eth0 9000", "mtu eth0.5 9000"]


@pytest.mark.parametrize(
    ("address", "mtu_bytes", "range_text"),
    [("192.0.2.15/24", 9000, "68 to 1500"), ("2001:db8::15/64", 1000, "1280 to 1500")],
)
def test_mtu_that_does_not_fit_is_refused_with_the_range(
    address: str, mtu_bytes: int, range_text: str
) -> None:
    kernel = FakeKernel(make_link(2, "eth0", max_mtu=1500))
    said: list[str] = []
    states, faults = run_all(kernel, Wanted(make_nic(address), (), mtu_bytes), said=said)
    assert (len(states), faults) == (1, [])  # what only tunes keeps no machine from booting
    assert said == [f"setting the MTU of eth0 to {mtu_bytes}: it takes {range_text} bytes; it stays at 1500"]


# --- others


def plug(kernel: FakeKernel, ifindex: int) -> None:
    kernel.present[ifindex] = kernel.present[ifindex]._replace(flags=IFF_UP | CARRIER)


def test_bridge_that_took_the_nic_lets_it_go() -> None:
    kernel = FakeKernel(make_link(2, "eth0", master=9), make_link(9, "br0", kind="bridge"))
    run(kernel, make_nic())
    assert kernel.log[0] == "release"


def test_nic_is_found_by_its_name_where_no_mac_is_given() -> None:
    nic = NicConfig(0, "", None, ip_interface("192.0.2.15/24"), None, (), 0, "", "manual", name="eth1")
    kernel = FakeKernel(make_link(2, "eth0"), make_link(3, "eth1", "52:54:00:00:00:03"))
    state = run(kernel, nic)
    assert (state.name, state.mac) == ("eth1", "52:54:00:00:00:03")
    with pytest.raises(NetworkError, match="looking for the NIC eth1: none after 10 s; present: eth0"):
        run(FakeKernel(make_link(2, "eth0")), nic)


def test_any_nic_is_one_with_a_cable() -> None:
    nic = NicConfig(0, "", None, None, None, (), 0, "", "dhcp")
    links = [make_link(2, "eth0", flags=IFF_UP), make_link(3, "eth1", "52:54:00:00:00:03")]
    found = find_nic(links, nic, NOWHERE)
    assert found is not None
    assert found.name == "eth1"
