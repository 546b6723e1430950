"""
What udev is told of a device: a file of properties, read by our rule, so that no program runs in udev.

Written between ADD_DEV and START_DEV, when the disk does not exist yet; the links appear with the disk.
"""

from __future__ import annotations

import os
from pathlib import Path

from isboot.errors import BlockError
from isboot.values import LunFacts, PathConfig

DIRECTORY = Path("/run/isboot/udev")
SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789#+-.:=@_")


def _safe(text: str) -> str:
    """Keep what may stand in a link's name, the rest as "_": a target's words end up in /dev/disk."""
    return "".join(letter if letter in SAFE else "_" for letter in text.strip())


def _lun_number(lun: bytes) -> str:
    """
    Give a LUN as udev's path_id names it: decimal below 256, all else by its bytes.

    :source: systemd src/udev/udev-builtin-path_id.c: two words and zeroes; further words are ours
    """
    if not any(lun[2:]) and lun[0] == 0:
        return str(lun[1])
    return "0x" + lun.hex()


def properties(
    facts: LunFacts, path: PathConfig, queue_depth: int, *, is_boot_lun: bool = False
) -> dict[str, str]:
    """
    Give the properties of a device by their names in udev.

    :param is_boot_lun: it gets a link of a name that is the same on every machine

    `ID_SERIAL` and `ID_WWN` are as scsi_id makes them, so a disk keeps its names when it moves from the
    kernel's initiator to isboot.
    """
    short = _safe(facts.serial)
    words = {
        "ID_BUS": "scsi",
        "ID_TYPE": "disk",
        "ID_VENDOR": _safe(facts.vendor),
        "ID_MODEL": _safe(facts.product),
        "ID_REVISION": _safe(facts.revision),
        "ID_SCSI": "1",
        "ID_PATH": f"ip-{path.portal.host}:{path.portal.port}-iscsi-{_safe(path.target_name)}"
        f"-lun-{_lun_number(path.lun)}",
        # One tag is never given to the block layer: on 6.12 a worker that dies with every tag in flight is
        # noticed only when queue/io_timeout fires.
        "ISBOOT_NR_REQUESTS": str(max(1, queue_depth - 1)),
        "ISBOOT_BOOT": "1" if is_boot_lun else "",
    }
    for designator in facts.designators:
        kind, _, value = designator.partition(".")
        value = _safe(value)
        if kind == "naa":
            words.setdefault("ID_SERIAL", f"3{value}")
            words.setdefault("ID_WWN", f"0x{value[:16]}")
            words.setdefault("ID_WWN_WITH_EXTENSION", f"0x{value}")
        elif kind == "eui":
            words.setdefault("ID_SERIAL", f"2{value}")
        elif kind == "t10":
            words.setdefault("ID_SERIAL", f"1{value}")
    if short:
        words["ID_SERIAL_SHORT"] = short
        words["ID_SCSI_SERIAL"] = short
        words.setdefault("ID_SERIAL", f"S{_safe(facts.vendor)}_{_safe(facts.product)}_{short}")
    return {name: value for name, value in words.items() if value}


def write(device_name: str, words: dict[str, str], directory: Path = DIRECTORY) -> None:
    """
    Write the properties of a device, whole or not at all.

    :raises BlockError: the directory cannot be written
    """
    final = directory / device_name
    partial = directory / f".{device_name}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        partial.write_text("".join(f"{name}={value}\n" for name, value in words.items()), encoding="utf-8")
        os.replace(partial, final)
    except OSError as error:
        raise BlockError(f"writing {final} for udev: {error.strerror}") from error


def remove(device_name: str, directory: Path = DIRECTORY) -> None:
    (directory / device_name).unlink(missing_ok=True)
