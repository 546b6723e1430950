"""Ask a logical unit again for as long as it asks for patience: unit attentions, BUSY, "becoming ready"."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from isboot.errors import ExitStatus, SessionError
from isboot.session import commands, port_groups, sense
from isboot.session.commands import Answer
from isboot.session.control import Control
from isboot.values import format_lun

READY_TIMEOUT_S = 30.0  #: for a LUN that is "becoming ready", and for one that is busy
RETRY_INTERVAL_S = 0.1
PROGRESS_S = 5.0  #: between two lines that say what is waited for
MAX_UNIT_ATTENTIONS = 16  #: a fresh nexus has one or two pending; one that never ends has a fault


class LunStoppedError(SessionError):
    """The LUN waits for START STOP UNIT, which was not to be sent."""


@dataclass(slots=True)
class _Patience:
    """What is left to bear before a command that asks to be repeated is given up."""

    ends_at: float
    unit_attentions: int = MAX_UNIT_ATTENTIONS
    told_at: float = -math.inf
    has_started: bool = False


def ask(
    control: Control,
    name: str,
    cdb: bytes,
    length_bytes: int = 0,
    *,
    lun: bytes | None = None,
    may_start: bool = True,
) -> Answer:
    """
    Run a command; repeat it past unit attentions, BUSY, TASK SET FULL, "becoming ready" and ALUA transitions.

    A LUN that is stopped is started, once, as Linux' own disk driver does.

    :param name: of the command, for messages
    :param may_start: False while it may be another disk than ours, which somebody stopped on purpose
    :return: GOOD, or a status that repeating does not change
    :raises SessionError: patience ended (exit 75)
    :raises LunStoppedError: it may not be started
    """
    began = time.monotonic()
    patience = _Patience(began + READY_TIMEOUT_S)
    while True:
        answer = control.execute(cdb, length_bytes, lun=lun)
        found = sense.decode(answer.sense) if answer.status == commands.CHECK_CONDITION else None
        if found is not None and found.is_unit_attention:
            patience.unit_attentions -= 1
            if patience.unit_attentions > 0:
                continue
        elif found is not None and found.is_stopped and not may_start:
            raise LunStoppedError(
                f"{control.doing}: LUN {format_lun(control.session.lun)} is stopped: {name} is answered"
                f" {commands.describe(answer)}",
                "see what the target does with this LUN",
                ExitStatus.TRY_AGAIN,
            )
        elif found is not None and found.is_stopped and not patience.has_started:
            patience.has_started = True
            control.say(f"LUN {format_lun(control.session.lun)} is stopped: starting it (START STOP UNIT)")
            control.execute(commands.start_unit(), lun=lun)
            continue
        elif answer.status in (commands.BUSY, commands.TASK_SET_FULL) or (found and found.is_becoming_ready):
            if time.monotonic() < patience.ends_at:
                _tell(control, answer, patience, began)
                control.pause(RETRY_INTERVAL_S)
                continue
            if found is not None and found.is_about_ports:
                raise port_groups.not_reachable(control, found)
        else:
            return answer
        raise SessionError(
            f"{control.doing}: LUN {format_lun(control.session.lun)} is not ready: {name} is answered"
            f" {commands.describe(answer)} again and again",
            "see what the target does with this LUN",
            ExitStatus.TRY_AGAIN,
        )


def _tell(control: Control, answer: Answer, patience: _Patience, began: float) -> None:
    now = time.monotonic()
    if now - patience.told_at < PROGRESS_S:
        return
    patience.told_at = now
    done = sense.progress(answer.sense)
    so_far = "" if done is None else f", {done:.0%} done"
    control.say(
        f"LUN {format_lun(control.session.lun)} of {control.session.target_name} is not ready:"
        f" {commands.describe(answer)}{so_far}; waiting up to {patience.ends_at - now:.0f} s"
    )
