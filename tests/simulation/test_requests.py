"""Requests through seeded schedules of loss, duplication, partitions and crashes."""

from __future__ import annotations

from collections import Counter

from tests.simulation.requests import EVERY_END, play

SEEDS = 120


def test_each_request_ends_exactly_once_and_is_handed_out_at_most_once() -> None:
    ends: Counter[str] = Counter()
    for seed in range(SEEDS):
        try:
            ends += play(seed).ends
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert set(ends) == EVERY_END  # there is no way to end that was not tried
