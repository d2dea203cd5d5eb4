"""Which messages are where, by origin number: ranges for reports, and the way back from a link's numbers to origins."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from zq.core.ranges import Ranges
from zq.info import Span
from zq.wire.batch import Run

TRAIL = 1_024  # frames of a link until those are forgotten that are settled, though the floor has not moved
SPANS = 16  # in one row of a ledger, so that a thousand queues stay a few pages


class Spans:
    """Ranges as they come; those that go on where the last one ended are joined. `newest` keeps the last `most`
    instead of the first."""

    __slots__ = ("_most", "_newest", "_rows", "more")

    def __init__(self, most: int = SPANS, *, newest: bool = False) -> None:
        self._rows: deque[tuple[bytes, int, int, str, bytes]] = deque()
        self._most = most
        self._newest = newest
        self.more = False  # some were left out

    def add(self, origin: bytes, first: int, last: int, state: str, peer: bytes = b"") -> bool:
        """False when there is no room for more."""
        rows = self._rows
        if rows:
            before = rows[-1]
            if before[2] + 1 == first and before[0] == origin and before[3] == state and before[4] == peer:
                rows[-1] = (origin, before[1], last, state, peer)
                return True
        if len(rows) >= self._most:
            self.more = True
            if not self._newest:
                return False
            rows.popleft()
        rows.append((origin, first, last, state, peer))
        return True

    def remove(self, origin: bytes, number: int) -> None:
        """Takes that one out again, if it is in."""
        for index, (of, first, last, state, peer) in enumerate(self._rows):
            if of == origin and first <= number <= last:
                del self._rows[index]
                for low, high in ((number + 1, last), (first, number - 1)):
                    if low <= high:
                        self._rows.insert(index, (of, low, high, state, peer))
                break
        if len(self._rows) > self._most:
            self.more = True
            self._rows.popleft() if self._newest else self._rows.pop()

    def rows(self) -> tuple[Span, ...]:
        return tuple(
            Span(origin=origin, first=first, last=last, state=state, peer=peer)
            for origin, first, last, state, peer in self._rows
        )


class Trail:
    """What came over a link: its numbers with the origins behind them, until the pusher knows that they are settled.

    `note` is called once a frame and must cost next to nothing; the rest is for whoever asks.
    """

    __slots__ = ("_batches", "_most")

    def __init__(self) -> None:
        self._batches: deque[tuple[int, int, Sequence[Run]]] = deque()  # first and last number, origins
        self._most = TRAIL

    def __len__(self) -> int:
        return len(self._batches)

    def note(self, first: int, last: int, runs: Sequence[Run]) -> None:
        self._batches.append((first, last, runs))

    def tidy(self, settled: Ranges) -> None:
        """One long job keeps the floor where it is: what is settled meanwhile is looked for now and then."""
        if len(self._batches) > self._most:
            self._batches = deque(batch for batch in self._batches if settled.first_missing(batch[0]) <= batch[1])
            self._most = max(2 * len(self._batches), TRAIL)

    def forget_below(self, floor: int) -> None:
        batches = self._batches
        while batches and batches[0][1] < floor:
            batches.popleft()

    def origins(self, first: int, last: int) -> Iterator[tuple[int, int, bytes, int]]:
        """What is known of the numbers first..last: number, count, origin, origin number; ascending, each once."""
        at = first
        for low, high, runs in self._batches:
            if high < at:
                continue
            if low > last:
                return
            number = low
            for run in runs:
                start, stop = max(number, at), min(number + run.length - 1, last)
                if start <= stop:
                    yield start, stop - start + 1, run.origin, run.first + start - number
                    at = stop + 1
                number += run.length


def complement(ranges: Iterable[tuple[int, int]], first: int, last: int) -> Iterator[tuple[int, int]]:
    """The parts of first..last that are in none of the ranges, which ascend."""
    for low, high in ranges:
        if low > last:
            break
        if first < low:
            yield first, low - 1
        first = max(first, high + 1)
    if first <= last:
        yield first, last
