"""
What dracut's iSCSI module takes on the kernel command line, and what isboot makes of it: a row per option.

Whoever comes from dracut brings these along.  Each one is obeyed or named in a warning.

:source: dracut.cmdline(7), modules.d/74iscsi; the settings of open-iscsi's iscsid.conf
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

PREFIX = "rd.iscsi."

#: the older names of dracut and the ones it has now
ALIASES: Mapping[str, str] = {
    "iscsi_initiator": "rd.iscsi.initiator",
    "iscsi_firmware": "rd.iscsi.firmware",
    "iscsi_target_name": "rd.iscsi.target.name",
    "iscsi_target_ip": "rd.iscsi.target.ip",
    "iscsi_target_port": "rd.iscsi.target.port",
    "iscsi_target_group": "rd.iscsi.target.group",
    "iscsi_username": "rd.iscsi.username",
    "iscsi_password": "rd.iscsi.password",
    "iscsi_in_username": "rd.iscsi.in.username",
    "iscsi_in_password": "rd.iscsi.in.password",
    "iscsi_param": "rd.iscsi.param",
}

#: those that are obeyed, and the value each one sets
OBEYED: Mapping[str, str] = {
    "rd.iscsi.initiator": "initiator name",
    "rd.iscsi.target.name": "target name",
    "rd.iscsi.target.ip": "target host",
    "rd.iscsi.target.port": "target port",
    "rd.iscsi.username": "CHAP name",
    "rd.iscsi.password": "CHAP secret",
    "rd.iscsi.in.username": "reverse CHAP name",
    "rd.iscsi.in.password": "reverse CHAP secret",
}
SECRETS = frozenset({"CHAP secret", "reverse CHAP secret"})

#: those that have nothing to do here, and why; what is needed to have their effect
NEEDLESS: Mapping[str, str] = {
    "rd.iscsi.login_retry_max": "isboot tries until it can; rd.isboot.give_up= is for I/O that waits",
    "rd.iscsi.waitnet": "isboot waits for the NICs it needs, and for no other",
    "rd.iscsi.testroute": "isboot sets the routes to the target itself",
    "rd.iscsi.transport": "isboot speaks iSCSI itself; an offload NIC serves as a plain one",
    "rd.iscsi.mp": "every target of the table that can be used is a path",
    "rd.iscsi.target.group": "the target says its portal group itself",
}

#: to be read from firmware is what isboot does anyhow; switched off they ask for what rd.isboot=0 is for
FIRMWARE = frozenset({"rd.iscsi.firmware", "rd.iscsi.ibft"})
FALSE = frozenset({"0", "no", "off"})


@dataclass(frozen=True, slots=True)
class Setting:
    """
    A setting of open-iscsi that rd.iscsi.param= carries.

    :param parameter: isboot's name for it
    :param read: gives isboot's text of its value
    :raises ValueError: by read: a value that has no counterpart
    """

    parameter: str
    read: Callable[[str], str]


def _seconds(text: str) -> str:
    if not text.isdigit() or int(text) == 0:
        raise ValueError
    return f"{int(text) * 1000}"


def _yes_no(text: str) -> str:
    return {"yes": "1", "no": "0"}[text.lower()]


def _digest(text: str) -> str:
    # of a list the first one is preferred; "CRC32C,None" asks for it and takes none
    return {"crc32c": "1", "none": "0"}[text.lower().partition(",")[0]]


def _algorithms(text: str) -> str:
    names = {"md5": "md5", "sha1": "sha1", "sha256": "sha256", "sha3-256": "sha3-256"}
    return ",".join(names[word] for word in text.lower().split(","))


SETTINGS: Mapping[str, Setting] = {
    "node.session.timeo.replacement_timeout": Setting("give_up_ms", _seconds),
    "node.conn[0].timeo.login_timeout": Setting("login_timeout_ms", _seconds),
    "node.conn[0].timeo.noop_out_interval": Setting("nop_interval_ms", _seconds),
    "node.conn[0].timeo.noop_out_timeout": Setting("nop_timeout_ms", _seconds),
    "node.session.queue_depth": Setting("depth", str),
    "node.session.iscsi.InitialR2T": Setting("initial_r2t", _yes_no),
    "node.session.iscsi.ImmediateData": Setting("immediate_data", _yes_no),
    "node.conn[0].iscsi.HeaderDigest": Setting("header_digest", _digest),
    "node.conn[0].iscsi.DataDigest": Setting("data_digest", _digest),
    "node.session.auth.chap_algs": Setting("chap_algorithms", _algorithms),
}
CREDENTIALS: Mapping[str, str] = {
    "node.session.auth.username": "CHAP name",
    "node.session.auth.password": "CHAP secret",
    "node.session.auth.username_in": "reverse CHAP name",
    "node.session.auth.password_in": "reverse CHAP secret",
}


def read_setting(text: str) -> tuple[str, str]:
    """
    Give what a value of rd.iscsi.param= sets, and to what.

    :param text: NAME=VALUE
    :return: a parameter of isboot's or one of CREDENTIALS' values, and its text
    :raises ValueError: why isboot leaves it out, in words; never the value, it may be a secret
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError("it has not the form NAME=VALUE")
    if name in CREDENTIALS:
        return CREDENTIALS[name], value
    setting = SETTINGS.get(name)
    if setting is None:
        raise ValueError("isboot has no such setting")
    try:
        return setting.parameter, setting.read(value)
    except (ValueError, KeyError):
        raise ValueError(f"isboot's {setting.parameter} has no such value") from None
