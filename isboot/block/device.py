"""
A ublk device: its control commands, in the order the kernel wants them.

ADD_DEV -> SET_PARAMS -> (lanes open /dev/ublkcN and fetch every tag) -> START_DEV -> serve; after the death
of the worker START_USER_RECOVERY -> (lanes again) -> END_USER_RECOVERY; at the end STOP_DEV -> DEL_DEV.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from typing import Any

from isboot._engine import ffi, lib
from isboot.block import features
from isboot.block.parameters import Parameters
from isboot.block.provisioning import Provisioning
from isboot.errors import BlockError, ExitStatus
from isboot.units import SECTOR_BYTES

ANY_DEVICE = 0xFFFFFFFF
NO_QUEUE = 0xFFFF
NOBODY = -1  #: as pid of a device's server
NOTHING = Provisioning()
RECOVERY_RETRY_S = 0.005  #: between two tries while the kernel still lets go of the dead worker's files
RECOVERY_GIVE_UP_S = 120.0

HINTS = {
    errno.ENOENT: "load the driver: modprobe ublk_drv (Linux 6.3 or newer with CONFIG_BLK_DEV_UBLK)",
    errno.EACCES: "run it as root",
    errno.EPERM: "run it as root; if you are: is io_uring forbidden? sysctl kernel.io_uring_disabled",
    errno.EOPNOTSUPP: "the kernel's ublk driver does not know this; isboot is tested on 6.12 and 7.2",
    errno.EBUSY: "another process serves this device",
    errno.ENODEV: "the device is gone",
}
STATUS = {
    errno.ENOENT: ExitStatus.UNAVAILABLE,
    errno.EACCES: ExitStatus.NOT_PERMITTED,
    errno.EPERM: ExitStatus.NOT_PERMITTED,
    errno.EBUSY: ExitStatus.TRY_AGAIN,
}


class Control:
    """
    /dev/ublk-control with a ring of its own; used by one thread at a time.

    :raises BlockError: no ublk driver (exit status 69), not root (77)
    """

    def __init__(self) -> None:
        error = ffi.new("struct isboot_error *")
        pointer = lib.isboot_control_create(error)
        if pointer == ffi.NULL:
            code = -error.code
            raise BlockError(
                ffi.string(error.text).decode(), HINTS.get(code, ""), STATUS.get(code, ExitStatus.FAILED)
            )
        self._control = ffi.gc(pointer, lib.isboot_control_destroy)

    def run(self, name: str, device_id: int, *, buffer: Any = None, length: int = 0, data: int = 0) -> None:
        """
        Run one control command and wait for it.

        :param name: of the command without its prefix: "ADD_DEV"
        :raises BlockError: what the kernel answered
        """
        code = self.try_run(name, device_id, buffer=buffer, length=length, data=data)
        if code < 0:
            where = "" if device_id == ANY_DEVICE else f" of ublkb{device_id}"
            raise BlockError(
                f"{name}{where}: {os.strerror(-code)}",
                HINTS.get(-code, ""),
                STATUS.get(-code, ExitStatus.FAILED),
            )

    def try_run(
        self, name: str, device_id: int, *, buffer: Any = None, length: int = 0, data: int = 0
    ) -> int:
        """Run one control command; 0 or a negative errno."""
        command = ffi.new("struct isboot_control_command *")
        command.operation = getattr(lib, f"ISBOOT_UBLK_CMD_{name}")
        command.device_id = device_id
        command.queue_id = NO_QUEUE
        command.length_bytes = length
        command.buffer = ffi.NULL if buffer is None else buffer
        command.data = data
        return int(lib.isboot_control_run(self._control, command))


@dataclass(frozen=True, slots=True)
class Info:
    """
    :param state: ISBOOT_UBLK_S_*
    :param server_pid: of the process that serves it; NOBODY once it is stopped, on 7.2 also once its server
        is dead (6.12 keeps the pid then)
    """

    state: int
    server_pid: int

    @property
    def is_stopped(self) -> bool:
        return self.state == int(lib.ISBOOT_UBLK_S_DEV_DEAD)


class Device:
    """One ublk device, seen from the process that serves it or is about to."""

    def __init__(self, control: Control, device_id: int, queues: int, depth: int) -> None:
        self._control = control
        self.device_id = device_id
        self.queues = queues
        self.depth = depth
        self.flags = 0

    @property
    def name(self) -> str:
        return f"ublkb{self.device_id}"

    @classmethod
    def add(cls, control: Control, *, queues: int, depth: int, max_io_bytes: int) -> Device:
        """
        ADD_DEV: /dev/ublkcN appears.

        :raises BlockError: refused, or the kernel lacks a feature we cannot do without (exit status 69)
        """
        info = ffi.new("struct isboot_ublk_device_info *")
        info.nr_hw_queues = queues
        info.queue_depth = depth
        info.max_io_buf_bytes = max_io_bytes
        info.dev_id = ANY_DEVICE
        info.flags = features.wanted_flags()
        control.run("ADD_DEV", ANY_DEVICE, buffer=info, length=ffi.sizeof(info[0]))
        # the kernel writes back what it made of it: fewer queues than asked for, flags it does not know gone
        device = cls(control, int(info.dev_id), int(info.nr_hw_queues), int(info.queue_depth))
        device.flags = int(info.flags)
        lacking = features.missing(device.flags)
        if lacking:
            device.delete()
            names = ", ".join(f"{row.name} (Linux {row.since}: {row.why})" for row in lacking)
            raise BlockError(
                f"ADD_DEV: the kernel's ublk driver lacks {names}",
                "boot a newer kernel",
                ExitStatus.UNAVAILABLE,
            )
        return device

    def set_parameters(self, parameters: Parameters, provisioning: Provisioning = NOTHING) -> None:
        """
        SET_PARAMS, and read back: parameter types the kernel does not know are dropped without a word.

        :raises BlockError: refused, or not taken as given
        """
        wire = ffi.new("struct isboot_ublk_parameters *")
        size = ffi.sizeof(wire[0])
        wire.len = size
        wire.types = lib.ISBOOT_UBLK_PARAM_TYPE_BASIC
        wire.attrs = parameters.attributes
        wire.logical_bs_shift = parameters.logical_bs_shift
        wire.physical_bs_shift = parameters.physical_bs_shift
        wire.io_opt_shift = parameters.io_opt_shift
        wire.io_min_shift = parameters.io_min_shift
        wire.max_sectors = parameters.max_sectors
        wire.dev_sectors = parameters.dev_sectors
        if provisioning.max_discard_sectors or provisioning.max_write_zeroes_sectors:
            wire.types |= lib.ISBOOT_UBLK_PARAM_TYPE_DISCARD
            wire.discard_alignment = provisioning.alignment_bytes
            wire.discard_granularity = provisioning.granularity_bytes
            wire.max_discard_sectors = provisioning.max_discard_sectors
            wire.max_write_zeroes_sectors = provisioning.max_write_zeroes_sectors
            wire.max_discard_segments = 1  # the driver takes no other
        self._control.run("SET_PARAMS", self.device_id, buffer=wire, length=size)
        back = ffi.new("struct isboot_ublk_parameters *")
        back.len = size
        self._control.run("GET_PARAMS", self.device_id, buffer=back, length=size)
        if back.dev_sectors != wire.dev_sectors or back.attrs != wire.attrs:
            raise BlockError(
                f"SET_PARAMS of {self.name}: the kernel kept {back.dev_sectors} sectors, attributes "
                f"{back.attrs:#x}, instead of {wire.dev_sectors} and {wire.attrs:#x}"
            )

    def open(self) -> int:
        """
        Open /dev/ublkcN, which one process at a time may do.

        :raises BlockError: it cannot be opened
        """
        path = f"/dev/ublkc{self.device_id}"
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise BlockError(
                f"opening {path}: {error.strerror}",
                HINTS.get(error.errno or 0, ""),
                STATUS.get(error.errno or 0, ExitStatus.FAILED),
            ) from error

    def start(self) -> None:
        """START_DEV: the disk appears. It scans partitions first (until 6.19), so lanes must serve."""
        self._control.run("START_DEV", self.device_id, data=os.getpid())

    def info(self) -> Info | None:
        """Give what the driver knows of it; None when there is no device of this number."""
        info = ffi.new("struct isboot_ublk_device_info *")
        code = self._control.try_run("GET_DEV_INFO", self.device_id, buffer=info, length=ffi.sizeof(info[0]))
        return Info(int(info.state), int(info.ublksrv_pid)) if code == 0 else None

    def start_recovery(self) -> int:
        """
        START_USER_RECOVERY, again while the kernel is not done with the worker that died.

        :return: how many tries were answered EBUSY
        :raises BlockError: it cannot be recovered, or not within RECOVERY_GIVE_UP_S
        """
        deadline = time.monotonic() + RECOVERY_GIVE_UP_S
        tries = 0
        while True:
            code = self._control.try_run("START_USER_RECOVERY", self.device_id)
            if code == 0:
                return tries
            if code != -errno.EBUSY or time.monotonic() > deadline:
                raise BlockError(f"START_USER_RECOVERY of {self.name}: {os.strerror(-code)}")
            tries += 1
            # the driver has no event for "quiesced": it is asked
            time.sleep(RECOVERY_RETRY_S)

    def end_recovery(self) -> None:
        """END_USER_RECOVERY: this process serves now; what was in flight comes again."""
        self._control.run("END_USER_RECOVERY", self.device_id, data=os.getpid())

    def resize(self, capacity_bytes: int) -> bool:
        """
        UPDATE_SIZE: the disk has that size from now on. False where the kernel cannot (before 6.16).

        :raises BlockError: it refused
        """
        info = ffi.new("struct isboot_ublk_device_info *")
        self._control.run("GET_DEV_INFO", self.device_id, buffer=info, length=ffi.sizeof(info[0]))
        if not info.flags & lib.ISBOOT_UBLK_F_UPDATE_SIZE:
            return False
        self._control.run("UPDATE_SIZE", self.device_id, data=capacity_bytes // SECTOR_BYTES)
        return True

    def stop(self) -> None:
        """STOP_DEV: the disk goes. Lanes must serve until it returns."""
        self._control.run("STOP_DEV", self.device_id)

    def delete(self) -> None:
        """DEL_DEV: blocks while anybody has /dev/ublkcN open or mapped."""
        self._control.run("DEL_DEV", self.device_id)
