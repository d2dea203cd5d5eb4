"""Sets of numbers kept as ranges, so that work is done per range and not per message."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """Disjoint ranges of integers, both ends included, ascending."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._first, self._last, strict=True)

    def __len__(self) -> int:
        return len(self._first)

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._first, number) - 1
        return index >= 0 and number <= self._last[index]

    def count(self) -> int:
        """How many numbers the set holds."""
        return sum(self._last) - sum(self._first) + len(self._first)

    def count_between(self, first: int, last: int) -> int:
        """How many numbers from `first` to `last` the set holds."""
        low, high = bisect_left(self._last, first), bisect_right(self._first, last)
        if low >= high:
            return 0
        whole = sum(self._last[low:high]) - sum(self._first[low:high]) + high - low
        return whole - max(first - self._first[low], 0) - max(self._last[high - 1] - last, 0)

    def between(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The ranges that have numbers from `first` to `last`, as they are."""
        for index in range(bisect_left(self._last, first), bisect_right(self._first, last)):
            yield self._first[index], self._last[index]

    def add(self, first: int, last: int) -> list[tuple[int, int]]:
        """Puts first..last in; returns the parts of it that were not in before."""
        low = bisect_left(self._last, first - 1)  # the first range that touches or lies behind
        high = bisect_right(self._first, last + 1)  # behind the last range that touches
        new: list[tuple[int, int]] = []
        at = first
        for index in range(low, high):
            if self._first[index] > at:
                new.append((at, min(last, self._first[index] - 1)))
            at = max(at, self._last[index] + 1)
        if at <= last:
            new.append((at, last))
        if low < high:
            first, last = min(first, self._first[low]), max(last, self._last[high - 1])
        self._first[low:high] = [first]
        self._last[low:high] = [last]
        return new

    def remove(self, first: int, last: int) -> None:
        """Takes first..last out."""
        low = bisect_left(self._last, first)
        high = bisect_right(self._first, last)
        if low >= high:
            return
        kept = [(self._first[low], first - 1), (last + 1, self._last[high - 1])]
        kept = [(start, end) for start, end in kept if start <= end]
        self._first[low:high] = [start for start, _ in kept]
        self._last[low:high] = [end for _, end in kept]

    def forget_below(self, floor: int) -> None:
        """Removes all numbers below `floor`."""
        gone = bisect_left(self._last, floor)
        del self._first[:gone], self._last[:gone]
        if self._first and self._first[0] < floor:
            self._first[0] = floor

    def next_start(self, number: int) -> int | None:
        """Where the first range behind `number` begins."""
        index = bisect_right(self._first, number)
        return self._first[index] if index < len(self._first) else None

    def first_missing(self, start: int) -> int:
        """The lowest number >= start that is not in the set."""
        index = bisect_right(self._first, start) - 1
        if index >= 0 and start <= self._last[index]:
            return self._last[index] + 1
        return start


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Disjoint ranges in order, those that touch joined."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def runs_of(numbers: list[int]) -> list[tuple[int, int]]:
    """The ranges that `numbers` (any order) make up; one step for the usual unbroken run. Repeats do no harm."""
    if not numbers:
        return []
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return [(numbers[0], numbers[-1])]
    ordered = sorted(set(numbers))
    if ordered[-1] - ordered[0] + 1 == len(ordered):
        return [(ordered[0], ordered[-1])]
    runs: list[tuple[int, int]] = []
    first = previous = ordered[0]
    for number in ordered[1:]:
        if number != previous + 1:
            runs.append((first, previous))
            first = number
        previous = number
    runs.append((first, previous))
    return runs
