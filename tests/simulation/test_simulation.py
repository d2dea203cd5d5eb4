"""Three thousand schedules of loss, resets, partitions, stops and crashes through the real state machines.

A failing one says how to see it again; `make proof-sim SEEDS=100000` takes more of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from tests.simulation.seeds import failures, play

SEEDS = 3_000
CHUNK = 100  # seeds a test; a few seconds
DEADLINE = 120  # s for all of them

Failures = dict[int, Future[list[str]]]


@pytest.fixture(scope="module")
def played() -> Iterator[Failures]:
    """All of them, begun at once on all processors."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        yield {first: pool.submit(failures, range(first, first + CHUNK)) for first in range(0, SEEDS, CHUNK)}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(DEADLINE)
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds(first: int, played: Failures) -> None:
    for failure in played[first].result(DEADLINE):
        pytest.fail(failure)


def test_a_seed_gives_the_same_run_each_time() -> None:
    first, second = list[str](), list[str]()
    for seed in range(5):
        play(seed, first.append)
        play(seed, second.append)
    assert first == second
    assert len(first) > 100
