"""
The rig's hand inside a guest: runs commands for the harness, over a virtio-serial port.

One JSON document a line, both ways.  A request has an id and a verb; answers carry the id, in any order, so a
command that hangs does not block the next one.  It imports little, is locked in memory and needs no
network, so that it still answers when the root file system does not.
"""

import base64
import ctypes
import json
import os
import select
import signal
import subprocess
import threading
import time
from typing import Any

Request = dict[str, Any]

PORT_NAME = "isboot.agent"
CHUNK = 32768


def find_port() -> str:
    """Device node of our port; waits for it, since the driver may still be coming up."""
    while True:
        try:
            for entry in os.listdir("/sys/class/virtio-ports"):
                with open(f"/sys/class/virtio-ports/{entry}/name") as file:
                    if file.read().strip() == PORT_NAME and os.path.exists(f"/dev/{entry}"):
                        return f"/dev/{entry}"
        except FileNotFoundError:
            pass
        time.sleep(0.05)


class Agent:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.sending = threading.Lock()

    def answer(self, **document: Any) -> None:
        line = json.dumps(document).encode() + b"\n"
        with self.sending:
            while line:
                line = line[os.write(self.descriptor, line) :]

    def serve(self) -> None:
        self.answer(id=0, hello=os.uname().release)
        pending = b""
        while True:
            data = os.read(self.descriptor, 65536)
            if not data:  # the harness is not connected
                time.sleep(0.05)
            pending += data
            *lines, pending = pending.split(b"\n")
            for line in lines:
                if line:
                    threading.Thread(target=self.handle, args=(json.loads(line),), daemon=True).start()

    def handle(self, request: Request) -> None:
        number = request["id"]
        try:
            getattr(self, "do_" + request["verb"])(number, request)
        except Exception as error:
            self.answer(id=number, error=f"{type(error).__name__}: {error}")

    def do_run(self, number: int, request: Request) -> None:
        process = subprocess.Popen(
            request["command"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=request.get("directory"),
            env={**os.environ, **request.get("environment", {})},
            start_new_session=True,
        )
        killer = threading.Timer(request["timeout_s"], self.kill, (number, process))
        killer.daemon = True
        killer.start()
        assert process.stdout
        pipe = process.stdout.fileno()
        while True:
            # a daemon left behind may hold the pipe open: an ended command with a quiet pipe is done
            ended = process.poll() is not None
            if select.select([pipe], [], [], 0 if ended else 0.05)[0]:
                data = os.read(pipe, CHUNK)
                if not data:
                    break
                self.answer(id=number, output=base64.b64encode(data).decode())
            elif ended:
                break
        status = process.wait()
        process.stdout.close()
        killer.cancel()
        self.answer(id=number, status=status)

    def kill(self, number: int, process: subprocess.Popen[bytes]) -> None:
        self.answer(id=number, late=True)
        os.killpg(process.pid, signal.SIGKILL)

    def do_read(self, number: int, request: Request) -> None:
        with open(request["path"], "rb") as file:
            while data := file.read(CHUNK):
                self.answer(id=number, output=base64.b64encode(data).decode())
        self.answer(id=number, status=0)

    def do_write(self, number: int, request: Request) -> None:
        with open(request["path"], "ab" if request["append"] else "wb") as file:
            file.write(base64.b64decode(request["data"]))
        self.answer(id=number, status=0)

    def do_kill(self, number: int, request: Request) -> None:
        os.kill(request["pid"], request["signal"])
        self.answer(id=number, status=0)

    def do_power_off(self, number: int, request: Request) -> None:
        if not os.path.exists("/run/systemd/system"):
            os._exit(0)  # PID 1 of the quick guest waits for this
        subprocess.run(["systemctl", "poweroff"], stdin=subprocess.DEVNULL, check=True)


def main() -> None:
    threading.stack_size(256 * 1024)  # each locked stack is real memory
    ctypes.CDLL(None).mlockall(3)  # MCL_CURRENT | MCL_FUTURE
    Agent(os.open(find_port(), os.O_RDWR)).serve()


main()
