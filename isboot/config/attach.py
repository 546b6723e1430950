"""The arguments of `isboot attach` as a `BootConfig`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from isboot.config import credentials, initiator, parameters, url
from isboot.errors import UsageError
from isboot.values import BootConfig, Policy

DIGESTS = {"header": "header_digest", "data": "data_digest"}


def from_arguments(
    target_url: str,
    *,
    chap_file: Path | None = None,
    initiator_name: str | None = None,
    digests: str = "",
    depth: int | None = None,
    queues: int | None = None,
    profile: str | None = None,
    parameters: Sequence[str] = (),
    root: Path = Path("/"),
) -> BootConfig:
    """
    Give what to attach.

    :param initiator_name: None for this machine's
    :param digests: "header", "data", both with a comma between, or "" for neither
    :param parameters: KEY=VALUE each
    :raises UsageError: the URL, a parameter or a value cannot be used
    :raises ConfigError: the CHAP file or the initiator name cannot be used
    """
    return url.from_url(
        target_url,
        initiator_name=initiator_name or initiator.default_name(root),
        credentials=credentials.read_chap_file(chap_file) if chap_file else None,
        policy=_policy(digests, depth, queues, profile, parameters),
    )


def _policy(
    digests: str, depth: int | None, queues: int | None, profile: str | None, assignments: Sequence[str]
) -> Policy:
    settings: list[tuple[str, str]] = []
    for digest in filter(None, digests.split(",")):
        if digest not in DIGESTS:
            raise UsageError(f"--digests {digests}: {digest!r} is neither header nor data")
        settings.append((DIGESTS[digest], "1"))
    options = {"depth": depth, "queues": queues, "profile": profile}
    settings += [(name, str(value)) for name, value in options.items() if value is not None]
    settings += [parameters.split_assignment(text) for text in assignments]
    return parameters.apply(Policy(), settings)


def parameter_help() -> str:
    """Give the table `--param help` prints."""
    return parameters.help_text()
