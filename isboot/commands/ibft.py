"""`isboot ibft`: find, validate and print what the firmware left."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isboot.errors import ExitStatus, FirmwareError, UsageError
from isboot.firmware import document, find, hexdump, layout, lun, quirks, text
from isboot.firmware.layout import Field, Kind, Structure
from isboot.values import IbftInitiator, IbftNic, IbftTable, IbftTarget, Secret

NAME = "ibft"
HELP = "find, validate and print the firmware's boot table"
EXAMPLE = "isboot ibft --hex"

SOURCES = {
    "acpi": "an ACPI table",
    "memory": "low memory",
    "sysfs": "the kernel's tree in sysfs",
    "file": "a file",
}
WIDTH = 22  #: of the column of labels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["make"], help="make: build a table from SPEC instead")
    parser.add_argument("spec", nargs="?", type=Path, metavar="SPEC", help="TOML with the keys of --json")
    parser.add_argument("-o", "--output", type=Path, metavar="F", help="where make writes the table")
    parser.add_argument("--file", type=Path, metavar="F", help="read the table from a file")
    parser.add_argument("--index", type=int, metavar="N", help="take the Nth of the tables found, from 0")
    parser.add_argument("--list", action="store_true", help="list the tables found")
    parser.add_argument("--hex", action="store_true", help="print the bytes as well, structure by structure")
    parser.add_argument("--show-secrets", action="store_true", help="print CHAP secrets")
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(arguments: argparse.Namespace) -> ExitStatus:
    if arguments.action == "make":
        return make(arguments.spec, arguments.output)
    if arguments.output:
        raise UsageError("reading the command line: -o goes with make only")
    if arguments.hex and (arguments.json or arguments.list):
        raise UsageError("printing a table: --hex goes neither with --json nor with --list")
    tables = [find.read_file(arguments.file)] if arguments.file else find.find_tables()
    if arguments.list:
        find.pick(tables, arguments.index)
        print_list(tables, arguments.json)
        return ExitStatus.FINE
    table = find.pick(tables, arguments.index)
    if arguments.json:
        print(json.dumps(document.to_document(table, show_secrets=arguments.show_secrets), indent=1))
    else:
        for line in [*describe(table, arguments.show_secrets), *describe_others(tables, table)]:
            print(line)
    if arguments.hex:
        print_hexdump(table, arguments.show_secrets)
    return ExitStatus.FINE if table.is_bootable else ExitStatus.MALFORMED


def make(spec: Path | None, output: Path | None) -> ExitStatus:
    """
    Build a table from a specification.

    :raises IsbootError: a file cannot be read (66) or written (1), or no table can hold what it says (65)
    """
    if spec is None or output is None:
        raise UsageError(
            "building a table: it takes a specification and a file", "isboot ibft make SPEC -o F"
        )
    from isboot.firmware.spec import build

    try:
        raw = build(spec.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        message = f"building a table from {spec}: {error.strerror}"
        raise FirmwareError(message, exit_status=ExitStatus.NOTHING_THERE) from None
    try:
        # A table may hold secrets, so nobody else reads it.
        with open(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(raw)
    except OSError as error:
        raise FirmwareError(f"writing the table to {output}: {error.strerror}") from None
    return ExitStatus.FINE


def print_list(tables: list[IbftTable], is_json: bool) -> None:
    summaries = [document.to_summary(table, index) for index, table in enumerate(tables)]
    if is_json:
        print(json.dumps(summaries, indent=1))
        return
    print(f"{'INDEX':5}  {'SOURCE':6}  {'SIGNATURE':9}  {'OEM':6}  {'TABLE':8}  {'BYTES':>5}  VERDICT")
    for summary in summaries:
        length = "-" if summary["length"] is None else summary["length"]
        print(
            f"{summary['index']:<5}  {summary['source']:6}  {summary['signature']:9}  {summary['oem_id']:6}  "
            f"{summary['oem_table_id']:8}  {length:>5}  {summary['verdict']}"
        )


def print_hexdump(table: IbftTable, show_secrets: bool) -> None:
    if table.source == "sysfs":
        message = f"printing the bytes of the table from {SOURCES[table.source]}: there are none"
        raise FirmwareError(message, exit_status=ExitStatus.NOTHING_THERE)
    print()
    lines = list(hexdump.hexdump(table.raw, show_secrets=show_secrets))
    print("\n".join(lines))
    if any("**" in line for line in lines):
        print("** is a secret or a byte no structure accounts for; --show-secrets shows it")


def describe(table: IbftTable, show_secrets: bool = False) -> Iterator[str]:
    """Give the lines of a table for people: every field, the problems last."""
    verdict = "can be booted from" if table.is_bootable else "cannot be booted from"
    yield f"iBFT in {SOURCES[table.source]}: {verdict}"
    yield _line("signature", table.signature)
    if table.revision is not None:
        yield _line("revision", table.revision)
    if table.length is not None:
        yield _line("length", f"{table.length} bytes")
    if table.checksum_ok is not None:
        yield _line("checksum", "good" if table.checksum_ok else "WRONG")
    yield _line("OEM, table", f"{table.oem_id or '-'}, {table.oem_table_id or '-'}")
    if table.control is not None:
        control = table.control
        yield _line("control flags", _flags(layout.CONTROL, control))
        yield _line("NIC/target pairs", f"room for {control.pairs}")
        yield _line("extensions", f"at {control.extensions}" if control.extensions else "-")
    if table.initiator is not None:
        yield from _describe_structure("initiator", layout.INITIATOR, table.initiator, show_secrets)
    for nic in table.nics:
        yield from _describe_structure(f"NIC {nic.index}", layout.NIC, nic, show_secrets)
    for target in table.targets:
        yield from _describe_structure(f"target {target.index}", layout.TARGET, target, show_secrets)
    met = quirks.met(table)
    if met:
        yield ""
        yield "quirks"
    for one in met:
        quirk = one.quirk
        yield f"  {quirk.code} ({quirk.producer}): {', '.join(one.places)}"
        yield f"    {quirk.sign}; {quirk.action}"
    yield ""
    yield "problems" if table.problems else "no problems"
    for problem in table.problems:
        offset = "" if problem.offset is None else f" at {problem.offset}"
        yield f"  {problem.severity}: {problem.where}{offset}: {problem.message} [{problem.code}]"


def describe_others(tables: list[IbftTable], shown: IbftTable) -> Iterator[str]:
    """Give a line for each other table there is: firmware may leave several, and not all of them good."""
    others = [(index, table) for index, table in enumerate(tables) if table is not shown]
    if others:
        number = next(index for index, table in enumerate(tables) if table is shown)
        yield ""
        yield f"other tables (this is {number}; --index N shows another, rd.isboot.acpi_table=N boots it)"
    for index, table in others:
        yield f"  {index}: {find.told(table)}"


def _line(label: str, value: object) -> str:
    return f"  {label:{WIDTH}}{value}"


def _flags(structure: Structure, value: Any) -> str:
    names = [flag.label for flag in structure.flags if getattr(value, flag.name)]
    return f"0x{value.flags:02x}" + (f" ({', '.join(names)})" if names else "")


def _describe_structure(
    title: str, structure: Structure, value: IbftInitiator | IbftNic | IbftTarget, show_secrets: bool
) -> Iterator[str]:
    yield ""
    header_index = getattr(value, "header_index", None)
    index = getattr(value, "index", None)
    yield title if header_index == index else f"{title} (calls itself {header_index})"
    yield _line("flags", _flags(structure, value))
    seen = set()
    for field in structure.fields:
        if field.name not in seen:
            seen.add(field.name)
            yield _line(field.label, _shown(field, getattr(value, field.name), show_secrets))


def _shown(field: Field, value: Any, show_secrets: bool) -> str:
    if isinstance(value, Secret):
        if not value:
            return "-"
        return text.printable(value.reveal()) if show_secrets else "present (--show-secrets prints it)"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    if field.kind is Kind.LUN:
        return lun.describe(value)
    if value is None or value == "":
        return "-"
    if field.name == "vlan" and value == 0:
        return "-"
    return str(value)
