"""
The lanes of a device: a thread each, which moves blocks in C and comes back to Python only for policy.

The thread that made a ring uses it to its end, and the thread that fetched ublk's tags must live as long as
the device: so it is this thread, too, that connects and logs in again after a loss.  New requests wait in
the ring meanwhile.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from isboot import boot
from isboot._engine import lib
from isboot.block import provisioning
from isboot.daemon import armour, leave
from isboot.daemon.channel import Connected, Message
from isboot.daemon.log import Level, Log
from isboot.daemon.shared import Shared
from isboot.engine.lane import Lane, Loss, Reason
from isboot.errors import IdentityError, IsbootError
from isboot.session import retry
from isboot.session.control import Control as ScsiControl
from isboot.values import BootConfig, LunFacts, NicState

NAP_S = 1.0  #: at most at a time between attempts: a shutdown may begin meanwhile, and want an end


@dataclass(frozen=True, slots=True)
class Opened:
    """The ublk device a lane is to serve."""

    ublkc_fd: int
    first_queue: int
    queues: int
    queue_depth: int


class LaneThread:
    """
    :param first_tag: where its tags begin among those of all lanes
    :param depth: how many they are: of all ublk queues it serves
    :param report: called on the lane's thread with what the launcher should know
    :param on_growth: called on the lane's thread when the LUN is larger than it was
    :param on_end: called on the lane's thread when it can serve no more
    """

    def __init__(
        self,
        index: int,
        device_id: int,
        first_tag: int,
        depth: int,
        config: BootConfig,
        nics: Mapping[int, NicState],
        facts: LunFacts,
        shared: Shared,
        log: Log,
        report: Callable[[Message], None],
        on_growth: Callable[[LunFacts], None],
        on_end: Callable[[LaneThread], None],
    ) -> None:
        self.index = index
        self._config = config
        self._nics = nics
        self._facts = facts
        self._counters = shared.lane_counters(index)
        self._portals = shared.portals
        self._log = log
        self._report = report
        self._on_growth = on_growth
        self._on_end = on_end
        policy = config.policy
        offered = provisioning.from_lun(facts)
        self.lane = Lane(
            index=index,
            device_id=device_id,
            depth=depth,
            max_io_bytes=policy.max_io_bytes,
            block_size_bytes=facts.block_size_bytes,
            command_timeout_ms=policy.command_timeout_ms,
            nop_interval_ms=policy.nop_interval_ms,
            nop_timeout_ms=policy.nop_timeout_ms,
            has_fua=facts.has_fua,
            has_write_same=offered.has_write_same,
            discard=offered.discard,
            buffers=shared.lane_buffers(first_tag),
            shared=shared.counters,
        )
        self.attached: boot.Attached | None = None
        self.is_abandoned = False  #: the device was stopped, every tag was given back
        self.has_given_up = False  #: no path came back in time: nothing was flushed, nobody was told
        self.error: BaseException | None = None
        self._short_lived = retry.ShortLived()
        self._opened: Opened | None = None
        self._shutdown_at = math.inf  #: when one began
        self._end_give_up_at = math.inf
        self._has_tried_late = False  #: after that
        self._may_open = threading.Event()
        self._has_ring = threading.Event()
        self._has_fetched = threading.Event()
        self._has_ended = threading.Event()
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name=f"lane{index}", daemon=True)

    # --- called from the worker's main thread ---

    def start(self) -> None:
        """Make the thread and its ring, ahead of the need."""
        self._thread.start()
        self._has_ring.wait()
        self._raise_error()

    def open(self, opened: Opened, attached: boot.Attached | None) -> None:
        """
        Fetch every tag of the device, then serve it.

        :param attached: a session that stands already, or None: the lane makes its own
        """
        self._opened = opened
        self.attached = attached
        self._may_open.set()
        self._has_fetched.wait()
        self._raise_error()

    def stop(self) -> None:
        """Give up connecting, let go of the session; used when the end was asked for."""
        self._is_stopping.set()
        self.lane.stop(drain=False)

    def expect(self, facts: LunFacts) -> None:
        """Hold the next login to this."""
        self._facts = facts

    def expect_shutdown(self, *, is_near: bool) -> None:
        """
        A shutdown has begun: with every path down for so long from now on I/O fails, so that power-off ends.

        :param is_near: False takes it back
        """
        self._shutdown_at = time.monotonic() if is_near else math.inf

    def expect_end(self, within_s: float) -> None:
        """The device is being ended: a path that does not come back within this time never will."""
        self._end_give_up_at = min(self._end_give_up_at, time.monotonic() + within_s)

    def join(self, timeout_s: float) -> bool:
        return self._has_ended.wait(timeout_s)

    def _raise_error(self) -> None:
        if self.error is not None:
            raise self.error

    # --- the lane's own thread ---

    def _live(self) -> None:
        try:
            armour.make_real_time(self._log)
            self.lane.start()
            self._has_ring.set()
            self._may_open.wait()
            if self._opened is None:
                return
            opened = self._opened
            self.lane.open_ublk(opened.ublkc_fd, opened.first_queue, opened.queues, opened.queue_depth)
            self._has_fetched.set()
            self._serve()
        except BaseException as error:
            self.error = error
        finally:
            self._has_ring.set()
            self._has_fetched.set()
            self._has_ended.set()
            self._on_end(self)

    def _serve(self) -> None:
        lost_at = time.monotonic()
        waits_s = retry.NO_WAITS
        while not self._is_stopping.is_set():
            if self.attached is None:
                self._counters.state = lib.ISBOOT_LANE_RECONNECTING
                self.attached = self._connect(lost_at, waits_s)
            if self.attached is None:
                self._fail_all()
                return
            self.lane.attach(self.attached.session)
            attached_at = time.monotonic()
            self.announce()
            if self.attached.facts.capacity_blocks > self._facts.capacity_blocks:
                self._on_growth(self.attached.facts)
            reason, loss = self.lane.run()
            if reason == Reason.ABANDONED:
                self.is_abandoned = True
                self.lane.close_ublk()
                self._take_leave(self.attached)
            self.attached.sock.close()
            if reason != Reason.LOST:
                return
            lost_at = time.monotonic()
            self._short_lived.note(self.attached.path.index, lost_at - attached_at)
            waits_s = self._waits_after(loss, self.attached)
            self._tell_loss(loss)
            self.attached = None

    def _take_leave(self, attached: boot.Attached) -> None:
        """
        The device is gone: nothing comes any more. Have what came written to the medium, and log out.

        Over the session there is; where that one breaks at this very moment, over a new one.

        :raises IsbootError: neither worked: what the target holds in a volatile cache may be lost
        """
        try:
            cmd_sn, exp_stat_sn, max_cmd_sn = self.lane.detach()
            session = replace(attached.session, cmd_sn=cmd_sn, exp_stat_sn=exp_stat_sn, max_cmd_sn=max_cmd_sn)
            leave.flush_and_log_out(ScsiControl(attached.sock, session), self._facts, self._log)
        except IsbootError as error:
            self._log.say(f"{error.message}: flushing over a new connection", Level.WARNING)
            attached.sock.close()
            again = boot.connect(
                self._config, attached.path, self._nics, self.index, self._log.say,
                expected=self._facts, portals=self._portals, wait=partial(self._pause, math.inf),
            )  # fmt: skip
            try:
                leave.flush_and_log_out(ScsiControl(again.sock, again.session), self._facts, self._log)
            finally:
                again.sock.close()

    def _waits_after(self, loss: Loss, attached: boot.Attached) -> Mapping[int, float]:
        """Give the seconds before the next login, by the index of a path: it waits that was told to."""
        if loss.time2wait_s > retry.MAX_TIME2WAIT_S:
            self._log.say_once(
                f"lane{self.index} Time2Wait",
                f"{attached.session.portal} asks for {loss.time2wait_s} s without a login (Time2Wait):"
                f" not more than {retry.MAX_TIME2WAIT_S:g} s are kept",
                Level.WARNING,
            )
        waits_s, index = self._short_lived.waits_s(), attached.path.index
        waits_s[index] = max(waits_s.get(index, 0.0), min(float(loss.time2wait_s), retry.MAX_TIME2WAIT_S))
        return waits_s

    def _connect(self, lost_at: float, waits_s: Mapping[int, float]) -> boot.Attached | None:
        """Try every path at its pace; None when the give-up time is over or the end was asked for."""
        policy, paths = self._config.policy, self._config.paths
        schedule = retry.Schedule(len(paths), policy.login_jitter_ms, is_boot=False, waits_s=waits_s)
        attempt = 0
        while True:
            number, pause_s = schedule.next()
            if not self._sleep(pause_s, lost_at, is_first=attempt == 0):
                return None
            attempt += 1
            try:
                attached = boot.connect(
                    self._config, paths[number], self._nics, self.index, self._say_once_each(),
                    expected=self._facts, portals=self._portals, wait=partial(self._pause, lost_at),
                )  # fmt: skip
            except Exception as problem:
                # whatever it is, also a fault of ours: I/O waits, and the next attempt may work
                error = (
                    problem if isinstance(problem, IsbootError) else IsbootError(f"connecting: {problem!r}")
                )
                self.lane.probe_attempt(attempt, -int(error.exit_status))
                pace = schedule.failed(number, error)
                level = Level.ERROR if pace in (retry.REFUSED, retry.ANOTHER_DISK) else Level.WARNING
                if isinstance(error, IdentityError):
                    error.message += "; I/O waits, nothing is written to it"
                again = f"trying again, up to {pace.pauses_s[-1]:g} s apart"
                self._log.say_once(f"lane{self.index} path{number}", f"{error.message}; {again}", level)
                continue
            self.lane.probe_attempt(attempt, 0)
            connected = f"connected to {attached.session.portal} again"
            if self._short_lived.is_one(number):
                self._log.say_once(
                    f"lane{self.index} connected", f"{connected}: sessions there do not last", Level.NOTICE
                )
                return attached
            for index in range(len(paths)):
                self._log.forget(f"lane{self.index} path{index}")
            self._log.say(f"{connected} after {time.monotonic() - lost_at:.3f} s", Level.NOTICE)
            return attached

    def _say_once_each(self) -> Callable[[str], None]:
        """Give what says the lines of an attempt; those that stay the same only now and then."""
        numbers = itertools.count()
        return lambda line: self._log.say_once(f"lane{self.index} line{next(numbers)}", line)

    def _give_up_at(self, lost_at: float) -> float:
        """Give the time after which a loss is final; a shutdown's time starts when both have happened."""
        policy = self._config.policy
        return min(
            lost_at + policy.give_up_ms / 1000,
            max(lost_at, self._shutdown_at) + policy.shutdown_give_up_ms / 1000,
            self._end_give_up_at,
        )

    def _sleep(self, seconds: float, lost_at: float, *, is_first: bool = False) -> bool:
        """
        Wait so long; False if there is no attempt to be made any more.

        :param is_first: the attempt after this is made even where time is over: nobody has tried yet
        """
        end = time.monotonic() + seconds
        while True:
            now, give_up = time.monotonic(), self._give_up_at(lost_at)
            if now > give_up:
                if not is_first or self._has_tried_late or self._is_stopping.is_set():
                    return False
                # once: sessions that stand and break again must not keep a disk that is to end
                self._has_tried_late = now > self._end_give_up_at
                return True
            if self._is_stopping.wait(min(NAP_S, max(0.0, end - now), give_up - now + 0.001)):
                return False
            if time.monotonic() >= end:
                return True

    def _pause(self, lost_at: float, seconds: float, is_ready: bool) -> bool:
        """
        Wait for a disk that was reached.

        Once it is ready no give-up time counts, for a path is there; nor does it for the last flush.

        :param lost_at: inf for that
        """
        if is_ready or math.isinf(lost_at):
            return not self._is_stopping.wait(seconds)
        return self._sleep(seconds, lost_at)

    def announce(self) -> None:
        """Report the session the lane has, if it has one."""
        attached = self.attached
        if attached is None:
            return
        session = attached.session
        self._report(
            Connected(
                self.index,
                str(session.portal),
                attached.interface,
                session.isid.hex(),
                session.header_digest,
                session.data_digest,
            )
        )

    def _tell_loss(self, loss: Loss) -> None:
        session = self.attached.session if self.attached else None
        where = f" to {session.portal}" if session else ""
        code = f": {os.strerror(-loss.code)}" if loss.code else ""
        detail = f" ({loss.detail})" if loss.detail else ""
        text = f"connection{where} lost: {loss.cause_text}{code}{detail}"
        if self.attached is not None and self._short_lived.is_one(self.attached.path.index):
            text += "; again soon after the login"
            self._log.say_once(f"lane{self.index} lost", text, Level.WARNING)
        else:
            self._log.say(f"{text}; {loss.in_flight} commands wait", Level.WARNING)

    def _fail_all(self) -> None:
        """No session and no hope of one: what waits gets an error, so that power-off ends."""
        self._log.say("no path to the disk within the give-up time: I/O fails from now on", Level.ERROR)
        self.has_given_up = True
        self.lane.fail(-errno.ENOLINK)
        self.is_abandoned = True
        self.lane.close_ublk()
