"""Deadlines by key: setting a key again replaces its deadline. No clock in here: `now` is passed in."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable, Iterator

Due = Callable[[float], None]

LATE = 0.1  # s; a busy peer looks at its timers later than they are due, but not by so much


class Timers:
    """A heap with lazy removal; `due` yields what has come, earliest first. None of them is before `soonest`."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Hashable]] = []
        self._set: dict[Hashable, tuple[float, int, Due]] = {}
        self._count = 0
        self.soonest = math.inf

    def set(self, key: Hashable, when: float, due: Due) -> None:
        self._count += 1
        self._set[key] = (when, self._count, due)
        heapq.heappush(self._heap, (when, self._count, key))
        if when < self.soonest:
            self.soonest = when

    def set_if_unset(self, key: Hashable, when: float, due: Due) -> None:
        if key not in self._set:
            self.set(key, when, due)

    def give(self, key: Hashable, now: float, seconds: float, due: Due) -> None:
        """Others have so long to answer. If it is looked at LATE, it was we who stood still, with what they have said
        unread: then they get as long again, once."""

        def look(when: float) -> None:
            if when - now < seconds + LATE:
                due(when)
            else:
                self.set(key, when + seconds, due)

        self.set(key, now + seconds, look)

    def cancel(self, key: Hashable) -> None:
        self._set.pop(key, None)

    def next(self) -> float | None:
        """When the earliest deadline is, None when there is none."""
        while self._heap:
            when, count, key = self._heap[0]
            current = self._set.get(key)
            if current is not None and current[1] == count:
                self.soonest = when
                return when
            heapq.heappop(self._heap)
        self.soonest = math.inf
        return None

    def due(self, now: float) -> Iterator[Due]:
        if now < self.soonest:
            return
        while (when := self.next()) is not None and when <= now:
            _, _, key = heapq.heappop(self._heap)
            yield self._set.pop(key)[2]
