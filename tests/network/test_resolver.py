"""Name servers of the table, beside those of others."""

from ipaddress import ip_address
from pathlib import Path

from isboot.network import resolver
from isboot.values import NicConfig

MAC = "52:54:00:12:34:56"


def hand_over(run: Path, *servers: str) -> int:
    dns = tuple(ip_address(server) for server in servers)
    return resolver.hand_over(run, NicConfig(0, MAC, None, None, None, dns, 0, "", "dhcp"), MAC, "eth0")


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def test_both_resolvers_find_the_servers_in_order(tmp_path: Path) -> None:
    assert hand_over(tmp_path, "192.0.2.53", "2001:db8::53") == 2
    resolved = tmp_path / "systemd/resolved.conf.d/50-isboot-525400123456.conf"
    assert lines(resolved) == ["[Resolve]", "DNS=192.0.2.53 2001:db8::53"]
    record = tmp_path / "resolvconf/interface/eth0.isboot"
    assert lines(record) == ["nameserver 192.0.2.53", "nameserver 2001:db8::53"]


def test_link_local_server_is_given_with_its_nic(tmp_path: Path) -> None:
    hand_over(tmp_path, "fe80::53")
    assert lines(tmp_path / "resolvconf/interface/eth0.isboot") == ["nameserver fe80::53%eth0"]


def test_records_of_others_stay(tmp_path: Path) -> None:
    other = tmp_path / "resolvconf/interface/eth0.dhcp"
    other.parent.mkdir(parents=True)
    other.write_text("nameserver 203.0.113.1\n")
    hand_over(tmp_path, "192.0.2.53")
    assert other.read_text() == "nameserver 203.0.113.1\n"


def test_second_run_and_a_table_without_servers_write_nothing(tmp_path: Path) -> None:
    assert hand_over(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []
    hand_over(tmp_path, "192.0.2.53")
    assert hand_over(tmp_path, "192.0.2.53") == 0
