"""Who is compared: how each brings a LUN of a target into a guest as a block device."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from tests.vm.channel import Channel

INITIATOR = "iqn.2001-04.com.example:bench"
#: what isboot's udev rule sets; the peers get the same
QUEUE = "cd /sys/block/{name}/queue && echo none > scheduler && echo {requests} > nr_requests"
TRIES = "for try in $(seq 100); do"
START_ISCSID = f"""
modprobe iscsi_tcp && modprobe sd_mod && mkdir -p /run/lock/iscsi /etc/iscsi
pidof iscsid && exit
echo InitiatorName={INITIATOR}.open > /etc/iscsi/initiatorname.iscsi
iscsid
"""
FIND_DISK = f"""
{TRIES}
    for session in /sys/class/iscsi_session/session*; do
        test "$(cat $session/targetname)" = {{target}} && ls $session/device/target*/*/block && exit
    done
    sleep 0.1
done 2>/dev/null
exit 1
"""


@dataclass(frozen=True)
class Portal:
    """A LUN as each peer wants it named."""

    address: str
    port: int
    target: str
    lun: int = 1

    @property
    def url(self) -> str:
        return f"iscsi://{self.address}:{self.port}/{self.target}/{self.lun}"


class Side(ABC):
    """
    One initiator with a block device.

    :cvar name: as a peer is called in the report
    :cvar kind: "peer", or "limit" for a ceiling
    """

    name: str
    kind = "peer"

    def __init__(self, channel: Channel, portal: Portal) -> None:
        self.channel = channel
        self.portal = portal

    @abstractmethod
    def up(self) -> str:
        """Give the device's path once it is there."""

    @abstractmethod
    def version(self) -> str:
        """Give what it calls itself."""

    def facts(self) -> dict[str, Any]:
        """Give mode and negotiated limits, where it tells them."""
        return {}

    def run(self, command: str, timeout_s: float = 60) -> str:
        return self.channel.run(command, timeout_s).output


class Isboot(Side):
    """Ours."""

    name = "isboot"

    def __init__(self, channel: Channel, portal: Portal, parameters: tuple[str, ...] = ()) -> None:
        super().__init__(channel, portal)
        self.parameters = parameters

    def up(self) -> str:
        words = " ".join(f"--param {text}" for text in self.parameters)
        attach = f"python3 -m isboot attach --json --initiator {INITIATOR} {words} {self.portal.url}"
        name = json.loads(self.run(f"modprobe ublk_drv; {attach}"))["device"]
        self.run(QUEUE.format(name=name, requests=127))
        return f"/dev/{name}"

    def version(self) -> str:
        return self.run("python3 -m isboot --version").splitlines()[0]

    def facts(self) -> dict[str, Any]:
        row = json.loads(self.run("python3 -m isboot status --json"))["devices"][0]
        return {name: row[name] for name in ("mode", "profile", "header_digest", "data_digest")} | {
            "queues": sum(len(lane["ublk_queues"]) for lane in row["lanes"])
        }


class OpenIscsi(Side):
    """The kernel's initiator, as Debian sets it up."""

    name = "open-iscsi-default"
    settings: tuple[str, ...] = ()
    requests = 0

    def up(self) -> str:
        portal = self.portal
        node = f"iscsiadm -m node -T {portal.target} -p {portal.address}:{portal.port}"
        self.run(START_ISCSID)
        self.run(f"{node} -o new")
        for setting in self.settings:
            name, value = setting.split("=")
            self.run(f"{node} -o update -n {name} -v {value}")
        self.run(f"{node} --login")
        name = self.run(FIND_DISK.format(target=portal.target), 30).strip()
        if self.requests:
            self.run(QUEUE.format(name=name, requests=self.requests))
        return f"/dev/{name}"

    def version(self) -> str:
        return self.run("iscsiadm --version").strip()


class OpenIscsiTuned(OpenIscsi):
    """The same with what its users tune."""

    name = "open-iscsi-tuned"
    settings = ("node.session.cmds_max=1024", "node.session.queue_depth=128")
    requests = 128


class QemuNbd(Side):
    """libiscsi behind the kernel's NBD client."""

    name = "qemu-nbd"

    def up(self) -> str:
        self.run(f"modprobe nbd && qemu-nbd --fork -c /dev/nbd0 -f raw --cache=none {self.portal.url}")
        self.run(f"{TRIES} test $(blockdev --getsize64 /dev/nbd0) -gt 0 && exit; sleep 0.1; done; exit 1")
        return "/dev/nbd0"

    def version(self) -> str:
        found = re.search(r"qemu-nbd ([\d.]+)", self.run("qemu-nbd --version"))
        return f"qemu-nbd {found[1]}" if found else "qemu-nbd"


PEERS: dict[str, type[Side]] = {side.name: side for side in (OpenIscsi, OpenIscsiTuned, QemuNbd)}
