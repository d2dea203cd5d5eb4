"""Which messages somebody has, by whose numbers they carry: what comes again is known.

Ranges of numbers an origin. Memory is bounded by `MOST`: beyond it what came longest ago is forgotten, an origin at a
time, and of a single one its lowest ranges. What is forgotten and comes again is taken for new, so it is there twice;
nothing that is new is ever taken for known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zq.core.ranges import Ranges
from zq.wire.batch import Run

MOST = 1 << 17  # ranges; 10 MB. A pusher holds 16,384 messages, each of which may be a range
ORIGIN = 4  # ranges that an origin takes the memory of, beside its own


class Origins:
    """Ranges of numbers by origin, those that came last being the last."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._ranges: dict[bytes, Ranges] = {}
        self._size = 0

    def __iter__(self) -> Iterator[tuple[bytes, int, int]]:
        """(origin, first, last) of each range."""
        return ((origin, first, last) for origin, ranges in self._ranges.items() for first, last in ranges)

    def __len__(self) -> int:
        """How many ranges there are."""
        return self._size - ORIGIN * len(self._ranges)

    def add(self, origin: bytes, first: int, last: int) -> None:
        ranges = self._ranges.pop(origin, None)
        if ranges is None:
            ranges = Ranges()
            self._size += ORIGIN
        self._ranges[origin] = ranges  # the last one now
        before = len(ranges)
        ranges.add(first, last)
        self._size += len(ranges) - before
        while self._size > self._most:
            self._forget_some()

    def _forget_some(self) -> None:
        oldest, ranges = next(iter(self._ranges.items()))
        if len(self._ranges) > 1:
            del self._ranges[oldest]
            self._size -= ORIGIN + len(ranges)
            return
        before = len(ranges)
        ranges.forget_below(list(ranges)[before // 4 or 1][0])
        self._size += len(ranges) - before

    def remove(self, origin: bytes, first: int, last: int) -> None:
        """They are not here after all."""
        ranges = self._ranges.get(origin)
        if ranges is None:
            return
        before = len(ranges)
        ranges.remove(first, last)
        self._size += len(ranges) - before
        if not len(ranges):
            del self._ranges[origin]
            self._size -= ORIGIN

    def missing(self, runs: Sequence[Run]) -> list[tuple[int, int]]:
        """Of the messages of these runs, which are not here: (start, stop) among them, in order."""
        places: list[tuple[int, int]] = []
        at = 0
        for run in runs:
            ranges = self._ranges.get(run.origin)
            number, end = run.first, run.first + run.length
            while ranges is not None and (number := ranges.first_missing(number)) < end:
                following = ranges.next_start(number)
                stop = end if following is None else min(end, following)
                _extend(places, at + number - run.first, at + stop - run.first)
                number = stop
            if ranges is None:
                _extend(places, at, at + run.length)
            at += run.length
        return places


def _extend(places: list[tuple[int, int]], start: int, stop: int) -> None:
    if places and places[-1][1] == start:
        start = places.pop()[0]
    places.append((start, stop))
