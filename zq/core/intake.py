"""What callers leave for an outbox on disk. Each message has a ticket, and is taken once that is safe.

    left in the pile -> cut: has its number -> on its way to the disk -> safe: the disk has it, its sender goes on
        |                  |    ^                   |
        |                  |    +-- was not stored -+
        +------------------+-- withdrawn: its sender waits no more, and nobody ever gets it

Tickets count from 1 in the order left. All that has piled up goes to the disk at once, and nothing more until that is
answered: what could not be stored goes again before anything that came later, so that messages are safe in the order
in which they were left. A message that is withdrawn while the disk has it is settled when that says that it is stored.

A crash loses what is not safe; nobody was told that it was taken.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from zq.core.outgoing import PILE_MESSAGES, Outgoing, cut
from zq.core.topics import Origin
from zq.wire.stored import Stamp, Stored, part_of


class Deposit(NamedTuple):
    """Messages with consecutive tickets that share a record."""

    first: int
    stored: Stored

    @property
    def last(self) -> int:
        return self.first + len(self.stored.items) - 1

    def without(self, first: int, last: int) -> list[Deposit]:
        """What is left of it when the tickets first..last are gone."""
        count = len(self.stored.items)
        places = [(0, first - self.first), (max(last + 1 - self.first, 0), count)]
        return [
            Deposit(self.first + start, part_of(self.stored, [(start, min(stop, count))]))
            for start, stop in places
            if start < min(stop, count)
        ]


class Intake:
    """The callers' side of one outbox. `outgoing` is their pile; they append to it and count `given` under a lock."""

    def __init__(self, queue: str, max_attempts: int, origin: Origin) -> None:
        self.queue = queue
        self.max_attempts = max_attempts
        self.outgoing = Outgoing()
        self.given = 0  # tickets; only callers write it
        self.safe = 0  # this ticket and all before it are stored or withdrawn
        self.full = ""  # why it takes nothing now
        self.lacking = ""  # that, or why what waits here was refused when the disk was last asked
        self.problem = ""  # why it takes nothing any more
        self.closed = False  # that is why
        self._origin = origin
        self._taken = 0  # tickets that are not in the pile any more
        self._again: deque[Deposit] = deque()  # what the disk has not taken
        self._waiting: deque[Deposit] = deque()
        self._storing: deque[Deposit] = deque()
        self._withdrawn: set[int] = set()  # tickets that the disk has

    @property
    def asked(self) -> int:
        """How many deposits are on their way to the disk."""
        return len(self._storing)

    def set_full(self, why: str) -> None:
        self.full = why
        if why or not (self._again or self._storing):
            self.lacking = why
        if self.outgoing.limit >= 0:
            self.outgoing.limit = 0 if why else PILE_MESSAGES
        self.outgoing.wake()

    def _take(self, came: Stamp) -> None:
        """From the pile."""
        self.outgoing.marked = False
        for bodies, _, parts, _, flags, _ in cut(self.outgoing.take(len(self.outgoing.items))):
            runs = (self._origin.run(len(bodies), came.wall),)
            stored = Stored(came, 1, self.max_attempts, flags, runs, None, list(bodies), parts)
            self._waiting.append(Deposit(self._taken + 1, stored))
            self._taken += len(bodies)

    def next(self, came: Stamp) -> list[Stored]:
        """What is to go to the disk now, in order."""
        if self._storing or self.full or self.problem:
            self.outgoing.marked = False
            return []
        pile = self.outgoing
        crowded = 2 * len(pile.items) >= pile.limit or pile.large_in != pile.large_out
        self._take(came)
        self._storing = self._again + self._waiting
        self._again, self._waiting = deque(), deque()
        if crowded:
            pile.wake()  # there is room; who waits for the disk has nothing to look at
        return [deposit.stored for deposit in self._storing]

    def on_stored(self) -> list[int]:
        """The disk has the next deposit. Returns which of its messages nobody wants any more, by place."""
        if self.problem:
            return []
        deposit = self._storing.popleft()
        self.lacking = self.full
        gone = [place for place in range(len(deposit.stored.items)) if deposit.first + place in self._withdrawn]
        self._withdrawn.difference_update(deposit.first + place for place in gone)
        self._settle()
        return gone

    def on_failed(self) -> None:
        """The disk has not taken the next deposit."""
        if self.problem:
            return
        deposit = self._storing.popleft()
        left = [deposit]
        for ticket in [ticket for ticket in self._withdrawn if deposit.first <= ticket <= deposit.last]:
            self._withdrawn.discard(ticket)
            left = [part for each in left for part in each.without(ticket, ticket)]
        self._again.extend(left)
        self._settle()

    def fail(self, problem: str) -> None:
        """Nothing is taken any more, nor any of what is not safe."""
        self.problem = problem
        if self.outgoing.limit >= 0:
            self.outgoing.limit = 0
        for deposits in (self._again, self._waiting, self._storing):
            deposits.clear()
        self.outgoing.wake()

    def close(self) -> None:
        self.closed = True
        self.outgoing.limit = -1
        self.fail("it is closed")

    def safe_of(self, first: int, last: int) -> int:
        """How many of these tickets are safe, the first of them."""
        return max(min(last, self.safe) - first + 1, 0)

    def withdraw(self, first: int, last: int, came: Stamp) -> int:
        """Their sender does not want these tickets any more. Returns how many were safe already, the first of them."""
        self._take(came)
        for deposit in self._storing:
            self._withdrawn.update(range(max(first, deposit.first), min(last, deposit.last) + 1))
        self._again = _without(self._again, first, last)
        self._waiting = _without(self._waiting, first, last)
        safe = self.safe_of(first, last)
        self._settle()
        return safe

    def _settle(self) -> None:
        """Finds out how far it is safe."""
        ahead = [deposits[0].first for deposits in (self._storing, self._again, self._waiting) if deposits]
        self.safe = max(self.safe, min(ahead, default=self._taken + 1) - 1)


def _without(deposits: deque[Deposit], first: int, last: int) -> deque[Deposit]:
    return deque(left for deposit in deposits for left in deposit.without(first, last))
