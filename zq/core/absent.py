"""Publishers that fell silent while messages of theirs were missing, and may be back with them in their rings.

    HERE --silent, something missing--> ABSENT --back--> HERE, and asked for what is missing
                                           |
                                           '--time up--> GONE: what is missing becomes a Gap

Only topics with a hole are kept, with what came too early behind it; a program that reads on waits for those as it does
while a publisher is here. A crash of this peer loses what its program had not taken, as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zq.core.reception import Reception
from zq.core.timers import Timers

ABSENT_FOR = 30.0  # s until nobody waits for what it has: a partition is often over by then


class Absent:
    """`give_up` hears of each that has been away for too long."""

    def __init__(self, timers: Timers, give_up: Callable[[Reception], None]) -> None:
        self._timers = timers
        self._give_up = give_up
        self._receptions: dict[bytes, Reception] = {}

    def __iter__(self) -> Iterator[Reception]:
        return iter(self._receptions.values())

    def get(self, publisher: bytes) -> Reception | None:
        return self._receptions.get(publisher)

    def keep(self, reception: Reception, now: float) -> None:
        reception.leave()
        self._receptions[reception.publisher] = reception
        self._timers.set((self, reception.publisher), now + ABSENT_FOR, lambda _: self._end(reception.publisher))

    def take_back(self, publisher: bytes) -> Reception | None:
        """It is back, if it was absent."""
        self._timers.cancel((self, publisher))
        return self._receptions.pop(publisher, None)

    def _end(self, publisher: bytes) -> None:
        reception = self.take_back(publisher)
        assert reception is not None
        self._give_up(reception)
