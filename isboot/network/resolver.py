"""
The table's name servers, handed to the host: a record of our own beside those of others, none overwritten.

/run survives switch_root; a resolver that starts there finds the record.  isboot itself asks nobody: portals
are addresses by then.  A host that has neither keeps its own /etc/resolv.conf as it is.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path
from typing import NamedTuple

from isboot.network.dropins import HEADER, put_file
from isboot.values import NicConfig


class Record(NamedTuple):
    """
    One file.

    :param path: below /run; {id} is the MAC without colons, {name} the interface
    :param line: once with {servers}, or once for each {server}
    """

    path: str
    heading: str
    line: str
    source: str


RECORDS = (
    # Servers of several files add up. A link's own cannot be given to resolved but by the link's manager.
    Record(
        "systemd/resolved.conf.d/50-isboot-{id}.conf", "[Resolve]\n", "DNS={servers}\n", "resolved.conf(5)"
    ),
    Record("resolvconf/interface/{name}.isboot", "", "nameserver {server}\n", "resolvconf(8)"),
)


def hand_over(run: Path, nic: NicConfig, mac: str, name: str) -> int:
    """
    Write the name servers of a NIC where the host's resolver finds them.

    :param run: /run
    :param mac: of the hardware
    :param name: the interface that has the address
    :return: how many files were written
    :raises NetworkError: a file cannot be written
    """
    servers = []
    for server in nic.dns:
        zone = f"%{name}" if isinstance(server, IPv6Address) and server.is_link_local else ""
        servers.append(f"{server}{zone}")
    if not servers:
        return 0
    written = 0
    for record in RECORDS:
        path = run / record.path.format(id=mac.replace(":", ""), name=name)
        if "{servers}" in record.line:
            lines = record.line.format(servers=" ".join(servers))
        else:
            lines = "".join(record.line.format(server=server) for server in servers)
        written += put_file(path, HEADER + record.heading + lines)
    return written
