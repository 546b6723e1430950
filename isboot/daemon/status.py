"""A device in the document of `isboot status --json`, as far as configuration and counters tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isboot._engine import lib
from isboot.daemon.channel import Connected, Live
from isboot.daemon.shared import Shared, latency_us
from isboot.values import BootConfig

LANE_STATES = {
    lib.ISBOOT_LANE_NEW: "reconnecting",
    lib.ISBOOT_LANE_LIVE: "live",
    lib.ISBOOT_LANE_RECONNECTING: "reconnecting",
    lib.ISBOOT_LANE_STOPPED: "failed",
}


def device_row(
    config: BootConfig, live: Live, connected: Mapping[int, Connected], shared: Shared
) -> dict[str, Any]:
    """
    Give every key of a device; those of its processes are 0 here.

    :param connected: lane -> what it said of its last session
    """
    path = config.paths[0]
    facts = live.facts
    lanes = [lane_row(live, shared, said) for _, said in sorted(connected.items())]
    return {
        "device": f"ublkb{live.device_id}",
        "boot": config.is_boot_lun,
        "target": path.target_name,
        "lun": path.lun.hex(),
        "state": "live" if all(row["state"] == "live" for row in lanes) else "reconnecting",
        "size_bytes": facts.capacity_blocks * facts.block_size_bytes,
        "block_size_bytes": facts.block_size_bytes,
        "mode": "copy",
        "profile": config.policy.profile,
        "header_digest": any(said.header_digest for said in connected.values()),
        "data_digest": any(said.data_digest for said in connected.values()),
        "serial": facts.serial,
        "designators": list(facts.designators),
        "standby_pid": 0,
        "worker_pid": 0,
        "worker_replacements": 0,
        "lanes": lanes,
    }


def lane_row(live: Live, shared: Shared, said: Connected) -> dict[str, Any]:
    """Give every key of a lane."""
    counters = shared.lane_counters(said.lane)
    return {
        "index": said.lane,
        "ublk_queues": list(range(live.queues)),
        "portal": said.portal,
        "nic": said.nic,
        "isid": said.isid,
        "state": LANE_STATES.get(int(counters.state), "failed"),
        "reconnects": int(counters.reconnects),
        "in_flight": int(counters.in_flight),
        "reads": int(counters.reads),
        "writes": int(counters.writes),
        "read_bytes": int(counters.read_bytes),
        "written_bytes": int(counters.written_bytes),
        "latency_us": latency_us(counters),
    }
