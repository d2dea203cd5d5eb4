"""Which messages are known by their origin numbers: exactly those that were added, or fewer."""

from __future__ import annotations

import random

import pytest

from zq.core.origins import Origins
from zq.wire.batch import Run

A, B = b"a" * 16, b"b" * 16


def missing(origins: Origins, *runs: tuple[bytes, int, int]) -> list[tuple[int, int]]:
    return origins.missing([Run(origin, first, length, 0.0) for origin, first, length in runs])


def test_what_was_added_is_known_and_nothing_else() -> None:
    origins = Origins()
    origins.add(A, 10, 19)
    origins.add(B, 1, 1)
    assert missing(origins, (A, 10, 10), (B, 1, 1)) == []
    assert missing(origins, (A, 5, 20)) == [(0, 5), (15, 20)]
    assert missing(origins, (B, 1, 3), (A, 19, 2), (b"c" * 16, 1, 2)) == [(1, 3), (4, 7)]
    origins.remove(A, 12, 13)
    assert missing(origins, (A, 10, 10)) == [(2, 4)]
    origins.remove(B, 1, 1)
    assert missing(origins, (B, 1, 1)) == [(0, 1)]


@pytest.mark.parametrize("seed", range(20))
def test_any_history_agrees_with_a_set(seed: int) -> None:
    draw = random.Random(seed)
    origins, model = Origins(), set[tuple[bytes, int]]()
    for _ in range(300):
        origin, first, length = draw.choice((A, B)), draw.randrange(1, 60), draw.randrange(1, 12)
        numbers = {(origin, number) for number in range(first, first + length)}
        if draw.random() < 0.3:
            origins.remove(origin, first, first + length - 1)
            model -= numbers
        elif draw.random() < 0.6:
            origins.add(origin, first, first + length - 1)
            model |= numbers
        runs = [(draw.choice((A, B)), draw.randrange(1, 60), draw.randrange(1, 12)) for _ in range(3)]
        asked = [(origin, first + place) for origin, first, length in runs for place in range(length)]
        new = {place for start, stop in missing(origins, *runs) for place in range(start, stop)}
        assert new == {place for place, number in enumerate(asked) if number not in model}
        assert len(origins) == len(list(origins))


def test_memory_is_bounded_and_what_is_forgotten_came_longest_ago() -> None:
    origins = Origins(most=1_000)
    for number in range(5_000):
        origins.add(number.to_bytes(16, "big"), 1, 1)
    assert len(origins) == 200
    assert missing(origins, ((4_999).to_bytes(16, "big"), 1, 1)) == []
    for number in range(5_000):
        origins.add(A, 2 * number, 2 * number)
    assert len(origins) <= 1_000
    assert missing(origins, (A, 2 * 4_999, 1), (A, 2 * 4_400, 1), (A, 0, 1)) == [(2, 3)]
