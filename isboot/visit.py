"""A short session of a command: log in, ask, log out. Never that of a device, which goes on undisturbed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from isboot.session.control import Control
    from isboot.values import BootConfig

CONNECT_TIMEOUT_S = 5.0
Answer = TypeVar("Answer")


def visit(config: BootConfig, ask: Callable[[Control], Answer], say: Callable[[str], None]) -> Answer:
    """
    Ask over the first path of a configuration.

    :param say: told what takes time
    :raises IsbootError: of the network or the session stage
    """
    import socket

    from isboot.network.connect import connect
    from isboot.session import connection, isid
    from isboot.session.control import Control
    from isboot.values import Portal

    path, name = config.paths[0], config.initiator_name

    def use(sock: socket.socket, where: Portal) -> Answer:
        with sock:
            session = connection.login(sock, path, name, config.policy, isid.of_command(name), where)
            control = Control(sock, session, say=say)
            answer = ask(control)
            control.logout()
            return answer

    return connection.follow(path.portal, lambda where: connect(where, timeout_s=CONNECT_TIMEOUT_S), use)
