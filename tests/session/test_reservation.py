"""A LUN that somebody else holds: by what key, and who."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isboot.errors import ExitStatus, SessionError
from isboot.session import lun, reservation
from isboot.session.reservation import Registrant, Reservation
from tests.fakes.disk import RESERVATION_CONFLICT, Answer, Disk, failure
from tests.fakes.target import FakeTarget
from tests.session.sessions import ISID, session_with

PERSISTENT_RESERVE_IN, MODE_SENSE_6, TEST_UNIT_READY = 0x5E, 0x1A, 0x00
OTHER = "iqn.2026-11.org.example:other"
RAW = f"{OTHER},i,0x8095c6250700".encode()
KEY = 0xABC1230000000001


def test_a_name_without_what_should_stand_before_it_is_read() -> None:
    # istgt 20111008 sends no header of the TransportID
    body = KEY.to_bytes(8, "big") + bytes(4) + b"\1\3" + bytes(9) + bytes([len(RAW)]) + RAW
    assert reservation.decode_full_status(wrapped(body)) == (Registrant(KEY, True, OTHER, "8095c6250700"),)


def wrapped(body: bytes) -> bytes:
    return (7).to_bytes(4, "big") + len(body).to_bytes(4, "big") + body


def encode_reservation(held: Reservation | None) -> bytes:
    if held is None:
        return wrapped(b"")
    return wrapped(held.key.to_bytes(8, "big") + bytes(5) + bytes([held.kind]) + bytes(2))


def encode_full_status(registered: list[Registrant]) -> bytes:
    body = b""
    for one in registered:
        name = one.name.encode() + (f",i,0x{one.isid}".encode() if one.isid else b"")
        name += bytes(4 - len(name) % 4)
        identifier = bytes([0x45 if one.isid else 0x05, 0]) + len(name).to_bytes(2, "big") + name
        body += one.key.to_bytes(8, "big") + bytes(4) + bytes([one.is_holder]) + bytes(7)
        body += len(identifier).to_bytes(4, "big") + identifier
    return wrapped(body)


keys = st.integers(0, 2**64 - 1)
names = st.text("abcdefghij.:-0123456789", min_size=1, max_size=40)
registrants = st.builds(
    Registrant, keys, st.booleans(), names, st.binary(min_size=6, max_size=6).map(bytes.hex) | st.just("")
)


@given(st.none() | st.builds(Reservation, keys, st.integers(0, 15)))
def test_a_reservation_is_read(held: Reservation | None) -> None:
    assert reservation.decode_reservation(encode_reservation(held)) == held


@given(st.lists(keys, max_size=5))
def test_keys_are_read(listed: list[int]) -> None:
    assert reservation.decode_keys(wrapped(b"".join(key.to_bytes(8, "big") for key in listed))) == tuple(
        listed
    )


@given(st.lists(registrants, max_size=4))
def test_the_full_status_is_read(registered: list[Registrant]) -> None:
    assert reservation.decode_full_status(encode_full_status(registered)) == tuple(registered)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_as_far_as_they_go(data: bytes) -> None:
    reservation.decode_keys(data)
    reservation.decode_reservation(data)
    assert len(reservation.decode_full_status(data)) <= len(data) // 24


def held_by(
    held: Reservation | None, registered: list[Registrant] | None, listed: bytes = b""
) -> Callable[[bytes], Answer]:
    """Answer PERSISTENT RESERVE IN; without `registered` READ FULL STATUS is not known."""

    def answer(cdb: bytes) -> Answer:
        if cdb[1] & 0x1F == 0x00:
            return Answer(data=wrapped(listed))
        if cdb[1] & 0x1F == 0x01:
            return Answer(data=encode_reservation(held))
        return failure(5, 0x24, 0) if registered is None else Answer(data=encode_full_status(registered))

    return answer


def look(disk: Disk) -> None:
    with FakeTarget(disk=disk) as target, session_with(target) as control:
        lun.inspect(control)


def complaint(disk: Disk) -> SessionError:
    with pytest.raises(SessionError) as caught:
        look(disk)
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(("kind", "name"), reservation.TYPES.items())
def test_a_disk_that_is_held_is_refused_with_holder_and_key(kind: int, name: str) -> None:
    others = [
        Registrant(5, False, "iqn.2026-11.org.example:third"),
        Registrant(KEY, True, OTHER, "800000000009"),
    ]
    held = Reservation(
        0 if kind in (7, 8) else KEY, kind
    )  # every registrant holds those two: no key of its own
    answers = {PERSISTENT_RESERVE_IN: held_by(held, others, KEY.to_bytes(8, "big"))}
    error = complaint(Disk(answers=answers))
    assert error.message.endswith(
        f"LUN 1 is reserved by {OTHER} (ISID 800000000009): {name}, key 0xabc1230000000001"
    )


def test_a_target_that_does_not_say_who_still_tells_the_key() -> None:
    error = complaint(Disk(answers={PERSISTENT_RESERVE_IN: held_by(Reservation(KEY, 1), None)}))
    assert error.message.endswith(
        "LUN 1 is reserved by another initiator: write exclusive, key 0xabc1230000000001"
    )


def test_a_disk_without_a_reservation_is_taken() -> None:
    look(Disk(answers={PERSISTENT_RESERVE_IN: held_by(None, [Registrant(KEY, False, OTHER)])}))


@pytest.mark.parametrize(("kind", "is_refused"), [(1, False), (5, False), (7, False), (3, True), (6, True)])
def test_a_disk_we_only_read_may_be_held_against_writing(kind: int, is_refused: bool) -> None:
    answers = {PERSISTENT_RESERVE_IN: held_by(Reservation(KEY, kind), None)}
    disk = Disk(is_read_only=True, answers=answers)
    if is_refused:
        complaint(disk)
    else:
        look(disk)


@pytest.mark.parametrize(
    ("kind", "is_holder", "is_refused"),
    [(1, True, False), (1, False, True), (5, False, False), (8, False, False)],
)
def test_what_is_ours_keeps_us_from_nothing(kind: int, is_holder: bool, is_refused: bool) -> None:
    ours = [Registrant(KEY, is_holder, "iqn.2026-11.org.example:host", ISID.hex())]
    disk = Disk(answers={PERSISTENT_RESERVE_IN: held_by(Reservation(KEY, kind), ours)})
    if is_refused:
        complaint(disk)
    else:
        look(disk)


def conflict(cdb: bytes) -> Answer:
    return Answer(RESERVATION_CONFLICT)


@pytest.mark.parametrize("opcode", [MODE_SENSE_6, TEST_UNIT_READY])
def test_a_conflict_is_told_with_what_is_known_of_it(opcode: int) -> None:
    held = held_by(Reservation(KEY, 3), [Registrant(KEY, True, OTHER)])
    error = complaint(Disk(answers={opcode: conflict, PERSISTENT_RESERVE_IN: held}))
    assert error.message.endswith(f"LUN 1 is reserved by {OTHER}: exclusive access, key 0xabc1230000000001")


@pytest.mark.parametrize(
    ("listed", "said"),
    [(KEY.to_bytes(8, "big"), "registered keys: 0xabc1230000000001"), (b"", "names neither holder nor key")],
)
def test_a_conflict_nobody_explains_is_told(listed: bytes, said: str) -> None:
    answers = {TEST_UNIT_READY: conflict, PERSISTENT_RESERVE_IN: held_by(None, None, listed)}
    error = complaint(Disk(answers=answers))
    assert (
        "LUN 1 is reserved by another initiator: TEST UNIT READY is answered RESERVATION CONFLICT"
        in error.message
    )
    assert error.message.endswith(said)


def test_a_conflict_on_a_reconnect_is_told_too() -> None:
    with FakeTarget(disk=Disk()) as target, session_with(target) as control:
        known = lun.inspect(control)
        target.disk.answers = {
            0x9E: conflict, PERSISTENT_RESERVE_IN: held_by(Reservation(KEY, 3), None)
        }  # fmt: skip
        with pytest.raises(SessionError, match="exclusive access, key 0xabc") as caught:
            lun.inspect(control, known)
    assert caught.value.exit_status is ExitStatus.TRY_AGAIN
