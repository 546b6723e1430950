"""
What can be tuned: one row per parameter.

The same rows serve `rd.isboot.param=KEY=VALUE`, `isboot attach --param KEY=VALUE` and the help of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from isboot.errors import UsageError
from isboot.units import KIB, MIB
from isboot.values import Policy

TRUE = frozenset({"1", "yes", "true", "on"})
FALSE = frozenset({"0", "no", "false", "off"})
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Parameter:
    """
    One parameter.

    :param name: the KEY; also the field of `Policy` it sets
    :param minimum: the range of a number, both ends included; a boolean or a word has none
    :param step: a number must be a multiple of it
    :param zero_means: what 0 stands for where it is allowed below the range
    :param choices: the words it may be; empty for numbers and booleans.  With a tuple for its default it
        takes several of them, commas between, in the order of preference
    :param source: of the default
    """

    name: str
    default: int | bool | str | tuple[str, ...]
    unit: str
    source: str
    meaning: str
    minimum: int = 0
    maximum: int = 0
    step: int = 1
    zero_means: str = ""
    choices: tuple[str, ...] = ()

    @property
    def range_text(self) -> str:
        """Give what values it takes, in words."""
        if isinstance(self.default, tuple):
            return f"one or more of {','.join(self.choices)}"
        if self.choices:
            return " | ".join(self.choices)
        if isinstance(self.default, bool):
            return "0 | 1"
        multiple = f", a multiple of {self.step}" if self.step > 1 else ""
        zero = f"0 ({self.zero_means}), " if self.zero_means else ""
        return f"{zero}{self.minimum} to {self.maximum}{multiple}"

    @property
    def default_text(self) -> str:
        """Give the default as it would be set."""
        if isinstance(self.default, tuple):
            return ",".join(self.default)
        return str(int(self.default)) if isinstance(self.default, bool) else str(self.default)


# What a profile sets; every single parameter wins over it.
PROFILES: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "throughput": {"max_io_bytes": MIB},
    "small": {"depth": 32, "max_io_bytes": 64 * KIB},
}

PARAMETERS: tuple[Parameter, ...] = (
    Parameter("queues", 1, "lanes", "architecture: one lane is one session",
              "sessions in use at once", 1, 8),
    Parameter("depth", 128, "commands", "architecture: 32 MiB of buffers",
              "requests in flight over all lanes", 1, 4096),
    Parameter("max_io_bytes", 256 * KIB, "bytes", "architecture: 32 MiB of buffers",
              "largest request", 4 * KIB, MIB, step=4 * KIB),
    Parameter("header_digest", False, "", "RFC 7143 §13.1", "ask for CRC32C over headers"),
    Parameter("data_digest", False, "", "RFC 7143 §13.1", "ask for CRC32C over data"),
    Parameter("profile", "default", "", "architecture §2", "a set of values for a kind of use",
              choices=tuple(PROFILES)),
    Parameter("login_timeout_ms", 15_000, "ms", "open-iscsi's login_timeout",
              "for one login, from connected to full feature phase", 100, 10 * 60_000),
    Parameter("command_timeout_ms", 60_000, "ms", "Linux sd: 30 s, doubled for one retry at the target",
              "for one SCSI command before it is aborted", 1_000, HOUR_MS),
    Parameter("nop_interval_ms", 30_000, "ms", "RFC 7143 §11.18",
              "silence after which the target is asked whether it lives", 100, HOUR_MS),
    Parameter("nop_timeout_ms", 10_000, "ms", "RFC 7143 §11.18",
              "for the answer before the connection counts as lost", 100, HOUR_MS),
    Parameter("give_up_ms", 86_400_000, "ms", "architecture §3: a day",
              "with every path down before requests fail", 1_000, 365 * 24 * HOUR_MS),
    Parameter("shutdown_give_up_ms", 60_000, "ms", "systemd: 90 s for a unit to stop",
              "the same, once a shutdown has begun", 1_000, HOUR_MS),
    Parameter("nic_timeout_ms", 60_000, "ms", "open-iscsi and dracut: seconds for a driver to find its NIC",
              "for the NIC to appear", 100, HOUR_MS),
    Parameter("carrier_timeout_ms", 60_000, "ms", "spanning tree: 30 to 50 s",
              "for the NIC's link to come up", 100, HOUR_MS),
    Parameter("dhcp_timeout_ms", 60_000, "ms", "RFC 2131 §4.1: 4, 8, 16, 32 s between messages",
              "for an answer of a DHCP server", 1_000, HOUR_MS),
    Parameter("mtu_bytes", 0, "bytes", "RFC 791, RFC 8200 §5: 576 and 1280 must pass",
              "MTU of the boot NIC", 576, 65_535, zero_means="as it is"),
    Parameter("login_jitter_ms", 500, "ms", "isboot: half a second a boot buys 100 logins 5 ms each",
              "spread of the first login and of later attempts over many machines", 0, 10 * 60_000),
    Parameter("redirect_max", 4, "redirects", "RFC 7143 §11.13.5 sets no limit, a loop needs one",
              "how often in a row a target may send a login elsewhere", 0, 16),
    Parameter("auth_required", True, "", "RFC 7143 §9.2: None is no authentication",
              "with a CHAP secret, refuse a target that asks for none"),
    Parameter("chap_algorithms", ("sha3-256", "sha256", "sha1", "md5"), "",
              "IANA, PPP authentication algorithms: 8, 7, 6, 5",
              "what CHAP may compute, the best first", choices=("sha3-256", "sha256", "sha1", "md5")),
    Parameter("short_secrets", True, "", "RFC 7143 §9.2.1: at least 96 bits without IPsec",
              "use CHAP secrets of less than 96 bits, with a warning"),
    Parameter("initial_r2t", False, "", "RFC 7143 §13.10", "propose InitialR2T=Yes"),
    Parameter("immediate_data", True, "", "RFC 7143 §13.11", "propose ImmediateData=Yes"),
    Parameter("max_recv_data_segment_length_bytes", 0, "bytes", "RFC 7143 §13.12",
              "longest segment the target may send", 512, (1 << 24) - 1, zero_means="a whole I/O"),
)  # fmt: skip

BY_NAME: Mapping[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}


def parse_value(name: str, text: str) -> int | bool | str | tuple[str, ...]:
    """
    Read the value of a parameter.

    :raises UsageError: no parameter has that name, or the value is not one it takes
    """
    parameter = BY_NAME.get(name)
    if parameter is None:
        raise UsageError(f'setting the parameter "{name}": there is none of that name', HINT)
    doing = f"setting {name} to {text!r}"
    if isinstance(parameter.default, tuple):
        words = tuple(text.split(","))
        if set(words) <= set(parameter.choices) and len(words) == len(set(words)):
            return words
    elif parameter.choices:
        if text in parameter.choices:
            return text
    elif isinstance(parameter.default, bool):
        if text.lower() in TRUE | FALSE:
            return text.lower() in TRUE
    elif text.isascii() and text.isdigit() and len(text) < 16:
        number = int(text)
        is_within = parameter.minimum <= number <= parameter.maximum
        if (is_within and number % parameter.step == 0) or (number == 0 and parameter.zero_means):
            return number
    unit = f" {parameter.unit}" if parameter.unit else ""
    raise UsageError(f"{doing}: it takes {parameter.range_text}{unit}", HINT)


def split_assignment(text: str) -> tuple[str, str]:
    """
    Split KEY=VALUE.

    :raises UsageError: there is no = in it
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"setting the parameter {text!r}: it has not the form KEY=VALUE", HINT)
    return name, value


def apply(policy: Policy, assignments: Iterable[tuple[str, str]]) -> Policy:
    """
    Give a policy with some parameters set; what a profile sets gives way to those named one by one.

    :param assignments: names and values as text; of two for the same name the last one holds
    :raises UsageError: as `parse_value`
    """
    values = {name: parse_value(name, text) for name, text in assignments}
    preset = PROFILES[str(values["profile"])] if "profile" in values else {}
    changes: dict[str, Any] = {**preset, **values}
    return replace(policy, **changes)


def help_text() -> str:
    """Give a table of all parameters for people."""
    rows = [("KEY", "DEFAULT", "UNIT", "TAKES", "MEANING")]
    for parameter in PARAMETERS:
        rows.append(
            (
                parameter.name,
                parameter.default_text,
                parameter.unit or "-",
                parameter.range_text,
                parameter.meaning,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]])
        for row in rows
    )


HINT = "isboot attach --param help lists the parameters"
