"""What a peer tells about itself and its realm: frozen values, complete enough for every `zq` listing.

Long, since it is a table: a class a listing, with what each field means, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from zq.record import dataclass, field

PeerState = Literal["up", "suspect", "gone", "incompatible"]
EventKind = Literal["joined", "changed", "suspect", "left"]
Pace = Literal["up", "suspended", "waited for", "behind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerInfo:
    """One other peer of the realm, as this one sees it."""

    id: bytes
    name: str
    host: str
    pid: int
    state: PeerState
    found_by: tuple[str, ...]  # the rungs that named it, first first: "host", "mdns", "dir", "seed", "gossip", "hello"
    address: str  # the endpoint it is reached by
    up_for: float  # seconds since it joined
    found_in: float  # seconds from first sight to joined
    publishes: tuple[str, ...]  # topics
    subscribes: tuple[str, ...]  # filters
    pushes: tuple[str, ...]  # queues
    pulls: tuple[str, ...]  # queues
    replies: tuple[str, ...] = ()  # services


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerEvent:
    """A change in the realm. `watch` yields them in order for each peer: joined, changed or suspect, left."""

    kind: EventKind
    peer: PeerInfo
    at: datetime  # UTC, this host's clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumer:
    """A puller of a queue, or a peer that subscribes to a topic, as those who send to it see it; or a cursor of a
    spool, `<cursor>@<filter>`, with all that it has not settled of what the filter selects.

    `pace` is "up" (it keeps up), "suspended" (a puller whose credit is used up), "waited for" (a subscriber that holds
    a topic back) or "behind" (a subscriber that was left behind).
    """

    peer: bytes
    name: str
    lag: int  # messages sent to it and not settled; published and not taken by its program
    pace: Pace


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicInfo:
    """One topic of the realm, this peer's own part included."""

    name: str
    publishers: int
    subscribers: int  # peers with a matching filter, and queues that are bound to it
    published: int  # messages, of all publishers now here
    lag: int  # messages the slowest subscriber has not taken yet, or the slowest cursor of a spool that keeps it
    slow: tuple[str, ...]  # names of peers that are waited for or left behind
    consumers: tuple[Consumer, ...] = ()  # those that lag, the slowest first
    dropped: Mapping[str, int] = field(default_factory=dict)  # at subscriptions now here, by reason; with "gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """One queue of the realm, this peer's own part included."""

    name: str
    pushers: int
    pullers: int
    depth: int  # messages taken and not yet settled, of all pushers
    lag: float  # seconds the oldest of them has been waiting
    slow: tuple[str, ...]  # names of peers whose credit is used up
    consumers: tuple[Consumer, ...] = ()  # pullers that hold some of them, those that hold most first
    dropped: Mapping[str, int] = field(default_factory=dict)  # at the pushers now here, by reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Messages `first` to `last` (topic numbers) of `topic` that this subscription will never see.

    `last` is None when the publisher vanished: how much it had still sent is unknown.
    """

    publisher: bytes
    topic: str
    first: int
    last: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Messages `first` to `last` of one origin, all in one place; `message.id` of each is `<origin>-<number>`.

    `state` is "waiting" or "in flight" at who holds them, "queued" or "handed out" at a puller, or why they were
    lost: "expired", or a reason of dropping.
    """

    origin: bytes
    first: int
    last: int
    state: str
    peer: bytes = b""  # "in flight": to whom; "queued", "handed out": from whom

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldQueue:
    """A queue at the peer that holds its messages. taken = waiting + in_flight + acked + stored + expired +
    sum(dropped)."""

    queue: str
    taken: int
    waiting: int
    in_flight: int
    acked: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    redelivered: int = 0  # deliveries beyond the first, not part of the sum
    spans: tuple[Span, ...] = ()  # which are waiting and in flight; at most 16, then there are more
    lost: tuple[Span, ...] = ()  # dropped or expired, and why, unless retried since; the newest 16
    expired: int = 0  # their ttl was over before anybody got them
    stored: int = 0  # a spool has them now
    gaps: tuple[Gap, ...] = ()  # of topics it is bound to: what was not there any more when it was; the newest 16

    @property
    def balanced(self) -> bool:
        left = self.waiting + self.in_flight
        return self.taken == left + self.acked + self.stored + self.expired + sum(self.dropped.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledQueue:
    """A queue of a running spool."""

    queue: str
    depth: int  # messages stored and not settled; dead letters are counted for themselves
    bytes: int  # of its files, those of its dead letters included
    dead: int  # dead letters
    full: bool  # it takes no more
    problem: str  # why it cannot store; empty if it can


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledStream:
    """A queue or a topic in a spool, as it is on the disk."""

    kind: str  # "queue" or "topic"
    name: str
    holder_id: bytes = b""
    stream: bytes  # what it is called for ever, 16 bytes
    depth: int  # messages: of a queue those that nobody has settled, of a topic those that are kept
    bytes: int  # of its files
    oldest: float | None  # s that the oldest of them has been there
    lag: int  # messages that the cursor that is farthest behind has not settled; of a queue its depth
    first: int  # number of the oldest of them; 0 if there is none
    last: int  # of the newest that there ever was
    damaged: tuple[tuple[int, int], ...] = ()  # numbers of what had been confirmed and is not there: first, last
    problems: tuple[str, ...] = ()  # what else was not as it should be, a line each
    cursors: int = 0  # named ones
    open_in: int | None = None  # the process that has the spool open; 0 if it does not say
    holder: str = ""  # name of the peer that answered, if one was asked


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolCursor:
    """A named position in a stream."""

    kind: str  # of the stream
    stream: str
    cursor: str
    position: int  # number of the next message that it wants
    lag: int  # messages that it has not had and that are there
    missed: int  # messages that it has not had and that were trimmed
    holder: str = ""  # name of the peer that answered, if one was asked
    holder_id: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolProblem:
    """Something in a spool that is not as it should be."""

    kind: str  # of the stream; empty: of the spool
    stream: str
    file: str
    offset: int  # bytes of the file: from here
    end: int  # up to here
    first: int  # numbers of messages that are lost by it; 0 if none are
    last: int
    what: str
    holder: str = ""  # name of the peer that answered, if one was asked
    holder_id: bytes = b""

    @property
    def text(self) -> str:
        """As a line."""
        where = f" from byte {self.offset:,} to {self.end:,}" if self.end else ""
        numbers = f"messages {self.first:,} to {self.last:,}" if self.last > self.first else f"message {self.first:,}"
        lost = f"; lost: {numbers} of {self.kind} {self.stream}" if self.first else ""
        return f"{self.file}{where}: {self.what}{lost}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolReport:
    """What `verify` has found."""

    streams: int
    bytes: int  # that were read
    problems: tuple[SpoolProblem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolAnswer:
    """What the spools of the realm have answered."""

    rows: tuple[Any, ...] = ()  # SpooledStream, SpoolCursor, SpooledMessage or SpoolProblem, by name of their holder
    count: int = 0  # messages purged, cursors forgotten, or bytes read
    next: int = 0  # of messages: the number to go on with, 0 for the end
    damaged: tuple[tuple[int, int], ...] = ()  # numbers of messages that should be among them: first, last
    gaps: tuple[Gap, ...] = ()  # of topics: what the spool never got
    unknown: tuple[str, ...] = ()  # names of peers that did not answer or have left meanwhile
    problems: tuple[str, ...] = ()  # why a peer could not do what was asked, beginning with its name


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledMessage:
    """A message as it is on the disk of a spool."""

    stream: str  # queue, or filter of a topic stream
    number: int  # in its stream
    data: Any
    id: str  # its `Message.id`
    headers: Mapping[str, str]
    queue: str | None
    topic: str | None
    key: str | None
    lane: str
    ttl: float | None  # s that were left when it came
    delay: float  # s that were left when it came
    origin: bytes  # the peer, or the outbox, that numbered it
    sent_at: datetime  # by the clock of its sender, UTC
    stored_at: datetime  # when it came, by the clock of the spool, UTC
    stored_for: float  # s since then
    attempt: int  # of its next delivery
    redelivered: bool  # it may have been delivered before
    size: int  # bytes
    complete: bool = True  # False: it does not decode; `data` is None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledTopic:
    """The topics of one filter, as a running spool keeps them."""

    filter: str
    messages: int  # kept
    first: int  # number of the oldest; numbers are those of the spool, over all topics of the filter
    last: int  # of the newest
    bytes: int  # of its files
    stored: bool  # what is published now is
    problem: str  # why it is not; empty if it is
    cursors: tuple[SpoolCursor, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledQueue:
    """A queue at a puller. received = queued + handed_out + acked + nacked + rejected + returned."""

    queue: str
    received: int
    queued: int
    handed_out: int  # at the program, not settled
    acked: int
    nacked: int
    rejected: int
    returned: int
    spans: tuple[Span, ...] = ()  # which are queued and handed out; at most 16, then there are more

    @property
    def balanced(self) -> bool:
        settled = self.acked + self.nacked + self.rejected + self.returned
        return self.received == self.queued + self.handed_out + settled


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """One delivery of a message that came to nothing."""

    attempt: int  # 1 for the first delivery
    outcome: str  # "nacked", "rejected", or "lost": the puller was, with the message in hand
    puller: str  # name of the peer
    puller_id: bytes
    at: datetime  # when the holder heard of it, by its clock, UTC
    reason: str  # what the puller said


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message that nobody is to have again."""

    queue: str  # the one it was pushed to
    id: str  # its `Message.id`, before and after it died
    reason: str
    history: tuple[FailedAttempt, ...]  # oldest first; of very many the newest
    died_at: datetime | None  # by the clock of its holder, UTC
    sent_at: datetime
    holder: str  # name of the peer that keeps it
    holder_id: bytes
    size: int  # bytes
    complete: bool  # False: it is too large to be shown, and `data` is None
    data: Any
    headers: Mapping[str, str]  # those of the message


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetters:
    """What the peers of the realm answered about the dead letters of a queue."""

    letters: tuple[DeadLetter, ...] = ()  # by holder, then oldest first; empty after a retry or purge
    count: int = 0  # listed, retried or purged
    unknown: tuple[str, ...] = ()  # names of peers that did not answer or have left meanwhile
    problems: tuple[str, ...] = ()  # why a peer could not do what was asked, beginning with its name


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTopic:
    """A topic at its publisher. published = in_ring + left_ring."""

    topic: str
    published: int
    in_ring: int
    left_ring: int

    @property
    def balanced(self) -> bool:
        return self.published == self.in_ring + self.left_ring


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribedTopic:
    """A topic of one publisher at one subscription. expected = delivered + queued + repairing + dropped + gap."""

    topic: str
    publisher: bytes
    expected: int  # messages from the subscription's fence to the newest number seen
    delivered: int  # taken by the program
    queued: int
    repairing: int
    dropped: int  # by the subscription's own policy
    gap: int
    subscription: int = 0  # tells those of one peer apart
    gaps: tuple[Gap, ...] = ()  # which numbers; the newest 16. One of unknown length is not counted in `gap`

    @property
    def balanced(self) -> bool:
        return self.expected == self.delivered + self.queued + self.repairing + self.dropped + self.gap


@dataclass(frozen=True, slots=True, kw_only=True)
class Departed:
    """A peer that was here, and what it had said of itself last; what became of that nobody here can know."""

    peer: bytes
    name: str
    ago: float  # seconds since it was declared gone
    goodbye: bool  # it left in good order
    held: Mapping[str, int] = field(default_factory=dict)  # queue: messages that nobody had confirmed to it
    published: Mapping[str, int] = field(default_factory=dict)  # topic: messages


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueAccount:
    """One queue over the realm. A message that a pusher has in flight and a puller has in hand is one message, so
    what is open is counted by its numbers and not as a sum. taken = waiting + in_flight + acked + expired +
    sum(dropped). Dead letters are messages of the queue of that name."""

    queue: str
    taken: int  # at the pushers that have answered
    acked: int
    dropped: Mapping[str, int]
    waiting: int
    in_flight: int
    orphaned: int  # at pullers, of pushers that are gone or have not answered; they will be delivered all the same
    holders: tuple[str, ...]  # names of peers that hold some, and those with orphaned ones
    expired: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Messages that will not arrive, or of which nobody here knows whether they will.

    Their numbers are origin numbers, or topic numbers where there is a `topic`: a bound queue may lack messages of one.
    `last` is None when nobody knows. `why` is a reason of dropping, "expired", "gap", or "unknown": who held them last
    is gone or has not answered. Unknown is no loss. What is dead or rejected may still be among the dead letters; once
    it is retried it is missing no more.
    """

    queue: str | None
    topic: str | None
    origin: bytes
    first: int
    last: int | None
    count: int | None  # messages, if it is known; at most, for "unknown"
    why: str
    at: str  # the peer that misses or dropped them, or that knows of them
    holder: str  # who held them last


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedService:
    """A service at a peer that asks. asked = waiting + sent + replied + failed + lost + nobody + abandoned."""

    service: str
    asked: int
    waiting: int  # for a replier that has room
    sent: int
    replied: int
    failed: int  # at the replier
    lost: int  # the replier was gone first
    nobody: int  # nobody offers it
    abandoned: int  # the caller's time ran out
    late: int = 0  # replies that came after that, not part of the sum

    @property
    def balanced(self) -> bool:
        ended = self.replied + self.failed + self.lost + self.nobody + self.abandoned
        return self.asked == self.waiting + self.sent + ended


@dataclass(frozen=True, slots=True, kw_only=True)
class RepliedService:
    """A service at one of its repliers. received = held + replied + failed + turned_away + dropped."""

    service: str
    received: int
    held: int  # waiting here or with the program
    replied: int
    failed: int
    turned_away: int  # no program has had it
    dropped: int  # the requester was gone, or had given up
    late: int = 0  # answers to what was not held any more, not part of the sum

    @property
    def balanced(self) -> bool:
        return self.received == self.held + self.replied + self.failed + self.turned_away + self.dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The counters that account for every message, taken in one step of the engine."""

    peer: bytes
    name: str
    held: tuple[HeldQueue, ...] = ()
    pulled: tuple[PulledQueue, ...] = ()
    published: tuple[PublishedTopic, ...] = ()
    subscribed: tuple[SubscribedTopic, ...] = ()
    requested: tuple[RequestedService, ...] = ()
    replied: tuple[RepliedService, ...] = ()
    refused_frames: int = 0  # frames from the network that made no sense, or were for somebody else
    turned_away: Mapping[str, int] = field(default_factory=dict)  # by limits, see SECURITY.md; by what it was for
    departed: tuple[Departed, ...] = ()  # peers that this one has seen leave, the newest 256
    others: tuple[Ledger, ...] = ()  # with realm=True: what each other peer reports
    unknown: tuple[str, ...] = ()  # with realm=True: names of peers that did not answer or have left
    queues: tuple[QueueAccount, ...] = ()  # with realm=True: the queues of all
    missing: tuple[Missing, ...] = ()  # with realm=True: what will not arrive, or nobody knows

    @property
    def balanced(self) -> bool:
        mine: tuple[HeldQueue | PulledQueue | PublishedTopic | SubscribedTopic | RequestedService | RepliedService, ...]
        mine = (*self.held, *self.pulled, *self.published, *self.subscribed, *self.requested, *self.replied)
        return all(part.balanced for part in mine) and all(other.balanced for other in self.others)
