"""The sending end of a link: numbered messages to one puller, each released by a receipt and by nothing else.

What is known grows only: the numbers that arrived (`expected`), those that are settled, the credit (`limit`). So
state frames may be lost, repeated or come late. A *flight* is what one frame carried. Flights that were sent before
the present work connection was made, and that the puller does not expect any more than it did, are sent again with
the same numbers; within one connection nothing is.

Each lane has a link of its own to each puller, opened when the lane is first used.

When the puller is declared gone the link ends: its unsettled messages go back to the outbox, and to others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from zq.core.line import Line
from zq.core.outbox import Outbox
from zq.core.piece import Piece
from zq.core.ranges import Ranges
from zq.record import dataclass, field
from zq.wire.plan import NORMAL

STRIDE = 64  # messages: from here on the frame costs less than what is in it
STRIDE_TIME = 0.005  # s; what a puller settles in that time goes in one frame all the same, and costs less still


class Flight:
    """One frame's messages. `generation` counts the work connections of the peer."""

    __slots__ = ("count", "first", "generation", "open", "pieces", "size")

    def __init__(self, first: int, pieces: list[Piece], count: int, size: int) -> None:
        self.first = first
        self.count = count
        self.pieces = pieces
        self.size = size
        self.generation = 0
        self.open = count  # messages not settled yet

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    def slices(self, first: int, last: int) -> Iterator[Piece]:
        """The parts of its pieces that carry the numbers first..last."""
        at = self.first
        for piece in self.pieces:
            low, high = max(first, at), min(last, at + piece.count - 1)
            if low <= high:
                yield piece.slice(piece.start + low - at, piece.start + high - at + 1)
            at += piece.count


@dataclass(eq=False, slots=True)
class SendingLink:
    id: bytes
    outbox: Outbox
    peer: bytes
    puller: bytes
    session: int
    lane: int = NORMAL
    next: int = 1  # number of the next message
    expected: int = 1  # the puller has everything below
    handed: int = 0  # the puller's program was given everything up to here
    limit: int = 0
    limit_bytes: int = 0
    sent_bytes: int = 0
    returned: int = 0
    keep: int = 0
    told_at: float = 0.0  # when its last state came
    arrived: tuple[int, float] | None = None  # see zq.core.hearing: what had, while more is under way, and since when
    told: int = 0  # sent + returned + wanted, as last told the puller
    heard: int = 0  # sent + returned, as the puller has heard
    confirmed: bool = False  # the puller knows the link
    reserved: bool = False  # nothing new until it is empty: a message is to go alone
    spool: bool = False  # it leads to a disk
    retired: bool = False  # nothing new for ever: its outbox goes another way
    settled: Ranges = field(default_factory=Ranges)
    flights: dict[int, Flight] = field(default_factory=dict)
    firsts: list[int] = field(default_factory=list)  # keys of flights, ascending
    patience: float = 0.0  # s until the next probe
    pace: int = 0  # messages that its puller settled between the last two states
    paced_at: float = 0.0  # when the last one came that said so
    rate: float = 0.0  # messages a second, the same
    offered: int = 0  # the credit by which it can be found among those with free credit; 0 if it cannot

    @property
    def line(self) -> Line:
        """What it carries."""
        return self.outbox.lines[self.lane]

    @property
    def free(self) -> int:
        """Messages that may be sent now."""
        return self.limit - (self.next - 1) - self.returned

    @property
    def is_heard(self) -> bool:
        """Whether the puller knows what was sent and given back."""
        return self.heard >= self.next - 1 + self.returned

    @property
    def floor(self) -> int:
        """All below is settled."""
        return self.settled.first_missing(1)

    @property
    def stride(self) -> int:
        """Messages that may go in one frame although others wait for work: its puller has settled half as many at
        once. A frame for each message would cost the pusher thirty times as much."""
        return min(2 * self.pace, max(STRIDE, int(self.rate * STRIDE_TIME))) if self.pace > 1 else 1

    def paced(self, settled: int, now: float) -> None:
        """A state said that so many messages were settled since the one before."""
        self.pace = settled
        self.rate = settled / max(now - self.paced_at, 1e-6)
        self.paced_at = now

    def may_send(self, size: int) -> bool:
        return self.free > 0 and (self.sent_bytes + size <= self.limit_bytes or not self.flights)

    def depart(self, pieces: list[Piece]) -> Flight:
        count = size = 0
        for piece in pieces:
            count, size = count + piece.count, size + piece.size
        flight = Flight(self.next, pieces, count, size)
        self.flights[flight.first] = flight
        self.firsts.append(flight.first)
        self.next += count
        self.sent_bytes += size
        return flight

    def settle(self, first: int, last: int) -> list[Piece]:
        """Marks first..last settled; returns the messages for which that is news."""
        last = min(last, self.next - 1)
        if first > last or first < 1:
            return []
        pieces: list[Piece] = []
        for low, high in self.settled.add(first, last):
            index = max(bisect_right(self.firsts, low) - 1, 0)
            while index < len(self.firsts) and self.firsts[index] <= high:
                flight = self.flights[self.firsts[index]]
                start, stop = max(low, flight.first), min(high, flight.last)
                if start <= stop:
                    if start == flight.first and stop == flight.last:
                        pieces.extend(flight.pieces)
                    else:
                        pieces.extend(flight.slices(start, stop))
                    flight.open -= stop - start + 1
                    if flight.open == 0:
                        del self.flights[flight.first]
                        del self.firsts[index]
                        continue
                index += 1
        return pieces

    def to_send_again(self, generation: int) -> list[Flight]:
        return [
            flight
            for flight in self.flights.values()
            if flight.generation < generation and flight.last >= self.expected
        ]

    def arrival(self) -> tuple[int, int]:
        """How much has arrived, as a number that only grows, and the bytes that are under way."""
        return self.expected, sum(flight.size for flight in self.flights.values() if flight.last >= self.expected)

    def unsettled(self) -> Iterator[tuple[int, Piece]]:
        """Every message in flight with its number, one by one, ascending."""
        for first in self.firsts:
            flight = self.flights[first]
            for number in range(flight.first, flight.last + 1):
                if number not in self.settled:
                    yield number, next(flight.slices(number, number))

    def in_flight(self) -> Iterator[Piece]:
        for flight in self.flights.values():
            if flight.open == flight.count:
                yield from flight.pieces
            else:
                for number in range(flight.first, flight.last + 1):
                    if number not in self.settled:
                        yield from flight.slices(number, number)
