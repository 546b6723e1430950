"""Same disk or another?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from isboot.errors import ExitStatus, IdentityError
from isboot.session import identity
from isboot.values import LunFacts
from tests.fakes.disk import Disk
from tests.session.test_lun import facts_of


@pytest.fixture(scope="module")
def ours() -> LunFacts:
    return facts_of(Disk())


def test_the_same_disk_passes(ours: LunFacts) -> None:
    identity.check(ours, replace(ours, revision="9", is_read_only=True))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"designators": ("naa.6001405aaaaaaaaaaaaaaaaaaaaaaaaa",)}, "designators was naa.6001405f00d"),
        ({"designators": ()}, "is none"),
        ({"serial": "other"}, "serial was fake0001, is other"),
        ({"block_size_bytes": 4096}, "block size was 512 bytes, is 4096 bytes"),
        ({"capacity_blocks": 2047}, "capacity was 2048 blocks, is 2047"),
    ],
)
def test_another_disk_is_a_hard_stop(ours: LunFacts, change: dict[str, object], text: str) -> None:
    with pytest.raises(IdentityError, match=text) as caught:
        identity.check(ours, replace(ours, **change))
    assert caught.value.exit_status is not ExitStatus.TRY_AGAIN
    assert "LUN 1" in caught.value.message


def test_growth_passes_only_where_the_name_is_strong(ours: LunFacts) -> None:
    identity.check(ours, replace(ours, capacity_blocks=4096))
    weak = replace(ours, vendor="IET", serial="beaf11", designators=("naa.3000000100000001",))
    with pytest.raises(IdentityError, match="capacity was 2048 blocks, is 4096"):
        identity.check(weak, replace(weak, capacity_blocks=4096))


@pytest.mark.parametrize(
    ("vendor", "serial", "designators", "text"),
    [
        (
            "IET",
            "beaf11",
            ("naa.60000000000000000e00000000010001", "naa.3000000100000001"),
            "tgt's default serial",
        ),
        ("FreeBSD", "10000001", ("naa.300000008f905d25",), "istgt's default serial"),
        ("X", "", ("t10.X disk",), "no worldwide unique designator and no serial"),
        ("X", "", (), "no worldwide unique designator and no serial"),
        ("X", "", ("eui.0000001234567890",), "no worldwide"),
        ("IET", "rack7-disk3", ("naa.3000000100000001",), ""),
        ("LIO-ORG", "", ("naa.6001405f00d00000000000000000beef",), ""),
        ("X", "", ("eui.0011223344556677",), ""),
        ("X", "", ("scsi-name.iqn.2026-11.org.example:lu",), ""),
    ],
)
def test_weak_names_are_recognised(
    ours: LunFacts, vendor: str, serial: str, designators: tuple[str, ...], text: str
) -> None:
    found = identity.weakness(replace(ours, vendor=vendor, serial=serial, designators=designators))
    assert found.startswith(text) if not text else text in found
    assert bool(found) is bool(text)
