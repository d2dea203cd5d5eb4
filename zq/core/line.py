"""The messages of one lane that could go now, in the order in which they go.

What is delivered again, or was delayed and is due, goes before what is fresh, and shares no frame with it; what was
nacked does so every other time only, so that a message that is nacked for ever does not hold everybody up.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator

from zq.core.piece import Piece, Place
from zq.record import dataclass, field
from zq.wire.limits import BATCH_BYTES, BATCH_MESSAGES

COMPACT = 64  # pieces that expired in a line until it is gone through, if they are half of it


def _position(piece: Piece) -> int:
    return piece.position


@dataclass(eq=False, slots=True)
class Line:
    fresh: deque[Piece] = field(default_factory=deque)  # by position
    again: deque[Piece] = field(default_factory=deque)
    fresh_next: bool = False  # although there is something in `again`
    ready: int = 0  # messages that could be sent now
    _over: int = 0  # pieces that have expired here and are still in

    def __iter__(self) -> Iterator[Piece]:
        for pieces in (self.again, self.fresh):
            yield from (piece for piece in pieces if piece.chunk.place is not Place.OVER)

    def append(self, piece: Piece) -> None:
        self.fresh.append(piece)
        self.ready += piece.count

    def insert(self, piece: Piece) -> None:
        """One that had to wait for its turn, and goes before those that came later."""
        if self.fresh and self.fresh[0].position < piece.position:
            insort(self.fresh, piece, key=_position)
        else:
            self.fresh.appendleft(piece)
        self.ready += piece.count

    def due(self, piece: Piece) -> None:
        """One that was delayed."""
        self.again.append(piece)
        self.ready += piece.count

    def put_back(self, pieces: Iterable[Piece]) -> None:
        """Those that are to be delivered again."""
        before = len(self.again)
        self.again.extend(pieces)
        self.ready += sum(piece.count for piece in pieces)
        if before:
            self.again = deque(sorted(self.again, key=_position))

    def remove(self, piece: Piece) -> None:
        (self.again if piece in self.again else self.fresh).remove(piece)
        self.ready -= piece.count

    def give_up(self) -> list[Piece]:
        """Takes out what came from topics, oldest first."""
        given_up: list[Piece] = []
        for pieces in (self.again, self.fresh):
            left: list[Piece] = []
            for piece in pieces:
                (left if piece.chunk.topic is None else given_up).append(piece)
            pieces.clear()
            pieces.extend(left)
        self.ready -= sum(piece.count for piece in given_up)
        return given_up

    def take_undue(self, now: float) -> list[Piece]:
        """Takes out what nobody but a spool is to have yet."""
        undue: list[Piece] = []
        for pieces in (self.again, self.fresh):
            left: list[Piece] = []
            for piece in pieces:
                early = piece.chunk.place is not Place.OVER and (piece.chunk.due or 0.0) > now
                (undue if early else left).append(piece)
            pieces.clear()
            pieces.extend(left)
        self.ready -= sum(piece.count for piece in undue)
        return undue

    def expire(self, piece: Piece) -> None:
        """Its place is OVER: it is passed over from now on."""
        self.ready -= piece.count
        self._over += 1
        if self._over >= COMPACT and 2 * self._over >= len(self.fresh) + len(self.again):
            for pieces in (self.fresh, self.again):
                left = [piece for piece in pieces if piece.chunk.place is not Place.OVER]
                pieces.clear()
                pieces.extend(left)
            self._over = 0

    def _front(self) -> deque[Piece]:
        front = self.fresh if self.fresh and (self.fresh_next or not self.again) else self.again
        while front and front[0].chunk.place is Place.OVER:
            front.popleft()
            self._over -= 1
            if not front:
                return self._front() if self.fresh or self.again else front
        return front

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
            if piece.chunk.place is Place.OVER:
                source.popleft()
                self._over -= 1
                continue
            if picked and not picked[0].may_join(piece):
                break
            piece, rest = piece.split(1 if piece.alone else most - count)
            room = min(most_bytes, BATCH_BYTES) - size
            if piece.size > room and (picked or piece.count > 1):
                piece, rest = _fit(piece, rest, room, at_least=0 if picked else 1)
                if piece.count == 0:
                    break
            source.popleft()
            if rest is not None:
                source.appendleft(rest)
            picked.append(piece)
            count, size = count + piece.count, size + piece.size
            if piece.alone or piece.chunk.parts:
                break
        self.ready -= count
        return picked

    def unpick(self, pieces: list[Piece]) -> None:
        """They could not be sent after all."""
        source = self.again if pieces[0].redelivered else self.fresh
        source.extendleft(reversed(pieces))
        self.ready += sum(piece.count for piece in pieces)


def _fit(piece: Piece, rest: Piece | None, room: int, at_least: int) -> tuple[Piece, Piece | None]:
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
