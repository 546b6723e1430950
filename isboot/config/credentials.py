"""CHAP names and secrets from a file that only its owner can read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from isboot.errors import ConfigError, ExitStatus
from isboot.values import Credentials, PathConfig, Secret

KEYS = ("name", "secret", "reverse_name", "reverse_secret")
MAXIMUM_BYTES = 16384
SECRET_MINIMUM_BYTES = 12  #: RFC 7143 §9.2.1: 96 bits
VALUE_MAXIMUM_BYTES = 1024  #: RFC 7143 §12.1.3 bounds what CHAP carries


def read_chap_file(path: Path) -> Credentials:
    """
    Read a TOML file of mode 0600 with the keys name, secret, reverse_name and reverse_secret.

    :raises ConfigError: it is not there (66), may not be read or others may read it (77), is malformed (65)
    """
    doing = f"reading the CHAP file {path}"
    try:
        with path.open("rb") as file:
            # Of the open file, not of the name: nobody can put another in its place meanwhile.
            status = os.fstat(file.fileno())
            _check_owner(status, doing, path)
            raw = file.read(MAXIMUM_BYTES + 1)
    except PermissionError as error:
        raise ConfigError(f"{doing}: {error.strerror}", "run it as root", ExitStatus.NOT_PERMITTED) from None
    except OSError as error:
        raise ConfigError(f"{doing}: {error.strerror}", exit_status=ExitStatus.NOTHING_THERE) from None
    if len(raw) > MAXIMUM_BYTES:
        raise _malformed(doing, f"it is larger than {MAXIMUM_BYTES} bytes")
    return _credentials(_values(raw, doing), doing)


def weaknesses(paths: Iterable[PathConfig]) -> tuple[str, ...]:
    """Give a warning for each secret that is too short; it is used all the same: a login came by it."""
    rows: dict[str, None] = {}
    for path in paths:
        if path.credentials is not None:
            for kind, secret in (
                ("secret", path.credentials.secret),
                ("reverse secret", path.credentials.reverse_secret),
            ):
                if 0 < len(secret.reveal()) < SECRET_MINIMUM_BYTES:
                    rows[
                        f"CHAP as {path.credentials.name}: the {kind} is shorter than {SECRET_MINIMUM_BYTES}"
                        " bytes (RFC 7143 §9.2.1): set a longer one on both sides"
                    ] = None
    return tuple(rows)


def check_pair(credentials: Credentials, doing: str) -> Credentials:
    """
    Give them back if they make sense together.

    :raises ConfigError: a reverse name without its secret or the other way round, or one secret for both (65)
    """
    if credentials.reverse_name and not credentials.reverse_secret:
        raise _malformed(doing, "there is a reverse name, but no reverse secret")
    if credentials.reverse_secret == credentials.secret:
        # RFC 7143 §9.2.1: the same secret for both directions lets an attacker reflect our own challenge.
        raise _malformed(doing, "both directions have the same secret")
    return credentials


def _check_owner(status: os.stat_result, doing: str, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _malformed(doing, "it is no regular file")
    if status.st_uid not in (0, os.geteuid()):
        message = f"{doing}: it belongs to user {status.st_uid}"
        raise ConfigError(message, f"chown root {path}", ExitStatus.NOT_PERMITTED)
    if status.st_mode & 0o077:
        message = f"{doing}: its mode is {status.st_mode & 0o777:04o}, so others can read or change it"
        raise ConfigError(message, f"chmod 600 {path}", ExitStatus.NOT_PERMITTED)


def _malformed(doing: str, reason: str) -> ConfigError:
    hint = 'its lines are name = "...", secret = "..." and, for mutual CHAP, reverse_name and reverse_secret'
    return ConfigError(f"{doing}: {reason}", hint, ExitStatus.MALFORMED)


def _values(raw: bytes, doing: str) -> dict[str, str]:
    import tomllib  # of use for this file alone

    try:
        values = tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise _malformed(doing, "it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # Its own words may quote from the file; only the place is safe to show.
        place = re.search(r"\(at (line [0-9]+, column [0-9]+|end of document)\)", str(error))
        raise _malformed(doing, f"it is no TOML ({place[1] if place else 'place unknown'})") from None
    unknown = sorted(set(values) - set(KEYS))
    if unknown:
        raise _malformed(doing, f"it has a key that is none of {', '.join(KEYS)}")
    for key, value in values.items():
        if not isinstance(value, str) or not 0 < len(value.encode()) <= VALUE_MAXIMUM_BYTES:
            raise _malformed(doing, f"{key} is no string of 1 to {VALUE_MAXIMUM_BYTES} bytes")
    return values


def _credentials(values: dict[str, str], doing: str) -> Credentials:
    if "secret" not in values:
        raise _malformed(doing, "it has no secret")
    credentials = Credentials(
        name=values.get("name", ""),
        secret=Secret(values["secret"].encode()),
        reverse_name=values.get("reverse_name", ""),
        reverse_secret=Secret(values.get("reverse_secret", "").encode()),
    )
    return check_pair(credentials, doing)
