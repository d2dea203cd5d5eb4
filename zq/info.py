"""What a peer tells about itself and its realm: frozen values, complete enough for every `zq` listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

PeerState = Literal["up", "suspect", "gone", "incompatible"]
EventKind = Literal["joined", "changed", "suspect", "left"]


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
class TopicInfo:
    """One topic of the realm, this peer's own part included."""

    name: str
    publishers: int
    subscribers: int  # peers with a matching filter, and queues that are bound to it
    published: int  # messages, of all publishers now here
    lag: int  # messages the slowest subscriber has not taken yet
    slow: tuple[str, ...]  # names of peers that are left behind


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueInfo:
    """One queue of the realm, this peer's own part included."""

    name: str
    pushers: int
    pullers: int
    depth: int  # messages taken and not yet settled, of all pushers
    lag: float  # seconds the oldest of them has been waiting
    slow: tuple[str, ...]  # names of peers whose credit is used up


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
    expired: int = 0  # their ttl was over before anybody got them
    stored: int = 0  # a spool has them now

    @property
    def balanced(self) -> bool:
        left = self.waiting + self.in_flight
        return self.taken == left + self.acked + self.stored + self.expired + sum(self.dropped.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledQueue:
    """A queue of a running spool."""

    queue: str
    depth: int  # messages stored and not settled, dead letters included
    bytes: int  # of its files
    dead: int  # dead letters
    full: bool  # it takes no more
    problem: str  # why it cannot store; empty if it can


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

    @property
    def balanced(self) -> bool:
        return self.expected == self.delivered + self.queued + self.repairing + self.dropped + self.gap


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
    others: tuple[Ledger, ...] = ()  # with realm=True: what each other peer reports
    unknown: tuple[str, ...] = ()  # with realm=True: names of peers that did not answer or have left

    @property
    def balanced(self) -> bool:
        mine: tuple[HeldQueue | PulledQueue | PublishedTopic | SubscribedTopic | RequestedService | RepliedService, ...]
        mine = (*self.held, *self.pulled, *self.published, *self.subscribed, *self.requested, *self.replied)
        return all(part.balanced for part in mine) and all(other.balanced for other in self.others)
