"""Every test gets a host directory of its own and an environment without settings; in CI nothing is skipped."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Where Python is told to keep no bytecode, every process that a test starts would compile all of zq again, for 150 ms;
# one where it is installed does not.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture
def host_directory() -> Iterator[Path]:
    """A private host directory, so that no test meets a peer of another one; its path is short, as sockets need it."""
    directory = Path(tempfile.mkdtemp(prefix="zq-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)  # a process that is just ending may remove its files meanwhile


@pytest.fixture(autouse=True)
def clean_environment(host_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but ZQ_HOST_DIR. `monkeypatch` comes second: what a test patches is undone before the clearing up."""
    for name in [name for name in os.environ if name.startswith("ZQ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ZQ_HOST_DIR", str(host_directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(host_directory / "config"))  # not the settings of whoever runs the tests


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")


def nothing_is_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With CI=true a skipped test is an error: what should be tested there must be testable there."""
    if report.outcome == "skipped" and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    nothing_is_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    nothing_is_skipped(report)
    return report
