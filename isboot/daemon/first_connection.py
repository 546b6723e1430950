"""The first connection of a device: what is worth trying again, how often, and what is said meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from isboot import boot
from isboot.daemon.log import Level
from isboot.daemon.timeline import tell
from isboot.errors import DaemonError, ExitStatus, IsbootError
from isboot.session import retry

if TYPE_CHECKING:
    from isboot.daemon.worker import Task

PATIENCE_S = 10.0  #: of a boot with what is expected to pass, before every step is told
ABSENT_S = 5.0  #: between two attempts to find what the target does not have, or not yet
RETRY_S = (0.0, 0.2, 0.5, 1.0, 2.0)  #: before the first connection's attempts; the last goes on


def connect(task: Task) -> boot.Attached:
    """
    Try every path in turn, and again as long as the task says.

    :raises IsbootError: what no retry can mend, or the last one when the time is over
    """
    began = time.monotonic()
    give_up_at = began + task.retry_s
    attempt = 0
    over: dict[int, IsbootError] = {}  #: of paths that no later attempt mends: a wrong secret above all
    if task.config.is_boot:
        time.sleep(retry.first_pause_s(task.config.policy.login_jitter_ms))
    while True:
        problems: list[IsbootError] = []
        task.timeline.end_round()
        for number, path in enumerate(task.config.paths):
            if number in over:
                problems.append(over[number])
                continue
            task.timeline.attempt("connect")
            try:
                return boot.connect(
                    task.config, path, task.nics, 0, task.log.say,
                    expected=None, portals=task.shared.portals, marks=task.timeline,
                )  # fmt: skip
            except IsbootError as error:
                task.timeline.fail(error.message)
                problems.append(error)
                if retry.pace_of(error).is_final and not may_appear(error):
                    over[number] = error
        if not problems:
            raise DaemonError("attaching: no path to try", "", ExitStatus.NOTHING_THERE)
        # one path that may work later is reason enough to try again
        passing = [problem for problem in problems if problem.exit_status == ExitStatus.TRY_AGAIN]
        absent = [problem for problem in problems if task.config.is_boot and may_appear(problem)]
        hopeful = passing or absent
        worst = (hopeful or problems)[0]
        pause_s = RETRY_S[min(attempt, len(RETRY_S) - 1)] if passing else ABSENT_S
        pause_s = retry.spread_s(pause_s, task.config.policy.login_jitter_ms)
        is_last = not hopeful or time.monotonic() + pause_s > give_up_at
        waited_s = time.monotonic() - began
        is_due = not is_last and task.config.is_boot_lun and (not passing or waited_s >= PATIENCE_S)
        if is_due and task.timeline.is_worth_telling(worst.message):
            verb = "waits" if passing else "failed"
            tell(task.log, task.timeline, worst, "session", verb=verb, is_final=False)
        for index, problem in enumerate(problems):
            if problem is worst and (is_last or is_due):
                continue  # told above, or by whoever catches it
            again = "" if is_last else "; trying again"
            hint = f" (hint: {problem.hint})" if problem.hint else ""
            task.log.say_once(f"path{index}", f"{problem.message}{again}{hint}", Level.WARNING)
        if is_last:
            raise worst
        attempt += 1
        time.sleep(pause_s)


def may_appear(error: IsbootError) -> bool:
    """Whether a target or a LUN is not there, which a target that has just started makes good by itself."""
    return error.stage == "session" and error.exit_status == ExitStatus.NOTHING_THERE
