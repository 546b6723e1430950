"""
`isboot bench` again and again, in a guest: Python and isboot are loaded once, each bench is a fork.

    python3 -m tests.matrix.inside FILE

FILE holds a JSON list of lists of arguments; a line of JSON comes out for each.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from isboot import boot, cli
from isboot.commands import bench
from isboot.config import attach
from isboot.engine import lane, model

LOADED = (boot, bench, attach, lane, model)  # by the parent, once for all children
BENCH_S = 120


def run(arguments: list[str]) -> dict[str, object]:
    """Run one bench to its end; a status of -14 is the alarm's that ends one that hangs."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if child == 0:
            signal.alarm(BENCH_S)
            os.dup2(out.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            status = 70
            try:
                status = int(cli.main(["bench", *arguments]))
                sys.stdout.flush()
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        errors.seek(0)
        return {
            "status": status,
            "seconds": time.monotonic() - started,
            "output": out.read().decode(),
            "messages": errors.read().decode(),
        }


if __name__ == "__main__":
    for each in json.loads(Path(sys.argv[1]).read_text()):
        print(json.dumps(run(each)), flush=True)
