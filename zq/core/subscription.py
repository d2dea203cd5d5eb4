"""One subscriber handle: its filters, what has arrived for it, and how far it is in each publisher's topic.

A Cursor is the next number that the subscription must get of one topic of one publisher. What is delivered goes into
the inbox and is *queued* until the program has taken it; what its policy drops, and what nobody has any more (a Gap),
counts as taken. Where a cursor starts its fence says (see `fences`); until then `next` is None.

A cursor whose publisher is gone is kept until the program has taken everything; then only sums are left of it, and the
number it stands at, in case the publisher comes back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from zq.core.inbox import SubscriptionInbox
from zq.core.spans import SPANS
from zq.info import Gap, SubscribedTopic
from zq.record import dataclass, field
from zq.wire.batch import Batch
from zq.wire.frames import INHERIT_PATIENCE, NO_PATIENCE
from zq.wire.names import Filter

PLACES = 4_096  # in topics of publishers that are gone and may come back, a subscription; roster.REMEMBERED


@dataclass(eq=False, slots=True)
class Subscription:
    """One subscriber handle."""

    number: int
    filters: tuple[Filter, ...]
    inbox: SubscriptionInbox
    patience: float  # s, or INHERIT_PATIENCE
    created: float  # this peer's clock
    on_loss: Callable[[int], None]  # hears how many messages were dropped or are in a gap
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

    def count_dropped(self) -> None:
        """What the inbox has given up."""
        while self.inbox.dropped:
            publisher, topic, count = self.inbox.dropped.pop()
            cursor = self.cursors.get((publisher, topic or ""))
            if cursor is not None:
                cursor.queued -= count
                cursor.dropped += count
                self.on_loss(count)
                cursor.retire()

    def ledger(self, head: Callable[[bytes, str], int]) -> Iterator[SubscribedTopic]:
        """`head` is the newest number of a publisher's topic."""
        for cursor in self.cursors.values():
            yield cursor.row(head(cursor.publisher, cursor.topic))
        for name, (expected, delivered, dropped, gap) in self.past.items():
            yield SubscribedTopic(
                topic=name,
                publisher=b"",
                expected=expected,
                delivered=delivered,
                queued=0,
                repairing=0,
                dropped=dropped,
                gap=gap,
                subscription=self.number,
                gaps=tuple(self.gaps.get(name, ())),
            )


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

    def offer(self, batch: Batch) -> bool:
        """False when the batch comes too early."""
        if self.next is None or (batch.first > self.next and not self.behind):
            return False
        if batch.first <= self.next <= batch.last and not self.behind:
            self.deliver(batch)
        return True

    def deliver(self, batch: Batch) -> None:
        """Its next messages, with or without some before them."""
        number = self.next
        assert number is not None
        rest = batch if number <= batch.first else batch.after(number)
        inbox = self.subscription.inbox
        count = rest.stop - rest.skip
        if not inbox.offer(rest, self.queued):
            self.behind = True
            return
        self.next = number + count
        self.queued += count
        if inbox.dropped:
            self.subscription.count_dropped()

    def give_up(self, last: int) -> None:
        """What is missing up to `last` will never come."""
        if self.next is None or self.next > last:
            return
        self.tell(Gap(publisher=self.publisher, topic=self.topic, first=self.next, last=last))
        self.gap += last - self.next + 1
        self.subscription.on_loss(last - self.next + 1)
        self.next = last + 1

    def tell(self, gap: Gap) -> None:
        before = self.gaps[-1] if self.gaps else None
        if before is not None and before.last == gap.first - 1 and gap.last is not None:
            self.gaps[-1] = Gap(publisher=gap.publisher, topic=gap.topic, first=before.first, last=gap.last)
        else:
            self.gaps.append(gap)
            del self.gaps[:-SPANS]
        self.subscription.inbox.tell(gap)

    def retire(self) -> None:
        """A cursor of a publisher that is gone, once its program has taken everything, becomes part of a sum."""
        if not self.ended or self.queued:
            return
        subscription = self.subscription
        if subscription.cursors.pop((self.publisher, self.topic), None) is not None:
            if self.next is not None:
                subscription.left[self.publisher, self.topic] = self.next
                if len(subscription.left) > PLACES:
                    del subscription.left[next(iter(subscription.left))]
            past = subscription.past.setdefault(self.topic, [0, 0, 0, 0])
            expected = (self.next or 0) - self.start
            for index, count in enumerate((expected, self.delivered, self.dropped, self.gap)):
                past[index] += count
            if self.gaps:
                gaps = subscription.gaps[self.topic] = [*subscription.gaps.get(self.topic, ()), *self.gaps]
                del gaps[:-SPANS]


def patience_on_wire(patience: float | None) -> float:
    """None waits for ever."""
    return math.inf if patience is None else patience


__all__ = ["INHERIT_PATIENCE", "Cursor", "Subscription", "patience_on_wire"]
