"""One puller handle, as the engine knows it: what has come for it, on which links, and what became of that."""

from __future__ import annotations

from zq.core.credit import Prefetch
from zq.core.inbox import Inbox
from zq.core.lanes import Overtaking, Turns
from zq.core.overdue import Overdue
from zq.core.receiving import ReceivingLink
from zq.core.spans import Spans
from zq.info import PulledQueue
from zq.record import dataclass, field
from zq.wire.batch import Batch
from zq.wire.names import Filter

SAMPLE_AFTER, SAMPLE_MOST = 0.05, 1.0  # s until the hand-out is reported, doubled up to while nothing moves
CLOSING_AFTER, CLOSING_MOST = 0.1, 1.0  # s until a closing state is repeated, doubled up to


@dataclass(eq=False, slots=True)
class Puller:
    """One puller handle."""

    id: bytes
    queue: str
    inbox: Inbox
    prefetch: Prefetch
    prefetch_bytes: int
    overdue: Overdue | None = None  # with a work timeout
    hung: bool = False  # its program has taken nothing for that long: it gets nothing more
    stream: bytes | None = None  # it is the way into a spool's stream
    full: bool = False  # of a spool: it takes nothing more
    hidden: bool = False  # of a spool: nobody is to begin to use it
    cursor: str | None = None  # it is a durable subscription's: the name of its position at spools
    filters: tuple[Filter, ...] = ()  # of topics that the queue is bound to
    created: float = 0.0  # this peer's clock
    links: dict[bytes, ReceivingLink] = field(default_factory=dict)
    turns: Turns | None = None  # of the lanes, once there is more than the normal one
    overtaking: Overtaking = field(default_factory=Overtaking)
    closing: bool = False
    closing_patience: float = CLOSING_AFTER
    sample: float = SAMPLE_AFTER
    handing: Batch | None = None  # the newest that was taken, as last looked; when the next one is, it is whole
    turn: int = 0  # number of the link that is granted credit first
    late: bool = False  # somebody has waited long enough for a whole step of credit
    delayed: int = 0  # nacked here with a delay, their pusher being gone
    received: int = 0
    acked: int = 0
    nacked: int = 0
    rejected: int = 0
    given_back: int = 0

    @property
    def queued(self) -> int:
        return self.inbox.queued + self.delayed

    def is_of(self, queue: str) -> bool:
        """Whether a pusher of that queue is one of its own."""
        return queue == self.queue or (self.cursor is not None and queue.startswith(self.queue))

    def row(self) -> PulledQueue:
        settled = self.acked + self.nacked + self.rejected + self.given_back
        queued = min(self.queued, self.received - settled)
        spans = Spans()
        for link in self.links.values():
            if not link.unsettled(spans):
                break
        return PulledQueue(
            queue=self.queue,
            received=self.received,
            queued=queued,
            handed_out=self.received - queued - settled,
            acked=self.acked,
            nacked=self.nacked,
            rejected=self.rejected,
            returned=self.given_back,
            spans=spans.rows(),
        )
