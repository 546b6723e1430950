"""isboot discover PORTAL: which targets are there, and where they listen."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from isboot.errors import ExitStatus

NAME = "discover"
HELP = "the targets a portal knows (SendTargets)"
EXAMPLE = "isboot discover 192.0.2.1"
CONNECT_TIMEOUT_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("portal", metavar="PORTAL", help="HOST[:PORT]; IPv6 addresses in brackets")
    parser.add_argument(
        "--chap-file", type=Path, metavar="F", help="TOML, mode 0600: name, secret, reverse_..."
    )
    parser.add_argument("--initiator", metavar="NAME", help="initiator name (default: this machine's)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(arguments: argparse.Namespace) -> ExitStatus:
    import socket

    from isboot.config import initiator
    from isboot.config.credentials import read_chap_file
    from isboot.config.url import parse_portal
    from isboot.network.connect import connect
    from isboot.session import connection, discovery, isid
    from isboot.session.discovery import DiscoveredTarget
    from isboot.values import Policy, Portal

    portal = parse_portal(arguments.portal)
    credentials = read_chap_file(arguments.chap_file) if arguments.chap_file else None
    name = initiator.default_name() if arguments.initiator is None else arguments.initiator
    name = initiator.checked_name(name, "taking the initiator name")

    def use(sock: socket.socket, where: Portal) -> tuple[DiscoveredTarget, ...]:
        with sock:
            return discovery.discover(sock, where, name, Policy(), isid.of_command(name), credentials)

    targets = connection.follow(portal, lambda where: connect(where, timeout_s=CONNECT_TIMEOUT_S), use)
    if arguments.json:
        document = [
            {
                "name": target.name,
                "portals": [{"portal": str(p.portal), "group_tag": p.group_tag} for p in target.portals],
            }
            for target in targets
        ]
        print(json.dumps(document, indent=1))
    elif not targets:
        print("no target")
    for target in targets if not arguments.json else ():
        for place in target.portals:
            tag = "" if place.group_tag is None else f",{place.group_tag}"
            print(f"{place.portal}{tag} {target.name}")
    return ExitStatus.FINE
