"""When initramfs-tools' script starts isboot, and that it agrees with dracut's unit; no root is needed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SCRIPT = TOOLS / "initramfs-tools/scripts/local-top/isboot"
UNITS = TOOLS / "dracut/90isboot"
BOOT = "start /usr/lib/isboot/world /usr/bin/python3 -S -m isboot boot"
IBFT, SYSFS = "/sys/firmware/acpi/tables/iBFT", "/sys/firmware/ibft"

CASES = (
    ("root=LABEL=root rw", ()),
    ("root=LABEL=root rw", (IBFT,)),
    ("root=LABEL=root rw", ("/sys/firmware/acpi/tables/IBFT",)),
    ("root=LABEL=root rw", ("/sys/firmware/acpi/tables/BIFT",)),
    ("root=LABEL=root rw", (SYSFS,)),
    ("root=LABEL=root rw", ("/sys/firmware/acpi/tables/iBFT1", "/sys/firmware/acpi/tables/iBFT2")),
    ("root=LABEL=root rw", ("/sys/firmware/acpi/tables/IBFT2",)),
    ("root=LABEL=root rw", ("/sys/firmware/acpi/tables/BIFT1",)),
    ("root=LABEL=root rw", ("/sys/firmware/acpi/tables/DSDT",)),
    ("root=LABEL=root rw", ("/sys/firmware/acpi/tables/data/iBFT",)),
    ("rd.isboot=0", (IBFT, SYSFS)),
    ("rd.isboot rd.isboot=0", (IBFT,)),
    ("rd.isboot", ()),
    ("quiet rd.isboot=1 rw", ()),
    ("rd.isboot=perhaps", ()),
    ("rd.isboot.debug=1", ()),
    ("netroot=iscsi:192.0.2.9::::iqn.2001-04.com.example:disk", ()),
    ("netroot=dhcp rd.isboot=0", ()),
    ("root=dhcp netroot", ()),
    ("root=dhcp", ()),
    ("root=dhcp6", ()),
    ("iscsiroot=@192.0.2.9::::iqn.2001-04.com.example:disk", ()),
    ("rd.iscsi.target.name=iqn.2001-04.com.example:disk", ()),
    ("rd.iscsi.target.port=3260", ()),
    ("xrd.isboot=0 *", (IBFT,)),
)


class Machine:
    """The script with its few names outside led below a directory, and what it ran."""

    def __init__(self, directory: Path, words: str, present: Sequence[str]) -> None:
        text = SCRIPT.read_text(encoding="ascii")
        for name in ("/proc/cmdline", "/sys/firmware", "/usr/lib/isboot/isboot-boot", "/conf/param.conf"):
            assert name in text
            text = text.replace(name, f"{directory}{name}")
        self.log = directory / "log"
        self.log.touch()
        for name, said in (("usr/lib/isboot/isboot-boot", ""), ("bin/modprobe", "modprobe ")):
            program = directory / name
            program.parent.mkdir(parents=True)
            text_of_program = f'#!/bin/sh\necho "{said}$*" >> {self.log}\nexit $STATUS\n'
            program.write_text(text_of_program, encoding="ascii")
            program.chmod(0o755)
        self.parameters = directory / "conf/param.conf"
        self.parameters.parent.mkdir()
        for name in ("/proc/cmdline", *present):
            (directory / name[1:]).parent.mkdir(parents=True, exist_ok=True)
            (directory / name[1:]).write_text(f"{words}\n", encoding="ascii")
        self._script = directory / "script"
        self._script.write_text(text, encoding="ascii")
        self._path = str(directory / "bin")

    def run(self, *arguments: str, ip: str = "", status: int = 0) -> str:
        """Give what it printed; `ip` is what init read of the command line, `status` how the boot ends."""
        done = subprocess.run(
            ["/bin/sh", str(self._script), *arguments],
            env={"PATH": self._path, "IP": ip, "STATUS": str(status)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (status, "")
        return done.stdout

    def ran(self) -> list[str]:
        return self.log.read_text(encoding="ascii").splitlines()


def holds(unit: str, words: str, present: Sequence[str]) -> bool:
    """Give what systemd makes of a unit's conditions: all of the plain ones, any of those with a bar."""
    plain, barred = [], []
    for line in (UNITS / unit).read_text(encoding="ascii").splitlines():
        name, _, value = line.partition("=")
        if not name.startswith("Condition"):
            continue
        wanted = value.lstrip("|!")
        if name == "ConditionKernelCommandLine":
            # a word without "=" also stands for the same word with a value (systemd.unit(5))
            said = [word if "=" in wanted else word.partition("=")[0] for word in words.split()]
            result = wanted in said
        else:
            assert name in ("ConditionPathExists", "ConditionPathExistsGlob")
            result = any(
                fnmatchcase(path, wanted) if name.endswith("Glob") else path == wanted for path in present
            )
        result ^= "!" in value
        (barred if value.startswith("|") else plain).append(result)
    return all(plain) and (any(barred) or not barred)


@pytest.mark.parametrize(("words", "present"), CASES)
def test_boot_is_started_where_dracuts_unit_would_start_it(
    tmp_path: Path, words: str, present: Sequence[str]
) -> None:
    machine = Machine(tmp_path, words, present)
    machine.run()
    assert (BOOT in machine.ran()) is holds("isboot.service", words, present)


def test_machine_with_a_table_gets_the_driver_and_then_the_boot(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "rw", [IBFT])
    machine.run()
    assert machine.ran() == ["modprobe -q iscsi_ibft", "modprobe -q ublk_drv", BOOT]


def test_machine_without_a_table_is_only_looked_at(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "rw", [])
    machine.run()
    assert machine.ran() == ["modprobe -q iscsi_ibft"]


@pytest.mark.parametrize("words", ["rd.isboot=0", "rd.isboot=1 rd.isboot=0 rw"])
def test_isboot_switched_off_probes_nothing(tmp_path: Path, words: str) -> None:
    machine = Machine(tmp_path, words, [IBFT, SYSFS])
    machine.run()
    assert machine.ran() == []
    for unit in ("isboot.service", "isboot-table.service"):
        assert not holds(unit, words, [IBFT, SYSFS])


@pytest.mark.parametrize(("ip", "parameters"), [("dhcp", "IP=off\n"), ("", None)])
def test_init_does_not_configure_the_nic_of_the_root_again(
    tmp_path: Path, ip: str, parameters: str | None
) -> None:
    machine = Machine(tmp_path, f"ip={ip}", [IBFT])
    machine.run(ip=ip)
    assert (machine.parameters.read_text() if machine.parameters.exists() else None) == parameters


@pytest.mark.parametrize("present", [(), (IBFT,)])
def test_init_obeys_ip_where_isboot_has_not_attached_a_root(tmp_path: Path, present: Sequence[str]) -> None:
    machine = Machine(tmp_path, "ip=dhcp", present)
    machine.run(ip="dhcp", status=66 if present else 0)
    assert not machine.parameters.exists()


def test_order_of_scripts_can_be_asked_for_without_a_boot(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "rw", [IBFT])
    assert machine.run("prereqs") == "\n"
    assert machine.ran() == []
