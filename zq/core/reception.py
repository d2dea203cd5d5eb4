"""The subscribing side of topics: every message of every matching topic once and in order, or a Gap that says not.

For each publisher there is a Reception, for each of its topics a TopicIn with the newest number known, and for each
of this peer's subscriptions a Cursor: the next number it must get. What arrives too early is held; what is missing
is asked for, one repair at a time, and what the publisher's ring no longer has becomes a Gap.

Where a cursor starts: a subscription counts from its creation, even if the connection comes later. The publisher
answers our fence with its clock; that clock less the subscription's age is the moment it began, one transit early
at the most. Topics that appear behind the fence start at 1.

Events: feed frames (batches, heads, fence answers), refills, the program taking from an inbox, a publisher gone.
All of them are harmless when lost, repeated or reordered. A crash of this peer loses only what its program had not
taken, which no one has promised to keep for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from zq.core.inbox import SubscriptionInbox
from zq.core.spans import SPANS
from zq.core.timers import Timers
from zq.core.topics import WINDOW, WINDOW_BYTES
from zq.info import Gap, SubscribedTopic
from zq.record import dataclass, field
from zq.wire.batch import CLEARED, REPORT, Batch
from zq.wire.frames import INHERIT_PATIENCE, NO_PATIENCE, Head, Refilled, Repair, Seen
from zq.wire.names import Filter, check_name

REPAIR_AFTER, REPAIR_MOST = 0.2, 2.0  # s until a repair is asked for again, doubled up to
FENCE_AFTER, FENCE_MOST = 1.0, 5.0  # s until a fence that was not answered is subscribed again, doubled up to
PLACES = 4_096  # in topics of publishers that are gone and may come back, a subscription; roster.REMEMBERED
HELD_BYTES = 32 << 20  # bytes that arrived too early, a publisher; beyond that they are asked for again
REPORT_MESSAGES, REPORT_BYTES = WINDOW // 4, WINDOW_BYTES // 4  # taken since the last report
REPORT_AFTER = 0.25  # s until anything taken is reported
EVERYTHING = (1 << 62) - 1  # "up to the newest" in a Repair
SEEN_ROWS = 500  # topics in one report
NOWHERE: Mapping[tuple[bytes, str], int] = MappingProxyType({})


@dataclass(eq=False, slots=True)
class Subscription:
    """One subscriber handle: its filters and what has arrived for it."""

    number: int
    filters: tuple[Filter, ...]
    inbox: SubscriptionInbox
    patience: float  # s, or INHERIT_PATIENCE
    created: float  # this peer's clock
    generation: int = 0
    cursors: dict[tuple[bytes, str], Cursor] = field(default_factory=dict)
    past: dict[str, list[int]] = field(
        default_factory=dict
    )  # topic: expected, delivered, dropped, gap of publishers gone
    left: dict[tuple[bytes, str], int] = field(default_factory=dict)  # next number, of publishers gone
    matched: dict[str, bool] = field(default_factory=dict)
    gaps: dict[str, list[Gap]] = field(default_factory=dict)  # topic: the newest, of publishers gone

    def matches(self, topic: str) -> bool:
        known = self.matched.get(topic)
        if known is None:
            known = self.matched[topic] = any(filter.matches(topic) for filter in self.filters)
        return known

    def losses(self) -> Iterator[tuple[str, int, int]]:
        """Topic, messages dropped, messages in gaps."""
        for cursor in self.cursors.values():
            yield cursor.topic, cursor.dropped, cursor.gap
        for name, (_, _, dropped, gap) in self.past.items():
            yield name, dropped, gap

    def rows(self) -> list[list[object]]:
        """As they stand in this peer's roster entry."""
        patience = self.patience if self.inbox.policy == "wait" else NO_PATIENCE
        return [[filter.text, patience, self.number] for filter in self.filters]


@dataclass(eq=False, slots=True)
class Cursor:
    """Where one subscription stands in one publisher's topic."""

    subscription: Subscription
    publisher: bytes
    topic: str
    next: int | None = None  # None until the fence says where it starts
    start: int = 0
    since: float | None = None  # publisher's clock, when the start has to be looked up in the ring
    queued: int = 0
    delivered: int = 0
    dropped: int = 0
    gap: int = 0
    gaps: list[Gap] = field(default_factory=list)  # the newest
    behind: bool = False  # the inbox was full: repaired when there is room
    ended: bool = False  # the publisher is gone

    def begin(self, number: int) -> None:
        self.next = self.start = number
        self.since = None

    @property
    def taken(self) -> int:
        """Numbers up to here were taken by the program, dropped by its policy, or are gone."""
        return (self.next or 1) - 1 - self.queued

    @property
    def arrived(self) -> int:
        """Numbers up to here have come; at a spool they are stored as well."""
        return self.taken if self.subscription.inbox.keeps else (self.next or 1) - 1

    def row(self, head: int) -> SubscribedTopic:
        expected = max(head, (self.next or 1) - 1) - self.start + 1 if self.next is not None else 0
        return SubscribedTopic(
            topic=self.topic,
            publisher=self.publisher,
            expected=expected,
            delivered=self.delivered,
            queued=self.queued,
            repairing=max(head - self.next + 1, 0) if self.next is not None else 0,
            dropped=self.dropped,
            gap=self.gap,
            subscription=self.subscription.number,
            gaps=tuple(self.gaps),
        )


@dataclass(eq=False, slots=True)
class TopicIn:
    """One topic of one publisher."""

    name: str
    head: int = 0
    cursors: list[Cursor] = field(default_factory=list)
    held: dict[int, Batch] = field(default_factory=dict)  # by first number
    report_wanted: bool = False
    reported_taken: int = 0
    taken_bytes: int = 0  # since the last report

    @property
    def arrived(self) -> int:
        return min((cursor.arrived for cursor in self.cursors), default=self.head)

    @property
    def taken(self) -> int:
        waiting = [cursor.taken for cursor in self.cursors if cursor.subscription.inbox.policy == "wait"]
        return min(waiting, default=self.arrived)


class Asked(NamedTuple):
    """The one repair under way with a publisher."""

    request: int
    topic: str
    clock: float | None
    first: int


@dataclass(eq=False, slots=True)
class Reception:
    """One publisher."""

    publisher: bytes
    feed: int | None = None  # connection
    fenced: int = 0  # generation of filters that its fence answer covered
    fence_patience: float = 0.0  # s until the fence is subscribed again
    topics: dict[str, TopicIn] = field(default_factory=dict)
    held_bytes: int = 0
    holes: dict[str, TopicIn] = field(default_factory=dict)
    asked: Asked | None = None
    patience: float = REPAIR_AFTER
    to_report: dict[str, TopicIn] = field(default_factory=dict)


class Receptions:
    """All publishers and all subscriptions of this peer."""

    def __init__(
        self,
        timers: Timers,
        send: Callable[[bytes, Repair | Seen], None],
        subscribe: Callable[[int, bytes, bool], None],
        fence: Callable[[bytes], bytes],
    ) -> None:
        self._timers = timers
        self._send = send
        self._subscribe = subscribe
        self._fence_prefix = fence  # nonce to prefix
        self._receptions: dict[bytes, Reception] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._prefixes: set[bytes] = set()
        self._numbers = 0
        self._requests = 0
        self.on_unanswered: Callable[[bytes, float], None] = lambda publisher, now: None  # it may connect anew
        self.generation = 0
        self.nonce = b""
        self.lost = 0  # messages dropped and in gaps, so that somebody notices that there were more

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._subscriptions.values())

    # --- this peer's own subscriptions

    def open(
        self,
        filters: Iterable[Filter],
        inbox: SubscriptionInbox,
        patience: float,
        nonce: bytes,
        now: float,
        *,
        created: float | None = None,
        left: Mapping[tuple[bytes, str], int] = NOWHERE,
    ) -> Subscription:
        """A subscription of somebody who had one before counts from when that was `created`, and goes on where it has
        `left` each publisher's topic: the next number."""
        self._numbers += 1
        subscription = Subscription(
            number=self._numbers,
            filters=tuple(filters),
            inbox=inbox,
            patience=patience,
            created=now if created is None else created,
            left=dict(left),
        )
        self._subscriptions[subscription.number] = subscription
        for reception in self._receptions.values():
            for topic in reception.topics.values():
                if subscription.matches(topic.name):
                    self._add_cursor(reception, topic, subscription)
        subscription.generation = self.generation + 1
        self._refence(nonce, now)
        return subscription

    def close(self, subscription: Subscription, nonce: bytes, now: float) -> None:
        del self._subscriptions[subscription.number]
        for reception in self._receptions.values():
            for topic in list(reception.topics.values()):
                topic.cursors = [cursor for cursor in topic.cursors if cursor.subscription is not subscription]
                if topic.cursors:
                    self._release(reception, topic)
                else:
                    self._drop_topic(reception, topic)
        self._refence(nonce, now)

    def _refence(self, nonce: bytes, now: float) -> None:
        """New filters: the prefixes first, then a new fence behind them, then what is no longer wanted."""
        old_nonce, old_prefixes = self.nonce, self._prefixes
        self.nonce = nonce
        self.generation += 1
        self._prefixes = {
            b"T" + prefix
            for subscription in self._subscriptions.values()
            for filter in subscription.filters
            for prefix in filter.prefixes()
        }
        for reception in self._receptions.values():
            if reception.feed is not None:
                for prefix in self._prefixes - old_prefixes:
                    self._subscribe(reception.feed, prefix, True)
                self._subscribe(reception.feed, self._fence_prefix(nonce), True)
                if old_nonce:
                    self._subscribe(reception.feed, self._fence_prefix(old_nonce), False)
                for prefix in old_prefixes - self._prefixes:
                    self._subscribe(reception.feed, prefix, False)
                reception.fence_patience = 0.0
                self._expect_fence(reception, now)

    def _expect_fence(self, reception: Reception, now: float) -> None:
        patience = reception.fence_patience = min(max(reception.fence_patience * 2, FENCE_AFTER), FENCE_MOST)
        self._timers.set((reception, "fence"), now + patience, lambda when: self._fence_again(reception, when))

    def _fence_again(self, reception: Reception, now: float) -> None:
        """The answer was lost: a feed drops what a slow connection has no room for."""
        if reception.feed is not None and not self.is_fenced(reception.publisher):
            self.on_unanswered(reception.publisher, now)
            self._subscribe(reception.feed, self._fence_prefix(self.nonce), False)
            self._subscribe(reception.feed, self._fence_prefix(self.nonce), True)
            self._expect_fence(reception, now)

    # --- publishers

    def connect(self, publisher: bytes, feed: int | None, now: float) -> None:
        """A publisher is there; `feed` is the connection to subscribe on, None for this peer itself."""
        reception = self._receptions.setdefault(publisher, Reception(publisher))
        reception.feed = feed
        if feed is not None:
            for prefix in self._prefixes:
                self._subscribe(feed, prefix, True)
            if self.nonce:
                self._subscribe(feed, self._fence_prefix(self.nonce), True)
                self._expect_fence(reception, now)

    def is_fenced(self, publisher: bytes) -> bool:
        reception = self._receptions.get(publisher)
        return reception is not None and reception.fenced == self.generation

    def has(self, publisher: bytes) -> bool:
        """Whether it is here."""
        return publisher in self._receptions

    def recall(self, subscription: Subscription, batch: Batch) -> bool:
        """A retained value of a publisher that is gone, for a subscription that has had nothing of its topic. False: it
        has no room now."""
        assert batch.topic is not None
        key = batch.sender, batch.topic
        wanted = subscription.number in self._subscriptions and subscription.matches(batch.topic)
        if not wanted or key in subscription.cursors or key in subscription.left:
            return True
        if not subscription.inbox.offer(batch):
            return False
        cursor = Cursor(subscription=subscription, publisher=batch.sender, topic=batch.topic, ended=True)
        subscription.cursors[key] = cursor
        cursor.begin(batch.first)
        assert cursor.next is not None
        cursor.next += batch.live
        cursor.queued = batch.live
        self._count_dropped(subscription)
        return True

    def behind(self, publisher: bytes, heads: Iterable[Sequence[Any]]) -> dict[str, int]:
        """Of these numbers of topics, those of matching topics that are higher than any that has come."""
        reception = self._receptions.get(publisher)
        known = {} if reception is None else reception.topics
        return {
            name: head
            for name, head in heads
            if head > (known[name].head if name in known else 0)
            and any(subscription.matches(name) for subscription in self._subscriptions.values())
        }

    def on_gone(self, publisher: bytes, *, goodbye: bool) -> None:
        """What it still owed is a Gap; without a goodbye nobody knows how much that was."""
        reception = self._receptions.pop(publisher, None)
        if reception is None:
            return
        for what in ("repair", "seen", "fence"):
            self._timers.cancel((reception, what))
        for topic in reception.topics.values():
            held = [topic.held[first] for first in sorted(topic.held)]
            for cursor in topic.cursors:
                for batch in held:
                    if cursor.next is None:
                        cursor.begin(1)  # where it began nobody can tell any more: rather too early than too late
                    assert cursor.next is not None
                    if batch.last >= cursor.next:
                        self._give_up(cursor, batch.first - 1)
                        self._deliver(cursor, batch)
                if cursor.next is not None:
                    self._give_up(cursor, topic.head)
                    if not goodbye:
                        self._tell(cursor, Gap(publisher=publisher, topic=topic.name, first=cursor.next, last=None))
                cursor.ended = True
                self._retire(cursor)

    def _retire(self, cursor: Cursor) -> None:
        """A cursor of a publisher that is gone, once its program has taken everything, becomes part of a sum."""
        if not cursor.ended or cursor.queued:
            return
        subscription = cursor.subscription
        if subscription.cursors.pop((cursor.publisher, cursor.topic), None) is not None:
            if cursor.next is not None:
                subscription.left[cursor.publisher, cursor.topic] = cursor.next
                if len(subscription.left) > PLACES:
                    del subscription.left[next(iter(subscription.left))]
            past = subscription.past.setdefault(cursor.topic, [0, 0, 0, 0])
            expected = (cursor.next or 0) - cursor.start
            for index, count in enumerate((expected, cursor.delivered, cursor.dropped, cursor.gap)):
                past[index] += count
            if cursor.gaps:
                gaps = subscription.gaps[cursor.topic] = [*subscription.gaps.get(cursor.topic, ()), *cursor.gaps]
                del gaps[:-SPANS]

    def on_last_heads(self, publisher: bytes, heads: list[list[Any]]) -> None:
        """It says goodbye, and how far its topics went."""
        reception = self._receptions.get(publisher)
        for name, head in heads if reception is not None else ():
            assert reception is not None
            topic = reception.topics.get(name) or self._discover(reception, name)
            if topic is not None:
                topic.head = max(topic.head, head)
                for cursor in topic.cursors:
                    if cursor.next is None:
                        cursor.begin(1)  # see on_gone

    # --- what arrives

    def on_batch(self, publisher: bytes, batch: Batch, now: float) -> None:
        """A batch or a head, from the feed or as a refill."""
        reception = self._receptions.get(publisher)
        if reception is None or batch.topic is None or batch.sender != publisher:
            return
        topic = reception.topics.get(batch.topic) or self._discover(reception, batch.topic)
        if topic is None:
            return  # matched a prefix, not a filter
        newest = batch.last if batch.count else batch.first
        topic.head = max(topic.head, newest)
        if batch.flags & REPORT:
            topic.report_wanted = True
            reception.to_report[topic.name] = topic
        if batch.flags & CLEARED and not batch.count:
            for cursor in topic.cursors:
                cursor.subscription.inbox.clear(publisher, topic.name, batch.first)
        if batch.count:
            early = False
            for cursor in topic.cursors:
                early |= not self._offer(cursor, batch)
            if early:
                self._hold(reception, topic, batch)
            if topic.held:
                self._release(reception, topic)
        self._check(reception, topic, now)

    def _offer(self, cursor: Cursor, batch: Batch) -> bool:
        """False when the batch comes too early for this cursor."""
        if cursor.next is None or (batch.first > cursor.next and not cursor.behind):
            return False
        if batch.first <= cursor.next <= batch.last and not cursor.behind:
            self._deliver(cursor, batch)
        return True

    def _deliver(self, cursor: Cursor, batch: Batch) -> None:
        assert cursor.next is not None
        rest = batch.after(cursor.next)
        inbox = cursor.subscription.inbox
        count = rest.live
        if not inbox.offer(rest):
            cursor.behind = True
            return
        cursor.next += count
        cursor.queued += count
        self._count_dropped(cursor.subscription)

    def _count_dropped(self, subscription: Subscription) -> None:
        inbox = subscription.inbox
        while inbox.dropped:
            publisher, topic, count = inbox.dropped.pop()
            cursor = subscription.cursors.get((publisher, topic or ""))
            if cursor is not None:
                cursor.queued -= count
                cursor.dropped += count
                self.lost += count
                self._retire(cursor)

    def _hold(self, reception: Reception, topic: TopicIn, batch: Batch) -> None:
        if batch.first not in topic.held and reception.held_bytes + batch.size <= HELD_BYTES:
            topic.held[batch.first] = batch
            reception.held_bytes += batch.size

    def _release(self, reception: Reception, topic: TopicIn) -> None:
        """Held batches that are no longer too early for anyone go on, in order."""
        for first in sorted(topic.held):
            batch = topic.held[first]
            passed = [self._offer(cursor, batch) for cursor in topic.cursors]  # every cursor is to have it
            if all(passed):
                del topic.held[first]
                reception.held_bytes -= batch.size

    def _discover(self, reception: Reception, name: str) -> TopicIn | None:
        check_name(name, "topic")  # a filter such as "**" would take anything
        matching = [subscription for subscription in self._subscriptions.values() if subscription.matches(name)]
        if not matching:
            return None
        topic = reception.topics[name] = TopicIn(name)
        for subscription in matching:
            cursor = self._add_cursor(reception, topic, subscription)
            if cursor.next is None and subscription.generation <= reception.fenced:
                cursor.begin(1)  # it did not exist when the fence was answered
        return topic

    def _add_cursor(self, reception: Reception, topic: TopicIn, subscription: Subscription) -> Cursor:
        """Of a publisher that was gone and is back it goes on where it was."""
        key = reception.publisher, topic.name
        cursor = subscription.cursors.get(key)
        if cursor is None:
            cursor = Cursor(subscription=subscription, publisher=reception.publisher, topic=topic.name)
            subscription.cursors[key] = cursor
            if key in subscription.left:
                cursor.begin(subscription.left.pop(key))
        cursor.ended = False
        topic.cursors.append(cursor)
        return cursor

    def _drop_topic(self, reception: Reception, topic: TopicIn) -> None:
        reception.held_bytes -= sum(batch.size for batch in topic.held.values())
        for table in (reception.topics, reception.holes, reception.to_report):
            table.pop(topic.name, None)

    # --- fences

    def on_fence(self, publisher: bytes, nonce: bytes, clock: float, heads: list[Head], now: float) -> None:
        """From here on the stream is complete. Where it began for each subscription, `clock` and its age tell."""
        reception = self._receptions.get(publisher)
        if reception is None or nonce != self.nonce:
            return  # a newer fence is on its way
        for head in heads:
            topic = reception.topics.get(head.topic) or self._discover(reception, head.topic)
            if topic is None:
                continue
            topic.head = max(topic.head, head.number)
            for cursor in topic.cursors:
                if cursor.next is None and cursor.since is None:
                    self._place(cursor, head, clock - (now - cursor.subscription.created))
        reception.fenced = self.generation
        self._timers.cancel((reception, "fence"))
        for topic in list(reception.topics.values()):
            for cursor in topic.cursors:
                if cursor.next is None and cursor.since is None:
                    cursor.begin(1)
            self._release(reception, topic)
            self._check(reception, topic, now)

    def _place(self, cursor: Cursor, head: Head, began: float) -> None:
        if head.first_clock >= began:
            cursor.begin(1)
        elif head.last_clock < began:
            cursor.begin(head.number if head.retained else head.number + 1)
        else:
            cursor.since = began

    # --- repairs

    def _check(self, reception: Reception, topic: TopicIn, now: float) -> None:
        """After anything that may have opened or closed a hole."""
        if self._missing(topic) is not None:
            reception.holes[topic.name] = topic
            if reception.asked is None:
                self._ask(reception, now)
        else:
            reception.holes.pop(topic.name, None)
            if topic.report_wanted and topic.arrived >= topic.head:
                reception.to_report[topic.name] = topic

    def _missing(self, topic: TopicIn) -> tuple[int, int, float | None] | None:
        """The lowest hole any cursor has: first, last, or the clock it begins at."""
        first: int | None = None
        for cursor in topic.cursors:
            if cursor.since is not None:
                return 0, EVERYTHING, cursor.since
            if cursor.next is not None and not cursor.behind and cursor.next <= topic.head:
                first = cursor.next if first is None else min(first, cursor.next)
        if first is None:
            return None
        later = [number for number in topic.held if number > first]
        return first, min(later) - 1 if later else EVERYTHING, None

    def _ask(self, reception: Reception, now: float) -> None:
        for topic in list(reception.holes.values()):
            hole = self._missing(topic)
            if hole is None:
                del reception.holes[topic.name]
                continue
            first, last, clock = hole
            self._requests += 1
            reception.asked = Asked(self._requests, topic.name, clock, first)
            self._send(reception.publisher, Repair(self._requests, topic.name, first, last, clock or 0.0))
            self._timers.set(
                (reception, "repair"), now + reception.patience, lambda when: self._ask_again(reception, when)
            )
            return
        reception.asked = None
        self._timers.cancel((reception, "repair"))

    def _ask_again(self, reception: Reception, now: float) -> None:
        reception.patience = min(reception.patience * 2, REPAIR_MOST)
        self._ask(reception, now)

    def on_proven(self, publisher: bytes, now: float) -> None:
        """It can be reached again: what was asked for meanwhile it may not have heard."""
        reception = self._receptions.get(publisher)
        if reception is not None and reception.asked is not None:
            reception.patience = REPAIR_AFTER
            self._ask(reception, now)

    def on_refill(self, publisher: bytes, request: int, batch: Batch, now: float) -> None:
        reception = self._receptions.get(publisher)
        if reception is not None and reception.asked is not None and reception.asked.request == request:
            again = now + reception.patience  # it is coming: no need to ask again yet
            self._timers.set((reception, "repair"), again, lambda when: self._ask_again(reception, when))
        batch.flags &= ~REPORT
        self.on_batch(publisher, batch, now)

    def on_refilled(self, publisher: bytes, end: Refilled, now: float) -> None:
        """The answer is complete: what lies below `oldest` nobody has any more."""
        reception = self._receptions.get(publisher)
        if reception is None or reception.asked is None or reception.asked.request != end.request:
            return  # an answer to a question that was asked again
        asked, topic = reception.asked, reception.topics.get(end.topic)
        if topic is not None:
            for cursor in topic.cursors:
                if cursor.since is not None and cursor.since == asked.clock:
                    cursor.begin(end.start)
                if cursor.next is not None and cursor.next < end.oldest and cursor.next >= asked.first:
                    self._give_up(cursor, end.oldest - 1)
            self._release(reception, topic)
            missing = self._missing(topic)
            stuck = missing is not None and (missing[0], missing[2]) == (asked.first, asked.clock)
        else:
            stuck = False
        if stuck:
            return  # nothing came of it: the timer asks again, later each time
        reception.patience = REPAIR_AFTER
        reception.asked = None
        if topic is not None:
            self._check(reception, topic, now)
        if reception.asked is None:
            self._ask(reception, now)

    def _give_up(self, cursor: Cursor, last: int) -> None:
        """What is missing up to `last` will never come."""
        if cursor.next is None or cursor.next > last:
            return
        self._tell(cursor, Gap(publisher=cursor.publisher, topic=cursor.topic, first=cursor.next, last=last))
        cursor.gap += last - cursor.next + 1
        self.lost += last - cursor.next + 1
        cursor.next = last + 1

    def _tell(self, cursor: Cursor, gap: Gap) -> None:
        before = cursor.gaps[-1] if cursor.gaps else None
        if before is not None and before.last == gap.first - 1 and gap.last is not None:
            cursor.gaps[-1] = Gap(publisher=gap.publisher, topic=gap.topic, first=before.first, last=gap.last)
        else:
            cursor.gaps.append(gap)
            del cursor.gaps[:-SPANS]
        cursor.subscription.inbox.tell(gap)

    # --- what the program takes

    def on_taken(self, subscription: Subscription, now: float) -> None:
        for item in subscription.inbox.settle_taken():
            if isinstance(item, Gap):
                continue
            cursor = subscription.cursors.get((item.sender, item.topic or ""))
            if cursor is None:
                continue
            count = item.live
            cursor.queued -= count
            cursor.delivered += count
            reception = self._receptions.get(item.sender)
            topic = reception.topics.get(item.topic or "") if reception else None
            if reception is None or topic is None or cursor.ended:
                self._retire(cursor)
                continue
            topic.taken_bytes += item.size
            if topic.taken - topic.reported_taken >= REPORT_MESSAGES or topic.taken_bytes >= REPORT_BYTES:
                reception.to_report[topic.name] = topic
            else:
                self._report_later(reception, topic, now)
            if subscription.inbox.keeps and topic.report_wanted and topic.arrived >= topic.head:
                reception.to_report[topic.name] = topic
        if subscription.inbox.has_room():
            subscription.inbox.refused = False
            for cursor in list(subscription.cursors.values()):
                if cursor.behind and not cursor.ended:
                    cursor.behind = False
                    self._resume(cursor, now)

    def _resume(self, cursor: Cursor, now: float) -> None:
        reception = self._receptions.get(cursor.publisher)
        topic = reception.topics.get(cursor.topic) if reception else None
        if reception is not None and topic is not None:
            self._release(reception, topic)
            self._check(reception, topic, now)

    # --- reports

    def _report_later(self, reception: Reception, topic: TopicIn, now: float) -> None:
        def report(when: float) -> None:
            for topic in reception.topics.values():
                if topic.taken != topic.reported_taken:
                    reception.to_report[topic.name] = topic

        self._timers.set_if_unset((reception, "seen"), now + REPORT_AFTER, report)

    def report(self) -> None:
        """Sends what publishers should know; called once after each turn."""
        for reception in self._receptions.values():
            if not reception.to_report:
                continue
            rows: list[list[object]] = []
            for topic in reception.to_report.values():
                topic.reported_taken, topic.taken_bytes = topic.taken, 0
                rows.append([topic.name, topic.arrived, topic.taken])
                if topic.arrived >= topic.head:
                    topic.report_wanted = False
            reception.to_report.clear()
            for start in range(0, len(rows), SEEN_ROWS):
                self._send(reception.publisher, Seen(rows[start : start + SEEN_ROWS]))

    def rows(self) -> list[list[object]]:
        return [row for subscription in self._subscriptions.values() for row in subscription.rows()]

    def ledger(self) -> tuple[SubscribedTopic, ...]:
        rows: list[SubscribedTopic] = []
        for subscription in self._subscriptions.values():
            for cursor in subscription.cursors.values():
                reception = self._receptions.get(cursor.publisher)
                topic = reception.topics.get(cursor.topic) if reception else None
                rows.append(cursor.row(topic.head if topic else 0))
            for name, (expected, delivered, dropped, gap) in subscription.past.items():
                rows.append(
                    SubscribedTopic(
                        topic=name,
                        publisher=b"",
                        expected=expected,
                        delivered=delivered,
                        queued=0,
                        repairing=0,
                        dropped=dropped,
                        gap=gap,
                        subscription=subscription.number,
                        gaps=tuple(subscription.gaps.get(name, ())),
                    )
                )
        return tuple(rows)


def patience_on_wire(patience: float | None) -> float:
    """None waits for ever."""
    return math.inf if patience is None else patience


__all__ = ["INHERIT_PATIENCE", "Reception", "Receptions", "Subscription", "patience_on_wire"]
