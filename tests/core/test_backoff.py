"""Backoff: doubles, has an end, and is never the same for all."""

from __future__ import annotations

import pytest

from zq.core.backoff import FIRST, JITTER, MOST, backoff


@pytest.mark.parametrize("chance", [0.0, 0.5, 0.999])
def test_it_doubles_up_to_its_end(chance: float) -> None:
    spread = 1 + JITTER * chance
    assert [backoff(attempt, chance) for attempt in (1, 2, 3)] == pytest.approx(
        [FIRST * spread, 2 * FIRST * spread, 4 * FIRST * spread]
    )
    assert backoff(65_535, chance) == pytest.approx(MOST * spread)


def test_chance_spreads_it_and_a_later_attempt_still_comes_later() -> None:
    assert backoff(1, 0.0) < backoff(1, 0.9) < backoff(2, 0.0)
