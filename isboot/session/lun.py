"""A logical unit: is it there, is it ready, what does it say of itself -> LunFacts."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from isboot.errors import ExitStatus, SessionError
from isboot.session import commands, sense, vpd
from isboot.session.commands import GOOD, Answer
from isboot.session.control import Control
from isboot.values import LunFacts

READY_TIMEOUT_S = 30.0  #: for a LUN that is "becoming ready", and for one that is busy
RETRY_INTERVAL_S = 0.1
MAX_UNIT_ATTENTIONS = 16  #: a fresh nexus has one or two pending; one that never ends has a fault

_INQUIRY_BYTES = 96
_PAGE_BYTES = 252  #: enough for every page here; some targets fail on allocation lengths above 255
_REPORT_LUNS_BYTES = 8 + 8 * 256
_DIRECT_ACCESS = (0x00, 0x0E)  #: peripheral device types: SBC and RBC
_BLOCK_SIZES = (512, 1024, 2048, 4096)
_CACHING_PAGE = 0x08


@dataclass(slots=True)
class _Patience:
    """What is left to bear before a command that asks to be repeated is given up."""

    ends_at: float
    unit_attentions: int = MAX_UNIT_ATTENTIONS


def ask(
    control: Control, name: str, cdb: bytes, length_bytes: int = 0, *, lun: bytes | None = None
) -> Answer:
    """
    Run a command; repeat it past unit attentions, BUSY, TASK SET FULL and "becoming ready".

    :param name: of the command, for messages
    :return: GOOD, or a status that repeating does not change
    :raises SessionError: patience ended (exit 75)
    """
    patience = _Patience(time.monotonic() + READY_TIMEOUT_S)
    while True:
        answer = control.execute(cdb, length_bytes, lun=lun)
        found = sense.decode(answer.sense) if answer.status == commands.CHECK_CONDITION else None
        if found is not None and found.is_unit_attention:
            patience.unit_attentions -= 1
            if patience.unit_attentions > 0:
                continue
        elif answer.status in (commands.BUSY, commands.TASK_SET_FULL) or (found and found.is_becoming_ready):
            if time.monotonic() < patience.ends_at:
                time.sleep(RETRY_INTERVAL_S)
                continue
        else:
            return answer
        raise SessionError(
            f"{control.doing}: LUN {show(control.session.lun)} is not ready: {name} is answered"
            f" {commands.describe(answer)} again and again",
            "see what the target does with this LUN",
            ExitStatus.TRY_AGAIN,
        )


def wait_until_ready(control: Control) -> None:
    """
    Repeat TEST UNIT READY until it is GOOD: this swallows the unit attentions of a fresh nexus, too.

    :raises SessionError: the LUN is missing (66), or does not become ready (75, 69)
    """
    _must(control, "TEST UNIT READY")


def list_luns(control: Control) -> list[bytes]:
    """Give the LUNs the target reports, 8 bytes each; an empty list where it does not say."""
    # To LUN 0, which answers whether there is one or not (SAM-5 §4.7.4); tgt does not list by another.
    cdb = commands.build("REPORT LUNS", _REPORT_LUNS_BYTES)
    answer = ask(control, "REPORT LUNS", cdb, _REPORT_LUNS_BYTES, lun=bytes(8))
    if answer.status != GOOD or len(answer.data) < 8:
        return []
    listed = answer.data[8 : 8 + int.from_bytes(answer.data[:4], "big")]
    return [listed[i : i + 8] for i in range(0, len(listed) - 7, 8)]


def show(lun: bytes) -> str:
    """Give a LUN as people name it: decimal where it is of one level, else its 16 hex digits (SAM-5 §4.7)."""
    if lun[2:] == bytes(6) and lun[0] >> 6 in (0, 1):
        return str(int.from_bytes(lun[:2], "big") & 0x3FFF)
    return lun.hex()


def inspect(control: Control, known: LunFacts | None = None) -> LunFacts:
    """
    Find out everything about the session's LUN.

    :param known: what it said at an earlier login: only what tells it from another disk is asked then (3
        round trips instead of 10), and nothing that could take the target long; the rest is as it was
    :raises SessionError: not there (66); not a disk, no capacity, a block size no kernel takes (69); not
        ready (75)
    """
    return _everything(control) if known is None else _identity(control, known)


def _identity(control: Control, known: LunFacts) -> LunFacts:
    # First, for it says whether the LUN is there and ready, where INQUIRY answers for any.
    capacity = _capacity(control)
    wanted = {vpd.UNIT_SERIAL_NUMBER, vpd.DEVICE_IDENTIFICATION}
    if not (known.serial and known.designators):
        # A page that was not there may be now, and then it is another disk.
        wanted &= vpd.supported_pages(_page(control, vpd.SUPPORTED_PAGES))
    pages = {number: _page(control, number, is_must=True) for number in sorted(wanted)}
    return replace(
        known,
        lun=control.session.lun,
        serial=vpd.serial_number(pages.get(vpd.UNIT_SERIAL_NUMBER, b"")),
        designators=vpd.designators(pages.get(vpd.DEVICE_IDENTIFICATION, b"")),
        block_size_bytes=capacity.block_size,
        capacity_blocks=capacity.blocks,
    )


def _everything(control: Control) -> LunFacts:
    inquiry = _inquiry(control)
    wait_until_ready(control)
    pages = _pages(control)
    capacity = _capacity(control)
    is_read_only, has_fua, has_cache = _modes(control)
    limits = vpd.block_limits(pages[vpd.BLOCK_LIMITS])
    has_unmap, has_write_same_unmap = vpd.provisioning(pages[vpd.LOGICAL_BLOCK_PROVISIONING])
    return LunFacts(
        lun=control.session.lun,
        vendor=vpd.text(inquiry[8:16]),
        product=vpd.text(inquiry[16:32]),
        revision=vpd.text(inquiry[32:36]),
        serial=vpd.serial_number(pages[vpd.UNIT_SERIAL_NUMBER]),
        designators=vpd.designators(pages[vpd.DEVICE_IDENTIFICATION]),
        block_size_bytes=capacity.block_size,
        physical_block_size_bytes=capacity.block_size << capacity.physical_exponent,
        lowest_aligned_block=capacity.lowest_aligned,
        capacity_blocks=capacity.blocks,
        max_transfer_blocks=limits.max_transfer,
        optimal_transfer_blocks=limits.optimal_transfer,
        optimal_granularity_blocks=limits.optimal_granularity,
        is_read_only=is_read_only,
        has_volatile_cache=has_cache,
        has_fua=has_fua,
        is_rotational=vpd.is_rotational(pages[vpd.BLOCK_DEVICE_CHARACTERISTICS]),
        is_thin=capacity.is_thin,
        max_unmap_blocks=limits.max_unmap,
        max_unmap_descriptors=limits.max_unmap_descriptors,
        unmap_granularity_blocks=limits.unmap_granularity,
        unmap_alignment_blocks=limits.unmap_alignment,
        max_write_same_blocks=limits.max_write_same,
        has_unmap=has_unmap,
        has_write_same_unmap=has_write_same_unmap,
    )


def _inquiry(control: Control) -> bytes:
    answer = _must(control, "INQUIRY", _INQUIRY_BYTES)
    data = answer.data.ljust(36, b"\0")
    qualifier, kind = data[0] >> 5, data[0] & 0x1F
    if qualifier != 0 or not answer.data:
        raise _missing(control, f"peripheral qualifier {qualifier}" if answer.data else "no INQUIRY data")
    if kind not in _DIRECT_ACCESS:
        raise _useless(
            control, f"it is no disk: peripheral device type 0x{kind:02x}", "name the LUN of a disk"
        )
    return data


def _pages(control: Control) -> dict[int, bytes]:
    """Give the VPD pages there are; the others as empty bytes."""
    wanted = (
        vpd.UNIT_SERIAL_NUMBER, vpd.DEVICE_IDENTIFICATION, vpd.BLOCK_LIMITS,
        vpd.BLOCK_DEVICE_CHARACTERISTICS, vpd.LOGICAL_BLOCK_PROVISIONING,
    )  # fmt: skip
    supported = vpd.supported_pages(_page(control, vpd.SUPPORTED_PAGES))
    # A page that is not listed is not asked for: some targets answer with another page, or not at all.
    return {number: _page(control, number) if number in supported else b"" for number in wanted}


def _page(control: Control, number: int, *, is_must: bool = False) -> bytes:
    name = f"INQUIRY of page 0x{number:02x}"
    cdb = commands.build("INQUIRY", _PAGE_BYTES, {1: 1, 2: number})
    answer = ask(control, name, cdb, _PAGE_BYTES)
    if is_must:
        # A page that fails is no other disk, which would be a hard stop.
        _check(control, name, answer)
    return answer.data if answer.status == GOOD else b""


@dataclass(frozen=True, slots=True)
class _Capacity:
    blocks: int
    block_size: int
    physical_exponent: int = 0
    lowest_aligned: int = 0
    is_thin: bool = False


def _capacity(control: Control) -> _Capacity:
    found = _read_capacity_16(control) or _read_capacity_10(control)
    if found.blocks == 0:
        raise _useless(control, "its capacity is 0", "give the LUN a backing store")
    if found.block_size not in _BLOCK_SIZES:
        sizes = ", ".join(map(str, _BLOCK_SIZES))
        raise _useless(
            control,
            f"its block size is {found.block_size}; usable are {sizes}",
            "set another block size at the target",
        )
    if found.blocks * found.block_size >= 1 << 63:
        raise _useless(control, f"its capacity is {found.blocks} blocks, more than Linux can address", "")
    return found


def _read_capacity_16(control: Control) -> _Capacity | None:
    length = 32
    answer = ask(control, "READ CAPACITY(16)", commands.build("READ CAPACITY(16)", length), length)
    found = sense.decode(answer.sense)
    if answer.status != GOOD and found is not None and found.is_unsupported:
        return None
    _check(control, "READ CAPACITY(16)", answer)
    data = answer.data
    if len(data) < 12:
        raise _useless(control, f"READ CAPACITY(16) gives {len(data)} bytes", "the target's log may say why")
    data = data.ljust(length, b"\0")
    return _Capacity(
        # The last block's address is all ones where there is none: the sum is 0 then.
        blocks=(int.from_bytes(data[:8], "big") + 1) & ((1 << 64) - 1),
        block_size=int.from_bytes(data[8:12], "big"),
        physical_exponent=min(data[13] & 0x0F, 8),
        lowest_aligned=int.from_bytes(data[14:16], "big") & 0x3FFF,
        is_thin=bool(data[14] & 0x80),
    )


def _read_capacity_10(control: Control) -> _Capacity:
    answer = _must(control, "READ CAPACITY(10)", 8)
    if len(answer.data) < 8:
        raise _useless(
            control, f"READ CAPACITY(10) gives {len(answer.data)} bytes", "the target's log may say why"
        )
    last = int.from_bytes(answer.data[:4], "big")
    if last == 0xFFFFFFFF:
        raise _useless(
            control, "it is larger than READ CAPACITY(10) can say, and knows no READ CAPACITY(16)", ""
        )
    return _Capacity(last + 1, int.from_bytes(answer.data[4:8], "big"))


def _modes(control: Control) -> tuple[bool, bool, bool]:
    """Give read-only, FUA, volatile cache: of the mode parameter header and the caching page."""
    for name, header_bytes, descriptor_offset in (("MODE SENSE(6)", 4, 3), ("MODE SENSE(10)", 8, 6)):
        length = 192
        cdb = commands.build(name, length, {1: 0x08, 2: _CACHING_PAGE})  # DBD: no block descriptors
        answer = ask(control, name, cdb, length)
        if answer.status != GOOD or len(answer.data) < header_bytes:
            continue
        data = answer.data
        specific = data[2] if header_bytes == 4 else data[3]
        # Some send block descriptors all the same.
        start = header_bytes + int.from_bytes(data[descriptor_offset:header_bytes], "big")
        page = data[start:]
        has_page = len(page) >= 3 and page[0] & 0x3F == _CACHING_PAGE
        has_cache = bool(page[2] & 0x04) if has_page else _takes_flush(control)
        return bool(specific & 0x80), bool(specific & 0x10), has_cache
    return False, False, _takes_flush(control)


def _takes_flush(control: Control) -> bool:
    # Where no caching page tells, a cache that is not flushed would be the worse mistake: ask by flushing.
    answer = ask(control, "SYNCHRONIZE CACHE(16)", commands.synchronize_cache())
    return answer.status == GOOD


def _must(control: Control, name: str, length: int = 0) -> Answer:
    answer = ask(control, name, commands.build(name, length), length)
    _check(control, name, answer)
    return answer


def _check(control: Control, name: str, answer: Answer) -> None:
    if answer.status == GOOD:
        return
    found = sense.decode(answer.sense)
    if found is not None and found.is_missing_lun:
        raise _missing(control, str(found))
    raise _useless(control, f"{name} is answered {commands.describe(answer)}", "the target's log may say why")


def _missing(control: Control, came: str) -> SessionError:
    there = [show(lun) for lun in list_luns(control)]
    shown = ", ".join(there[:16]) + (", ..." if len(there) > 16 else "")
    return SessionError(
        f"{control.doing}: LUN {show(control.session.lun)} is not there: {came}",
        f"the target has LUN {shown}" if there else "the target shows this initiator no LUN: see its mapping",
        ExitStatus.NOTHING_THERE,
    )


def _useless(control: Control, why: str, hint: str) -> SessionError:
    return SessionError(
        f"{control.doing}: LUN {show(control.session.lun)}: {why}", hint, ExitStatus.UNAVAILABLE
    )
