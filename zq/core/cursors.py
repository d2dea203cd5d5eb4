"""A named position in a topic stream of a spool, and how those who read by it get what lies behind it.

To its readers, the durable subscriptions of that name, a cursor is a queue: an outbox with links, credit, receipts and
redelivery, filled from the stream's log instead of by callers. Its messages are not its own: settling one moves the
cursor, and nothing else. A message's number in the stream is its position in the outbox.

States of a cursor: *at rest* (nobody reads: it is a set of settled numbers, and nothing of it is in memory) and *open*
(somebody reads: a window of what is unsettled is in its outbox). States of a message as the cursor sees it:

    stored, behind the window -> loaded: in the outbox -> settled: acked, rejected, or failed too often
                 |
                 +-- of no topic that its readers want: settled at once
                 +-- trimmed or damaged before it was loaded: a Gap in the stream's own numbers goes in its place

Events:
- wake, rest: the first reader has come, the last one has gone. What was under way is loaded again, redelivered.
- stored: what has just been synced is loaded at once if nothing older waits on the disk: that is how it tails. But a
  cursor that is new reads its first piece from the log: the disk does what it is asked in order, so that by then the
  cursor is on the medium. Nobody gets anything by one that a crash would take.
- records: a piece of the log, as it was asked for.
- report, once each turn: what was settled, and attempts that failed, go to the journal.

A crash loses what the journal had not told the medium: messages are delivered again, redelivered. A cursor itself is
synced when it begins. After a crash all that is unsettled counts as perhaps delivered; closed in order, only what was
under way does.

It is longer than most: what is delivered, settled, charged and read anew are ranges of the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from zq.core.outbox import Kept as Journaled
from zq.core.outbox import Outbox
from zq.core.pushing import Pushing
from zq.core.ranges import Ranges, merged
from zq.core.spooled import WINDOW, WINDOW_BYTES, Item
from zq.info import Gap, HeldQueue
from zq.record import dataclass, field
from zq.wire.batch import GAP, NAMED, REDELIVERED, RETAIN, Run
from zq.wire.data import Malformed
from zq.wire.kept import Kept, KeptGap, decode, pack_gap, queue_of
from zq.wire.names import Filter

PASSING = "~"  # begins the names of cursors that end with their reader
TRIMMED, DAMAGED = "trimmed", "damaged"  # why a cursor never gets a message


class Moved(NamedTuple):
    """A cursor has no need of these numbers any more. Of the stream itself (no name): nobody has, they are trimmed."""

    cursor: str
    first: int
    last: int


class Charged(NamedTuple):
    cursor: str
    number: int
    attempts: int


class Begun(NamedTuple):
    """A cursor that wants this number first."""

    cursor: str
    number: int


class Forgotten(NamedTuple):
    cursor: str


Word = Moved | Charged | Begun | Forgotten


class Journal(Protocol):
    """What a cursor needs of the disk. Nothing here waits."""

    def note(self, stream: bytes, word: Word) -> None: ...

    def read(self, stream: bytes, cursor: str, first: int) -> None:
        """Answered by `on_records` of the streams."""


@dataclass(slots=True)
class Stretch:
    """What there is of a stream."""

    stream: bytes
    filter: Filter
    first: int  # the oldest message that was not trimmed
    safe: int  # the newest


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A cursor as its stream's journal has it."""

    name: str
    base: int  # all below is settled
    settled: Ranges
    attempts: dict[int, int]
    doubtful: int  # up to here messages may have been delivered before


class Record:
    """One record of the stream; its messages are taken apart once, however many cursors want them."""

    __slots__ = ("_items", "first", "kept", "last")

    def __init__(self, first: int, last: int, kept: Kept | KeptGap) -> None:
        self.first, self.last, self.kept = first, last, kept
        self._items: list[bytes] | None = None

    def items(self) -> list[bytes]:
        """Malformed if there are not as many as it says."""
        if self._items is None:
            self._items = self.kept.items() if isinstance(self.kept, Kept) else [pack_gap(self.kept.gap)]
        return self._items


@dataclass(slots=True)
class _Past:
    """Counts of outboxes that the cursor had before it rested."""

    taken: int = 0
    acked: int = 0
    redelivered: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


class StreamCursor:
    """One cursor of one stream."""

    def __init__(
        self, stretch: Stretch, found: Found, pushing: Pushing, journal: Journal, *, new: bool = False
    ) -> None:
        """`new`: the journal was asked to note it, and may not have done so yet."""
        self.name = found.name
        self.filters: tuple[Filter, ...] = ()  # of those who read by it now
        self.outbox: Outbox | None = None  # None: at rest
        self._stretch = stretch
        self._pushing = pushing
        self._journal = journal
        self._base = found.base
        self._settled = found.settled
        self._attempts = found.attempts
        self._doubtful = found.doubtful
        self._next_load = found.base
        self._asked = 0  # from where on a piece of the log was asked for; 0: none is
        self._paused = False  # the log could not be read
        self._new = new
        self._past = _Past()
        self._settled.forget_below(self._base)
        self._advance()

    @property
    def queue(self) -> str:
        """What it is called on its links."""
        return queue_of(self.name, self._stretch.stream)

    @property
    def label(self) -> str:
        return f"{self.name}@{self._stretch.filter.text}"

    @property
    def lag(self) -> int:
        """Messages of the stream that it has not settled, those included that none of its readers wants."""
        below = max(self._base, self._stretch.first) - 1
        return max(self._stretch.safe - below, 0) - sum(
            last - max(first, below + 1) + 1 for first, last in self._settled if last > below
        )

    @property
    def position(self) -> int:
        """The lowest number that is not settled."""
        return self._base

    # --- readers come and go

    def wake(self, filters: tuple[Filter, ...], now: float) -> None:
        """Somebody reads by it."""
        self.filters = filters
        if self.outbox is None:
            outbox = self._pushing.open(self.queue, window=WINDOW, window_bytes=WINDOW_BYTES, now=now)
            outbox.outgoing.limit = -1  # nobody appends
            outbox.dead = True  # what fails too often is passed over: the stream has it still
            outbox.kept = Journaled()
            self.outbox = outbox
            self._next_load = self._base
            self.load_more(now)

    def rest(self) -> None:
        """Nobody does any more. What was under way may have been delivered."""
        outbox = self.outbox
        if outbox is None:
            return
        self._doubtful = max(self._doubtful, self.sent())
        self.report()
        self._pushing.close(outbox)
        self.outbox, self._asked = None, 0
        past = self._past
        past.taken += outbox.taken - outbox.held
        past.acked += outbox.acked
        past.redelivered += outbox.redelivered
        for reason, count in outbox.dropped.items():
            past.dropped[reason] = past.dropped.get(reason, 0) + count

    def sent(self) -> int:
        """The highest number that may have been delivered and is not settled; 0 if there is none."""
        if self.outbox is None:
            return self._doubtful
        under_way = list(self._pushing.in_flight(self.outbox))
        under_way += [piece for piece in self.outbox.pieces() if piece.redelivered]
        sent = max((piece.position + piece.count - 1 for piece in under_way), default=0)
        return max(sent, self._doubtful) if self._next_load <= self._doubtful else sent

    # --- from the log into the outbox

    def _has_room(self, messages: int) -> bool:
        outbox = self.outbox
        return outbox is not None and outbox.held < messages and (outbox.held_bytes < WINDOW_BYTES or not outbox.held)

    def load_more(self, now: float) -> None:
        """Asks for what comes next, if there is any and room for it."""
        if self.outbox is None or self._asked or self._paused or not self._has_room(WINDOW // 2):
            return
        if self._next_load < self._stretch.first:
            self._lose(self._next_load, self._stretch.first - 1, TRIMMED, now)
            self._next_load = self._stretch.first
            self._pushing.dispatch(self.outbox, now)
        self._next_load = self._settled.first_missing(max(self._next_load, self._base))
        if self._next_load <= self._stretch.safe:
            self._asked = self._next_load
            self._journal.read(self._stretch.stream, self.name, self._next_load)

    def on_stored(self, record: Record, now: float) -> None:
        """It is the newest there is."""
        if record.first == self._next_load and not self._asked and not self._new and self._has_room(WINDOW):
            self._load(record, now)
            self._next_load = record.last + 1

    def on_records(self, asked: int, items: Sequence[Item], now: float) -> bool:
        """From where it was asked for. Empty: it could not be read, then this is False and `go_on` is awaited."""
        if self.outbox is None or asked != self._asked:
            return True  # it has rested since
        self._asked, self._new = 0, False
        self._paused = not items
        for item in items:
            if item.last < self._next_load:
                continue
            first = max(item.first, self._next_load)
            if item.body is None:
                self._lose(first, item.last, DAMAGED if first >= self._stretch.first else TRIMMED, now)
            else:
                try:
                    kept = decode(item.body, item.last - item.first + 1, item.flags, item.runs)
                    self._load(Record(item.first, item.last, kept), now)
                except Malformed:
                    self._lose(first, item.last, DAMAGED, now)
            self._next_load = item.last + 1
        self._pushing.dispatch(self.outbox, now)
        return not self._paused

    def go_on(self, now: float) -> None:
        self._paused = False
        self.load_more(now)

    def _load(self, record: Record, now: float) -> None:
        outbox, kept = self.outbox, record.kept
        assert outbox is not None
        if isinstance(kept, Kept):
            topic, run, flags, parts = kept.topic, kept.run, kept.flags & ~RETAIN | NAMED, kept.parts
        else:
            topic, run, flags, parts = kept.gap.topic, Run(kept.gap.publisher, 0, 1, kept.came), GAP, ()
        if not any(filter.matches(topic) for filter in self.filters):
            self._settle(record.first, record.last)
            return
        items = record.items()
        for low, high in self._unsettled(max(record.first, self._next_load), record.last):
            attempts = self._attempts.get(low, 1)
            outbox.load(
                low,
                items[low - record.first : high - record.first + 1],
                parts,
                flags & ~REDELIVERED,
                Run(run.origin, run.first + low - record.first, high - low + 1, run.time),
                topic if flags & NAMED else None,
                None,
                now,
                attempt=attempts,
                redelivered=attempts > 1 or low <= self._doubtful,
                since=now,
            )

    def _unsettled(self, first: int, last: int) -> list[tuple[int, int]]:
        """The parts of first..last that are not settled; those with attempts of their own are alone."""
        parts: list[tuple[int, int]] = []
        first = max(first, self._base)
        while (first := self._settled.first_missing(first)) <= last:
            end = first
            if first not in self._attempts:
                stop = self._settled.next_start(first)
                charged = [number for number in self._attempts if first < number <= last]
                doubtful = [self._doubtful + 1] if first <= self._doubtful < last else []
                end = min([last + 1, *charged, *doubtful, *([] if stop is None else [stop])]) - 1
            parts.append((first, end))
            first = end + 1
        return parts

    def _lose(self, first: int, last: int, why: str, now: float) -> None:
        """What the stream has not got any more: its readers see one Gap, in the stream's own numbers."""
        lost = self._unsettled(first, last)
        count = sum(high - low + 1 for low, high in lost)
        outbox = self.outbox
        if not count or outbox is None:
            return
        high = lost[-1][1]
        if first < high:
            self._settle(first, high - 1)
        gap = Gap(publisher=self._stretch.stream, topic=self._stretch.filter.text, first=lost[0][0], last=high)
        run = Run(self._stretch.stream, 0, 1, 0.0)
        outbox.load(high, [pack_gap(gap)], (), GAP, run, None, None, now, attempt=1, redelivered=False, since=now)
        outbox.taken += count - 1  # the gap stands for one of them
        outbox.dropped[why] = outbox.dropped.get(why, 0) + count - 1

    # --- what became of them

    def report(self) -> None:
        """Once each turn."""
        outbox = self.outbox
        if outbox is None:
            return
        journaled = outbox.kept
        assert journaled is not None
        for number, attempts in journaled.charged:
            if number >= self._base and number not in self._settled:
                self._attempts[number] = attempts
                self._journal.note(self._stretch.stream, Charged(self.name, number, attempts))
        journaled.charged.clear()
        if journaled.settled:
            ranges = merged(journaled.settled)
            journaled.settled.clear()
            for first, last in ranges:
                self._settle(first, last)

    def _settle(self, first: int, last: int) -> None:
        if last < self._base:
            return
        for low, high in self._settled.add(max(first, self._base), last):
            if self._attempts:
                for number in [number for number in self._attempts if low <= number <= high]:
                    del self._attempts[number]
            self._journal.note(self._stretch.stream, Moved(self.name, low, high))
        self._advance()

    def _advance(self) -> None:
        self._base = self._settled.first_missing(self._base)
        self._settled.forget_below(self._base)

    def row(self) -> HeldQueue:
        """Its line of the ledger: what it has taken from the stream, and what became of that."""
        past = self._past
        if self.outbox is None:
            now = HeldQueue(queue=self.label, taken=0, waiting=0, in_flight=0, acked=0)
        else:
            now = self._pushing.row(self.outbox)
        dropped = dict(past.dropped)
        for reason, count in now.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
        return HeldQueue(
            queue=self.label,
            taken=past.taken + now.taken,
            waiting=now.waiting,
            in_flight=now.in_flight,
            acked=past.acked + now.acked,
            redelivered=past.redelivered + now.redelivered,
            dropped=dropped,
            spans=now.spans,
            lost=now.lost,
        )
