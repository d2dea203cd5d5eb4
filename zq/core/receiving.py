"""The receiving end of a link: what has come from one pusher, and what the program has settled of it.

Numbers are settled once: the first outcome counts. What was settled is told in each state until the pusher's floor
says that it knows; a crash loses it, and nothing else: no receipt, no release.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from zq.core.ranges import Ranges
from zq.core.spans import Spans, Trail, complement
from zq.record import dataclass, field
from zq.wire.batch import ATTEMPT_MOST, Batch
from zq.wire.frames import ACKED, RETURNED, STORED, State
from zq.wire.plan import NORMAL

if TYPE_CHECKING:
    from zq.core.puller import Puller

LOCAL = b"local"  # begins the id of the link on which messages of a pusher that is gone are delivered again
SETTLED_ROWS = 1_000  # ranges in one state; when there are more they take turns
REFUSED_ROWS = 200  # the same of numbers with a reason, which may take 4 KB each; a mailbox frame has room for 1 MiB


class Settled(NamedTuple):
    """A number the program settled other than by ack."""

    number: int
    outcome: int
    delay: float
    reason: str
    batch: Batch
    place: int  # of the message in the batch


@dataclass(eq=False, slots=True)
class ReceivingLink:
    """The receiving end of a link. Callers append to `acks` and `others`, then look at `noted`; everything else is the
    engine's."""

    id: bytes
    peer: bytes
    session: int
    puller: Puller
    lane: int = NORMAL
    queue: str = ""  # as its pusher calls it
    max_attempts: int = ATTEMPT_MOST  # of its pusher
    expected: int = 1
    held: dict[int, Batch] = field(default_factory=dict)
    acks: list[int] = field(default_factory=list)
    others: deque[Settled] = field(default_factory=deque)
    noted: bool = False  # the engine knows that there is something in them, and has not looked yet
    settled: Ranges = field(default_factory=Ranges)
    acked: Ranges = field(default_factory=Ranges)
    given_back: Ranges = field(default_factory=Ranges)
    stored: Ranges = field(default_factory=Ranges)
    refused: dict[int, Settled] = field(default_factory=dict)
    settled_count: int = 0
    floor: int = 1
    limit: int = 0
    sent: int = 0
    returned: int = 0
    wanted: int = 0
    first_bytes: int = 0
    bytes_taken: int = 0  # by the program
    keep: int = 0
    handed: int = 0
    orphan: bool = False
    ended: bool = False
    reminded: bool = False  # of credit that others wait for
    doubted: bool = False  # its pusher says that it pushes to this queue no more
    delayed: set[int] = field(default_factory=set)  # numbers delivered here after a while
    trail: Trail = field(default_factory=Trail)  # whose the numbers are
    turn: int = 0  # states sent
    news: bool = True  # the pusher is to know the present state at once
    soon: bool = False  # or before long: see `receipts`
    told_at: float = 0.0  # when it was told last
    told_settled: int = 0  # how many were settled then

    @property
    def in_use(self) -> int:
        if self.ended:
            return 0
        promised = self.expected - 1 if self.orphan else self.limit - self.returned
        return promised - self.settled_count

    @property
    def unused(self) -> int:
        """Credit the pusher has and does not use, as far as we have heard."""
        return self.limit - self.sent - self.returned

    @property
    def all_settled(self) -> bool:
        return self.settled_count >= self.expected - 1

    @property
    def starves(self) -> bool:
        """Whether its pusher has something and may not send it, as far as we have heard."""
        return self.wanted > 0 and self.unused <= 0

    @property
    def is_worth_telling(self) -> bool:
        """Whether as much was settled since the last state as is still here."""
        return self.settled_count - self.told_settled >= self.expected - 1 - self.settled_count

    def told(self, now: float) -> None:
        """The pusher is told the present state."""
        self.news = self.soon = False
        self.told_at, self.told_settled = now, self.settled_count

    def settle(self, first: int, last: int, into: Ranges) -> int:
        """Marks numbers that were received; returns for how many that is news."""
        count = 0
        for low, high in self.settled.add(max(first, 1), min(last, self.expected - 1)):
            into.add(low, high)
            count += high - low + 1
        self.settled_count += count
        self.soon |= count > 0
        return count

    def forget_below(self, floor: int) -> None:
        if floor > self.floor:
            self.floor = floor
            self.trail.forget_below(floor)
            self.acked.forget_below(floor)
            self.given_back.forget_below(floor)
            self.stored.forget_below(floor)
            for number in [number for number in self.refused if number < floor]:
                del self.refused[number]

    def unsettled(self, spans: Spans) -> bool:
        """Puts in what is queued and handed out, by the origins' numbers; False when there is no room for all."""
        out_of_order = self.queued_here() if self.id.startswith(LOCAL) else None
        for low, high in complement(self.settled, self.floor, self.expected - 1):
            for first, count, origin, number in self.trail.origins(low, high):
                handed = min(max(self.handed - first + 1, 0), count)
                if out_of_order is not None:
                    handed = int(first not in out_of_order)  # one by one, as they were noted
                for start, stop, state in ((0, handed, "handed out"), (handed, count, "queued")):
                    if start < stop and not spans.add(origin, number + start, number + stop - 1, state, self.peer):
                        return False
        return True

    def queued_here(self) -> set[int]:
        """The numbers of a link made here that are not handed out: those with a delay are overtaken by others."""
        inbox = self.puller.inbox
        waiting = [batch for batch in list(inbox.arrived) if isinstance(batch, Batch)]
        if isinstance(inbox.handing.batch, Batch) and inbox.handing.waiting:
            waiting.append(inbox.handing.batch)
        return self.delayed | {batch.first + batch.skip for batch in waiting if batch.link is self}

    def state(self, limit_bytes: int, *, closed: bool) -> State:
        """As it is; `closed` is said only with everything that was settled, as it is the last word."""
        rows = [[low, high, ACKED] for low, high in self.acked]
        rows += [[low, high, RETURNED] for low, high in self.given_back]
        rows += [[low, high, STORED] for low, high in self.stored]
        refused = [[item.number, item.outcome, item.delay, item.reason] for item in self.refused.values()]
        closed = closed and len(rows) <= SETTLED_ROWS and len(refused) <= REFUSED_ROWS
        rows, refused = self._turn(rows, SETTLED_ROWS), self._turn(refused, REFUSED_ROWS)
        self.turn += 1
        self.trail.tidy(self.settled)
        heard = self.sent + self.returned
        return State(
            self.id,
            self.lane,
            self.expected,
            rows,
            refused,
            self.limit,
            limit_bytes,
            self.keep,
            self.handed,
            closed,
            heard,
        )

    def _turn(self, rows: list[list[Any]], most: int) -> list[list[Any]]:
        """Those whose turn it is, for one state."""
        start = self.turn * most % len(rows) if len(rows) > most else 0
        return (rows[start:] + rows[:start])[:most]
