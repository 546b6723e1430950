"""
The process that serves a device: it made it (`serve`), or took it over from one that died (`take_over`).
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from isboot import boot
from isboot.block import udev
from isboot.block.device import NOBODY, Control, Device
from isboot.daemon import armour, first_connection, heritage, leave
from isboot.daemon.channel import (
    Channel,
    Done,
    Failed,
    Grown,
    Live,
    Message,
    Others,
    Refused,
    Request,
    wait_readable,
)
from isboot.daemon.lanes import LaneThread, Opened
from isboot.daemon.log import Level, Log
from isboot.daemon.shared import Shared
from isboot.daemon.timeline import Timeline, tell
from isboot.errors import DaemonError, ExitStatus, IsbootError
from isboot.session import commands as scsi
from isboot.session.document import negotiated_line
from isboot.values import BootConfig, LunFacts, NicState

FINISH_TIMEOUT_S = 40.0  #: two exchanges of 15 s that get no answer, and a margin
END_GIVE_UP_S = 15.0  #: for a path to come back to a device that is being ended
LATE_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Task:
    """All a worker needs, made by the launcher before the fork."""

    config: BootConfig
    nics: Mapping[int, NicState]
    shared: Shared
    log: Log
    channel: Channel
    is_armed: bool
    retry_s: float  #: how long the first connection may be tried again
    timeline: Timeline = field(default_factory=Timeline)


class Worker:
    """One process's part in a device."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._device: Device | None = None
        self._ublkc_fd = -1
        self._claim_fd = -1
        self._lanes: list[LaneThread] = []
        self._shares: list[tuple[int, int]] = []  #: the ublk queues of each lane: first and end
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._control: Control | None = None
        self._channel = task.channel
        self._live: Live | None = None
        self._is_shutdown_near = False
        self._grown: LunFacts | None = None  #: the LUN, larger than the disk is

    # --- the two ways to begin ---

    def serve(self) -> None:
        """Log in, make the device, and serve it until told to finish."""
        task = self._task
        first = first_connection.connect(task)
        task.log.say(negotiated_line(first.session), Level.DEBUG)
        armour.put_on(task.log, is_armed=task.is_armed)
        if task.config.policy.queues > 1:
            task.log.say(f"queues={task.config.policy.queues}: this version serves with one", Level.WARNING)
        self._control = Control()
        device = boot.make_disk(self._control, first, task.config, queues=1)
        self._device = device
        self._make_lanes(device, first.facts, 1)
        try:
            self._open(device, first)
            device.start()
        except BaseException:
            self._remove()
            raise
        task.timeline.reach("device", f"/dev/{device.name}")
        task.log.say(f"device: /dev/{device.name}, {_size(first.facts)}", Level.NOTICE)
        if task.config.is_boot_lun and (others := self._others(first)):
            self._channel.send(Others(others))
        self._attend(Live(device.device_id, device.queues, device.depth, first.facts))

    def _others(self, first: boot.Attached) -> tuple[bytes, ...]:
        """Give the LUNs to be attached beside the boot LUN."""
        luns = self._task.config.luns
        wanted = first.disks if luns == "all" else () if isinstance(luns, str) else luns
        return tuple(lun for lun in wanted if lun != first.path.lun)

    def take_over(
        self, live: Live, dead_pid: int, pidfd: int, *, spent: Set[int] = frozenset(), is_last: bool = False
    ) -> None:
        """
        Stand by until the worker behind `pidfd` dies, then serve its device.

        :param spent: pids of its other standbys, which ended: one may have taken over before it did
        :param is_last: it died while it ended the device: this process is to end it

        Everything is made ahead: between the death and END_USER_RECOVERY no file is opened but /dev/ublkcN,
        nothing is imported, no memory is mapped but the descriptors.
        """
        task = self._task
        armour.put_on(task.log, is_armed=task.is_armed)
        self._control = Control()
        device = Device(self._control, live.device_id, live.queues, live.depth)
        self._device = device
        self._make_lanes(device, live.facts, 1)
        if not self._wait_for_death(pidfd):
            return
        began = time.monotonic()
        info = device.info()
        if is_last and (info is None or info.is_stopped):
            self._end_what_is_left(device, live.facts, exists=info is not None)
            return
        if info is None or info.is_stopped or info.server_pid not in (dead_pid, *spent, NOBODY):
            # its number may be another device's by now, whose server lives, or which is just being made
            task.log.say(f"standby of worker {dead_pid}: {device.name} is not its device any more: leaving")
            return
        task.shared.counters.worker_generation += 1
        retries = device.start_recovery()
        self._open(device, None)
        device.end_recovery()
        seconds = time.monotonic() - began
        self._attend(Live(live.device_id, live.queues, live.depth, live.facts, retries, seconds))

    def _end_what_is_left(self, device: Device, facts: LunFacts, *, exists: bool) -> None:
        """
        The worker died between the end of the disk and the flush: flush, log out, remove.

        :raises DaemonError: what was written may not be on the medium; the device is gone all the same
        """
        task = self._task
        problem: IsbootError | None = None
        try:
            leave.over_a_new_session(task.config, task.nics, facts, task.shared, task.log)
        except IsbootError as error:
            problem = error
        if exists:
            leave.remove(device)
        done = Done("finish")
        if problem is not None:
            done = leave.without_target(device.name, problem.message, task.shared, task.log)
        self._channel.send(done)

    def _wait_for_death(self, pidfd: int) -> bool:
        """True once the worker is dead; a launcher that is gone is no reason to leave."""
        fds = [pidfd, self._task.channel.fileno()]
        while True:
            ready = wait_readable(fds, None)
            if pidfd in ready:
                return True
            if self._task.channel.receive() is None:
                fds = [pidfd]
                arm_guard()

    @property
    def is_live(self) -> bool:
        """Whether the device has been served by this process."""
        return self._live is not None

    # --- lanes ---

    def _make_lanes(self, device: Device, facts: LunFacts, count: int) -> None:
        """Give every lane its share of the device's queues, as even as it goes, and its ring."""
        task = self._task
        edges = [index * device.queues // count for index in range(count + 1)]
        self._shares = list(pairwise(edges))
        for index, (first, end) in enumerate(self._shares):
            lane = LaneThread(
                index,
                device.device_id,
                first * device.depth,
                (end - first) * device.depth,
                task.config,
                task.nics,
                facts,
                task.shared,
                task.log,
                self._report,
                self._on_growth,
                self._on_end,
            )
            lane.start()
            self._lanes.append(lane)

    def _open(self, device: Device, first: boot.Attached | None) -> None:
        self._ublkc_fd = device.open()
        for index, (lane, (begin, end)) in enumerate(zip(self._lanes, self._shares, strict=True)):
            share = Opened(self._ublkc_fd, begin, end - begin, device.depth)
            lane.open(share, first if index == 0 else None)

    def _report(self, message: Message) -> None:
        self._channel.send(message)

    def _on_growth(self, facts: LunFacts) -> None:
        self._grown = facts
        os.eventfd_write(self._wake_fd, 1)

    def _on_end(self, _lane: LaneThread) -> None:
        os.eventfd_write(self._wake_fd, 1)

    # --- serving, seen from the main thread ---

    def _attend(self, live: Live) -> None:
        """Say that the device is served; then wait for requests and for lanes that end."""
        self._live = live
        self._greet()
        channel = self._task.channel
        door: socket.socket | None = None
        is_alone = False  #: no launcher, and none will come
        while True:
            news = [self._wake_fd, *([] if is_alone else [(door or channel).fileno()])]
            ready = wait_readable(news, None)
            if self._wake_fd in ready:
                os.eventfd_read(self._wake_fd)
                self._check_lanes()
                self._pass_growth_on()
                if all(lane.is_abandoned for lane in self._lanes):
                    self._remove()
                    self._channel.send(Done("gone"))
                    raise DaemonError(
                        f"serving ublkb{live.device_id}: somebody stopped the device from outside"
                    )
            if door is not None and door.fileno() in ready:
                self._channel = channel = Channel(door.accept()[0])
                door.close()
                door = None
                self._greet()
            elif door is None and channel.fileno() in ready:
                request = channel.receive()
                if request is None:
                    # the launcher is gone; the device stays, and waits for the next one
                    self._task.log.say("the launcher is gone, the device stays", Level.WARNING)
                    arm_guard()
                    is_alone = not self._task.config.is_boot
                    door = None if is_alone else heritage.open_door(live.device_id)
                elif isinstance(request, Request) and self._obey(request):
                    return

    def _greet(self) -> None:
        """Tell the launcher what it may not know yet, and leave it for one that comes later."""
        live = self._live
        assert live is not None  # noqa: S101 - set before the first call
        self._channel.send(replace(live, is_shutdown_near=self._is_shutdown_near))
        for lane in self._lanes:
            lane.announce()
        self._leave_word(live)

    def _leave_word(self, live: Live) -> None:
        task = self._task
        if task.config.is_boot:
            pid = os.getpid()
            left = heritage.Heritage(
                task.config, task.nics, live, pid, heritage.start_time(pid), task.shared.fd
            )
            try:
                heritage.leave(left)
            except OSError as error:
                # a full /run must not end the disk; a launcher that dies now will not be replaced
                task.log.say(f"leaving word for a later launcher: {error.strerror}", Level.WARNING)

    def _pass_growth_on(self) -> None:
        """
        Tell the kernel that the disk is larger.

        Where it cannot hear it, the size is kept to: a LUN that goes back to it is no other disk.
        """
        found, self._grown = self._grown, None
        device, live = self._device, self._live
        if found is None or device is None or live is None:
            return
        log = self._task.log
        text = f"{device.name}: the LUN has grown to {found.capacity_blocks} blocks: {_size(found)}"
        try:
            is_done = device.resize(found.capacity_blocks * found.block_size_bytes)
        except IsbootError as error:
            log.say_once("growth", f"{text}; {error.message}", Level.WARNING)
            return
        if not is_done:
            later = "Linux before 6.16 shows that after the next boot, or after detach and attach"
            log.say_once("growth", f"{text}; {later}", Level.WARNING)
            return
        log.say(text, Level.NOTICE)
        for lane in self._lanes:
            lane.expect(found)
        self._live = replace(live, facts=found)
        self._channel.send(Grown(found))
        self._leave_word(self._live)

    def _check_lanes(self) -> None:
        for lane in self._lanes:
            if lane.error is not None:
                raise lane.error

    def _obey(self, request: Request) -> bool:
        """Carry out a request; True when that was the last."""
        actions: dict[str, Callable[[], Message]] = {
            "claim": self._claim,
            "flush": self._flush,
            "finish": self._finish,
            "shutdown": lambda: self._expect_shutdown(is_near=True),
            "no-shutdown": lambda: self._expect_shutdown(is_near=False),
        }
        try:
            answer = actions[request.word]()
        except IsbootError as error:
            answer = Refused(request.word, error.message, error.hint, error.exit_status)
        self._channel.send(answer)
        return request.word == "finish"

    def _claim(self) -> Message:
        """Take the disk exclusively, so that nobody mounts it between this answer and its end."""
        assert self._device is not None  # noqa: S101 - set before _attend
        path = f"/dev/{self._device.name}"
        try:
            self._claim_fd = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            return Refused(
                "claim",
                f"detaching {path}: {error.strerror}",
                "it is mounted or otherwise in use: see findmnt, lsblk, /proc/swaps",
                ExitStatus.TRY_AGAIN,
            )
        return Done("claim")

    def _expect_shutdown(self, *, is_near: bool) -> Message:
        self._is_shutdown_near = is_near
        for lane in self._lanes:
            lane.expect_shutdown(is_near=is_near)
        return Done("shutdown")

    def _flush(self) -> Message:
        for lane in self._lanes[:1]:
            scsi.expect_good(lane.lane.exchange_scsi(scsi.synchronize_cache(), 0), "SYNCHRONIZE CACHE(16)")
        self._task.shared.counters.written_since_flush = 0
        return Done("flush")

    def _finish(self) -> Message:
        """
        The clean end: nothing comes any more, what came is on the medium, the target knows we are gone.

        Each lane flushes and logs out by itself once the kernel has given its tags back.
        """
        device = self._device
        assert device is not None  # noqa: S101 - set before _attend
        for lane in self._lanes:
            lane.expect_end(min(END_GIVE_UP_S, self._task.config.policy.shutdown_give_up_ms / 1000))
        device.stop()
        if self._claim_fd >= 0:
            os.close(self._claim_fd)
            self._claim_fd = -1
        late = [lane.index for lane in self._lanes if not lane.join(FINISH_TIMEOUT_S)]
        if late:
            # they still try to connect: let go of the device, or DEL_DEV waits for them
            for lane in self._lanes:
                lane.stop()
                lane.join(LATE_TIMEOUT_S)
        # from here on nothing is left that a worker after us could do better
        self._channel.send(Done("ended"))
        self._remove()
        if why := self._unclean(late):
            return leave.without_target(device.name, why, self._task.shared, self._task.log)
        return Done("finish")

    def _unclean(self, late: list[int]) -> str:
        """Say why what was written may not be on the medium, or ""."""
        for lane in self._lanes:
            if lane.error is not None:
                return lane.error.message if isinstance(lane.error, IsbootError) else repr(lane.error)
        if late:
            return f"no answer within {FINISH_TIMEOUT_S:g} s"
        if any(lane.has_given_up for lane in self._lanes):
            return "every path to it is down"
        return ""

    def _remove(self) -> None:
        device = self._device
        if device is None:
            return
        if self._ublkc_fd >= 0:
            os.close(self._ublkc_fd)
            self._ublkc_fd = -1
        device.delete()
        udev.remove(device.name)


def arm_guard() -> None:
    """Without a launcher nobody tells of a shutdown: be armed for it from now on."""
    os.kill(os.getpid(), signal.SIGUSR1)


def _size(facts: LunFacts) -> str:
    size_bytes = facts.capacity_blocks * facts.block_size_bytes
    return (
        f"{size_bytes / 2**30:.1f} GiB, {facts.block_size_bytes}-byte blocks, {facts.vendor} {facts.product}"
    )


def report_failure(task: Task, error: BaseException, *, is_boot: bool) -> int:
    """
    Say why this process ends; its exit status.

    :param is_boot: with this the boot ends
    """
    log, channel = task.log, task.channel
    log.trace(error)
    if isinstance(error, IsbootError):
        if is_boot:
            tell(log, task.timeline, error, "daemon", is_final=True)
        else:
            log.say(f"{error.message}" + (f" (hint: {error.hint})" if error.hint else ""), Level.ERROR)
        channel.send(Failed.of(error))
        return int(error.exit_status)
    import traceback

    where = traceback.extract_tb(error.__traceback__)[-1]
    text = f"internal error: {type(error).__name__}: {error} at {Path(where.filename).name}:{where.lineno}"
    log.say(text, Level.ERROR)
    channel.send(Failed(text, "please report this with the lines before it", int(ExitStatus.FAILED)))
    return int(ExitStatus.FAILED)
