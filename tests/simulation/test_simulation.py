"""Two thousand schedules of loss, resets, partitions, stops and crashes through the real state machines.

A failing one says how to see it again; `make proof-sim SEEDS=100000` takes more of them.
"""

from __future__ import annotations

import pytest

from tests.simulation.__main__ import replay
from tests.simulation.world import play

SEEDS = 2_000
CHUNK = 100  # seeds a test; a few seconds


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_promise_holds(first: int) -> None:
    for seed in range(first, first + CHUNK):
        try:
            play(seed)
        except Exception as error:
            pytest.fail(f"seed {seed}: {type(error).__name__}: {error}\nto see it again: {replay(seed)}")


def test_a_seed_gives_the_same_run_each_time() -> None:
    first, second = list[str](), list[str]()
    for seed in range(5):
        play(seed, first.append)
        play(seed, second.append)
    assert first == second
    assert len(first) > 100
