"""
Arguments to exit status: the only place that catches everything, says what went wrong, and exits.

A command is a module of `isboot.commands` that offers NAME, HELP, EXAMPLE, add_arguments(parser) and
run(arguments).
Only the one that is run gets imported: the boot pays for nothing else.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from isboot import __version__
from isboot.errors import ExitStatus, IsbootError, UsageError

# In the order of `isboot --help`; the module's name is the command's, with _ for -.
COMMANDS = (
    "ibft",
    "boot",
    "attach",
    "detach",
    "discover",
    "inquiry",
    "status",
    "bench",
    "trace",
    "boot-report",
)

SHOW_TRACEBACK = "ISBOOT_TRACEBACK"
INTERRUPTED = 130  #: 128 + SIGINT, as shells have it


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"reading the command line: {message}", f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give the exit status of the process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return int(status)
    except IsbootError as error:
        _complain(error.message, error.hint)
        return int(error.exit_status)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; Python must not complain about it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitStatus.FAILED)
    except Exception as error:
        if os.environ.get(SHOW_TRACEBACK):
            raise
        doing = " ".join(["isboot", *arguments[:1]])
        message = f"{doing}: unexpected {type(error).__name__}: {error}"
        _complain(message, f"this is a defect of isboot; {SHOW_TRACEBACK}=1 shows where it happened")
        return int(ExitStatus.FAILED)


def _complain(message: str, hint: str) -> None:
    print(f"isboot: {message}", file=sys.stderr)
    if hint:
        print(f"        hint: {hint}", file=sys.stderr)


def _run(arguments: list[str]) -> ExitStatus:
    name = arguments[0] if arguments else ""
    if name == "--version":
        print(version_text())
        return ExitStatus.FINE
    # The command that is run is the only one imported; all of them are for help and for a name not known.
    commands = [_command(name)] if name in COMMANDS else [_command(known) for known in COMMANDS]
    parser = _Parser(
        prog="isboot",
        description="Boot Linux from iSCSI, from the firmware's table to a disk.",
        epilog="`isboot COMMAND --help` tells more, with an example; isboot(8) tells all.",
    )
    parser.add_argument("--version", action="store_true", help="print versions and what was found, and exit")
    subparsers = parser.add_subparsers(metavar="COMMAND", parser_class=_Parser)
    for command in commands:
        sub = subparsers.add_parser(
            command.NAME,
            help=command.HELP,
            description=f"{command.HELP}.",
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    parsed = parser.parse_args(arguments)
    if not hasattr(parsed, "run"):
        raise UsageError("reading the command line: no command was given", "isboot --help")
    return ExitStatus(parsed.run(parsed))


def _command(name: str) -> Any:
    return importlib.import_module(f"isboot.commands.{name.replace('-', '_')}")


def version_text() -> str:
    """Give the lines of `isboot --version`; what is missing is named with what to do about it."""
    lines = [f"isboot {__version__}"]
    try:
        from isboot._engine import ffi, lib
    except ImportError as error:
        lines.append(f"engine: missing ({error}); build it with: pip install .")
    else:
        library = ffi.string(lib.isboot_crc_library()).decode("ascii")
        lines += [
            "engine: C on io_uring",
            f"CRC32C: {library}",
            f"probes: {lib.isboot_probe_count()}",
        ]
    if importlib.util.find_spec("bcc") is None:
        lines.append("bcc: missing, so `isboot trace` cannot run; install Debian's python3-bpfcc")
    else:
        lines.append("bcc: present")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
