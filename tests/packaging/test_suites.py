"""The runner of the suites itself: it notices failures, overruns and what they leave behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import run as runner
from tests.run import APART, ROOT, SUITES, WHOLE, Suite, main, table
from tests.waiting import eventually


def suite(code: str, budget: float) -> Suite:
    return Suite(name="sample", command=(sys.executable, "-c", code), budget=budget)


def test_the_budgets_fit_into_the_whole() -> None:
    assert sum(each.budget for each in SUITES) <= WHOLE


def test_every_suite_has_its_tests() -> None:
    assert [path for paths in APART.values() for path in paths if not (ROOT / path).exists()] == []


def test_a_suite_that_passes_in_time_is_ok() -> None:
    result = runner.run(suite("pass", 30))
    assert result.failure == ""
    assert "sample" in table([result])


def test_a_suite_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert runner.run(suite("raise SystemExit(3)", 30)).failure == "exit status 3"
    monkeypatch.setattr(runner, "SUITES", (suite("pass", 30), suite("raise SystemExit(3)", 30)))
    assert main([]) == 1
    assert "exit status 3" in capfd.readouterr().out


def test_suites_over_their_budgets_together_are_a_failure_and_one_of_them_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    slow, quick = suite("pass", 0.009), suite("pass", 30)
    monkeypatch.setattr(runner, "SUITES", (slow, quick))
    monkeypatch.setattr(runner, "PATIENCE", 10_000.0)
    assert main([]) == 0
    rows = [line for line in capfd.readouterr().out.splitlines() if line.startswith("sample")]
    assert [row.endswith("  ok, over its budget") for row in rows] == [True, False]
    monkeypatch.setattr(runner, "SUITES", (slow,))
    assert main([]) == 1
    assert capfd.readouterr().out.endswith("  over their budgets\n")


def test_suites_can_be_interrupted_though_they_run_in_the_background_of_a_shell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = "import signal, sys; sys.exit(signal.getsignal(signal.SIGINT) is not signal.default_int_handler)"
    monkeypatch.setattr(runner, "SUITES", (suite(code, 30),))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main([]) == 0
    finally:
        signal.signal(signal.SIGINT, before)


HANGING = 'sleep 1000 & echo $! >"$0"; wait'


def test_a_suite_that_hangs_is_stopped_with_all_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    stop = runner.stop

    def stop_what_hangs(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
        eventually(lambda: pid.exists() and pid.read_text())  # however late the machine is, it has begun
        stop(process, first)

    monkeypatch.setattr(runner, "stop", stop_what_hangs)
    hanging = Suite(name="sample", command=("sh", "-c", HANGING, str(pid)), budget=1.0)
    assert runner.run(hanging).failure == "stopped"
    child = int(pid.read_text())
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_an_unknown_suite_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unti"]) == 2
    assert "no such suite: unti; there are check, unit" in capsys.readouterr().err
