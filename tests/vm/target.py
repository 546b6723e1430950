"""tgtd in the rig's namespace: LUNs, accounts, and ways to hurt it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.vm.network import Network
from tests.vm.process import Service
from tests.vm.progress import RigError

TARGET_NAME = "iqn.2001-04.com.example:rig"


@dataclass(frozen=True)
class Lun:
    """
    One LUN.

    :ivar file: its disk; LIO makes one in its guest, of `size_mib`, if there is none
    :ivar parameters: tgtadm's (`{"readonly": "1", "scsi_sn": "X", "thin_provisioning": "1"}`); for LIO these
        three, and its own attributes; for its back end scsi_debug that module's parameters
    :ivar back_end: of LIO: a key of `lio.BACK_ENDS`
    """

    file: Path = Path()
    number: int = 1
    block_size_bytes: int = 512
    parameters: dict[str, str] = field(default_factory=dict)
    back_end: str = "fileio"
    size_mib: int = 64


@dataclass(frozen=True)
class Account:
    """A CHAP name and its secret; for tests only. `is_outgoing`: what the target proves itself with."""

    name: str
    secret: str
    is_outgoing: bool = False


class Target:
    """
    A tgtd with one target.

    It may be stopped, killed and started again: what was configured is configured anew each time.

    :param network: whose namespace it runs in
    :param control: number of its control port; two tgtd at a time need two
    """

    def __init__(
        self,
        network: Network,
        luns: Sequence[Lun],
        *,
        accounts: Sequence[Account] = (),
        name: str = TARGET_NAME,
        address: str = "0.0.0.0",
        port: int = 3260,
        control: int = 1,
        parameters: dict[str, str] | None = None,
    ) -> None:
        self.network = network
        self.luns = list(luns)
        self.accounts = list(accounts)
        self.name = name
        self.port = port
        self.control = control
        self.parameters = parameters or {}
        # a Unix socket's path holds 107 bytes, a run directory's may be longer
        self.socket = f"/tmp/{network.name}-tgt"
        self.service = Service(
            network.command("tgtd", "-f", "-C", str(control), "--iscsi", f"portal={address}:{port}"),
            network.directory / f"tgtd-{control}.log",
            {"TGT_IPC_SOCKET": self.socket},
        )

    def __enter__(self) -> Target:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for suffix in (f".{self.control}", f".{self.control}.lock"):
            Path(self.socket + suffix).unlink(missing_ok=True)

    def root_path(self, number: int = 0, lun: int = 1) -> str:
        """DHCP option 17 that names a LUN of ours (RFC 4173 §5)."""
        return f"iscsi:{self.network.address(number)}::{self.port}:{lun:x}:{self.name}"

    def url(self, number: int = 0, lun: int = 1) -> str:
        """The LUN as isboot's command line writes it."""
        return f"iscsi://{self.network.address(number)}:{self.port}/{self.name}/{lun}"

    def start(self) -> None:
        """Start tgtd and tell it everything."""
        self.service.start()
        deadline = time.monotonic() + 10
        while self._tgtadm("--op", "show", "--mode", "system").returncode:
            if not self.service.is_alive or time.monotonic() > deadline:
                raise RigError(f"tgtd does not come up: {self.service.log.read_text()[-1000:]}")
            time.sleep(0.02)
        self.admin("--op", "new", "--mode", "target", "--tid", "1", "-T", self.name)
        for key, value in self.parameters.items():
            self.set_parameter(key, value)
        for lun in self.luns:
            self.add_lun(lun)
        for account in self.accounts:
            self.add_account(account)
        self.admin("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")

    def kill(self) -> None:
        """SIGKILL: connections are reset, what tgtd had not written is lost."""
        self.service.stop(signal.SIGKILL)

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay up and nothing answers, until `thaw`."""
        self.service.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.service.send(signal.SIGCONT)

    def add_lun(self, lun: Lun) -> None:
        """Add a LUN to the running target."""
        where = ("--mode", "logicalunit", "--tid", "1", "--lun", str(lun.number))
        size = ("--blocksize", str(lun.block_size_bytes))
        self.admin("--op", "new", *where, *size, "-b", str(lun.file))
        for key, value in lun.parameters.items():
            self.admin("--op", "update", *where, "--params", f"{key}={value}")

    def add_account(self, account: Account) -> None:
        """Demand CHAP from now on."""
        self.admin("--op", "new", "--mode", "account", "--user", account.name, "--password", account.secret)
        bind = ["--op", "bind", "--mode", "account", "--tid", "1", "--user", account.name]
        self.admin(*bind, *(["--outgoing"] if account.is_outgoing else []))

    def set_parameter(self, key: str, value: str) -> None:
        """Set a negotiation parameter of the target, such as MaxBurstLength."""
        self.admin("--op", "update", "--mode", "target", "--tid", "1", "-n", key, "-v", value)

    def sessions(self) -> str:
        """What `tgtadm --mode target --op show` says."""
        return self.admin("--op", "show", "--mode", "target")

    def admin(self, *arguments: str) -> str:
        """
        Run tgtadm against this tgtd.

        :raises RigError: it failed
        """
        done = self._tgtadm(*arguments)
        if done.returncode:
            shown = [
                "***" if before == "--password" else text
                for before, text in zip(("", *arguments), arguments, strict=False)
            ]
            raise RigError(f"tgtadm {' '.join(shown)}: {done.stderr.strip()}")
        return done.stdout

    def _tgtadm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["tgtadm", "-C", str(self.control), "--lld", "iscsi", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "TGT_IPC_SOCKET": self.socket},
        )
