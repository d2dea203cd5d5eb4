"""Messages of a queue as their holder has them: chunks as they were taken, and the pieces that these fall into."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from zq.wire.batch import Buffer, Items, Joined, Parts, Run, size_of
from zq.wire.dead import Failure
from zq.wire.plan import NORMAL, Plan, remaining


class Place(Enum):
    """Where a message with a key, a ttl or a delay is."""

    LINE = "in the line of its lane"
    LATER = "not due yet"
    KEYED = "behind another one of its key"
    FLIGHT = "on a link"
    OVER = "settled or expired"


class Chunk:
    """Messages taken together: consecutive positions, consecutive origin numbers, one time, one lane."""

    __slots__ = (
        "due",
        "expires",
        "flags",
        "has_key",
        "items",
        "lane",
        "parts",
        "place",
        "plan",
        "position",
        "run",
        "size",
        "taken_at",
        "timed",
        "topic",
    )

    def __init__(
        self,
        position: int,
        items: Items,
        parts: Parts,
        size: int,
        flags: int,  # EXTRA and PARTS; NAMED with a topic
        run: Run,
        taken_at: float,  # this peer's clock
        *,
        topic: str | None = None,  # that they were published on, the queue being bound to it
    ) -> None:
        self.position = position
        self.items = items
        self.parts = parts
        self.size = size
        self.flags = flags
        self.run = run
        self.taken_at = taken_at
        self.topic = topic
        self.lane = NORMAL
        self.plan: Plan | None = None  # of a single message that has a fate of its own
        self.place = Place.LINE  # of that one
        self.expires: float | None = None  # this peer's clock
        self.due: float | None = None  # the same; it travels to a spool before that
        self.has_key = False  # no other message of its key may go before it is settled
        self.timed = False  # it is among those that the outbox looks at when they expire

    def size_of(self, start: int, stop: int) -> int:
        return self.size if stop - start == len(self.items) else size_of(self.items[start:stop])


class Piece:
    """Some messages of a chunk that share their fate."""

    __slots__ = ("_size", "alone", "attempt", "chunk", "doubts", "history", "nacked", "redelivered", "start", "stop")

    def __init__(
        self,
        chunk: Chunk,
        start: int,
        stop: int,
        attempt: int = 1,
        redelivered: bool = False,
        alone: bool = False,  # somebody died over it: nothing else may be under way beside it
        nacked: bool = False,  # somebody did not want it: it does not always go first
        doubts: int = 0,  # pullers lost with it under way, of which nobody knows whether they had been given it
        history: tuple[Failure, ...] = (),  # attempts that failed; only a piece of one message has some
    ) -> None:
        self.chunk = chunk
        self.start = start
        self.stop = stop
        self.attempt = attempt
        self.redelivered = redelivered
        self.alone = alone
        self.nacked = nacked
        self.doubts = doubts
        self.history = history
        self._size = -1  # not counted yet: it takes a look at each message

    @property
    def count(self) -> int:
        return self.stop - self.start

    @property
    def position(self) -> int:
        return self.chunk.position + self.start

    @property
    def size(self) -> int:
        if self._size < 0:
            self._size = self.chunk.size_of(self.start, self.stop)
        return self._size

    def split(self, most: int) -> tuple[Piece, Piece | None]:
        """The first `most` messages, and the rest."""
        if most >= self.count:
            return self, None
        middle = self.start + most
        first, rest = self.slice(self.start, middle), self.slice(middle, self.stop)
        if not self.chunk.parts:
            rest._size = self.size - first.size
        return first, rest

    def slice(self, start: int, stop: int) -> Piece:
        return Piece(
            self.chunk, start, stop, self.attempt, self.redelivered, self.alone, self.nacked, self.doubts, self.history
        )

    def may_join(self, other: Piece) -> bool:
        """Whether one frame can carry both: it has one attempt number, and parts have a frame to themselves."""
        return (
            self.attempt == other.attempt
            and self.redelivered == other.redelivered
            and self.chunk.flags == other.chunk.flags
            and self.chunk.topic == other.chunk.topic
            and not (self.alone or other.alone or self.chunk.parts)
        )

    def items(self, now: float) -> Sequence[Buffer]:
        """The bytes of its messages as they leave now, one behind the other."""
        chunk = self.chunk
        if isinstance(chunk.items, Joined) and self.count == len(chunk.items):
            return [chunk.items.body]
        items = chunk.items[self.start : self.stop]
        if chunk.plan is None:
            return items
        ttl = None if chunk.expires is None else max(chunk.expires - now, 0.0)
        delay = None if chunk.due is None else max(chunk.due - now, 0.0) or None
        return [remaining(item, chunk.plan, ttl, delay) for item in items]

    def run(self) -> Run:
        run = self.chunk.run
        return Run(run.origin, run.first + self.start, self.count, run.time)
