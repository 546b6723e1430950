"""
The fence against ghost writes.

A login with the ISID of the old session ends that session, but it is no fence: on tgt it was answered at once
and a write of the old session landed 4 s later, over newer data.  What a target must have done before it
answers LOGICAL UNIT RESET is to end every task of the LUN (SAM-5 §7.7), so its response is awaited before
anything is issued again.
"""

from __future__ import annotations

import time
from enum import Enum

from isboot.errors import ExitStatus, SessionError
from isboot.session import commands
from isboot.session import lun as logical_unit
from isboot.session.control import LOGICAL_UNIT_RESET, Control
from isboot.values import format_lun


class Fence(Enum):
    """What the target answered to LOGICAL UNIT RESET."""

    COMPLETE = "every older command is ended"
    NOT_SUPPORTED = "the target does not reset its LUN for us: wait for older commands to end"


#: RFC 7143 §11.6.1
_COMPLETE = 0
_NO_SUCH_LUN = 2
_REFUSALS = {
    3: "task still allegiant",
    4: "task allegiance reassignment not supported",
    5: "task management function not supported",
    6: "function authorization failed",
    255: "function rejected",
}


ALIVE_S = 5.0  #: between two commands: a NOP-In of the target has to be answered, often within 15 s


def outlast(control: Control, seconds: float) -> None:
    """
    Wait for older commands to end by themselves, and answer the target's NOP-Ins meanwhile.

    :raises SessionError: the end was asked for, or the connection broke (75)
    """
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        control.pause(min(left_s, ALIVE_S), is_ready=True)
        control.execute(commands.build("TEST UNIT READY"))


def fence(control: Control, lun: bytes) -> Fence:
    """
    Reset the logical unit, await the response, then swallow the unit attentions that follow from it.

    :param lun: 8 bytes
    :return: NOT_SUPPORTED where the target refuses: the caller has to wait, and to say so
    :raises SessionError: the LUN is gone (66), an answer outside the standard (65), the connection broke (75)
    """
    response = control.task_management(LOGICAL_UNIT_RESET, lun)
    if response == _NO_SUCH_LUN:
        raise SessionError(
            f"{control.doing}: LOGICAL UNIT RESET of LUN {format_lun(lun)}: it is not there",
            "see what became of it at the target",
            ExitStatus.NOTHING_THERE,
        )
    if response != _COMPLETE and response not in _REFUSALS:
        raise SessionError(
            f"{control.doing}: LOGICAL UNIT RESET is answered {response}, which the standard does not know",
            exit_status=ExitStatus.MALFORMED,
        )
    logical_unit.wait_until_ready(control)
    return Fence.COMPLETE if response == _COMPLETE else Fence.NOT_SUPPORTED
