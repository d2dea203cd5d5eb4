"""What has come of one publisher: its topics, how far each is, and what came too early.

A batch is offered to the cursor of each subscription: it is delivered if it holds the next number, passed over if it
is old, and held if it is too early for one of them, until what is missing has come.
"""

from __future__ import annotations

from typing import NamedTuple

from zq.core.subscription import Cursor
from zq.record import dataclass, field
from zq.wire.batch import REPORT, Batch

REPAIR_AFTER = 0.2  # s until a repair is asked for again, at first
HELD_BYTES = 32 << 20  # bytes that arrived too early, a publisher; beyond that they are asked for again


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
    def has_hole(self) -> bool:
        """Whether some subscription misses messages that there are."""
        return any(cursor.next is not None and cursor.next <= self.head for cursor in self.cursors)

    def give_up(self, cursor: Cursor, last: int) -> None:
        """What the cursor misses up to `last` will never come. What came too early of that goes on."""
        assert cursor.next is not None
        for first in sorted(self.held):
            batch = self.held[first]
            if first <= last and batch.last >= cursor.next:
                cursor.give_up(first - 1)
                cursor.deliver(batch)
        cursor.give_up(last)

    @property
    def arrived(self) -> int:
        return min((cursor.arrived for cursor in self.cursors), default=self.head)

    @property
    def taken(self) -> int:
        waiting = [cursor.taken for cursor in self.cursors if cursor.subscription.inbox.policy == "wait"]
        return min(waiting, default=self.arrived)

    def is_next(self, batch: Batch) -> bool:
        """Whether it goes to the one cursor that there is, and nothing else is to be done about the topic."""
        cursor = self.cursors[0]
        return (
            batch.first == cursor.next == self.head + 1
            and not (cursor.behind or self.held or self.report_wanted or batch.flags & REPORT)
            and batch.count > 0
        )


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
    patience: float = REPAIR_AFTER  # s until that is asked for again
    to_report: dict[str, TopicIn] = field(default_factory=dict)

    def hold(self, topic: TopicIn, batch: Batch) -> None:
        if batch.first not in topic.held and self.held_bytes + batch.size <= HELD_BYTES:
            topic.held[batch.first] = batch
            self.held_bytes += batch.size

    def release(self, topic: TopicIn) -> None:
        """Held batches that are no longer too early for anyone go on, in order."""
        for first in sorted(topic.held):
            batch = topic.held[first]
            passed = [cursor.offer(batch) for cursor in topic.cursors]  # every cursor is to have it
            if all(passed):
                del topic.held[first]
                self.held_bytes -= batch.size

    def leave(self) -> None:
        """The publisher is not here: nothing is on its way, to it or from it."""
        self.feed = self.asked = None
        self.fenced, self.fence_patience, self.patience = 0, 0.0, REPAIR_AFTER
        self.holes.clear()
        self.to_report.clear()

    def drop_topic(self, topic: TopicIn) -> None:
        self.held_bytes -= sum(batch.size for batch in topic.held.values())
        for table in (self.topics, self.holes, self.to_report):
            table.pop(topic.name, None)
