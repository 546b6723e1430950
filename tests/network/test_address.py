"""The link-local address a MAC makes."""

from ipaddress import IPv6Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import NetworkError
from isboot.network.address import link_local
from isboot.network.rtnetlink import IFA_F_DADFAILED, IFA_F_TENTATIVE, Address
from tests.network.kernels import FakeKernel, make_link, make_nic, run

TENTATIVE = Address(2, IPv6Interface("fe80::5054:ff:fe12:3456/64"), IFA_F_TENTATIVE)
NIC = make_nic("2001:db8::15/64")


@given(st.binary(min_size=6, max_size=6))
def test_every_mac_makes_a_link_local_address_that_holds_it(mac: bytes) -> None:
    address = link_local(mac.hex(":"))
    assert address.ip.is_link_local
    low = address.ip.packed[8:]
    assert bytes([low[0] ^ 2]) + low[1:3] + low[5:] == mac
    assert low[3:5] == b"\xff\xfe"


def test_example_of_the_rfc() -> None:
    assert str(link_local("34:56:78:9a:bc:de")) == "fe80::3656:78ff:fe9a:bcde/64"  # RFC 2464 §4


def test_link_local_portal_needs_an_address_of_its_kind() -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    run(kernel, NIC, "fe80::9")
    assert "put fe80::5054:ff:fe12:3456/64" in kernel.log
    kernel.log.clear()
    assert run(kernel, NIC, "fe80::9").changes == 0
    assert [step for step in kernel.log if step.startswith("put fe80")] == []


def test_address_of_the_kernels_own_is_waited_for() -> None:
    def settle(kernel: FakeKernel) -> None:
        kernel.addresses_present[0] = TENTATIVE._replace(flags=0)

    kernel = FakeKernel(make_link(2, "eth0"), events=[settle])
    kernel.addresses_present = [TENTATIVE]
    run(kernel, NIC, "fe80::9")
    assert kernel.events == []
    assert [step for step in kernel.log if step.startswith("put fe80")] == []


def test_link_local_address_of_another_machine_is_told() -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    kernel.addresses_present = [TENTATIVE._replace(flags=IFA_F_TENTATIVE | IFA_F_DADFAILED)]
    with pytest.raises(NetworkError, match="another machine has fe80::5054:ff:fe12:3456"):
        run(kernel, NIC, "fe80::9")


def test_portal_of_another_kind_needs_none() -> None:
    kernel = FakeKernel(make_link(2, "eth0"))
    run(kernel, NIC, "2001:db8::9", "storage.example")
    assert [step for step in kernel.log if step.startswith("put fe80")] == []
