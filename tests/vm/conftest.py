"""Fixtures of tests that boot guests. `--all` boots every firmware with every kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.kernel import KERNELS
from tests.vm.rig import Rig, missing

#: what is booted without --all: each firmware and each kernel once
BOOTS = (("bios", "6.12"), ("uefi", "7.2"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "boot_case" in metafunc.fixturenames:
        is_all = metafunc.config.getoption("--all")
        cases = [(firmware, label) for firmware in ("bios", "uefi") for label in KERNELS] if is_all else BOOTS
        metafunc.parametrize("boot_case", cases, ids=["-".join(case) for case in cases])


@pytest.fixture(params=KERNELS)
def kernel_label(request: pytest.FixtureRequest) -> str:
    """Each kernel in turn: "6.12", "7.2"."""
    return str(request.param)


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A rig of the test's own; a complaint of a guest's kernel fails the test."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Rig(request.node.name) as made:
        yield made
        made.check_kernels()
