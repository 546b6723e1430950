"""
Real targets on loopback, for native tests: tgtd and istgt, each in a directory of its own, on a free port.

    with Tgtd(tmp_path) as target:
        iqn = target.add_target("disk0")
        target.add_lun(iqn, 1, size_bytes=64 << 20, block_size_bytes=4096)
        target.add_account(iqn, "alice", "twelve-bytes-", is_outgoing=False)
        ... 127.0.0.1, target.port ...
        target.stop(); target.start()      # the same configuration again, on the same port

Everything is stopped by its own process id.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

IQN_PREFIX = "iqn.2026-11.org.example:"
START_TIMEOUT_S = 10.0


def missing(program: str) -> str | None:
    """Say why a native test cannot run here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    return None if shutil.which(program, path=_SEARCH_PATH) else f"needs {program}"


_SEARCH_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path, address: str = "127.0.0.1") -> None:
    """Return once something accepts on that port; fail with the log if the process dies first."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as sock:
            if sock.connect_ex((address, port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"no target on port {port}: exit {process.poll()}\n{log.read_text(errors='replace')}")


def stop_process(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


@dataclass
class Tgtd:
    """
    One tgtd. Sessions end with it, LUN files stay: stop() and start() are a restart with the same disks.

    :param environment: more of it, LD_PRELOAD for example
    :param wrapper: words before the command: ["ip", "netns", "exec", "X"]
    :param address: where it listens; all of 127.0.0.0/8 is there without being set up
    """

    directory: Path
    port: int = field(default_factory=free_port)
    address: str = "127.0.0.1"
    environment: dict[str, str] = field(default_factory=dict)
    wrapper: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    _setup: list[list[str]] = field(default_factory=list)
    _targets: int = 0

    @property
    def log(self) -> Path:
        return self.directory / "tgtd.log"

    @property
    def _control_port(self) -> str:
        return str(self.port % 8192)  # tgtd takes no larger one; the socket's directory is ours anyway

    def _environment(self) -> dict[str, str]:
        # tgtd makes a lock and a socket at this path; -C alone still shares the directory
        return os.environ | {
            "PATH": _SEARCH_PATH,
            "TGT_IPC_SOCKET": str(self.directory / "ipc"),
        }

    def __enter__(self) -> Tgtd:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers; what was set up before is set up again."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, "tgtd", "-f", "-C", self._control_port, "-t", "2",
                 "--iscsi", f"portal={self.address}:{self.port}"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=self._environment() | self.environment,
            )  # fmt: skip
        wait_for_port(self.port, self.process, self.log, self.address)
        for words in self._setup:
            self._admin(words)

    def stop(self) -> None:
        """Kill it: every connection is reset, as by a crash."""
        if self.process is not None:
            stop_process(self.process)
        self.process = None
        for leftover in self.directory.glob("ipc*"):
            leftover.unlink()

    def _admin(self, words: list[str]) -> str:
        done = subprocess.run(
            [*self.wrapper, "tgtadm", "-C", self._control_port, "--lld", "iscsi", *words],
            env=self._environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"tgtadm {' '.join(words)}: {done.stderr}{done.stdout}")
        return done.stdout

    def admin(self, *words: str) -> str:
        """Run tgtadm now, and again after every start()."""
        self._setup.append(list(words))
        return self._admin(list(words))

    def show(self) -> str:
        """Give `tgtadm --op show --mode target`: sessions, LUNs, accounts."""
        return self._admin(["--op", "show", "--mode", "target"])

    def add_target(self, name: str) -> str:
        """Make a target every initiator may log in to; give its IQN."""
        self._targets += 1
        tid = str(self._targets)
        self.admin("--op", "new", "--mode", "target", "--tid", tid, "-T", IQN_PREFIX + name)
        self.admin("--op", "bind", "--mode", "target", "--tid", tid, "-I", "ALL")
        return IQN_PREFIX + name

    def add_lun(
        self, tid: int = 1, lun: int = 1, *, size_bytes: int = 64 << 20, block_size_bytes: int = 512,
        name: str = "", **parameters: str,
    ) -> Path:  # fmt: skip
        """
        Give a target a LUN on a sparse file; give the file.

        :param tid: the target's number: 1 is the first made
        :param parameters: of `tgtadm --params`: scsi_sn, scsi_id, vendor_id, product_id, readonly, ...
        """
        path = self.directory / (name or f"disk{tid}-{lun}")
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(size_bytes)
        where = ("--mode", "logicalunit", "--tid", str(tid), "--lun", str(lun))
        self.admin("--op", "new", *where, "-b", str(path), "--blocksize", str(block_size_bytes))
        if parameters:
            text = ",".join(f"{key}={value}" for key, value in parameters.items())
            self.admin("--op", "update", *where, "--params", text)
        return path

    def add_account(self, user: str, password: str, *, tid: int = 1, is_outgoing: bool = False) -> None:
        """Ask for CHAP at a target; an outgoing account is what the target proves itself with."""
        self.admin("--op", "new", "--mode", "account", "--user", user, "--password", password)
        words = ["--op", "bind", "--mode", "account", "--tid", str(tid), "--user", user]
        self.admin(*words, *(["--outgoing"] if is_outgoing else []))


_ISTGT_CONFIGURATION = """\
[Global]
  NodeBase "iqn.2026-11.org.example"
  PidFile {directory}/pid
  AuthFile {directory}/auth.conf
  MediaDirectory {directory}
  LogFacility "local7"
  Timeout 30
  NopInInterval 20
  DiscoveryAuthMethod None
  MaxSessions 16
  MaxConnections 4
  MaxR2T 32
  MaxOutstandingR2T 16
{parameters}
[UnitControl]
  AuthMethod None
  Portal UC1 127.0.0.1:{control_port}
  Netmask 127.0.0.1
[PortalGroup1]
  Portal DA1 {address}:{port}
[InitiatorGroup1]
  InitiatorName "ALL"
  Netmask {netmask}
[LogicalUnit1]
  TargetName disk0
  Mapping PortalGroup1 InitiatorGroup1
  AuthMethod {method}
  AuthGroup AuthGroup1
  UseDigest Auto
  UnitType Disk
  LUN0 Storage {disk} {mebibytes}MB
  BlockLength {block_size}
"""

_ISTGT_PARAMETERS = {
    "DefaultTime2Wait": "2", "DefaultTime2Retain": "60", "FirstBurstLength": "262144",
    "MaxBurstLength": "1048576", "MaxRecvDataSegmentLength": "262144", "InitialR2T": "Yes",
    "ImmediateData": "Yes", "DataPDUInOrder": "Yes", "DataSequenceInOrder": "Yes", "ErrorRecoveryLevel": "0",
}  # fmt: skip


@dataclass
class Istgt:
    """
    One istgt with one target, `name`, and its LUN 0.

    :param method: "None", "CHAP" or "CHAP Mutual", with `accounts`: user, secret, and the target's own
    :param address: 127.0.0.1 or [::1]
    :param parameters: of its negotiations, over _ISTGT_PARAMETERS
    """

    directory: Path
    method: str = "None"
    accounts: tuple[str, str, str, str] = ("alice", "alice-has-a-secret", "disk", "the-disk-has-another")
    size_mebibytes: int = 64
    block_size_bytes: int = 512
    address: str = "127.0.0.1"
    parameters: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    name: str = IQN_PREFIX + "disk0"

    @property
    def log(self) -> Path:
        return self.directory / "istgt.log"

    @property
    def disk(self) -> Path:
        return self.directory / "disk"

    def __enter__(self) -> Istgt:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.disk.open("ab") as file:
            file.truncate(self.size_mebibytes << 20)
        words = " ".join(f'"{word}"' for word in self.accounts)
        secrets = self.directory / "auth.conf"
        secrets.write_text(f"[AuthGroup1]\n  Auth {words}\n")
        secrets.chmod(0o600)
        configuration = self.directory / "istgt.conf"
        parameters = _ISTGT_PARAMETERS | self.parameters
        configuration.write_text(
            _ISTGT_CONFIGURATION.format(
                directory=self.directory, port=self.port, control_port=free_port(), method=self.method,
                disk=self.disk, mebibytes=self.size_mebibytes, block_size=self.block_size_bytes,
                address=self.address, netmask=f"{self.address}/{128 if ':' in self.address else 32}",
                parameters="\n".join(f"  {key} {value}" for key, value in parameters.items()),
            )
        )  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["istgt", "-D", "-c", str(configuration), "-p", str(self.directory / "pid")],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | {"PATH": _SEARCH_PATH},
            )  # fmt: skip
        wait_for_port(self.port, self.process, self.log, self.address.strip("[]"))

    def stop(self) -> None:
        if self.process is not None:
            stop_process(self.process)
        self.process = None
