"""A logical unit: is it there, is it ready, what does it say of itself -> LunFacts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from isboot.errors import ExitStatus, SessionError
from isboot.session import commands, identity, port_groups, reservation, sense, vpd
from isboot.session.commands import GOOD, Answer
from isboot.session.control import Control
from isboot.session.inventory import DIRECT_ACCESS, list_luns
from isboot.session.patience import LunStoppedError, ask
from isboot.values import LunFacts, format_lun

_INQUIRY_BYTES = 96
_PAGE_BYTES = 252  #: enough for every page here; some targets fail on allocation lengths above 255
_BLOCK_SIZES = (512, 1024, 2048, 4096)
_CACHING_PAGE = 0x08


def wait_until_ready(control: Control) -> None:
    """
    Repeat TEST UNIT READY until it is GOOD: this swallows the unit attentions of a fresh nexus, too.

    :raises SessionError: the LUN is missing (66), or does not become ready (75, 69)
    """
    _must(control, "TEST UNIT READY")


def inspect(control: Control, known: LunFacts | None = None) -> LunFacts:
    """
    Find out everything about the session's LUN.

    :param known: what it said at an earlier login: only what tells it from another disk is asked then (3
        round trips instead of 11), and nothing that could take the target long; the rest is as it was
    :raises SessionError: not there (66); not a disk, no capacity, a block size no kernel takes (69); not
        ready, not by this port, reserved by another (75)
    """
    return _everything(control) if known is None else _identity(control, known)


def _identity(control: Control, known: LunFacts) -> LunFacts:
    # First, for it says whether the LUN is there and ready, where INQUIRY answers for any.
    capacity = None
    with suppress(LunStoppedError):
        capacity = _capacity(control, may_start=False)
    wanted = {vpd.UNIT_SERIAL_NUMBER, vpd.DEVICE_IDENTIFICATION}
    if not (known.serial and known.designators):
        # A page that was not there may be now, and then it is another disk.
        wanted &= _pages_now(control, known)
    pages = {number: _page(control, number, is_must=True, may_start=False) for number in sorted(wanted)}
    named = replace(
        known,
        lun=control.session.lun,
        serial=vpd.serial_number(pages.get(vpd.UNIT_SERIAL_NUMBER, b"")),
        designators=vpd.designators(pages.get(vpd.DEVICE_IDENTIFICATION, b"")),
    )
    if capacity is None:
        # only ours is started: another disk that answers there was stopped by its owner
        identity.check(known, named)
        capacity = _capacity(control)
    return replace(named, block_size_bytes=capacity.block_size, capacity_blocks=capacity.blocks)


def _everything(control: Control) -> LunFacts:
    inquiry = _inquiry(control)
    wait_until_ready(control)
    pages = _pages(control)
    capacity = _capacity(control)
    is_read_only, has_fua, has_cache = _modes(control)
    # Reads and the commands above may pass where the first write would not.
    reservation.check(control, is_read_only=is_read_only)
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
    if kind not in DIRECT_ACCESS:
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


def _pages_now(control: Control, known: LunFacts) -> frozenset[int]:
    """Give which pages there are; none is an answer of a LUN alone that never had one."""
    has_names = bool(known.serial or known.designators)
    cdb = commands.build("INQUIRY", _PAGE_BYTES, {1: 1, 2: vpd.SUPPORTED_PAGES})
    answer = ask(control, "INQUIRY of page 0x00", cdb, _PAGE_BYTES, may_start=False)
    found = sense.decode(answer.sense)
    if has_names or found is None or found.key != sense.ILLEGAL_REQUEST:
        _check(control, "INQUIRY of page 0x00", answer)
    return vpd.supported_pages(answer.data if answer.status == GOOD else b"")


def _page(control: Control, number: int, *, is_must: bool = False, may_start: bool = True) -> bytes:
    name = f"INQUIRY of page 0x{number:02x}"
    cdb = commands.build("INQUIRY", _PAGE_BYTES, {1: 1, 2: number})
    answer = ask(control, name, cdb, _PAGE_BYTES, may_start=may_start)
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


def _capacity(control: Control, *, may_start: bool = True) -> _Capacity:
    found = _read_capacity_16(control, may_start=may_start)
    found = found or _read_capacity_10(control, may_start=may_start)
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


def _read_capacity_16(control: Control, *, may_start: bool = True) -> _Capacity | None:
    length = 32
    cdb = commands.build("READ CAPACITY(16)", length)
    answer = ask(control, "READ CAPACITY(16)", cdb, length, may_start=may_start)
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


def _read_capacity_10(control: Control, *, may_start: bool = True) -> _Capacity:
    answer = _must(control, "READ CAPACITY(10)", 8, may_start=may_start)
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
        if answer.status == commands.RESERVATION_CONFLICT:
            raise reservation.conflict(control, name)
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


def _must(control: Control, name: str, length: int = 0, *, may_start: bool = True) -> Answer:
    answer = ask(control, name, commands.build(name, length), length, may_start=may_start)
    _check(control, name, answer)
    return answer


def _check(control: Control, name: str, answer: Answer) -> None:
    if answer.status == GOOD:
        return
    found = sense.decode(answer.sense)
    if answer.status == commands.RESERVATION_CONFLICT:
        raise reservation.conflict(control, name)
    if found is not None and found.is_missing_lun:
        raise _missing(control, str(found))
    if found is not None and found.is_about_ports:
        raise port_groups.not_reachable(control, found)
    why = f"{name} is answered {commands.describe(answer)}"
    if found is not None and found.may_pass:
        raise SessionError(
            f"{control.doing}: LUN {format_lun(control.session.lun)}: {why}",
            "it may take the target hours: wait",
            ExitStatus.TRY_AGAIN,
        )
    raise _useless(control, why, "the target's log may say why")


def _missing(control: Control, came: str) -> SessionError:
    there = [format_lun(lun) for lun in list_luns(control)]
    shown = ", ".join(there[:16]) + (", ..." if len(there) > 16 else "")
    return SessionError(
        f"{control.doing}: LUN {format_lun(control.session.lun)} is not there: {came}",
        f"the target has LUN {shown}" if there else "the target shows this initiator no LUN: see its mapping",
        ExitStatus.NOTHING_THERE,
    )


def _useless(control: Control, why: str, hint: str) -> SessionError:
    return SessionError(
        f"{control.doing}: LUN {format_lun(control.session.lun)}: {why}", hint, ExitStatus.UNAVAILABLE
    )
