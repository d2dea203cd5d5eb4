"""The subscribing side of topics: every message of every matching topic once and in order, or a Gap that says not.

For each publisher there is a Reception, for each of its topics a TopicIn with the newest number known, and for each
of this peer's subscriptions a Cursor: the next number it must get. What arrives too early is held; what is missing
is asked for (`repairs`), and what the publisher's ring no longer has becomes a Gap. A subscription counts from its
creation, even if the connection comes later (`fences`).

Events: feed frames (batches, heads, fence answers), refills, the program taking from an inbox, a publisher gone; one
that merely fell silent is waited for if something of it is missing (`absent`). All of them are harmless when lost,
repeated or reordered. A crash of this peer loses only what its program had not taken, which no one has promised to keep
for it.

It is longer than most modules: whatever happens to publishers and to subscriptions meets in the same two tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from zq.core.absent import Absent
from zq.core.fences import Fences, place
from zq.core.inbox import SubscriptionInbox
from zq.core.reception import Reception, TopicIn
from zq.core.repairs import Repairs
from zq.core.reports import Reports
from zq.core.subscription import Cursor, Subscription
from zq.core.timers import Timers
from zq.info import Gap, SubscribedTopic
from zq.wire.batch import CLEARED, REPORT, Batch
from zq.wire.frames import Head, Refilled, Repair, Seen
from zq.wire.names import Filter, check_name

NOWHERE: Mapping[tuple[bytes, str], int] = MappingProxyType({})


class Receptions:
    """All publishers and all subscriptions of this peer."""

    def __init__(
        self,
        timers: Timers,
        send: Callable[[bytes, Repair | Seen], None],
        subscribe: Callable[[int, bytes, bool], None],
        fence: Callable[[bytes], bytes],
    ) -> None:
        self.fences = Fences(timers, subscribe, fence)
        self._repairs = Repairs(timers, send)
        self._reports = Reports(timers, send)
        self._receptions: dict[bytes, Reception] = {}
        self.absent = Absent(timers, lambda reception: self._give_up(reception, goodbye=False))
        self._subscriptions: dict[int, Subscription] = {}
        self._numbers = 0
        self.lost = 0  # messages dropped and in gaps, so that somebody notices that there were more

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._subscriptions.values())

    def _on_loss(self, count: int) -> None:
        self.lost += count

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
            on_loss=self._on_loss,
            created=now if created is None else created,
            left=dict(left),
        )
        self._subscriptions[subscription.number] = subscription
        for reception in self._receptions.values():
            for topic in reception.topics.values():
                if subscription.matches(topic.name):
                    self._add_cursor(reception, topic, subscription)
        subscription.generation = self.fences.generation + 1
        self._refence(nonce, now)
        return subscription

    def close(self, subscription: Subscription, nonce: bytes, now: float) -> None:
        del self._subscriptions[subscription.number]
        for reception in (*self._receptions.values(), *self.absent):
            for topic in list(reception.topics.values()):
                topic.cursors = [cursor for cursor in topic.cursors if cursor.subscription is not subscription]
                if topic.cursors:
                    reception.release(topic)
                else:
                    reception.drop_topic(topic)
        self._refence(nonce, now)

    def _refence(self, nonce: bytes, now: float) -> None:
        self.fences.renew(nonce, self._subscriptions.values(), self._receptions.values(), now)

    # --- publishers

    def connect(self, publisher: bytes, feed: int | None, now: float) -> None:
        """A publisher is there; `feed` is the connection to subscribe on, None for this peer itself."""
        reception = self._receptions.get(publisher)
        if reception is None:
            reception = self._receptions[publisher] = self.absent.take_back(publisher) or Reception(publisher)
            for topic in reception.topics.values():
                self._complete(reception, topic)
        reception.feed = feed
        self.fences.connect(reception, now)

    def is_fenced(self, publisher: bytes) -> bool:
        reception = self._receptions.get(publisher)
        return reception is not None and self.fences.is_answered(reception)

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
        subscription.count_dropped()
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

    def on_gone(self, publisher: bytes, now: float, *, goodbye: bool, silent: bool) -> None:
        """What it still owed is a Gap; without a goodbye nobody knows how much that was. Of one that fell silent it may
        come yet."""
        reception = self._receptions.pop(publisher, None)
        if reception is None:
            return
        self._reports.forget(reception)
        self._repairs.forget(reception)
        self.fences.forget(reception)
        waited_for = [topic for topic in reception.topics.values() if topic.has_hole] if silent else []
        self._give_up(reception, goodbye=goodbye, but=waited_for)
        if waited_for:
            self.absent.keep(reception, now)

    def _give_up(self, reception: Reception, *, goodbye: bool, but: Sequence[TopicIn] = ()) -> None:
        """Of all its topics but these nothing more is waited for."""
        for topic in [topic for topic in reception.topics.values() if topic not in but]:
            for cursor in topic.cursors:
                if cursor.next is None and topic.held:
                    cursor.begin(1)  # where it began nobody can tell any more: rather too early than too late
                if cursor.next is not None:
                    topic.give_up(cursor, topic.head)
                    if not goodbye:
                        cursor.tell(Gap(publisher=reception.publisher, topic=topic.name, first=cursor.next, last=None))
                cursor.ended = True
                cursor.retire()
            reception.drop_topic(topic)

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
        if len(topic.cursors) == 1 and topic.is_next(batch):  # what nearly every batch is
            topic.head += batch.count
            topic.cursors[0].deliver(batch)
            return
        newest = batch.last if batch.count else batch.first
        topic.head = max(topic.head, newest)
        if batch.flags & REPORT:
            topic.report_wanted = True
            self._reports.soon(reception, topic)
        if batch.flags & CLEARED and not batch.count:
            for cursor in topic.cursors:
                cursor.subscription.inbox.clear(publisher, topic.name, batch.first)
        if batch.count:
            early = False
            for cursor in topic.cursors:
                early |= not cursor.offer(batch)
            if early:
                reception.hold(topic, batch)
            if topic.held:
                reception.release(topic)
        self._check(reception, topic, now)

    def _check(self, reception: Reception, topic: TopicIn, now: float) -> None:
        """After anything that may have opened or closed a hole."""
        if not self._repairs.look(reception, topic, now) and topic.report_wanted and topic.arrived >= topic.head:
            self._reports.soon(reception, topic)

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

    def _complete(self, reception: Reception, topic: TopicIn) -> None:
        """With cursors of those who subscribed while its publisher was absent."""
        there = [cursor.subscription for cursor in topic.cursors]
        for subscription in self._subscriptions.values():
            if subscription not in there and subscription.matches(topic.name):
                self._add_cursor(reception, topic, subscription)

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

    def on_fence(self, publisher: bytes, nonce: bytes, clock: float, heads: list[Head], now: float) -> None:
        """From here on the stream is complete. Where it began for each subscription, `clock` and its age tell."""
        reception = self._receptions.get(publisher)
        if reception is None or nonce != self.fences.nonce:
            return  # a newer fence is on its way
        for head in heads:
            topic = reception.topics.get(head.topic) or self._discover(reception, head.topic)
            if topic is None:
                continue
            topic.head = max(topic.head, head.number)
            for cursor in topic.cursors:
                if cursor.next is None and cursor.since is None:
                    place(cursor, head, clock - (now - cursor.subscription.created))
        self.fences.answered(reception)
        for topic in list(reception.topics.values()):
            for cursor in topic.cursors:
                if cursor.next is None and cursor.since is None:
                    cursor.begin(1)
            reception.release(topic)
            self._check(reception, topic, now)

    # --- repairs

    def on_proven(self, publisher: bytes, now: float) -> None:
        """It can be reached again."""
        reception = self._receptions.get(publisher)
        if reception is not None:
            self._repairs.on_proven(reception, now)

    def on_refill(self, publisher: bytes, request: int, batch: Batch, now: float) -> None:
        reception = self._receptions.get(publisher)
        if reception is not None:
            self._repairs.on_refill(reception, request, now)
        batch.flags &= ~REPORT
        self.on_batch(publisher, batch, now)

    def on_refilled(self, publisher: bytes, end: Refilled, now: float) -> None:
        """The answer to a repair is complete."""
        reception = self._receptions.get(publisher)
        if reception is not None and self._repairs.on_refilled(reception, end):
            topic = reception.topics.get(end.topic)
            if topic is not None:
                self._check(reception, topic, now)
            self._repairs.go_on(reception, now)

    # --- what the program takes

    def on_taken(self, subscription: Subscription, now: float) -> None:
        taken: dict[tuple[bytes, str], tuple[int, int]] = {}  # messages and bytes
        for item in subscription.inbox.settle_taken():
            if isinstance(item, Batch):
                key = item.sender, item.topic or ""
                count, size = taken.get(key, (0, 0))
                taken[key] = count + item.stop - item.skip, size + item.size
        for key, (count, size) in taken.items():
            cursor = subscription.cursors.get(key)
            if cursor is None:
                continue
            cursor.queued -= count
            cursor.delivered += count
            reception = self._receptions.get(cursor.publisher)
            topic = reception.topics.get(cursor.topic) if reception else None
            if reception is None or topic is None or cursor.ended:
                cursor.retire()
                continue
            topic.taken_bytes += size
            self._reports.on_taken(reception, topic, now)
            if subscription.inbox.keeps and topic.report_wanted and topic.arrived >= topic.head:
                self._reports.soon(reception, topic)
        if subscription.inbox.refused:
            self._take_again(subscription, now)

    def _take_again(self, subscription: Subscription, now: float) -> None:
        """What was refused is worth asking for, of topics of which half of what may be here has been taken."""
        inbox = subscription.inbox
        inbox.refused = False
        for cursor in [cursor for cursor in subscription.cursors.values() if cursor.behind and not cursor.ended]:
            if inbox.has_room(cursor.queued):
                cursor.behind = False
                self._resume(cursor, now)
            else:
                inbox.refused = True

    def _resume(self, cursor: Cursor, now: float) -> None:
        reception = self._receptions.get(cursor.publisher)
        topic = reception.topics.get(cursor.topic) if reception else None
        if reception is not None and topic is not None:
            reception.release(topic)
            self._check(reception, topic, now)

    # --- reports

    def report(self) -> None:
        """Sends what publishers should know; called once after each turn."""
        self._reports.send()

    def has_reports(self) -> bool:
        return bool(self._reports.due)

    def rows(self) -> list[list[object]]:
        return [row for subscription in self._subscriptions.values() for row in subscription.rows()]

    def ledger(self) -> tuple[SubscribedTopic, ...]:
        return tuple(row for subscription in self._subscriptions.values() for row in subscription.ledger(self._head_of))

    def _head_of(self, publisher: bytes, name: str) -> int:
        reception = self._receptions.get(publisher) or self.absent.get(publisher)
        topic = reception.topics.get(name) if reception else None
        return topic.head if topic else 0
