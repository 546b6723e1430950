"""
LIO, the target in the kernel, served by a guest: the verbs of `target.Target`, over configfs.

This machine's kernel has no LIO, so a guest's has to serve it: the guest under test itself, reached over its
own loopback, or another guest on the rig's network, from whose LUN a diskless machine boots.
"""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Sequence
from pathlib import Path

from tests.vm.channel import Channel
from tests.vm.progress import RigError
from tests.vm.target import TARGET_NAME, Account, Lun

CONFIGFS = "/sys/kernel/config"
TARGETS = f"{CONFIGFS}/target"

#: where LUNs of `Lun.file` = Path() are made in the guest
MADE_HERE = "/dev/shm/lio"

#: back end -> folder of configfs, and the modules behind it
BACK_ENDS = {
    "fileio": ("fileio_0", "target_core_file"),
    "ramdisk": ("rd_mcp_0", ""),
    "block": ("iblock_0", "target_core_iblock"),
    "scsi_debug": ("pscsi_0", "target_core_pscsi"),
}

#: tgtadm's names for what a LUN of LIO has, too
ATTRIBUTES = {"thin_provisioning": "emulate_tpu"}

#: states of a target port group (SPC-4 §6.37, ASYMMETRIC ACCESS STATE)
ALUA_STATES = {
    "active/optimized": 0,
    "active/non-optimized": 1,
    "standby": 2,
    "unavailable": 3,
    "offline": 14,
    "transitioning": 15,
}

#: `put FILE TEXT` says which file refused; a bare `echo` of dash only says that one did
PROLOGUE = """set -eu
put() { printf '%s' "$2" > "$1" || { echo "$1 takes no $3"; exit 1; }; }
"""


def chap_attributes(accounts: Sequence[Account]) -> dict[str, str]:
    """Give what LIO's auth folder takes for these accounts; LIO has one of each direction."""
    values: dict[str, str] = {}
    for account in accounts:
        suffix = "_mutual" if account.is_outgoing else ""
        values |= {f"userid{suffix}": account.name, f"password{suffix}": account.secret}
    return values


class Lio:
    """
    One target of LIO.

    It may be killed and started again as often as wanted; its LUNs and what they hold stay.

    :param channel: of the guest that serves
    :param addresses: where it listens; `url(number)` names the one of that number
    :param parameters: negotiation parameters, `{"InitialR2T": "No"}`; names of a TPG's attributes, such as
        `default_cmdsn_depth`, are taken, too
    """

    def __init__(
        self,
        channel: Channel,
        luns: Sequence[Lun],
        *,
        accounts: Sequence[Account] = (),
        name: str = TARGET_NAME,
        addresses: Sequence[str] = ("127.0.0.1", "::1"),
        port: int = 3260,
        parameters: dict[str, str] | None = None,
    ) -> None:
        self.channel = channel
        self.luns = list(luns)
        self.accounts = list(accounts)
        self.name = name
        self.addresses = list(addresses)
        self.port = port
        self.parameters = parameters or {}
        self.tpg = f"{TARGETS}/iscsi/{name}/tpgt_1"
        self._is_made = False

    def __enter__(self) -> Lio:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave it: it ends with its guest."""

    def root_path(self, number: int = 0, lun: int = 1) -> str:
        """DHCP option 17 that names a LUN of ours (RFC 4173 §5)."""
        return f"iscsi:{self._host(number)}::{self.port}:{lun:x}:{self.name}"

    def url(self, number: int = 0, lun: int = 1) -> str:
        """The LUN as isboot's command line writes it."""
        return f"iscsi://{self._host(number)}:{self.port}/{self.name}/{lun}"

    def start(self) -> None:
        """Make the target if it is not there, and listen."""
        if not self._is_made:
            self._make()
            self._is_made = True
        lines = [f"mkdir -p {shlex.quote(self._portal(address))}" for address in self.addresses]
        self._run([*lines, put(f"{self.tpg}/enable", "1")])

    def kill(self) -> None:
        """Close every connection and listen no more: what connects is refused."""
        lines = [put(f"{self.tpg}/enable", "0")]
        self._run([*lines, *(f"rmdir {shlex.quote(self._portal(address))}" for address in self.addresses)])

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Connections stay up and nothing answers, until `thaw`: the guest drops what comes to the port."""
        chain = "{ type filter hook input priority 0; }"
        self._run(
            [
                "nft add table inet lio_freeze",
                f"nft 'add chain inet lio_freeze input {chain}'",
                f"nft add rule inet lio_freeze input tcp dport {self.port} drop",
            ]
        )

    def thaw(self) -> None:
        """End `freeze`."""
        self._run(["nft delete table inet lio_freeze"])

    def add_lun(self, lun: Lun) -> None:
        """Add a LUN to the running target."""
        self._run([*self._back_end(lun), *self._export(lun)])
        if lun not in self.luns:
            self.luns.append(lun)

    def remove_lun(self, number: int) -> None:
        """Take a LUN away; its disk stays where it is."""
        where = f"{self.tpg}/lun/lun_{number}"
        back_end = next(self._place(lun) for lun in self.luns if lun.number == number)
        self._run([f"rm {shlex.quote(f'{where}/disk')}", f"rmdir {shlex.quote(where)}", f"rmdir {back_end}"])
        self.luns = [lun for lun in self.luns if lun.number != number]

    def add_account(self, account: Account) -> None:
        """Demand CHAP from now on."""
        self.accounts.append(account)
        self._run(self._authentication())

    def set_parameter(self, key: str, value: str) -> None:
        """
        Set a negotiation parameter (MaxBurstLength), or an attribute (default_cmdsn_depth), for new logins.

        What LIO declares as its MaxRecvDataSegmentLength is its parameter MaxXmitDataSegmentLength
        (iscsi_target_parameters.c, iscsi_check_acceptor_state).
        """
        self._run([self._parameter(key, value)])

    def set_alua_state(self, number: int, state: str) -> None:
        """Set the access state of the port group of a LUN: a key of ALUA_STATES."""
        group = f"{self._place(self._lun(number))}/alua/default_tg_pt_gp"
        # implicit: the target changes it by itself; LIO refuses the rest without both bits
        self._run(
            [put(f"{group}/alua_access_type", "3"), put(f"{group}/alua_access_state", ALUA_STATES[state])]
        )

    def set_attribute(self, number: int, name: str, value: str) -> None:
        """Set an attribute of a LUN's back end (emulate_write_cache); some refuse while it is exported."""
        self._run([put(f"{self._place(self._lun(number))}/attrib/{name}", value)])

    def configure(self, file: str, text: str) -> None:
        """
        Write to any other file of configfs, `f"{lio.tpg}/attrib/login_timeout"` for example.

        :raises RigError: it does not take that
        """
        self._run([put(file, text)])

    def sessions(self) -> str:
        """Who is logged in, as tgtadm would say it: a line "I_T nexus: N" each."""
        names = self.channel.read(f"{self.tpg}/dynamic_sessions").decode().replace("\0", "\n").split()
        return "".join(
            f"        I_T nexus: {number}\n            Initiator: {name}\n"
            for number, name in enumerate(names, 1)
        )

    def wait_logged_out(self, timeout_s: float = 10) -> None:
        """
        Wait until nobody is logged in: LIO ends a session some time after it has answered the Logout.

        :raises RigError: somebody still is
        """
        self.channel.run(f"while grep -q . {self.tpg}/dynamic_sessions; do sleep 0.1; done", timeout_s)

    def version(self) -> str:
        """What it says of itself."""
        said = self.channel.read(f"{TARGETS}/version").decode()
        found = re.search(r"v[\d.]+\S*", said)
        release = self.channel.run("uname -r").output.strip()
        return f"LIO {found[0] if found else said.strip()} of Linux {release}"

    def _host(self, number: int) -> str:
        address = self.addresses[number]
        return f"[{address}]" if ":" in address else address

    def _portal(self, address: str) -> str:
        return f"{self.tpg}/np/{f'[{address}]' if ':' in address else address}:{self.port}"

    def _lun(self, number: int) -> Lun:
        return next(lun for lun in self.luns if lun.number == number)

    def _place(self, lun: Lun) -> str:
        """The folder of its back end."""
        if lun.back_end not in BACK_ENDS:
            raise RigError(f"LIO has no back end {lun.back_end}: {', '.join(BACK_ENDS)}")
        # one target's LUNs beside another's
        name = f"{uuid.uuid5(uuid.NAMESPACE_URL, self.name).hex[:8]}-{lun.number}"
        return f"{TARGETS}/core/{BACK_ENDS[lun.back_end][0]}/{name}"

    def _make(self) -> None:
        modules = {"target_core_mod", "iscsi_target_mod"}
        modules |= {BACK_ENDS[lun.back_end][1] for lun in self.luns if lun.back_end in BACK_ENDS} - {""}
        lines = [
            f"mountpoint -q {CONFIGFS} || mount -t configfs configfs {CONFIGFS}",
            f"modprobe -a {' '.join(sorted(modules))}",
            f"mkdir -p {TARGETS}/iscsi {MADE_HERE} /var/target/alua /var/target/pr",
            f"mkdir -p {shlex.quote(self.tpg)}",
            # any initiator may log in, and write
            put(f"{self.tpg}/attrib/generate_node_acls", "1"),
            put(f"{self.tpg}/attrib/demo_mode_write_protect", "0"),
            *self._authentication(),
            *(self._parameter(key, value) for key, value in self.parameters.items()),
        ]
        for lun in self.luns:
            lines += [*self._back_end(lun), *self._export(lun)]
        self._run(lines)

    def _authentication(self) -> list[str]:
        lines = [put(f"{self.tpg}/attrib/authentication", "1" if self.accounts else "0")]
        for name, value in chap_attributes(self.accounts).items():
            lines.append(put(f"{self.tpg}/auth/{name}", value, "account"))
        return lines

    def _parameter(self, key: str, value: str) -> str:
        return put(f"{self.tpg}/{'attrib' if key[0].islower() else 'param'}/{key}", value)

    def _back_end(self, lun: Lun) -> list[str]:
        place = self._place(lun)
        serial = lun.parameters.get("scsi_sn", str(uuid.uuid5(uuid.NAMESPACE_URL, place)))
        is_read_only = lun.parameters.get("readonly", "0") == "1"
        made = f"{MADE_HERE}/{Path(place).name}"
        file = str(lun.file) if lun.file != Path() else made
        lines = [f"mkdir -p {place}"]
        if lun.back_end == "scsi_debug":
            return [*lines, *_scsi_debug(lun, place)]
        if lun.back_end == "ramdisk":
            lines.append(put(f"{place}/control", f"rd_pages={lun.size_mib << 8}"))
        else:
            lines.append(f"test -e {file} || truncate -s {lun.size_mib}M {file}")
        if lun.back_end == "fileio" and is_read_only:
            raise RigError('LIO writes to every file: a read-only LUN has back_end="block"')
        if lun.back_end == "fileio":
            size = f"$(stat -c %s {file})"
            lines.append(f'put {place}/control "fd_dev_name={file},fd_dev_size={size}" "such file"')
        if lun.back_end == "block":
            # a file becomes a block device: LIO's iblock alone knows read-only
            lines += [
                "modprobe -q loop",
                f"device={file}; test -b $device || device=$(losetup --show -f"
                f" --sector-size {lun.block_size_bytes} {'-r' if is_read_only else ''} {file})",
                f'put {place}/control "udev_path=$device,readonly={int(is_read_only)}" "such device"',
                f'put {place}/udev_path "$device" "such device"',
            ]
        lines += [put(f"{place}/enable", "1"), put(f"{place}/wwn/vpd_unit_serial", serial)]
        if lun.back_end != "block":
            lines.append(put(f"{place}/attrib/block_size", lun.block_size_bytes))
        for key, value in lun.parameters.items():
            if key not in ("readonly", "scsi_sn"):
                lines.append(put(f"{place}/attrib/{ATTRIBUTES.get(key, key)}", value))
        return lines

    def _export(self, lun: Lun) -> list[str]:
        where = f"{self.tpg}/lun/lun_{lun.number}"
        return [f"mkdir {shlex.quote(where)}", f"ln -s {self._place(lun)} {shlex.quote(f'{where}/disk')}"]

    def _run(self, lines: Sequence[str]) -> None:
        self.channel.run(PROLOGUE + "\n".join(lines), 60)


def put(file: str, value: object, shown: str = "") -> str:
    """A line of shell that writes to a file of configfs. `shown`: instead of a value nobody should see."""
    text = str(value)
    return f"put {shlex.quote(file)} {shlex.quote(text)} {shlex.quote(shown or text)}"


def _scsi_debug(lun: Lun, place: str) -> list[str]:
    """The kernel's own make-believe disk, handed through: `parameters` are scsi_debug's."""
    words = {"dev_size_mb": str(lun.size_mib), "sector_size": str(lun.block_size_bytes), **lun.parameters}
    parameters = " ".join(f"{key}={value}" for key, value in words.items())
    return [
        "modprobe sd_mod",
        f"modprobe scsi_debug {parameters}",
        "disk=; while test -z $disk; do disk=$(cd /sys/bus/pseudo/drivers/scsi_debug"
        " && ls -d adapter0/host*/target*/*:*/block/* 2>/dev/null) || sleep 0.05; done",
        "address=$(echo $disk | sed 's,.*/\\([0-9:]*\\)/block/.*,\\1,'); name=/dev/${disk##*/}",
        "host=${address%%:*}; rest=${address#*:}; channel=${rest%%:*}; rest=${rest#*:}; id=${rest%%:*}",
        "ids=scsi_host_id=$host,scsi_channel_id=$channel,scsi_target_id=$id,scsi_lun_id=0",
        f"put {place}/control $ids disk",
        f"put {place}/udev_path $name device",
        put(f"{place}/enable", "1"),
    ]
