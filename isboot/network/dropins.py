"""
Files under /run that keep udev and the network managers, of initramfs and root, away from a boot NIC.

A manager that takes the NIC down, or replaces its addresses, takes the root file system with it.  /run
survives switch_root, so these are in place before any manager of the root starts; systemd itself reads units
and their drop-ins again at that moment, so no reload is needed.

What was seen, each with the manager itself in a network namespace:
- systemd-networkd 252 with a .network file for every NIC leaves ours and its routes as they are.
- NetworkManager 1.42: an unmanaged-devices= in NetworkManager.conf drops ours, a device section holds.  mac:
  matches the permanent address only, so a NIC that has none (veth) is named by its interface, too.
- ifupdown 0.8.41 believes /run/network/ifstate.NAME, not the list in ifstate, when asked whether NAME is
  configured; with it `ifup -a` and `ifup --allow=hotplug` leave the NIC alone.  `ifdown -a` at shutdown would
  then flush it, unless EXCLUDE_INTERFACES names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from isboot.errors import ExitStatus, NetworkError

HEADER = "# isboot: the root file system is reached through this NIC. Made at every boot.\n"


class Dropin(NamedTuple):
    """
    One file.

    :param path: below /run; {id} is the MAC without colons, {name} an interface, {unit} it as part of a unit
    :param text: {macs} are separated by spaces, {specs} is NetworkManager's list of devices
    :param each: once for every interface name (a NIC and its VLAN), or once for the NIC
    :param source: which manual says that this works
    """

    path: str
    text: str
    each: bool
    source: str


DROPINS = (
    # Unmanaged, not KeepConfiguration: networkd then never touches the link, its carrier loss or its sysctls.
    # 00- comes before netplan's 10- and dracut's zzzz-. Type: a bridge or bond above has the same MAC.
    Dropin(
        "systemd/network/00-isboot-{id}.network",
        "[Match]\nMACAddress={macs}\nType={types}\n\n[Link]\nUnmanaged=yes\nRequiredForOnline=no\n",
        each=False,
        source="systemd.network(5)",
    ),
    # The first .link file that matches is the only one: without a NamePolicy that applies the name stays.
    Dropin(
        "systemd/network/00-isboot-{id}.link",
        "[Match]\nMACAddress={macs}\nType=ether\n\n[Link]\nNamePolicy=keep\n",
        each=False,
        source="systemd.link(5)",
    ),
    # NetworkManager.conf is read later and may replace unmanaged-devices; a device section's managed=0 stays.
    Dropin(
        "NetworkManager/conf.d/00-isboot-{id}.conf",
        "[keyfile]\nunmanaged-devices+={specs}\n\n[device-isboot-{id}]\nmatch-device={specs}\nmanaged=0\n",
        each=False,
        source="NetworkManager.conf(5)",
    ),
    Dropin("network/ifstate.{name}", "{name}\n", each=True, source="ifup(8)"),
    # A hotplug NIC gets ifup@NAME.service from udev, whose stop at shutdown is `ifdown NAME`.
    Dropin(
        "systemd/system/ifup@{unit}.service.d/50-isboot.conf",
        "[Service]\nExecStart=\nExecStart=/bin/true\nExecStop=\n",
        each=True,
        source="systemd.unit(5)",
    ),
)

#: One file for all NICs: systemd keeps only the last assignment of a variable.
EXCLUDE_PATH = "systemd/system/networking.service.d/50-isboot.conf"
EXCLUDE_KEY = 'Environment="EXCLUDE_INTERFACES='


def keep_managers_away(
    root: Path, macs: Sequence[str], names: Sequence[str], *, has_vlan: bool = False
) -> int:
    """
    Write the files for one NIC; those that are there already with the same content are left alone.

    :param root: /run
    :param macs: the NIC's current and, if different, its table's address; the first names the files
    :param names: the NIC's interface, then its VLAN's if the portal is reached through one; none for a NIC
        that is not there yet: whoever finds it first must know of it
    :return: how many files were written
    :raises NetworkError: a file cannot be written
    """
    files = dict(_contents(macs, names, has_vlan))
    if names:
        files[EXCLUDE_PATH] = HEADER + _exclusion(root / EXCLUDE_PATH, names)
    return sum(put_file(root / path, content) for path, content in files.items())


def escape_unit(name: str) -> str:
    r"""Escape an interface name as the instance of a unit: "a-b" becomes "a\x2db". See systemd.unit(5)."""
    return re.sub(r"[^a-zA-Z0-9:_.]", lambda match: f"\\x{ord(match[0]):02x}", name)


def _contents(macs: Sequence[str], names: Sequence[str], has_vlan: bool) -> Iterator[tuple[str, str]]:
    specs = [f"mac:{mac}" for mac in macs] + [f"interface-name:={name}" for name in names]
    values = {
        "id": macs[0].replace(":", ""),
        "macs": " ".join(macs),
        "types": "ether vlan" if has_vlan else "ether",
        "specs": ";".join(specs),
    }
    for dropin in DROPINS:
        # ifupdown's state is no configuration file: a comment would be taken for a name.
        header = "" if dropin.path.startswith("network/") else HEADER
        for name in names if dropin.each else names[:1] or ("",):
            own = values | {"name": name, "unit": escape_unit(name)}
            yield dropin.path.format(**own), header + dropin.text.format(**own)


def _exclusion(path: Path, names: Sequence[str]) -> str:
    present: list[str] = []
    try:
        for line in path.read_text().splitlines():
            if line.startswith(EXCLUDE_KEY):
                present = line.removeprefix(EXCLUDE_KEY).rstrip('"').split()
    except FileNotFoundError:
        pass
    together = " ".join(dict.fromkeys([*present, *names]))
    # systemd wants the whole assignment quoted where the value has spaces: systemd.exec(5), Environment=
    return f'[Service]\n{EXCLUDE_KEY}{together}"\n'


def put_file(path: Path, content: str) -> int:
    """Write a file in one step, so that no manager reads half of it; 0 when it is there as wanted."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and path.read_text() == content:
            return 0
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(content)
        partial.chmod(0o644)  # networkd reads as a user of its own
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise NetworkError(
            f"writing {path}: {error.strerror}",
            hint="run as root",
            exit_status=ExitStatus.NOT_PERMITTED if isinstance(error, PermissionError) else ExitStatus.FAILED,
        ) from error
    return 1
