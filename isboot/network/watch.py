"""
Keeping boot NICs up: whatever takes them down or empties them, they are put back, woken by the kernel.

It lives in the launcher, which holds nothing of the device and reconnects nothing: a lane that lost its
connection finds the NIC as it should be, or tries again.  Nothing here reads a file of the root or writes one
but sysctls.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from isboot.errors import NetworkError
from isboot.network import nic as one_nic
from isboot.network.kernel import Done, Kernel, NotYetError, Places, Wanted
from isboot.network.rtnetlink import EVERYTHING, Rtnetlink
from isboot.values import BootConfig, IpAddress

RETRY_S = 1.0  #: after what could not be put back
QUIET_S = 60.0  #: after which a manager that comes back is a new story
#: from an event to the look: a manager changes several things, a router's table thousands; longer while
#: somebody undoes every repair.  The last goes on
WAR_S = (0.1, 0.1, 0.2, 0.5, 1.0)
SHARE = 10  #: of the time at most one in so many is spent looking, whatever the stream of events ...
LATEST_S = 1.0  #: ... as long as what is lost is back within two seconds

#: no drop-ins: the managers were told at boot, and /run may have been swapped to our own disk; no list of
#: modules: /proc/1/root is the root by now
PLACES = Places(run=None, alias_files=())

Tell = Callable[[str, str], None]


@dataclass(slots=True)
class _Kept:
    wanted: Wanted
    is_up: bool
    name: str
    problem: str = ""  #: what was told last
    router: IpAddress | None = None


class Watch:
    """
    :param wanted: the NICs the paths of a boot go through
    :param up: those that were brought up: index and name; the others are taken up when they come
    :param tell: told a NIC's subject and a line, of what was lost and put back; may leave out repeats
    """

    def __init__(
        self,
        wanted: Sequence[Wanted],
        up: dict[int, str],
        tell: Tell,
        kernel: Kernel | None = None,
        places: Places = PLACES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events = Rtnetlink(EVERYTHING) if kernel is None else None
        self._kernel: Kernel = self._events or kernel  # type: ignore[assignment]  # one of them is there
        self._tell = tell
        self._places = places
        self._clock = clock
        self._kept = [_Kept(one, one.nic.index in up, up.get(one.nic.index, "")) for one in wanted]
        self._repairs = 0
        self._repaired_at = -math.inf
        self._cost_s = 0.0
        #: when the NICs are looked at next; infinity: after the next event
        self.due_at = clock()

    def fileno(self) -> int:
        """Give what is readable after an event; to be polled only while `due_at` is infinity."""
        return self._events.fileno() if self._events else -1

    def close(self) -> None:
        """Close it: in a child, which must not swallow the launcher's events."""
        if self._events:
            self._events.close()

    def turn(self, *, is_event: bool) -> None:
        """
        Look at the NICs if it is time to, and put back what is missing.

        An event only sets the time: until then no other one wakes anybody.
        """
        if is_event and self.due_at == math.inf:
            pause_s = max(WAR_S[min(self._repairs, len(WAR_S) - 1)], self._cost_s * SHARE)
            self.due_at = self._clock() + min(pause_s, LATEST_S)
        if self._clock() < self.due_at:
            return
        self.due_at = math.inf
        # what has come until now is seen by this look; what comes later is an event again
        self._kernel.wait(self._clock())
        began = self._clock()
        is_repaired = False
        for one in self._kept:
            is_repaired |= self._keep(one)
        now = self._clock()
        self._cost_s = now - began
        if is_repaired:
            self._repairs = self._repairs + 1 if now - self._repaired_at < QUIET_S else 1
            self._repaired_at = now
        elif now - self._repaired_at >= QUIET_S:
            self._repairs = 0

    def _keep(self, one: _Kept) -> bool:
        done = Done(router=one.router)
        try:
            state = one_nic.step(self._kernel, one.wanted, self._places, done)
        except NotYetError as problem:
            self._miss(one, f"{problem.doing}: none", done)
            return False
        except Exception as error:
            # whatever it is, also a fault of ours: the launcher goes on, and the next look may work
            self._miss(one, self._told(error, one), done)
            self.due_at = min(self.due_at, self._clock() + RETRY_S)
            return False
        one.router = done.router
        if not one.is_up:
            back = f" ({', '.join(done.changes)})" if done.changes else ""
            self._tell(self._subject(one), f"NIC: {state.name} {state.mac} is up{back}")
        elif done.changes:
            changes = ", ".join(done.changes)
            self._tell(self._subject(one), f"NIC: {state.name} {state.mac}: put back {changes}")
        one.is_up, one.name, one.problem = True, state.name, ""
        return bool(done.changes)

    def _miss(self, one: _Kept, problem: str, done: Done) -> None:
        if problem != one.problem:
            changes = f" (put back {', '.join(done.changes)})" if done.changes else ""
            self._tell(self._subject(one), f"NIC: {problem}{changes}; it is taken up when it comes")
        one.is_up, one.problem = False, problem

    @staticmethod
    def _told(error: Exception, one: _Kept) -> str:
        if isinstance(error, NetworkError):
            return error.message
        if isinstance(error, OSError):
            return one_nic.explain(error, one.wanted.nic).message
        return f"looking after {one.name}: {error!r}"

    @staticmethod
    def _subject(one: _Kept) -> str:
        return f"nic{one.wanted.nic.index}"


def of(config: BootConfig) -> list[Wanted]:
    """Give the NICs that paths go through, with the portals behind each."""
    wanted = []
    for nic in config.nics:
        portals = tuple(dict.fromkeys(path.portal for path in config.paths if path.nic == nic))
        if portals:
            wanted.append(Wanted(nic, portals, config.policy.mtu_bytes))
    return wanted
