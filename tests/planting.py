"""Faults planted into zq one after another, each in a process of its own, and what has to find each of them.

A suite that stays green whatever is broken proves nothing. A fault is a function that breaks zq by replacing a part of
it; it names its *finder*: a test, or the simulator. A module of faults makes a `Garden`, decorates its faults with
it, and ends with `sys.exit(garden.main(sys.argv[1:]))`:

python -m MODULE            plants all of them and prints which was found, by what, and after how long
python -m MODULE NAME       plants one in this process and runs its finder, with what that prints
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 60  # s for a finder; most take one
# A copy: pytest sets a variable for each test, which may move the original while a thread starts a process with it.
ENVIRONMENT = dict(os.environ)
FOUND, NOT_FOUND, NOT_PLANTED = 1, 0, 9  # exit codes: of pytest when a test failed and when none did; our own
SIMULATION = "simulation"  # the finder that is no test: the simulator's seeds from 0 on
REQUESTS = "requests"  # the same with its worlds of requests alone
SPOOLS = "spools"  # the same with its worlds of spools and outboxes
KINDS = {SIMULATION: "", REQUESTS: "requests", SPOOLS: "spools"}  # as the simulator calls them
SEEDS = 3_000  # after which the simulator gives up; `make test` plays as many

Plant = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What is wrong, and the finder: a test's id, or one of KINDS."""

    name: str
    plant: Plant
    found_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What became of one fault. `said` is all that its finder printed."""

    fault: Fault
    code: int
    seconds: float
    said: str

    @property
    def found(self) -> bool:
        """A promise was seen broken: an interpreter that stumbled over the fault ends with the same code."""
        return self.code == FOUND and bool(
            re.search(r"^seed \d+: \w*(Violation|AssertionError)|1 failed", self.said, re.MULTILINE)
        )

    @property
    def row(self) -> str:
        verdict = "found" if self.found else "NOT FOUND" if self.code == NOT_FOUND else f"NOT RUN ({self.code})"
        seed = re.search(r"^seed (\d+): (.*)", self.said, re.MULTILINE)
        finder = f"seed {seed[1]} of the {self.fault.found_by}: {seed[2]}" if seed else self.fault.found_by
        return f"{verdict:<10} {self.seconds:5.1f} s  {self.fault.name:<40} by {finder}"[:220]


class Garden:
    """The faults of one module, by name. `tests` is where their finders are, if they are all in one directory."""

    def __init__(self, module: str, *, tests: str = "") -> None:
        self._module, self._tests = module, tests
        self.faults: dict[str, Fault] = {}

    def fault(self, found_by: str) -> Callable[[Plant], Plant]:
        """Decorates the function that plants it."""

        def dig(plant: Plant) -> Plant:
            finder = found_by if found_by in KINDS or not self._tests else f"{self._tests}/{found_by}"
            self.faults[plant.__name__] = Fault(name=plant.__name__, plant=plant, found_by=finder)
            return plant

        return dig

    def search(self, name: str) -> Search:
        """Plants it in a process of its own and lets its finder look for it."""
        command = [sys.executable, "-m", self._module, name]
        began = time.monotonic()
        try:
            ended = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE)
            code, said = ended.returncode, ended.stdout + ended.stderr
        except subprocess.TimeoutExpired as late:
            code, said = -1, f"{late}\n{late.stdout!r}"
        return Search(fault=self.faults[name], code=code, seconds=time.monotonic() - began, said=said)

    def searches(self, names: Iterable[str], at_once: int) -> Iterator[dict[str, Future[Search]]]:
        """All of them, begun at once; for a fixture."""
        with ThreadPoolExecutor(at_once) as pool:
            yield {name: pool.submit(self.search, name) for name in names}

    def main(self, arguments: list[str]) -> int:
        if arguments:
            fault = self.faults[arguments[0]]
            try:
                fault.plant()
            except Exception:
                traceback.print_exc()
                return NOT_PLANTED  # what it breaks is called otherwise now
            return _find(fault)
        missed = 0
        for name in self.faults:
            search = self.search(name)
            missed += not search.found
            print(search.row, flush=True)
        print(f"{len(self.faults) - missed} of {len(self.faults)} planted faults found")
        return 1 if missed else 0


def _find(fault: Fault) -> int:
    if fault.found_by not in KINDS:
        return int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", fault.found_by]))
    from tests.simulation.seeds import failures

    texts = failures(range(SEEDS), kind=KINDS[fault.found_by])  # in this process: another one would not have the fault
    print("\n".join(texts))
    return FOUND if texts else NOT_FOUND
