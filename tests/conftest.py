"""Options of the whole test run."""

from __future__ import annotations

import os
from collections.abc import Generator

import hypothesis
import pytest

# The same examples on every run, and no limit on the time of one: on a busy machine that is luck, no fault.
hypothesis.settings.register_profile("isboot", deadline=None, derandomize=True)
hypothesis.settings.load_profile("isboot")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="boot all firmwares with all kernels, not one each")
    parser.addoption("--must-run", action="store_true", help="a test that is skipped has failed")


def pytest_configure() -> None:
    """Let each worker of `-n` run a guest of its own."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        os.environ.setdefault("ISBOOT_RIG_LOCK", f"guest-{worker}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Insist with --must-run that what a test needs is there: in CI, a skip is an untested promise."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse_skip(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Insist the same of whole files (pytest.importorskip at their top)."""
    report = yield
    if report.skipped:
        _refuse_skip(collector.config, report)
    return report


def _refuse_skip(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    if config.getoption("--must-run"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which --must-run forbids: {reason}"
