"""isboot inquiry URL|DEV: what a LUN says of itself, or said when its device was made."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from isboot.errors import DaemonError, ExitStatus, UsageError
from isboot.units import format_bytes
from isboot.values import format_lun

if TYPE_CHECKING:
    from isboot.values import LunFacts

NAME = "inquiry"
HELP = "what a LUN says of itself: names, sizes, limits"
EXAMPLE = "isboot inquiry /dev/ublkb0"
WIDTH = 22  #: of the column of labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="URL|DEV", help="iscsi://[CHAPNAME@]HOST[:PORT]/TARGETNAME/LUN, or /dev/ublkb0"
    )
    parser.add_argument(
        "--chap-file", type=Path, metavar="F", help="TOML, mode 0600: name, secret, reverse_..."
    )
    parser.add_argument("--initiator", metavar="NAME", help="initiator name (default: this machine's)")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")


def run(arguments: argparse.Namespace) -> ExitStatus:
    from isboot.session import identity
    from isboot.session.document import to_document

    facts = _ask(arguments) if "://" in arguments.what else _ask_launcher(arguments)
    if arguments.json:
        print(json.dumps(to_document(facts), indent=1))
    else:
        for label, value in describe(facts, identity.weakness(facts)):
            print(f"{label:{WIDTH}}{value}")
    return ExitStatus.FINE


def _ask_launcher(arguments: argparse.Namespace) -> LunFacts:
    """Give what the LUN of a device said when the device was made. No login, the device is not disturbed."""
    if arguments.chap_file or arguments.initiator:
        raise UsageError(f"inquiry of {arguments.what}: --chap-file and --initiator go with a URL only")
    from isboot.daemon import control
    from isboot.session.document import from_document

    try:
        return from_document(control.ask(control.find(arguments.what), "inquiry"))
    except KeyError as error:
        raise DaemonError(
            f"inquiry of {arguments.what}: its launcher says nothing of {error}",
            "it is of another version: attach the device again",
        ) from None


def _ask(arguments: argparse.Namespace) -> LunFacts:
    import sys

    from isboot.config import initiator
    from isboot.config.credentials import read_chap_file
    from isboot.config.url import from_url
    from isboot.session import lun
    from isboot.values import Policy
    from isboot.visit import visit

    config = from_url(
        arguments.what,
        initiator_name=arguments.initiator or initiator.default_name(),
        credentials=read_chap_file(arguments.chap_file) if arguments.chap_file else None,
        policy=Policy(),
    )
    return visit(config, lun.inspect, lambda line: print(f"isboot: {line}", file=sys.stderr))


def describe(facts: LunFacts, weakness: str) -> Iterator[tuple[str, str]]:
    """Give label and value of each line for people; limits that are not named are left out."""
    block = facts.block_size_bytes
    number = format_lun(facts.lun)
    yield "LUN", facts.lun.hex() if number == facts.lun.hex() else f"{facts.lun.hex()}, {number}"
    yield "vendor", facts.vendor
    yield "product", facts.product
    yield "revision", facts.revision
    yield "serial", facts.serial or "none"
    for name in facts.designators or ("none",):
        yield "designator", name
    if weakness:
        yield "identity is weak", weakness
    yield "capacity", f"{facts.capacity_blocks} blocks, {format_bytes(facts.capacity_blocks * block)}"
    yield "block size", f"{block} bytes, physical {facts.physical_block_size_bytes}"
    limits = (
        ("maximum transfer", facts.max_transfer_blocks),
        ("optimal transfer", facts.optimal_transfer_blocks),
        ("optimal granularity", facts.optimal_granularity_blocks),
        ("maximum unmap", facts.max_unmap_blocks),
        ("unmap granularity", facts.unmap_granularity_blocks),
        ("maximum write same", facts.max_write_same_blocks),
    )
    for label, blocks in limits:
        if blocks:
            yield label, f"{blocks} blocks, {format_bytes(blocks * block)}"
    statements = (
        ("read-only", facts.is_read_only),
        ("volatile cache", facts.has_volatile_cache),
        ("FUA", facts.has_fua),
        ("rotational", facts.is_rotational),
        ("thin", facts.is_thin),
        ("UNMAP", facts.has_unmap),
        ("WRITE SAME, unmapping", facts.has_write_same_unmap),
    )
    for label, is_true in statements:
        yield label, "yes" if is_true else "no"
