"""The holder of a queue's messages: what was taken from callers and nobody has confirmed yet.

Every message has one position (1, 2, ... in the order taken) and is in one of these states:

    taken -> waiting -> in flight on a link -> acked | dropped{reason}
                ^            |
                +-- nacked, returned, or its link ended

A crash of this process loses all of them, except those already at a puller, which still delivers them.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from zq.core.outgoing import PILE_BYTES, PILE_MESSAGES, SMALL, Outgoing, cut, fitting
from zq.core.ranges import Ranges
from zq.core.spans import Spans
from zq.core.topics import Origin
from zq.errors import IDS_KEPT
from zq.info import HeldQueue
from zq.wire.batch import Parts, Run
from zq.wire.limits import BATCH_BYTES, BATCH_MESSAGES


@dataclass(eq=False, slots=True)
class Chunk:
    """Messages taken together: consecutive positions, consecutive origin numbers, one time."""

    position: int
    items: list[bytes]
    parts: Parts
    size: int
    flags: int  # EXTRA and PARTS
    run: Run
    taken_at: float  # this peer's clock

    def size_of(self, start: int, stop: int) -> int:
        return self.size if stop - start == len(self.items) else sum(map(len, self.items[start:stop]))


@dataclass(eq=False, slots=True)
class Piece:
    """Some messages of a chunk that share their fate."""

    chunk: Chunk
    start: int
    stop: int
    attempt: int = 1
    redelivered: bool = False
    alone: bool = False  # somebody died over it: nothing else may be under way beside it
    nacked: bool = False  # somebody did not want it: it does not always go first

    @property
    def count(self) -> int:
        return self.stop - self.start

    @property
    def position(self) -> int:
        return self.chunk.position + self.start

    @property
    def size(self) -> int:
        return self.chunk.size_of(self.start, self.stop)

    def split(self, most: int) -> tuple[Piece, Piece | None]:
        """The first `most` messages, and the rest."""
        if most >= self.count:
            return self, None
        middle = self.start + most
        return self.slice(self.start, middle), self.slice(middle, self.stop)

    def slice(self, start: int, stop: int) -> Piece:
        return Piece(self.chunk, start, stop, self.attempt, self.redelivered, self.alone, self.nacked)

    def may_join(self, other: Piece) -> bool:
        """Whether one frame can carry both: it has one attempt number, and parts have a frame to themselves."""
        return (
            self.attempt == other.attempt
            and self.redelivered == other.redelivered
            and self.chunk.flags == other.chunk.flags
            and not (self.alone or other.alone or self.chunk.parts)
        )

    def run(self) -> Run:
        run = self.chunk.run
        return Run(run.origin, run.first + self.start, self.count, run.time)


@dataclass(eq=False, slots=True)
class Outbox:
    """One queue this peer pushes to."""

    queue: str
    window: int  # messages held at most; `send` waits beyond
    window_bytes: int  # bytes; one message above it passes alone
    outgoing: Outgoing = field(default_factory=Outgoing)
    fresh: deque[Piece] = field(default_factory=deque)
    again: deque[Piece] = field(default_factory=deque)  # redelivered; goes before fresh
    fresh_next: bool = False  # but not this time: what is nacked for ever must not hold everybody up
    later: list[tuple[float, int, Piece]] = field(default_factory=list)  # heap by due time
    done: Ranges = field(default_factory=Ranges)  # positions that need nothing more
    taken: int = 0
    acked: int = 0
    in_flight: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    lost: Spans = field(default_factory=lambda: Spans(newest=True))  # the newest of those dropped
    redelivered: int = 0
    held_bytes: int = 0
    waiting: int = 0
    delayed: int = 0  # of those waiting, not due yet

    def __post_init__(self) -> None:
        self.outgoing.limit = self._limit(self.window)
        self.outgoing.budget = min(PILE_BYTES, self.window_bytes)

    @property
    def held(self) -> int:
        return self.waiting + self.in_flight

    @property
    def ready(self) -> int:
        """Messages that could be sent now."""
        return self.waiting - self.delayed

    def take(self, origin: Origin, now: float, wall: float) -> int:
        """From the callers' pile into the outbox, as far as the window allows."""
        room = self.window - self.held
        most = max(min(len(self.outgoing.items), room), 0)
        count = fitting(self.outgoing, most, self.window_bytes - self.held_bytes, alone=not self.held)
        # The limit goes down before the pile does, so that no caller sees room that is not there.
        self.outgoing.limit = self._limit(room - count) if self.outgoing.limit >= 0 else -1
        for bodies, parts, size, flags in cut(self.outgoing.take(count)):
            chunk = Chunk(self.taken + 1, bodies, parts, size, flags, origin.run(len(bodies), wall), now)
            self.taken += len(bodies)
            self.waiting += len(bodies)
            self.held_bytes += size
            self.fresh.append(Piece(chunk, 0, len(bodies)))
        if count and self.outgoing.limit >= 0:
            self.outgoing.limit = self._limit(
                self.window - self.held
            )  # the bytes count as well, now that they are known
        return count

    def _limit(self, room: int) -> int:
        """What the pile may have: `room` by count, and by bytes as if all were as large as small items get."""
        by_bytes = (self.window_bytes - self.held_bytes) // SMALL
        if self.held and by_bytes <= 0:
            return 0
        return min(PILE_MESSAGES, max(room, 0), max(by_bytes, 1))

    def reopen(self) -> None:
        """After messages were released: callers may append again."""
        if self.outgoing.limit >= 0:
            self.outgoing.limit = self._limit(self.window - self.held)

    # --- waiting

    def wake_delayed(self, now: float) -> float | None:
        """Delayed messages that are due wait in front; returns when the next one is due."""
        while self.later and self.later[0][0] <= now:
            piece = heapq.heappop(self.later)[2]
            self.delayed -= piece.count
            self.again.append(piece)
        return self.later[0][0] if self.later else None

    def _front(self) -> deque[Piece]:
        return self.fresh if self.fresh and (self.fresh_next or not self.again) else self.again

    def first(self) -> Piece | None:
        front = self._front()
        return front[0] if front else None

    def pick(self, most: int, most_bytes: int) -> list[Piece]:
        """What one frame takes from the front: messages that may share one, within the limits, at least one.

        Redelivered and fresh messages do not share a frame.
        """
        picked: list[Piece] = []
        count = size = 0
        most = min(most, BATCH_MESSAGES)
        source = self._front()
        self.fresh_next = source is self.again and bool(source) and source[0].nacked
        while source and count < most:
            piece = source[0]
            if picked and not picked[0].may_join(piece):
                break
            piece, rest = piece.split(1 if piece.alone else most - count)
            room = min(most_bytes, BATCH_BYTES) - size
            if piece.size > room:
                piece, rest = self._fit(piece, rest, room, at_least=0 if picked else 1)
                if piece.count == 0:
                    break
            source.popleft()
            if rest is not None:
                source.appendleft(rest)
            picked.append(piece)
            count, size = count + piece.count, size + piece.size
            if piece.alone or piece.chunk.parts:
                break
        self.waiting -= count
        self.in_flight += count
        return picked

    def _fit(self, piece: Piece, rest: Piece | None, room: int, at_least: int) -> tuple[Piece, Piece | None]:
        fits = size = 0
        for item in piece.chunk.items[piece.start : piece.stop]:
            size += len(item)
            if size > room:
                break
            fits += 1
        fits = max(fits, at_least)
        stop = rest.stop if rest is not None else piece.stop
        whole = piece.slice(piece.start, stop)
        return piece.slice(piece.start, piece.start + fits), whole.slice(
            piece.start + fits, stop
        ) if piece.start + fits < stop else None

    def unpick(self, pieces: list[Piece]) -> None:
        """They could not be sent after all."""
        count = sum(piece.count for piece in pieces)
        self.waiting += count
        self.in_flight -= count
        source = self.again if pieces[0].redelivered else self.fresh
        source.extendleft(reversed(pieces))

    # --- the end of a flight

    def ack(self, piece: Piece) -> None:
        self._release(piece)
        self.acked += piece.count

    def drop(self, piece: Piece, reason: str) -> None:
        self._release(piece)
        self.dropped[reason] = self.dropped.get(reason, 0) + piece.count
        self._tell(self.lost, piece, reason)

    def _release(self, piece: Piece) -> None:
        self.in_flight -= piece.count
        self.held_bytes -= piece.size
        self.done.add(piece.position, piece.position + piece.count - 1)
        self.reopen()

    def retry(self, pieces: list[Piece], *, due: float | None = None) -> None:
        """Back to waiting, in front of everything fresh; not before `due` when it is given."""
        count = 0
        for piece in pieces:
            piece.redelivered = True
            count += piece.count
            if due is not None:
                self.delayed += piece.count
                heapq.heappush(self.later, (due, piece.position, piece))
        if due is None:
            self.again.extend(pieces)
            if len(self.again) > len(pieces):
                self.again = deque(sorted(self.again, key=lambda piece: piece.position))
        self.in_flight -= count
        self.waiting += count
        self.redelivered += count

    # --- reports

    def settled_through(self, position: int) -> bool:
        return self.done.first_missing(1) > position

    def _pieces(self) -> Iterator[Piece]:
        yield from self.again
        yield from self.fresh
        yield from (piece for _, _, piece in self.later)

    def oldest(self, in_flight: Iterator[Piece]) -> float | None:
        """When the oldest message still held was taken."""
        return min((piece.chunk.taken_at for pieces in (self._pieces(), in_flight) for piece in pieces), default=None)

    def unsettled_ids(self, in_flight: Iterator[Piece]) -> list[str]:
        pieces = sorted([*self._pieces(), *in_flight], key=lambda piece: piece.position)
        ids: list[str] = []
        for piece in pieces:
            origin, first, length, _ = piece.run()
            ids.extend(f"{origin.hex()}-{first + index}" for index in range(length))
            if len(ids) >= IDS_KEPT:
                break
        return ids[:IDS_KEPT]

    @staticmethod
    def _tell(spans: Spans, piece: Piece, state: str, peer: bytes = b"") -> bool:
        origin, first, length, _ = piece.run()
        return spans.add(origin, first, first + length - 1, state, peer)

    def row(self, in_flight: Iterable[tuple[bytes, Piece]] = ()) -> HeldQueue:
        """`in_flight`: to whom, and what."""
        spans = Spans()
        room = all(self._tell(spans, piece, "in flight", peer) for peer, piece in in_flight)
        for piece in self._pieces() if room else ():
            if not self._tell(spans, piece, "waiting"):
                break
        return HeldQueue(
            queue=self.queue,
            taken=self.taken,
            waiting=self.waiting,
            in_flight=self.in_flight,
            acked=self.acked,
            dropped=dict(self.dropped),
            redelivered=self.redelivered,
            spans=spans.rows(),
            lost=self.lost.rows(),
        )
