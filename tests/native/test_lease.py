"""
An address and a root-path by DHCP: our NIC v0 wired to a machine with dnsmasq, both in network namespaces.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from isboot import boot
from isboot.config import cmdline
from isboot.errors import ConfigError, ExitStatus, NetworkError
from isboot.network import lease
from isboot.network.bringup import configure
from isboot.values import BootConfig, NicConfig, PathConfig, Policy, Portal
from tests.native.namespaces import MAC, Namespace, ip, make_veth, two_machines

pytestmark = [
    pytest.mark.native,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces: run as root"),
    pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="needs dnsmasq: apt install dnsmasq-base"),
    pytest.mark.skipif(not os.access(lease.BUSYBOX, os.X_OK), reason="needs udhcpc: apt install busybox"),
]

ROOT_PATH = "iscsi:192.0.2.9:::1:iqn.2009-06.dracut:target0"
ANY = NicConfig(0, "", None, None, None, (), 0, "", "dhcp")


@pytest.fixture
def other_machine() -> Iterator[Namespace]:
    with two_machines() as other:
        yield other


@contextmanager
def serving(machine: Namespace, directory: Path, *options: str, interface: str = "v1") -> Iterator[Path]:
    """Have dnsmasq give 192.0.2.50 on an interface of the other machine; gives its log, one line an event."""
    log, pid = directory / "dnsmasq.log", directory / "dnsmasq.pid"
    with machine.entered():
        subprocess.run(
            [
                "dnsmasq", "--conf-file=/dev/null", "--port=0", f"--interface={interface}",
                "--bind-interfaces", "--dhcp-range=192.0.2.50,192.0.2.50,255.255.255.0,2m",
                "--dhcp-authoritative", "--no-ping", "--leasefile-ro", "--user=root", f"--pid-file={pid}",
                f"--log-facility={log}", *options,
            ],
            check=True,
        )  # fmt: skip
    try:
        yield log
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def obtain(nic: NicConfig = ANY, *, needs_root_path: bool = True, timeout_s: float = 10) -> lease.Lease:
    said: list[str] = []
    return lease.obtain(
        nic, needs_root_path=needs_root_path, timeout_s=timeout_s, carrier_timeout_s=5, say=said.append
    )


def addresses(name: str) -> list[Any]:
    return [
        one for one in ip("-j", "address", "show", "dev", name)[0]["addr_info"] if one["family"] == "inet"
    ]


def until(is_true: Callable[[], bool], again: Callable[[], None] = lambda: None, seconds: float = 20) -> None:
    """Wait for something, and do something `again` twice a second."""
    began = time.monotonic()
    done = 0
    while not is_true():
        now = time.monotonic() - began
        assert now < seconds
        if int(now * 2) >= done:
            done += 1
            again()
        time.sleep(0.02)


def test_a_lease_gives_address_routes_names_and_the_root_path(
    other_machine: Namespace, tmp_path: Path
) -> None:
    options = [
        f"--dhcp-option=17,{ROOT_PATH}",
        "--dhcp-option=6,192.0.2.53,192.0.2.54",
        "--dhcp-option=26,1400",
        f"--dhcp-host={MAC},192.0.2.50,diskless",
    ]
    with serving(other_machine, tmp_path, *options):
        got = obtain()
    assert (got.interface, got.root_path, got.mtu_bytes, got.server) == ("v0", ROOT_PATH, 1400, "192.0.2.1")
    nic = got.configured
    assert (nic.mac, nic.address, nic.gateway) == (
        MAC, ip_interface("192.0.2.50/24"), ip_address("192.0.2.1"),
    )  # fmt: skip
    assert (nic.dns, nic.hostname) == ((ip_address("192.0.2.53"), ip_address("192.0.2.54")), "diskless")
    # udhcpc has changed nothing: the address is put like any other, without an end
    assert addresses("v0") == []


def test_classless_routes_take_the_place_of_the_router(other_machine: Namespace, tmp_path: Path) -> None:
    with serving(
        other_machine, tmp_path, "--dhcp-option=121,0.0.0.0/0,192.0.2.3", "--dhcp-option=3,192.0.2.1"
    ):
        assert obtain(needs_root_path=False).gateway == ip_address("192.0.2.3")


def test_a_boot_without_a_table_gets_nic_and_path_by_dhcp(other_machine: Namespace, tmp_path: Path) -> None:
    options = cmdline.parse("netroot=dhcp rd.iscsi.initiator=iqn.2001-04.com.example:me")
    with serving(other_machine, tmp_path, f"--dhcp-option=17,{ROOT_PATH}", "--dhcp-option=26,1400"):
        config, (got,) = boot.lease(boot.configure([], options), options, print)
        states = boot.bring_up(config, print)
    (path,) = boot.resolve(config, states).paths
    assert (str(path.portal), path.target_name, path.lun.hex()) == (
        "192.0.2.9:3260", "iqn.2009-06.dracut:target0", "0001000000000000",
    )  # fmt: skip
    assert path.nic == got.configured
    assert config.policy.mtu_bytes == 1400
    (address,) = addresses("v0")
    assert (address["local"], address["valid_life_time"]) == ("192.0.2.50", 0xFFFFFFFF)


def test_a_server_without_a_root_path_is_passed_over(other_machine: Namespace, tmp_path: Path) -> None:
    make_veth(other_machine, "a0", "a1", "52:54:00:12:34:57")
    with other_machine.entered():
        ip("link", "set", "a1", "up")
        ip("address", "add", "192.0.2.1/24", "dev", "a1")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with (
        serving(other_machine, first, interface="v1"),
        serving(other_machine, second, f"--dhcp-option=17,{ROOT_PATH}", interface="a1"),
    ):
        got = obtain()
    assert (got.interface, got.root_path) == ("a0", ROOT_PATH)


def test_no_root_path_at_all_ends_the_boot_with_what_to_do(other_machine: Namespace, tmp_path: Path) -> None:
    options = cmdline.parse("root=dhcp rd.iscsi.initiator=iqn.2001-04.com.example:me")
    with (
        serving(other_machine, tmp_path),
        pytest.raises(ConfigError, match="the server gives none") as caught,
    ):
        boot.lease(boot.configure([], options), options, print)
    assert caught.value.exit_status == ExitStatus.NOTHING_THERE
    assert "option 17" in caught.value.hint


def test_silence_is_told_and_worth_another_try(other_machine: Namespace) -> None:
    began = time.monotonic()
    with pytest.raises(NetworkError, match="asking for an address by DHCP on v0: no answer") as caught:
        lease.obtain(
            replace(ANY, mac=MAC), needs_root_path=False, timeout_s=1, carrier_timeout_s=1, say=lambda _: None
        )
    assert caught.value.exit_status == ExitStatus.TRY_AGAIN
    assert time.monotonic() - began < 10


def test_a_client_that_fails_is_told_in_its_words(other_machine: Namespace) -> None:
    with pytest.raises(NetworkError, match=r"by DHCP on gone0: .*No such device") as caught:
        lease._ask(ANY, "gone0", 6)
    assert caught.value.exit_status == ExitStatus.TRY_AGAIN


def test_no_cable_is_told(other_machine: Namespace) -> None:
    with other_machine.entered():
        ip("link", "set", "v1", "down")
    with pytest.raises(NetworkError, match=r"waiting for the carrier of a NIC to ask by DHCP \(v0\)"):
        lease.obtain(ANY, needs_root_path=False, timeout_s=5, carrier_timeout_s=0.3, say=lambda _: None)


def test_a_lease_is_renewed_by_a_process_that_systemd_spares(
    other_machine: Namespace, tmp_path: Path
) -> None:
    with serving(other_machine, tmp_path) as log:
        got = obtain(needs_root_path=False)
        configure(got.configured, (), carrier_timeout_s=5, dropins_root=None)
        before = log.read_text().count("DHCPACK")
        keeper = lease.keep(got)
        try:
            until(lambda: log.read_text().count("DHCPACK") > before)
            assert Path(f"/proc/{keeper.pid}/cmdline").read_bytes().startswith(b"@")
            # udhcpc: renew now; one that comes while its script runs is lost
            until(
                lambda: log.read_text().count("DHCPACK") > before + 1,
                again=lambda: keeper.send_signal(signal.SIGUSR1),
            )
            assert keeper.poll() is None
            (address,) = addresses("v0")
            assert (address["local"], address["valid_life_time"]) == ("192.0.2.50", 0xFFFFFFFF)
        finally:
            keeper.terminate()
            keeper.wait()


def test_a_table_whose_nic_lacks_its_dhcp_address_gets_one(other_machine: Namespace, tmp_path: Path) -> None:
    nic = replace(ANY, mac=MAC)
    config = BootConfig("iBFT (acpi)", "iqn.2001-04.com.example:me", (nic,), (), Policy(), is_boot=True)
    path = PathConfig(0, nic, Portal("192.0.2.9"), "iqn.2009-06.dracut:target0", bytes(8), None)
    with serving(other_machine, tmp_path):
        config, _ = boot.lease(replace(config, paths=(path,)), cmdline.KernelOptions(), print)
    assert config.paths[0].nic == config.nics[0]
    assert config.nics[0].address == ip_interface("192.0.2.50/24")
