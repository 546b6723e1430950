"""What a LUN says of itself, and what is wrong with it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest

from isboot.errors import ExitStatus, IdentityError, IsbootError, SessionError
from isboot.session import commands, lun, patience
from isboot.session.pdu import DataIn, ScsiCommand
from isboot.values import LunFacts
from tests.fakes.disk import GOOD, INVALID_OPCODE, Answer, Disk, failure
from tests.fakes.target import LUN_1, FakeTarget, sense, status
from tests.session.sessions import session_with

LUN_7 = bytes([0, 7]) + bytes(6)
READ_CAPACITY_16, READ_CAPACITY_10, MODE_SENSE_6, MODE_SENSE_10 = 0x9E, 0x25, 0x1A, 0x5A
SYNCHRONIZE_CACHE_16, INQUIRY, START_STOP_UNIT = 0x91, 0x12, 0x1B


def unsupported(cdb: bytes) -> Answer:
    return failure(*INVALID_OPCODE)


def huge(cdb: bytes) -> Answer:
    return Answer(data=b"\xff" * 8 if cdb[0] == READ_CAPACITY_10 else b"\x7f" * 8 + b"\0\0\2\0")


def facts_of(disk: Disk) -> LunFacts:
    with FakeTarget(disk=disk) as target, session_with(target) as control:
        return lun.inspect(control)


def complaint_about(disk: Disk) -> SessionError:
    with (
        FakeTarget(disk=disk) as target,
        session_with(target) as control,
        pytest.raises(SessionError) as caught,
    ):
        lun.inspect(control)
    return caught.value


def test_everything_a_disk_says_is_told() -> None:
    assert facts_of(Disk(capacity_blocks=2048, serial="s1", revision="2.0")) == LunFacts(
        lun=LUN_1, vendor="ISBOOT", product="FAKE DISK", revision="2.0", serial="s1",
        designators=("naa.6001405f00d00000000000000000beef", "t10.ISBOOT  s1"),
        block_size_bytes=512, physical_block_size_bytes=4096, lowest_aligned_block=0, capacity_blocks=2048,
        max_transfer_blocks=2048, optimal_transfer_blocks=128, optimal_granularity_blocks=8,
        is_read_only=False, has_volatile_cache=True, has_fua=True, is_rotational=False, is_thin=True,
        max_unmap_blocks=4096, max_unmap_descriptors=16, unmap_granularity_blocks=8, unmap_alignment_blocks=0,
        max_write_same_blocks=1024, has_unmap=True, has_write_same_unmap=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("disk", "name", "value"),
    [
        (Disk(is_read_only=True), "is_read_only", True),
        (Disk(has_volatile_cache=False), "has_volatile_cache", False),
        (Disk(has_fua=False), "has_fua", False),
        (Disk(is_rotational=True), "is_rotational", True),
        (Disk(is_thin=False), "has_unmap", False),
        (Disk(block_size=4096, capacity_blocks=64), "physical_block_size_bytes", 4096),
        (Disk(capacity_blocks=1), "capacity_blocks", 1),
    ],
)
def test_each_fact_follows_the_disk(disk: Disk, name: str, value: object) -> None:
    assert getattr(facts_of(disk), name) == value


def test_pages_that_are_not_listed_are_not_asked_for() -> None:
    with FakeTarget(disk=Disk(pages={0: b"\0\0\0\x02\0\x80"})) as target, session_with(target) as control:
        facts = lun.inspect(control)
        asked = [c.cdb[2] for c in target.received(ScsiCommand) if c.cdb[0] == INQUIRY and c.cdb[1]]
    assert asked == [0x00, 0x80]
    assert facts.designators == ()
    assert facts.max_transfer_blocks == 0


def test_a_target_without_read_capacity_16_is_asked_by_10() -> None:
    facts = facts_of(Disk(answers={READ_CAPACITY_16: unsupported}, capacity_blocks=77))
    assert (facts.capacity_blocks, facts.block_size_bytes) == (77, 512)


@pytest.mark.parametrize("descriptor", [b"", bytes(8)], ids=["no-descriptor", "descriptor"])
def test_mode_sense_10_serves_where_6_is_not_known(descriptor: bytes) -> None:
    page = bytes([0x08, 0x12, 0x00]) + bytes(17)
    header = struct.pack(">HBBHH", 6 + len(descriptor) + len(page), 0, 0x90, 0, len(descriptor))
    answers = {MODE_SENSE_6: unsupported, MODE_SENSE_10: lambda cdb: Answer(data=header + descriptor + page)}
    facts = facts_of(Disk(answers=answers))
    assert (facts.is_read_only, facts.has_fua, facts.has_volatile_cache) == (True, True, False)


@pytest.mark.parametrize(("flush", "has_cache"), [(lambda cdb: Answer(), True), (unsupported, False)])
def test_where_no_caching_page_tells_a_flush_does(flush: Callable[[bytes], Answer], has_cache: bool) -> None:
    answers = {MODE_SENSE_6: unsupported, MODE_SENSE_10: unsupported, SYNCHRONIZE_CACHE_16: flush}
    assert facts_of(Disk(answers=answers)).has_volatile_cache is has_cache


# --- again, on a new session -------------------------------------------------------------------------------


def commands_of_inspecting(disk: Disk, known: LunFacts | None) -> tuple[list[str], LunFacts]:
    """Give the commands by name, without those a unit attention had repeated, and the facts."""
    with FakeTarget(disk=disk, unit_attentions=[]) as target, session_with(target) as control:
        facts = lun.inspect(control, known)
        cdbs = [command.cdb for command in target.received(ScsiCommand)]
    return [
        f"{cdb[0]:02x}" + (f" page {cdb[2]:02x}" if cdb[0] == INQUIRY and cdb[1] else "") for cdb in cdbs
    ], facts


def test_on_a_reconnect_only_the_identity_is_asked() -> None:
    first, facts = commands_of_inspecting(Disk(), None)
    again, same = commands_of_inspecting(Disk(), facts)
    assert len(first) == 11
    assert again == ["9e", "12 page 80", "12 page 83"]
    assert same == facts


def test_on_a_reconnect_no_flush_is_tried() -> None:
    silent = {MODE_SENSE_6: unsupported, MODE_SENSE_10: unsupported}
    _, facts = commands_of_inspecting(Disk(answers=silent), None)
    assert facts.has_volatile_cache
    disk = Disk(answers=silent)
    _, same = commands_of_inspecting(disk, facts)
    assert same.has_volatile_cache
    assert disk.flushes == 0


@pytest.mark.parametrize(
    ("disk", "name", "value"),
    [
        (Disk(serial="other"), "serial", "other"),
        (Disk(capacity_blocks=4096), "capacity_blocks", 4096),
        (Disk(block_size=4096, capacity_blocks=256), "block_size_bytes", 4096),
        (Disk(pages={0x83: b"\0\x83\0\0"}), "designators", ()),
    ],
)
def test_on_a_reconnect_another_disk_shows(disk: Disk, name: str, value: object) -> None:
    _, known = commands_of_inspecting(Disk(), None)
    assert getattr(commands_of_inspecting(disk, known)[1], name) == value


def test_a_disk_that_had_no_name_is_asked_whether_it_has_one_now() -> None:
    nameless = Disk(pages={0: b"\0\0\0\x01\0"})
    _, known = commands_of_inspecting(nameless, None)
    assert (known.serial, known.designators) == ("", ())
    again, _ = commands_of_inspecting(nameless, known)
    assert again == ["9e", "12 page 00"]
    assert commands_of_inspecting(Disk(), known)[1].serial == "fake0001"


def test_on_a_reconnect_a_page_that_fails_is_no_other_disk() -> None:
    _, known = commands_of_inspecting(Disk(), None)
    with (
        FakeTarget(disk=Disk(answers={INQUIRY: lambda cdb: failure(0x0B, 0x44, 0)})) as target,
        session_with(target) as control,
        pytest.raises(SessionError, match="INQUIRY of page 0x80 is answered CHECK CONDITION"),
    ):
        lun.inspect(control, known)


def page_0_fails(*how: int) -> Callable[[bytes], Answer]:
    """Give an INQUIRY of a disk with a serial number whose page 00 fails so."""
    disk = Disk(serial="another")
    return lambda cdb: failure(*how) if cdb[1] and not cdb[2] else disk.execute(cdb)


ABORTED, NO_PAGES = (0x0B, 0x44, 0), (5, 0x24, 0)


@pytest.mark.parametrize(
    ("serial", "how"),
    [("", ABORTED), ("ours", ABORTED), ("ours", NO_PAGES)],
    ids=["nameless", "serial", "serial, and no pages now"],
)
def test_on_a_reconnect_pages_that_cannot_be_listed_are_not_missing_ones(
    serial: str, how: tuple[int, int, int]
) -> None:
    _, known = commands_of_inspecting(Disk(), None)
    known = replace(known, serial=serial, designators=())
    with pytest.raises(SessionError, match="INQUIRY of page 0x00 is answered CHECK CONDITION"):
        commands_of_inspecting(Disk(answers={INQUIRY: page_0_fails(*how)}), known)


def test_a_disk_that_never_had_pages_is_known_without_them() -> None:
    disk = Disk(answers={INQUIRY: page_0_fails(*NO_PAGES)})
    _, known = commands_of_inspecting(disk, None)
    again, same = commands_of_inspecting(disk, known)
    assert again == ["9e", "12 page 00"]
    assert same == known


def stopped_disk(serial: str, opcode: int = READ_CAPACITY_16) -> tuple[Disk, list[int]]:
    """Give a disk that wants to be started before it answers a command, and how often it was."""
    disk, started = Disk(serial=serial), []

    def wait_for_start(cdb: bytes) -> Answer:
        if not started:
            return failure(2, 4, 2)
        del disk.answers[opcode]
        return disk.execute(cdb)

    def start(cdb: bytes) -> Answer:
        started.append(cdb[4])
        return Answer()

    disk.answers = {opcode: wait_for_start, START_STOP_UNIT: start}
    return disk, started


def test_on_a_reconnect_a_stopped_disk_is_started_once_it_is_known_as_ours() -> None:
    _, known = commands_of_inspecting(Disk(serial="ours"), None)
    disk, started = stopped_disk("ours")
    again, facts = commands_of_inspecting(disk, known)
    assert again == ["9e", "12 page 80", "12 page 83", "9e", "1b", "9e"]
    assert (facts, started) == (known, [1])


@pytest.mark.parametrize("opcode", [READ_CAPACITY_16, INQUIRY])
def test_on_a_reconnect_another_disk_is_not_started(opcode: int) -> None:
    _, known = commands_of_inspecting(Disk(serial="ours"), None)
    disk, started = stopped_disk("another", opcode)
    with pytest.raises(IsbootError) as caught:
        commands_of_inspecting(disk, known)
    assert started == []
    if opcode == INQUIRY:  # it does not say which disk it is: later, perhaps
        assert "LUN 1 is stopped: INQUIRY of page 0x80 is answered" in caught.value.message
        assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    else:
        assert isinstance(caught.value, IdentityError)


def test_on_a_reconnect_a_missing_lun_is_missing() -> None:
    _, known = commands_of_inspecting(Disk(), None)
    with (
        FakeTarget() as target,
        session_with(target, lun=LUN_7) as control,
        pytest.raises(SessionError, match="LUN 7 is not there") as caught,
    ):
        lun.inspect(control, known)
    assert caught.value.exit_status is ExitStatus.NOTHING_THERE


@pytest.mark.parametrize(
    ("disk", "text"),
    [
        (Disk(capacity_blocks=0), "its capacity is 0"),
        (Disk(block_size=520), "its block size is 520; usable are 512"),
        (Disk(block_size=256), "its block size is 256"),
        (Disk(block_size=8192), "its block size is 8192"),
        (Disk(peripheral=0x05), "it is no disk: peripheral device type 0x05"),
        (Disk(answers={READ_CAPACITY_16: lambda cdb: Answer(data=bytes(7))}), "gives 7 bytes"),
        (Disk(answers={READ_CAPACITY_16: huge}), "more than Linux"),
        (Disk(answers={READ_CAPACITY_16: lambda cdb: failure(4, 0x44, 0)}), "internal target failure"),
        (Disk(answers={READ_CAPACITY_16: unsupported, READ_CAPACITY_10: huge}), "larger than READ CAPACITY"),
    ],
)  # fmt: skip
def test_a_disk_that_cannot_serve_is_refused(disk: Disk, text: str) -> None:
    error = complaint_about(disk)
    assert text in error.message
    assert "LUN 1" in error.message
    assert error.exit_status is ExitStatus.UNAVAILABLE


@pytest.mark.parametrize("qualifier", [0x20, 0x60])
def test_a_lun_with_no_device_behind_it_is_missing(qualifier: int) -> None:
    error = complaint_about(Disk(peripheral=qualifier))
    assert error.exit_status is ExitStatus.NOTHING_THERE


def test_a_missing_lun_is_told_with_those_there_are() -> None:
    other = bytes([0, 3]) + bytes(6)
    with (
        FakeTarget(luns={LUN_1: Disk(), other: Disk()}) as target,
        session_with(target, lun=LUN_7) as control,
        pytest.raises(SessionError, match="LUN 7 is not there") as caught,
    ):
        lun.inspect(control)
    assert caught.value.exit_status is ExitStatus.NOTHING_THERE
    assert caught.value.hint == "the target has LUN 1, 3"


def test_a_lun_that_goes_away_meanwhile_is_missing() -> None:
    error = complaint_about(Disk(answers={READ_CAPACITY_16: lambda cdb: failure(5, 0x25, 0)}))
    assert error.exit_status is ExitStatus.NOTHING_THERE


def test_a_target_that_shows_no_lun_is_told() -> None:
    with FakeTarget() as target:
        target.luns = {LUN_1: target.disk}
        with session_with(target, lun=LUN_7) as control:
            target.luns = {}
            with pytest.raises(SessionError) as caught:
                lun.inspect(control)
    assert "shows this initiator no LUN" in caught.value.hint


def test_unit_attentions_of_a_fresh_nexus_are_swallowed() -> None:
    attentions = [(6, 0x29, 0), (6, 0x29, 7), (6, 0x3F, 0x0E)]
    with FakeTarget(unit_attentions=attentions) as target, session_with(target) as control:
        lun.wait_until_ready(control)
        assert control.execute(commands.build("TEST UNIT READY")).status == GOOD
        assert len(target.received(ScsiCommand)) == 5


def test_unit_attentions_without_end_are_an_error() -> None:
    with FakeTarget() as target, session_with(target) as control:
        target.on(ScsiCommand, sense(6, 0x29, 0), times=None)
        with pytest.raises(SessionError, match=r"UNIT ATTENTION.*again and again") as caught:
            lun.wait_until_ready(control)
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


@pytest.mark.parametrize("action", [status(0x08), status(0x28), sense(2, 4, 1), sense(2, 4, 0x0A)])
def test_a_lun_that_is_busy_or_becoming_ready_is_waited_for(
    action: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "RETRY_INTERVAL_S", 0.001)
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.on(ScsiCommand, action, times=3)  # type: ignore[arg-type]
        lun.wait_until_ready(control)
        assert len(target.received(ScsiCommand)) == 4


def test_a_lun_that_never_becomes_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "RETRY_INTERVAL_S", 0.001)
    monkeypatch.setattr(patience, "READY_TIMEOUT_S", 0.02)
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.on(ScsiCommand, sense(2, 4, 1), times=None)
        with pytest.raises(SessionError, match="in process of becoming ready") as caught:
            lun.wait_until_ready(control)
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN


def test_a_lun_that_needs_a_hand_is_told_by_name() -> None:
    with FakeTarget(unit_attentions=[]) as target, session_with(target) as control:
        target.on(ScsiCommand, sense(2, 0x3A, 0), times=None)
        with pytest.raises(SessionError, match="NOT READY, medium not present") as caught:
            lun.wait_until_ready(control)
    assert caught.value.exit_status is ExitStatus.UNAVAILABLE


@pytest.mark.parametrize("cut", range(0, 96, 7))
def test_replies_cut_short_never_give_a_traceback(cut: int) -> None:
    with FakeTarget() as target, session_with(target) as control:
        target.alter(DataIn, lambda message: replace(message, data=message.data[:cut]), times=None)
        complaint = "session with "
        try:
            lun.inspect(control)
        except SessionError as error:
            complaint = error.message
        assert complaint.startswith("session with ")
