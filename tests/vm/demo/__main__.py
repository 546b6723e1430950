"""
A diskless machine from power-on to power-off, told as it happens.

iPXE logs in to an iSCSI target, GRUB on the LUN loads the kernel, isboot attaches the root disk that the
firmware's table names. Needs root; all it changes is the cache directory and a network namespace of its own.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from tests.vm import rig as rigs
from tests.vm import rootfs
from tests.vm import target as targets
from tests.vm.demo import accelerator, damage, shell, target_side
from tests.vm.demo.inside import Work
from tests.vm.demo.story import Story
from tests.vm.diskless import BootError, Landmark, Reached, follow
from tests.vm.guest import Guest
from tests.vm.kernel import KERNELS, kernel
from tests.vm.progress import RigError
from tests.vm.rig import Rig

UP_TIMEOUT_S = 120
POWER_OFF_TIMEOUT_S = 90


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/demo", description=__doc__)
    parser.add_argument("--uefi", action="store_true", help="UEFI firmware instead of a BIOS")
    parser.add_argument("--kernel", choices=KERNELS, default="6.12", help="the guest's (default: 6.12)")
    parser.add_argument(
        "--accel", choices=("tcg", "kvm", "auto"), default="auto",
        help="emulation, KVM, or KVM where a probe guest answers within seconds (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--break", dest="damage", choices=[row.stage for row in damage.DAMAGES],
        help="damage one thing and see the boot name it; the exit status is 1",
    )  # fmt: skip
    parser.add_argument("--shell", action="store_true", help="a shell in the guest instead of the work")
    parser.add_argument("--keep", action="store_true", help="keep the disk at the end, not only the logs")
    return parser.parse_args()


class Demo:
    """One run."""

    def __init__(self, options: argparse.Namespace, story: Story, rig: Rig) -> None:
        self.options = options
        self.story = story
        self.rig = rig
        self.damage = next((row for row in damage.DAMAGES if row.stage == options.damage), None)

    def run(self) -> None:
        """From nothing to a machine that is off again."""
        story, rig = self.story, self.rig
        which = self.prepare()
        story.begin("image")
        # the rig removes what ends in .img
        disk = rig.disk_copy(self.options.kernel, "root.disk" if self.options.keep else "root.img")
        story.here(f"GPT, GRUB, Debian 13 with kernel {disk.release} and isboot from its package")
        story.begin("network")
        network = rig.network()
        story.here(f"network namespace {network.name}, {network.address()} on {network.tap()}")
        target = rig.target(
            targets.Lun(disk.file, parameters={"scsi_sn": "isboot-demo", "scsi_id": "isboot-demo"})
        )
        story.here(f"tgtd serves the disk; DHCP hands out {target.root_path()}")
        guest = self.power_on(which, target)
        self.boot(guest, target)
        story.begin("up")
        guest.wait_agent(UP_TIMEOUT_S)
        work = Work(story, guest, target)
        work.tell(f"systemd: {work.ask('systemctl is-system-running --wait || true', UP_TIMEOUT_S).strip()}")
        if self.options.shell:
            story.begin("shell")
            shell.attach(guest.qemu.socket_path("console"))
        else:
            work.run()
        watch = target_side.Watch(target)
        self.power_off(guest, work)
        story.begin("logout")
        for line in watch.check_logout():
            story.here(line)
        story.begin("e2fsck")
        target.kill()
        story.here(target_side.check_file_system(disk.file))

    def prepare(self) -> str:
        """Build or find what is cached, and choose how to run it."""
        story = self.story
        story.begin("prepare")
        missing = rigs.missing()
        if missing:
            raise RigError(missing)
        # the two trees are independent: built side by side, half a minute is saved the first time
        tools = threading.Thread(target=build_tools, daemon=True)
        tools.start()
        try:
            which = kernel(self.options.kernel)
        finally:
            tools.join()
        chosen, why = accelerator.choose(self.options.accel, which.image, self.rig.directory)
        firmware = "UEFI" if self.options.uefi else "BIOS"
        story.here(f"{firmware}, kernel {which.release}, {why}; logs in {self.rig.directory}")
        return chosen

    def power_on(self, chosen: str, target: targets.Target) -> Guest:
        """Start the machine, with a damaged table if that is wanted."""
        story, rig = self.story, self.rig
        story.begin("power on")
        is_table_damaged = self.damage is not None and self.damage.inflict is None
        extra: list[str] = []
        if self.damage is not None and is_table_damaged:
            extra = damage.broken_table(rig.network(), target, rig.directory / "broken.ibft")
            story.here(f"damage: {self.damage.told}")
        guest = rig.boot(
            "uefi" if self.options.uefi else "bios",
            self.options.kernel,
            target=target,
            accelerator=chosen,
            is_described=not is_table_damaged,
            extra=extra,
        )
        story.here("the machine has no disk; iPXE in its NIC asks for an address")
        return guest

    def boot(self, guest: Guest, target: targets.Target) -> None:
        """Tell the boot, landmark by landmark."""
        for reached in follow(guest.qemu, on_silence=self.remind):
            self.tell(reached)
            if reached.landmark.stage == "kernel" and self.damage and self.damage.inflict:
                self.damage.inflict(damage.Scene(guest, target))
                self.story.here(f"damage: {self.damage.told}")

    def tell(self, reached: Reached) -> None:
        self.story.begin(reached.landmark.stage)
        self.story.guest(reached.seconds, reached.landmark.told.format(reached.words))

    def remind(self, landmark: Landmark, waited_s: float) -> None:
        self.story.wait(f"waiting for the stage {landmark.stage}", waited_s)

    def power_off(self, guest: Guest, work: Work) -> None:
        """Have systemd switch it off, and tell what isboot says to the end."""
        story = self.story
        story.begin("power off")
        work.tell_log()
        work.tell("$ systemctl poweroff")
        guest.power_off(POWER_OFF_TIMEOUT_S)
        work.tell_log()
        story.here("the machine is off")


def build_tools() -> None:
    """Have the tree of build tools in the cache; a failure is the next one's who wants it, and told there."""
    with suppress(RigError):
        rootfs.tree(rootfs.TOOLS)


def main() -> int:
    """Exit status: 0, or 1 with the stage that failed in the last line."""
    options = arguments()
    story = Story()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"isboot demo: {__doc__.strip().splitlines()[0]}", flush=True)
    try:
        with Rig("demo") as rig:
            demo = Demo(options, story, rig)
            demo.run()
    except BootError as error:
        return fail(error.stage, error.message, error.said)
    except RigError as error:
        return fail(story.stage, str(error), ())
    except KeyboardInterrupt:
        return fail(story.stage, "interrupted", ())
    print(f"isboot demo: all went well, in {story.seconds:.0f} s", flush=True)
    return 0


def fail(stage: str, message: str, said: Sequence[str]) -> int:
    """Show the log of the stage, and name it in the last line."""
    first, *more = message.splitlines()
    for line in (*said, *more):
        print(f"        | {line}", flush=True)
    print(f"isboot demo: failed at stage {stage}: {first}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
