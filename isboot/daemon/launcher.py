"""
The launcher: forks the worker and, ahead of need, a standby; answers the control socket.

It holds nothing of the device (no /dev/ublkcN, no socket to the target), so it may fork at any time: a child
that inherited the device's mapping would keep the kernel from handing it to the next worker.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from isboot import __version__
from isboot._engine import lib
from isboot.daemon import armour, channel, heritage, status, worker
from isboot.daemon.channel import Channel, Connected, Done, Failed, Grown, Live, Others, Refused, Request
from isboot.daemon.child import Child, reap
from isboot.daemon.control import Client, Server
from isboot.daemon.interrupts import Interrupts, Terminal
from isboot.daemon.log import Level, Log
from isboot.daemon.mounts import RootWatch
from isboot.daemon.shared import Shared
from isboot.daemon.timeline import Timeline, tell
from isboot.errors import BlockError, ExitStatus, IsbootError
from isboot.network import watch
from isboot.session.document import to_document
from isboot.values import BootConfig, NicState

ROOT_S = 60.0  #: for the root file system, from the device on, before something is said
LAST_TRIES = 3  #: of ending a device whose worker died at that
RESPAWN_S = 1.0  #: before a standby that ended at once is made again


@dataclass(slots=True)
class Launcher:
    """
    :param on_live: called once, when the device serves for the first time
    :param retry_s: how long the first connection may be tried again
    :param timeline: of a boot, to be marked to its end
    :param companions: who attaches the other LUNs once they are known
    :param interrupts: of a launcher in the foreground
    """

    config: BootConfig
    nics: Mapping[int, NicState]
    log: Log
    on_live: Callable[[str], None]
    retry_s: float
    is_armed: bool
    timeline: Timeline = field(default_factory=Timeline)
    companions: Channel | None = None
    interrupts: Interrupts | None = None
    _shared: Shared = field(init=False)
    _server: Server = field(init=False)
    _live: Live | None = None
    _worker: Child | None = None
    _standby: Child | None = None
    _spent: set[int] = field(default_factory=set)  #: pids of standbys that ended before they said Live
    _respawn_at: float | None = None
    _connected: dict[int, Connected] = field(default_factory=dict)
    _replacements: int = 0
    _root: RootWatch | None = None
    _root_late_at: float = math.inf
    _nic_watch: watch.Watch | None = None
    _failure: Failed | None = None
    _waiting: Client | None = None  #: who asked the worker for something
    _asked: str = ""  #: and for what
    _is_shutdown_near: bool = False
    _is_finishing: bool = False
    _has_ended: bool = False  #: the worker has flushed and logged out, or can do no more about it
    _is_interrupted: bool = False  #: before there was a device
    _last_tries: int = 0  #: of ending a device whose worker died at that
    _is_over: bool = False

    def run(self) -> IsbootError | None:
        """
        Keep the device until its end.

        :return: None after a clean end; the error when the device could not be made
        :raises KeyboardInterrupt: somebody interrupted the making
        """
        policy = self.config.policy
        self._shared = Shared.make(policy.depth, policy.max_io_bytes)
        self._server = Server()
        if self.config.is_boot:
            armour.ignore_endings()
        armour.put_on(self.log, is_armed=self.is_armed)
        first = self._fork("worker")
        if self.config.is_boot_lun:
            watch = RootWatch()
            self._root = watch if watch.fileno() >= 0 else None
        return self._keep(first)

    def adopt(self, left: heritage.Heritage) -> IsbootError | None:
        """
        Keep a device whose launcher died, as run() does.

        :raises DaemonError: its worker does not listen: the launcher lives
        """
        armour.ignore_endings()
        self._live = left.live
        policy = self.config.policy
        memory = os.open(f"/proc/{left.pid}/fd/{left.shared_fd}", os.O_RDWR | os.O_CLOEXEC)
        self._shared = Shared.open(memory, policy.depth, policy.max_io_bytes)
        self._server = Server()
        armour.put_on(self.log, is_armed=self.is_armed)
        end = heritage.knock(left.live.device_id)
        worker_child = Child("worker", left.pid, os.pidfd_open(left.pid), end, time.monotonic())
        # last: from here to the greeting of the worker nobody stands by
        self._spent |= heritage.end_standby(left.live.device_id, left.pid)
        self.log.say(f"adopted worker {left.pid}", Level.NOTICE)
        return self._keep(worker_child)

    def _keep(self, first: Child) -> IsbootError | None:
        self._worker = first
        wanted = watch.of(self.config) if self.config.is_boot_lun else []
        if wanted:
            # after the worker's fork: it is no child's affair
            up = {index: state.name for index, state in self.nics.items()}
            self._nic_watch = watch.Watch(
                wanted, up, lambda nic, line: self.log.say_once(nic, line, Level.WARNING)
            )
        try:
            while not self._is_over:
                self._turn()
        finally:
            self._server.remove()
        if self._is_interrupted:
            raise KeyboardInterrupt
        if self._failure is not None:
            return self._failure.as_error()
        return None

    # --- children ---

    def _fork(self, role: str) -> Child:
        ours, theirs = Channel.pair()
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            ours.close()  # a child that held it would never see the launcher end
            self._be_child(role, theirs)
        theirs.close()
        return Child(role, pid, os.pidfd_open(pid), ours, began)

    def _fork_standby(self) -> None:
        try:
            self._standby = self._fork("standby")
            if self.config.is_boot and self._live is not None:
                heritage.note_standby(self._live.device_id, self._standby.pid)
        except OSError as error:
            self.log.say_once("fork", f"making a standby: {error.strerror}; trying again", Level.ERROR)
            self._respawn_at = time.monotonic() + RESPAWN_S

    def _be_child(self, role: str, end: Channel) -> NoReturn:
        status = int(ExitStatus.FAILED)
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # ^C at a terminal is the launcher's affair
            if self.interrupts is not None:
                self.interrupts.ignore_in_child()
            self._server.close_in_child()
            if self._waiting is not None:
                self._waiting.close_in_child()
            if self._root is not None:
                self._root.close()
            if self._nic_watch is not None:
                self._nic_watch.close()
            for child in (self._worker, self._standby):
                if child is not None:
                    child.channel.close()
            is_armed = bool(lib.isboot_guard_is_armed())
            task = worker.Task(
                self.config, self.nics, self._shared, self.log, end, is_armed, self.retry_s, self.timeline
            )
            one = worker.Worker(task)
            try:
                if role == "worker":
                    one.serve()
                elif self._live is not None and self._worker is not None:
                    dead = self._worker
                    one.take_over(
                        self._live, dead.pid, dead.pidfd, spent=self._spent, is_last=self._is_finishing
                    )
                status = int(ExitStatus.FINE)
            except BaseException as error:
                is_boot = self.config.is_boot_lun and role == "worker" and not one.is_live
                status = worker.report_failure(task, error, is_boot=is_boot)
        finally:
            os._exit(status)

    def _turn(self) -> None:
        """Wait for one thing to happen, and deal with it."""
        poll = select.poll()
        poll.register(self._server, select.POLLIN)
        children = [
            child for child in (self._worker, self._standby) if child is not None and not child.is_dead
        ]
        for child in children:
            poll.register(child.pidfd, select.POLLIN)
            if not child.is_silent:
                poll.register(child.channel, select.POLLIN)
        root_fd = self._root.fileno() if self._root else -1
        if root_fd >= 0:
            poll.register(root_fd, select.POLLPRI)
        next_at = min(self._root_late_at, math.inf if self._respawn_at is None else self._respawn_at)
        nics = self._nic_watch
        if nics is not None:
            next_at = min(next_at, nics.due_at)
            if nics.due_at == math.inf:
                poll.register(nics, select.POLLIN)
        timeout_ms = None if next_at == math.inf else max(0.0, (next_at - time.monotonic()) * 1000)
        if self.interrupts is not None:
            poll.register(self.interrupts, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(timeout_ms)}
        for child in children:
            # what it said comes before the news of its death
            while child.channel.fileno() in ready and channel.wait_readable([child.channel.fileno()], 0):
                message = child.channel.receive()
                if message is None:
                    child.is_silent = (
                        True  # its end is told by the pidfd; a closed channel is always readable
                    )
                    break
                self._hear(child, message)
            if child.pidfd in ready:
                self._bury(child)
        if self._root is not None and self._live is not None:
            self._watch_root(self._root, self._live)
        if nics is not None:
            nics.turn(is_event=nics.fileno() in ready)
        if self._respawn_at is not None and time.monotonic() >= self._respawn_at:
            self._respawn_at = None
            if self._live is not None and self._standby is None and not self._is_finishing:
                self._fork_standby()
        if self.interrupts is not None and self.interrupts.fileno() in ready:
            self.interrupts.take()
            self._interrupt()
        if self._server.fileno() in ready:
            client = self._server.accept()
            if client is not None:
                self._answer(client)

    def _watch_root(self, watch: RootWatch, live: Live) -> None:
        """The last step of a boot is not ours: see it done, or say that it is not."""
        if root := watch.look():
            self.timeline.reach("root", root)
            watch.close()
            self._root, self._root_late_at = None, math.inf
        elif time.monotonic() >= self._root_late_at:
            self._root_late_at = math.inf
            error = BlockError(
                f"waiting for the root file system on ublkb{live.device_id}: none after {ROOT_S:g} s",
                "does root= on the kernel command line name a file system of this disk? see blkid",
                ExitStatus.TRY_AGAIN,
            )
            tell(self.log, self.timeline, error, "block", verb="waits", is_final=False)

    def _hear(self, child: Child, message: channel.Message) -> None:
        if isinstance(message, Connected):
            self._connected[message.lane] = message
        elif isinstance(message, Failed):
            is_last = child.role == "standby" and self._is_finishing
            if is_last or (child.role == "worker" and self._live is None):
                self._failure = message
        elif isinstance(message, Grown) and self._live is not None:
            self._live = replace(self._live, facts=message.facts)
            if self._standby is not None and not self._standby.is_dead:
                # the next one is born with what is true now
                signal.pidfd_send_signal(self._standby.pidfd, signal.SIGKILL)
        elif isinstance(message, Others):
            if self.companions is not None:
                self.companions.send(message)
        elif isinstance(message, Live):
            self._live = message
            if child.role == "standby":
                self._promote(child, message)
            else:
                self.timeline.resume()
                self._root_late_at = time.monotonic() + ROOT_S if self._root else math.inf
                self.on_live(f"ublkb{message.device_id}")
            self._is_shutdown_near |= message.is_shutdown_near
            if self._is_shutdown_near and not message.is_shutdown_near:
                child.channel.send(Request("shutdown"))
            if self._is_finishing:
                child.channel.send(Request("finish"))
            else:
                self._fork_standby()
        elif isinstance(message, (Done, Refused)):
            self._settle(message)

    def _promote(self, child: Child, live: Live) -> None:
        dead = self._worker
        assert dead is not None  # noqa: S101 - a standby has somebody to stand by for
        self._replacements += 1
        self.log.say(
            f"worker {dead.pid} died, {child.pid} serves ublkb{live.device_id} "
            f"{live.seconds * 1000:.0f} ms later ({live.retries} tries)",
            Level.WARNING,
        )
        self._close(dead)
        child.role = "worker"
        self._worker = child
        self._standby = None
        self._spent.clear()

    def _bury(self, child: Child) -> None:
        child.is_dead = True
        how = reap(child)
        if child is self._standby:
            self._standby = None
            self._spent.add(child.pid)
            self._close(child)
            if self._is_finishing:
                self._end_with(f"ending the device: process {child.pid} ended ({how})")
            elif how == "by itself" and self._worker is not None and self._worker.is_dead:
                self.log.say("the device went with its worker: nothing is left to keep", Level.WARNING)
                self._end_with("the device is gone")
            else:
                self.log.say(f"standby {child.pid} ended ({how}): another is made", Level.WARNING)
                # one that cannot live is not made in a tight loop
                lived_s = time.monotonic() - child.began
                self._respawn_at = time.monotonic() + (0.0 if lived_s > RESPAWN_S else RESPAWN_S)
            return
        if self._is_finishing and self._waiting and not self._has_ended and self._last_tries < LAST_TRIES:
            # the disk is to end, but not without a flush: whoever comes next takes over, or does the rest
            self._last_tries += 1
            self.log.say(f"worker {child.pid} ended ({how}) before its work: another ends it", Level.WARNING)
            self._fork_standby()
            if self._standby is None:
                self._end_with("ending the device: no process could be made for it")
            return
        if self._live is None or self._is_finishing:
            if self._live is None and self._failure is None:
                self._failure = Failed(
                    f"making the device: worker {child.pid} ended ({how})", "see the kernel's log", 1
                )
            self._close(child)
            self._worker = None
            self._end_with(f"ending the device: worker {child.pid} ended ({how}) before it was done")
            return
        if self._waiting is not None:
            self._waiting.refuse("the worker died before it was done", "try again", ExitStatus.TRY_AGAIN)
            self._waiting = None
        self.log.say(f"worker {child.pid} ended ({how}): the standby takes over", Level.WARNING)
        # its pidfd stays open: a standby made from now on waits on it, and finds it dead
        if self._standby is None and self._respawn_at is None:
            self._fork_standby()

    def _end_with(self, message: str) -> None:
        """Nobody is left to serve; whoever still waits is told why."""
        said = self._failure
        if self._waiting is not None:
            if said is not None:
                self._waiting.refuse(said.message, said.hint, said.exit_status)
            else:
                self._waiting.refuse(message, "see the kernel's log", ExitStatus.FAILED)
            self._waiting = None
        self._is_over = True

    def _interrupt(self) -> None:
        """Somebody at the terminal wants us to end."""
        if self._live is not None:
            self._ask_worker(Terminal(self.log), "claim")
        elif self._worker is not None:
            self._is_interrupted = True
            signal.pidfd_send_signal(self._worker.pidfd, signal.SIGKILL)

    @staticmethod
    def _close(child: Child) -> None:
        child.channel.close()
        os.close(child.pidfd)

    # --- requests ---

    def _answer(self, client: Client) -> None:
        words: dict[str, Callable[[Client], None]] = {
            "status": lambda one: one.answer(ok=True, **self.status()),
            "inquiry": self._tell_facts,
            "arm": lambda one: self._signal_guard(one, signal.SIGUSR1),
            "disarm": lambda one: self._signal_guard(one, signal.SIGUSR2),
            "detach": lambda one: self._ask_worker(one, "claim"),
            "flush": lambda one: self._ask_worker(one, "flush"),
            "finish": self._finish,
        }
        action = words.get(client.word)
        if action is None:
            client.refuse(f"{client.word!r} is nothing isboot does", "", ExitStatus.USAGE)
        else:
            action(client)

    def _signal_guard(self, client: Client, number: int) -> None:
        """The guard of every process, this one's as well; later children are born as this one is."""
        for child in (self._worker, self._standby):
            if child is not None and not child.is_dead:
                signal.pidfd_send_signal(child.pidfd, number)
        os.kill(os.getpid(), number)
        self._is_shutdown_near = number == signal.SIGUSR1
        if self._worker is not None and not self._worker.is_dead and self._live is not None:
            self._worker.channel.send(Request("shutdown" if self._is_shutdown_near else "no-shutdown"))
        client.answer(ok=True)

    def _ask_worker(self, client: Client, word: str) -> None:
        if self._waiting is not None:
            client.refuse("another request is under way", "try again", ExitStatus.TRY_AGAIN)
        elif self._worker is None or self._worker.is_dead or self._live is None:
            client.refuse("the device is being recovered", "try again", ExitStatus.TRY_AGAIN)
        else:
            self._waiting, self._asked = client, word
            self._worker.channel.send(Request(word))

    def _finish(self, client: Client) -> None:
        """From here on a worker that ends is not replaced: the standby goes first."""
        if self._worker is None or self._worker.is_dead or self._live is None:
            client.refuse("the device is being recovered", "try again", ExitStatus.TRY_AGAIN)
            return
        if self._waiting is not None:
            self._waiting.refuse("the device is being ended", "", ExitStatus.TRY_AGAIN)
        self._dismiss_standby()
        self._waiting, self._asked = client, "finish"
        self._worker.channel.send(Request("finish"))

    def _dismiss_standby(self) -> None:
        self._is_finishing = True
        self._respawn_at = None
        if self._standby is not None:
            signal.pidfd_send_signal(self._standby.pidfd, signal.SIGKILL)
            os.waitid(os.P_PIDFD, self._standby.pidfd, os.WEXITED)
            self._spent.add(self._standby.pid)
            self._close(self._standby)
            self._standby = None

    def _settle(self, message: Done | Refused) -> None:
        """The worker answered what a client waits for, or says that the device is gone."""
        if isinstance(message, Done) and message.word == "gone":
            self._dismiss_standby()
            return
        if isinstance(message, Done) and message.word == "ended":
            self._has_ended = True
            return
        if message.word != self._asked:
            return  # of a request that another one has replaced
        client, self._waiting = self._waiting, None
        if client is None:
            return
        if isinstance(message, Refused):
            client.refuse(message.message, message.hint, message.exit_status)
        elif message.word == "claim":
            self._finish(client)
        else:
            client.answer(ok=True, warning=message.warning)

    def _tell_facts(self, client: Client) -> None:
        if self._live is None:
            client.refuse("the device is being made", "try again", ExitStatus.TRY_AGAIN)
        else:
            client.answer(ok=True, **to_document(self._live.facts))

    def status(self) -> dict[str, Any]:
        """Give the document of `isboot status --json`."""
        live, worker_pid = self._live, 0
        if live is None:
            return {"version": __version__, "devices": []}
        if self._worker is not None and not self._worker.is_dead:
            worker_pid = self._worker.pid
        row = status.device_row(self.config, live, self._connected, self._shared)
        row |= {
            "state": row["state"] if worker_pid else "recovering",
            "standby_pid": self._standby.pid if self._standby else 0,
            "worker_pid": worker_pid,
            "worker_replacements": self._replacements,
        }
        return {"version": __version__, "devices": [row]}
