"""Ranges behave as sets of numbers, whatever is put in and in which order."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from zq.core.ranges import Ranges, runs_of

RUNS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda run: (run[0], run[0] + run[1])))


def numbers(ranges: Ranges) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(RUNS)
@settings(deadline=None)
def test_adding_is_union_and_tells_what_was_new(runs: list[tuple[int, int]]) -> None:
    ranges, known = Ranges(), set[int]()
    for first, last in runs:
        new = [number for low, high in ranges.add(first, last) for number in range(low, high + 1)]
        assert new == sorted(set(range(first, last + 1)) - known)
        known.update(range(first, last + 1))
        assert numbers(ranges) == known
        assert ranges.count() == len(known)


@given(RUNS)
@settings(deadline=None)
def test_ranges_stay_apart_and_ascend(runs: list[tuple[int, int]]) -> None:
    ranges = Ranges()
    for first, last in runs:
        ranges.add(first, last)
    kept = list(ranges)
    assert all(first <= last for first, last in kept)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(kept))
    assert len(ranges) == len(kept)


@given(RUNS, st.integers(0, 80), st.integers(0, 30))
@settings(deadline=None)
def test_what_is_between_two_numbers(runs: list[tuple[int, int]], first: int, more: int) -> None:
    ranges = Ranges()
    for run in runs:
        ranges.add(*run)
    last = first + more
    assert ranges.count_between(first, last) == len(numbers(ranges) & set(range(first, last + 1)))
    assert list(ranges.between(first, last)) == [(low, high) for low, high in ranges if low <= last and high >= first]


@given(RUNS, st.integers(0, 80))
@settings(deadline=None)
def test_membership_floor_and_first_missing(runs: list[tuple[int, int]], number: int) -> None:
    ranges = Ranges()
    for first, last in runs:
        ranges.add(first, last)
    known = numbers(ranges)
    assert (number in ranges) == (number in known)
    assert ranges.first_missing(number) == next(n for n in range(number, 200) if n not in known)
    ranges.forget_below(number)
    assert numbers(ranges) == {n for n in known if n >= number}


@given(st.lists(st.integers(0, 50)))
@settings(deadline=None)
def test_runs_of_any_numbers_in_any_order(given_numbers: list[int]) -> None:
    runs = runs_of(given_numbers)
    ranges = Ranges()
    for first, last in runs:
        ranges.add(first, last)
    assert numbers(ranges) == set(given_numbers)
    assert runs == sorted(runs)
