"""Runs the suites one after another and says where the time went: python tests/run.py [SUITE ...]

A suite fails when a test in it fails; one that takes twice its budget is stopped. One that is over its budget is named,
and all of them fail if they are over theirs together: a machine that is slow for some minutes is no fault of the suite
that runs just then. The budgets together are what `make test` may take on two cores.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WHOLE = 1490.0  # s for all suites on two cores: 25 minutes less setting up
PATIENCE = 2.0  # budgets after which a suite is stopped rather than waited for
INTERRUPT = 10.0  # s an interrupted suite gets to clean up


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A command, and the seconds it may take."""

    name: str
    command: tuple[str, ...]
    budget: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    suite: Suite
    seconds: float
    failure: str  # empty when all is well


def pytest(name: str, *arguments: str, budget: float) -> Suite:
    return Suite(name=name, command=(sys.executable, "-m", "pytest", "-q", *arguments), budget=budget)


APART = {
    "simulation": ("tests/simulation",),
    "spool": ("tests/spool",),
    "processes": ("tests/processes",),
    "lan": ("tests/lan",),
    "cli": ("tests/cli",),
    "security": ("tests/security",),
    "proofs": ("tests/nemesis", "tests/planted", "tests/spoolkill"),
    "packaging": ("tests/packaging",),
    "programs": ("tests/test_demo.py", "tests/test_benchmarks.py"),
    "patterns": ("tests/test_patterns.py",),
}  # what has a suite of its own; everything else under tests/ is "unit"

SUITES = (
    Suite(name="check", command=("make", "--no-print-directory", "check"), budget=30),
    pytest("unit", "tests", *(f"--ignore={path}" for paths in APART.values() for path in paths), budget=290),
    pytest("spool", *APART["spool"], budget=50),
    pytest("simulation", *APART["simulation"], budget=205),
    pytest("processes", *APART["processes"], budget=135),
    pytest("lan", *APART["lan"], budget=205),
    pytest("cli", *APART["cli"], budget=85),
    pytest("proofs", *APART["proofs"], budget=95),
    pytest("security", *APART["security"], budget=255),
    pytest("packaging", *APART["packaging"], budget=30),
    pytest("programs", *APART["programs"], budget=95),
    pytest("patterns", *APART["patterns"], budget=15),
)


def stop(process: subprocess.Popen[bytes], first: signal.Signals) -> None:
    """Ends a suite and all it has started, the polite way first."""
    try:
        os.killpg(process.pid, first)
        process.wait(INTERRUPT)
    except subprocess.TimeoutExpired:
        pass  # it had its time to clean up
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all gone: what we want
    process.wait()


def run(suite: Suite) -> Result:
    """Runs it in a process group of its own, so that nothing it started outlives it."""
    started = time.monotonic()
    process = subprocess.Popen(suite.command, cwd=ROOT, start_new_session=True)
    failure = ""
    try:
        status = process.wait(suite.budget * PATIENCE)
        if status != 0:
            failure = f"exit status {status}"
    except subprocess.TimeoutExpired:
        stop(process, signal.SIGINT)
        failure = "stopped"
    except KeyboardInterrupt:
        stop(process, signal.SIGINT)
        raise
    return Result(suite=suite, seconds=time.monotonic() - started, failure=failure)


def are_over(results: Sequence[Result]) -> bool:
    """Whether they took longer than they may together."""
    return sum(result.seconds for result in results) > sum(result.suite.budget for result in results)


def table(results: Sequence[Result]) -> str:
    lines = [f"{'suite':<12} {'seconds':>8} {'budget':>8}"]
    for result in results:
        said = [result.failure or "ok", *(["over its budget"] if are_over([result]) else [])]
        lines.append(f"{result.suite.name:<12} {result.seconds:8.1f} {result.suite.budget:8.0f}  {', '.join(said)}")
    seconds, budget = sum(result.seconds for result in results), sum(result.suite.budget for result in results)
    lines.append(f"{'all':<12} {seconds:8.1f} {budget:8.0f}{'  over their budgets' if are_over(results) else ''}")
    return "\n".join(lines)


def main(names: Sequence[str]) -> int:
    known = {suite.name: suite for suite in SUITES}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no such suite: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    # A shell ignores interrupts for what it runs in the background, and so would the tests that are about interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    results: list[Result] = []
    try:
        for suite in [known[name] for name in names] or SUITES:
            print(f"\n== {suite.name}", flush=True)
            results.append(run(suite))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    finally:
        print(f"\n{table(results)}", flush=True)
    return 1 if are_over(results) or any(result.failure for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
