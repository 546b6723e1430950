"""
Runs isboot's command line in forks of a process that has imported it: in an emulated guest that saves a
second and more for every command, and several for what is to be wrong meanwhile.

A JSON document goes into /run/forker.in (arguments, files, mounts, words, before, after), one comes out of
/run/forker.out (status, output).
"""

import base64
import ctypes
import importlib
import json
import os
import subprocess
import sys
from typing import Any

IN, OUT, PRINTED, COMMAND_LINE = (
    "/run/forker.in",
    "/run/forker.out",
    "/run/forker.printed",
    "/run/forker.cmdline",
)
MODULES = (
    "isboot.cli", "isboot.boot", "isboot.commands.attach", "isboot.commands.boot", "isboot.commands.detach",
    "isboot.daemon.start", "isboot.daemon.control", "isboot.session.discovery", "isboot.config.url",
    "isboot.config.credentials", "isboot.config.attach", "traceback", "socket", "ipaddress",
)  # fmt: skip
MS_BIND = 4096
LIBC = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    if getattr(LIBC, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")


def be_command(arguments: list[str]) -> None:
    from isboot import cli

    status = 255
    try:
        os.setsid()
        descriptor = os.open(PRINTED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        status = cli.main(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Damage, run, repair."""
    mounts = list(request.get("mounts", ()))
    for path, data in request.get("files", {}).items():
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
    if request.get("words"):
        with open("/proc/cmdline") as file:
            line = file.read().strip()
        with open(COMMAND_LINE, "w") as file:
            file.write(f"{line} {request['words']}\n")
        mounts.append((COMMAND_LINE, "/proc/cmdline"))
    if request.get("before"):
        subprocess.run(request["before"], shell=True, check=True)
    for source, place in mounts:
        call("mount", source.encode(), place.encode(), None, MS_BIND, None)
    if (pid := os.fork()) == 0:
        be_command(request["arguments"])
    _, status = os.waitpid(pid, 0)
    for _, place in reversed(mounts):
        call("umount2", place.encode(), 0)
    if request.get("after"):
        subprocess.run(request["after"], shell=True, check=True)
    with open(PRINTED, errors="replace") as file:
        return {"status": os.waitstatus_to_exitcode(status), "output": file.read()}


def main() -> None:
    for name in MODULES:
        importlib.import_module(name)
    os.makedirs("/run/empty", exist_ok=True)
    for path in (IN, OUT):
        os.mkfifo(path)
    while True:
        with open(IN) as file:
            request = json.load(file)
        answer = run(request)
        with open(OUT, "w") as file:
            json.dump(answer, file)


main()
