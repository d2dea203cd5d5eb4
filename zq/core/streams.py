"""The topic streams of a running spool: between publishers, a disk and the cursors of durable subscribers.

A stream is a subscription whose program is a disk. It fences, repairs and reports like any other, with patience for
ever; only that what has *arrived*, as publishers are told, is what has been synced. So a publisher's flush means
stored, and one that is faster than the disk waits. What is read from a stream is read by its cursors (`cursors`).

    published -> come -> on its way to the disk -> stored -> for the cursors, at once or from the log
                                  |                    +-- trimmed: by retention, whatever cursors there are
                                  +-- could not be stored: the stream *stops*

Events:
- batch, gap: both go to the disk in the order in which the subscription has them; a gap is a record of its own.
- stored: its publisher is told, the cursors get it, and what is older than the retention allows is trimmed.
- failed: the stream stops: it subscribes no more, so that nobody waits for it. Once the disk has room it subscribes
  again from the last numbers stored; what publishers' rings do not have any more then is a gap, and stored as one.
  After any failure but a full disk it stays so until the spool is started again, and only delivers.
- entry: peers name the streams and cursors that they read by. One that is not known begins where its first reader says:
  the end is when that reader came into being, which it is asked for.
- sought: the number at which what came at some time begins.
- close: the subscription ends when all that has come is stored.

What a crash loses: nothing that a publisher was told has arrived. What had come and was not synced is in its
publisher's ring: the stream begins again behind the last number stored of each publisher's topic, or where it has
none, with what was published since it was stored to last. The numbers are in the log; a table of them is written now
and then, so that only what is behind it has to be read.

It is one module, longer than most, because storing, stopping, trimming and where cursors begin all turn on the state of
one stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from zq.core.cursors import PASSING, Begun, Forgotten, Found, Moved, Record, StreamCursor, Stretch, Word
from zq.core.heads import LATE, LIMIT, Heads, Key
from zq.core.inbox import SubscriptionInbox
from zq.core.pushing import Pushing
from zq.core.ranges import Ranges
from zq.core.reception import Receptions, Subscription
from zq.core.spooling import CREDIT, CREDIT_BYTES, LOOK, ROOMY, Item, Room
from zq.core.timers import Timers
from zq.info import Gap, HeldQueue
from zq.record import dataclass, field
from zq.wire.batch import EXTRA, GAP, PARTS, RETAIN, Batch, Parts, Run, encode_topic, topic_prefix
from zq.wire.data import Malformed
from zq.wire.frames import Binding, Entry, Recall, Refilled, Since, refill_frame
from zq.wire.kept import (
    CURSOR_NAME,
    FROM_AGO,
    FROM_BEGINNING,
    FROM_COUNT,
    FROM_TIME,
    Kept,
    KeptGap,
    decode,
    encode,
    encode_gap,
    keep,
    queue_of,
    run_of_gap,
)
from zq.wire.names import Filter

FORGET_AFTER = 60.0  # s that such a cursor waits for a reader that was lost; as long as a binding
ASK_AGAIN = 0.2  # s until a reader is asked again when it came into being
SAVE_EVERY = 16 << 20  # bytes stored until the table of numbers is written again: what opening has to read
AGE_LOOKS = 20  # times in its `max_age` that a stream looks for what is too old, between these:
AGE_LEAST, AGE_MOST = 0.1, 60.0  # s

CURSORS_MOST = 10_000  # of a stream; more are not begun
LARGE = 1e15  # counts and times that make sense are below

Position = tuple[int, float]  # kind and value, see zq.wire.kept


class Retention(NamedTuple):
    """What a stream keeps; None is no limit."""

    max_age: float | None = None  # s since it came
    max_bytes: int | None = None
    max_messages: int | None = None
    min_free: int = 0  # bytes that are left to others: beyond, the stream stops


class Newest(NamedTuple):
    """So many messages of topics that match one of these."""

    messages: int
    filters: tuple[Filter, ...]


class Disk(Protocol):
    """What keeps the streams. Nothing here waits; answers come as events of `Streams`, in order."""

    def append(self, stream: bytes, length: int, run: Run, body: bytes, flags: int) -> None:
        """Answered by `on_stored` or `on_failed`; after a failure all are refused until somebody looks to `go_on`."""

    def read(self, stream: bytes, cursor: str, first: int) -> None:
        """Answered by `on_records`."""

    def seek(self, stream: bytes, cursor: str, place: float | Newest) -> None:
        """Answered by `on_sought` with the number of the first message that came at that wall clock or later, or of the
        first of the newest."""

    def note(self, stream: bytes, word: Word) -> None: ...

    def save(self, stream: bytes, number: int, heads: Mapping[Key, int], retained: Mapping[str, int]) -> None:
        """These are the last numbers stored of each publisher's topic, and the retained messages, up to that number of
        the stream."""

    def look(self, stream: bytes, most_bytes: int | None, *, go_on: bool) -> None:
        """Answered by `on_room`; with the number below which all is to be trimmed to have at most so many bytes.
        `go_on`: he knows of all that has failed, and what he appends from now on follows what was stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredTopics:
    """A stream as it was found."""

    filter: str
    stream: bytes
    first: int  # the oldest that was not trimmed
    safe: int
    heads: dict[Key, int]
    retained: dict[str, int]  # topic: number in the stream of its retained message
    stored_to: float  # wall clock: what was published before is stored, or was never to be
    cursors: tuple[Found, ...]
    damaged: bool  # cursors may have been lost: one that is not known begins at the beginning
    room: Room


class _Entrance(SubscriptionInbox):
    """Where the subscription puts what has come."""

    __slots__ = ("_clear", "_store", "stored")
    keeps = True

    def __init__(self, store: Callable[[Batch | Gap], None], clear: Callable[[Key, int], None]) -> None:
        super().__init__("wait", lambda: None)
        self._store = store
        self._clear = clear
        self.stored: list[Batch | Gap] = []

    def offer(self, batch: Batch) -> bool:
        if self.messages and (self.messages + batch.live > CREDIT or self.bytes + batch.size > CREDIT_BYTES):
            self.refused = True
            return False
        self.messages += batch.live
        self.bytes += batch.size
        self._store(batch)
        return True

    def clear(self, publisher: bytes, topic: str, number: int) -> None:
        self._clear((publisher, topic), number)

    def tell(self, gap: Gap) -> None:
        self._store(gap)

    def settle_taken(self) -> list[Batch | Gap]:
        done, self.stored = self.stored, []
        for item in done:
            if isinstance(item, Batch):
                self.messages -= item.live
                self.bytes -= item.size
        return done

    def has_room(self) -> bool:
        return self.messages <= CREDIT // 2 and self.bytes <= CREDIT_BYTES // 2


@dataclass(eq=False, slots=True)
class Reader:
    """A durable subscription that reads by a cursor here."""

    peer: bytes
    puller: bytes
    cursor: str
    filters: tuple[Filter, ...]
    begin: Position


@dataclass(eq=False, slots=True)
class TopicStream:
    """One stream."""

    stretch: Stretch
    retention: Retention
    disk: Disk
    heads: Heads
    retained: dict[str, int]
    damaged: bool
    room: Room
    began: float  # this peer's clock: everything before it is stored, or was never to be
    cursors: dict[str, StreamCursor] = field(default_factory=dict)
    readers: dict[tuple[bytes, bytes], Reader] = field(default_factory=dict)  # by peer and puller
    beginning: dict[str, Reader] = field(default_factory=dict)  # cursors of which it is not known yet where
    subscription: Subscription | None = None  # None: it has stopped
    entrance: _Entrance | None = None
    storing: deque[tuple[Batch | Gap, Kept | KeptGap]] = field(default_factory=deque)
    recalls: dict[int, list[tuple[bytes, int, list[int]]]] = field(default_factory=dict)  # see `on_recall`
    came: float = 0.0  # wall clock at which the newest came; it never goes back
    unsaved: int = 0  # bytes since the table of heads was written
    trimming: bool = False
    problem: str = ""
    broken: bool = False
    closing: bool = False

    @property
    def id(self) -> bytes:
        return self.stretch.stream

    @property
    def label(self) -> str:
        return f"the spool of {self.stretch.filter.text}"


def _span_of(kept: Kept | KeptGap) -> tuple[Key, int, int]:
    """Whose it is, with the first and the last number that it tells of; of a gap without an end there is none."""
    if isinstance(kept, Kept):
        return (kept.run.origin, kept.topic), kept.first, kept.last
    gap = kept.gap
    return (gap.publisher, gap.topic), gap.first, gap.first - 1 if gap.last is None else gap.last


class Streams:
    """All topic streams of this peer."""

    def __init__(
        self,
        timers: Timers,
        receptions: Receptions,
        replaying: Pushing,
        subscribe: Callable[[Filter, SubscriptionInbox, float, Mapping[Key, int]], Subscription],
        unsubscribe: Callable[[Subscription], None],
        send: Callable[[bytes, Binding], None],
        send_work: Callable[[bytes, Parts], bool],
        own: bytes,
        tell: Callable[[str], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """`changed` hears when the roster entry is to be told again; `clock` is this peer's."""
        self._timers = timers
        self._receptions = receptions
        self._replaying = replaying
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._send = send
        self._send_work = send_work
        self._own = own
        self._tell = tell
        self._changed = changed
        self._clock = clock
        self._streams: dict[bytes, TopicStream] = {}
        self._rows: dict[bytes, list[list[object]]] = {}  # by peer, of all streams

    def __iter__(self) -> Iterator[TopicStream]:
        return iter(list(self._streams.values()))

    def _wall(self) -> float:
        return self._clock() + self._replaying.ahead

    def __contains__(self, id: bytes) -> bool:
        return id in self._streams

    def find(self, filter: str) -> TopicStream | None:
        return next((stream for stream in self if stream.stretch.filter.text == filter), None)

    def open(self, found: RecoveredTopics, retention: Retention, disk: Disk, now: float, wall: float) -> TopicStream:
        filter = Filter(found.filter)
        away = max(wall - found.stored_to, 0.0)
        stream = TopicStream(
            stretch=Stretch(found.stream, filter, found.first, found.safe),
            retention=retention,
            disk=disk,
            heads=Heads(found.heads, found.stored_to + LATE),
            retained=dict(found.retained),
            damaged=found.damaged,
            room=found.room,
            began=now - away,
            came=found.stored_to,
        )
        self._streams[found.stream] = stream
        for cursor in found.cursors:
            stream.cursors[cursor.name] = StreamCursor(stream.stretch, cursor, self._replaying, disk)
        if self._lacks_room(stream):
            self._tell(f"{stream.label} stores nothing: {stream.problem}")
            self._look_later(stream, now)
        else:
            self._begin_storing(stream)
        self._trim(stream)
        self._look_at_age(stream, now)
        for peer, rows in list(self._rows.items()):
            self._note_readers(stream, peer, rows, now)
        for cursor_name in list(stream.cursors):
            self._forget_later(stream, cursor_name, now)
        self._changed()
        return stream

    # --- from publishers to the disk

    def _begin_storing(self, stream: TopicStream) -> None:
        entrance = stream.entrance = _Entrance(
            lambda item: self._store(stream, item), lambda key, number: self._clear(stream, key, number)
        )
        left = {key: number + 1 for key, number in stream.heads.numbers().items()}
        began = max(stream.began, stream.heads.forgotten - self._replaying.ahead)
        stream.subscription = self._subscribe(stream.stretch.filter, entrance, began, left)
        stream.problem = ""

    def _store(self, stream: TopicStream, item: Batch | Gap) -> None:
        stream.came = max(stream.came, self._wall())
        kept: Kept | KeptGap
        if isinstance(item, Batch):
            try:
                kept = keep(item, stream.came)
            except Malformed as error:
                self._tell(f"{stream.label}: {item.live} messages of {item.topic} are not stored: {error}")
                assert item.topic is not None
                first, last = item.first + item.skip, item.first + item.stop - 1
                kept = KeptGap(stream.came, Gap(publisher=item.sender, topic=item.topic, first=first, last=last))
        else:
            kept = KeptGap(stream.came, item)
        stream.storing.append((item, kept))
        if isinstance(kept, Kept):
            stream.disk.append(stream.id, kept.length, kept.run, encode(kept), kept.flags)
        else:
            stream.disk.append(stream.id, 1, run_of_gap(kept), encode_gap(kept), GAP)

    def on_stored(self, id: bytes, firsts: Sequence[int], room: Room, now: float) -> None:
        """As many records as there are `firsts`, the numbers of their first messages, are safe."""
        stream = self._streams.get(id)
        if stream is None:
            return
        stream.room = room
        open_cursors = [cursor for cursor in stream.cursors.values() if cursor.outbox is not None]
        for first in firsts:
            item, kept = stream.storing.popleft()
            count = kept.length if isinstance(kept, Kept) else 1
            stream.stretch.safe = first + count - 1
            self._note_head(stream, kept)
            self._note_retained(stream, kept)  # behind it: what is cleared may be settled by it
            if stream.entrance is not None:
                stream.entrance.stored.append(item)
            record = Record(first, first + count - 1, kept)
            for cursor in open_cursors:
                try:
                    cursor.on_stored(record, now)
                except Malformed:
                    pass  # it is read from the log later, and found to be damaged there
            stream.unsaved += sum(map(len, (kept.body, *kept.parts))) if isinstance(kept, Kept) else 0
        if stream.subscription is not None:
            self._receptions.on_taken(stream.subscription, now)
        for cursor in open_cursors:
            if cursor.outbox is not None:
                self._replaying.dispatch(cursor.outbox, now)
        if stream.unsaved >= SAVE_EVERY:
            self._save(stream)
        self._trim(stream)
        if self._lacks_room(stream):
            self._stop(stream, stream.problem, now)

    @staticmethod
    def _lacks_room(stream: TopicStream) -> bool:
        """Then its `problem` says so."""
        free, least = stream.room.free, stream.retention.min_free
        if free < least:
            stream.problem = f"{free:,} bytes free, {least:,} are left to others"
        return free < least

    def _note_head(self, stream: TopicStream, kept: Kept | KeptGap) -> None:
        key, _, last = _span_of(kept)
        before = stream.heads.doubled
        stream.heads.note(key, last, kept.came)
        if stream.heads.doubled and not before:
            self._tell(
                f"{stream.label}: of more than {LIMIT:,} publishers' topics within {LATE:.0f} s some are forgotten; "
                "what they publish may be stored twice when the spool is started again"
            )

    @staticmethod
    def _save(stream: TopicStream) -> None:
        stream.unsaved = 0
        stream.retained = {topic: at for topic, at in stream.retained.items() if at >= stream.stretch.first}
        stream.disk.save(stream.id, stream.stretch.safe, stream.heads.numbers(), dict(stream.retained))

    def on_failed(self, id: bytes, count: int, reason: str, *, full: bool, room: Room, now: float) -> None:
        """The disk has not taken so many records."""
        stream = self._streams.get(id)
        if stream is None:
            return
        stream.room = room
        lost = [stream.storing.popleft()[1] for _ in range(count)]
        if not full and not stream.broken:
            stream.broken = True
            self._tell(f"{stream.label} cannot store any more, and only delivers: {reason}")
        self._stop(stream, reason, now, lost)

    def on_ended(self, disk: Disk | None, now: float) -> None:
        """It has ended, and answers nothing more."""
        for stream in self:
            if stream.disk is disk:
                asked, reason = len(stream.storing), "its disk thread has ended"
                self.on_failed(stream.id, asked, reason, full=False, room=stream.room, now=now)

    def _stop(self, stream: TopicStream, reason: str, now: float, lost: Sequence[Kept | KeptGap] = ()) -> None:
        """Nobody waits for it any more, and it goes on later where it has stopped: `lost` was not stored."""
        self._look_later(stream, now)
        subscription, stream.subscription, stream.entrance = stream.subscription, None, None
        if subscription is None:
            return
        stream.problem = reason
        if not (stream.broken or stream.closing):
            self._tell(f"{stream.label} stores nothing more: {reason}")
        for key, number in subscription.left.items():
            stream.heads.expect(key, number - 1)
        first: dict[Key, int] = {}  # of what has come and is not stored, which is not to be lost by this
        for kept in [*lost, *(kept for _, kept in stream.storing)]:
            key, number, _ = _span_of(kept)
            first.setdefault(key, number)
        for key, cursor in subscription.cursors.items():
            if cursor.next is not None:
                stream.heads.expect(key, first.get(key, cursor.next) - 1)
        self._unsubscribe(subscription)
        self._changed()

    def _look_later(self, stream: TopicStream, now: float) -> None:
        if not (stream.broken or stream.closing):
            self._timers.set_if_unset((stream, "room"), now + LOOK, lambda when: self._look(stream))

    @staticmethod
    def _look(stream: TopicStream) -> None:
        stream.disk.look(stream.id, stream.retention.max_bytes, go_on=stream.subscription is None)

    def on_room(self, id: bytes, room: Room, floor: int, now: float) -> None:
        stream = self._streams.get(id)
        if stream is None:
            return
        stream.room, stream.trimming = room, False
        self._raise_floor(stream, floor)
        if stream.subscription is not None or stream.broken or stream.closing:
            return
        if stream.storing or room.free < max(stream.retention.min_free, 1) / ROOMY:
            self._look_later(stream, now)
            return
        self._tell(f"{stream.label} stores again")
        self._begin_storing(stream)
        self._changed()

    # --- retained values

    @staticmethod
    def _note_retained(stream: TopicStream, kept: Kept | KeptGap) -> None:
        """It has just become safe."""
        if not isinstance(kept, Kept):
            return
        key = kept.run.origin, kept.topic
        if kept.flags & RETAIN and not stream.heads.is_cleared(key, kept.last):
            stream.retained[kept.topic] = stream.stretch.safe
        if kept.topic not in stream.retained:
            stream.heads.settle_clear(key)

    @staticmethod
    def _clear(stream: TopicStream, key: Key, number: int) -> None:
        """Its publisher says that nothing up to that number is. What somebody else has published since is."""
        if not stream.heads.clear(key, number):
            return
        if key[1] in stream.retained:
            stream.recalls.setdefault(stream.retained[key[1]], []).append((b"", number, []))
            stream.disk.read(stream.id, "", stream.retained[key[1]])
        else:
            stream.heads.settle_clear(key)

    def on_recall(self, peer: bytes, recall: Recall) -> None:
        """A peer asks for what is retained; it is read, one after the other, and sent."""
        stream = self._streams.get(recall.stream)
        filters = [Filter(text) for text in recall.filters]
        retained = {} if stream is None else stream.retained
        numbers = [
            number
            for topic, number in retained.items()
            if stream is not None and number >= stream.stretch.first and any(f.matches(topic) for f in filters)
        ]
        self._recall_next(stream, peer, recall.request, numbers)

    def _recall_next(self, stream: TopicStream | None, peer: bytes, request: int, numbers: list[int]) -> None:
        if stream is None or not numbers:
            self._send_work(peer, (Refilled(request, "", 0, 0, 0).encode(peer, self._own),))
            return
        stream.recalls.setdefault(numbers[0], []).append((peer, request, numbers[1:]))
        stream.disk.read(stream.id, "", numbers[0])

    def _on_retained(self, stream: TopicStream, number: int, items: Sequence[Item]) -> None:
        kept = self._kept_at(number, items)
        if kept is not None and stream.retained.get(kept.topic) == number:
            key = kept.run.origin, kept.topic
            if stream.heads.is_cleared(key, kept.last):
                del stream.retained[kept.topic]
                stream.heads.settle_clear(key)
                self._save(stream)
                kept = None
        else:
            kept = None  # there is a newer one, or it cannot be read
        for peer, request, others in stream.recalls.pop(number, ()):
            if not peer:
                continue  # it was only looked at
            if kept is not None:
                run = Run(kept.run.origin, kept.run.first + kept.length - 1, 1, kept.run.time)
                flags = kept.flags & (PARTS | EXTRA)
                frame = encode_topic(topic_prefix(kept.topic), flags, run, kept.last, 0.0, kept.items()[-1:])
                self._send_work(peer, (refill_frame(peer, self._own, request), frame, *kept.parts))
            self._recall_next(stream, peer, request, others)

    @staticmethod
    def _kept_at(number: int, items: Sequence[Item]) -> Kept | None:
        """The batch that ends with that message, if it is the first of these and can be read."""
        for item in items[:1]:
            if item.body is None or item.last != number:
                return None
            try:
                kept = decode(item.body, item.last - item.first + 1, item.flags, item.runs)
                if isinstance(kept, Kept):
                    kept.items()
                    return kept
            except Malformed:
                return None
        return None

    # --- retention

    def on_trimmed(self, id: bytes, room: Room) -> None:
        """Segments are gone."""
        if id in self._streams:
            self._streams[id].room = room

    def _trim(self, stream: TopicStream) -> None:
        limits = stream.retention
        if limits.max_messages is not None:
            self._raise_floor(stream, stream.stretch.safe - limits.max_messages + 1)
        if limits.max_bytes is not None and stream.room.used > limits.max_bytes and not stream.trimming:
            stream.trimming = True
            self._look(stream)

    def _look_at_age(self, stream: TopicStream, now: float) -> None:
        age = stream.retention.max_age
        if age is not None and stream.id in self._streams:
            if stream.stretch.first <= stream.stretch.safe:
                stream.disk.seek(stream.id, "", self._wall() - age)
            every = min(max(age / AGE_LOOKS, AGE_LEAST), AGE_MOST)
            self._timers.set((stream, "age"), now + every, lambda when: self._look_at_age(stream, when))

    @staticmethod
    def _raise_floor(stream: TopicStream, floor: int) -> None:
        """All below it is trimmed."""
        stretch = stream.stretch
        floor = min(floor, stretch.safe + 1)
        if floor > stretch.first:
            before, stretch.first = stretch.first, floor
            stream.disk.note(stream.id, Moved("", before, floor - 1))

    # --- readers

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        self._rows[peer] = entry.cursors
        for stream in self:
            self._note_readers(stream, peer, entry.cursors, now)

    def on_gone(self, peer: bytes, now: float, *, crashed: bool) -> None:
        self._rows.pop(peer, None)
        for stream in self:
            self._note_readers(stream, peer, [], now, lost=crashed)

    def _note_readers(
        self, stream: TopicStream, peer: bytes, rows: Iterable[list[object]], now: float, *, lost: bool = False
    ) -> None:
        readers = [self._reader(peer, row) for row in rows if row[0] == stream.id and self._may_read(stream, row)]
        here = {(reader.peer, reader.puller): reader for reader in readers}
        gone = [key for key in stream.readers if key[0] == peer and key not in here]
        left = [stream.readers.pop(key) for key in gone]
        for key, reader in here.items():
            if key not in stream.readers:
                stream.readers[key] = reader
                self._forget_not(stream, reader.cursor)
                if reader.cursor not in stream.cursors:
                    self._begin(stream, reader, now)
        for reader in left:
            self._forget_later(stream, reader.cursor, now, after=FORGET_AFTER if lost else 0.0)
        if left or here:
            self._assign(stream, now)

    @staticmethod
    def _may_read(stream: TopicStream, row: list[object]) -> bool:
        """What an honest peer would not ask for is not served."""
        name, value = str(row[1]), row[5]
        assert isinstance(value, int | float)
        known = name in stream.cursors or len(stream.cursors) < CURSORS_MOST
        return bool(name) and known and len(name.encode()) <= CURSOR_NAME and abs(value) < LARGE

    @staticmethod
    def _reader(peer: bytes, row: list[object]) -> Reader:
        _, cursor, puller, filters, kind, value = row
        assert isinstance(puller, bytes)
        assert isinstance(filters, list)
        assert isinstance(kind, int)
        assert isinstance(value, int | float)
        return Reader(peer, puller, str(cursor), tuple(Filter(text) for text in sorted(filters)), (kind, float(value)))

    def _assign(self, stream: TopicStream, now: float) -> None:
        """Opens the cursors that have readers. Those who come first say which topics; others have to want the same."""
        for cursor in stream.cursors.values():
            readers = [reader for reader in stream.readers.values() if reader.cursor == cursor.name]
            if readers and not any(reader.filters == cursor.filters for reader in readers):
                if cursor.outbox is not None:
                    cursor.rest()
                cursor.wake(readers[0].filters, now)
                self._changed()
            elif readers and cursor.outbox is None:
                cursor.wake(cursor.filters, now)
        for peer, rows in self._rows.items():
            if rows:
                self._replaying.on_pullers(peer, self._served(peer, rows), now)

    def _served(self, peer: bytes, rows: Iterable[list[object]]) -> list[list[object]]:
        """What of a peer's rows is served: by the name that a cursor has on its links, and puller."""
        served: list[list[object]] = []
        for row in rows:
            stream = self._streams.get(row[0]) if isinstance(row[0], bytes) else None
            cursor = None if stream is None else stream.cursors.get(str(row[1]))
            if cursor is None or stream is None or not self._may_read(stream, row):
                continue
            if cursor.filters == self._reader(peer, row).filters:
                served.append([cursor.queue, row[2]])
        return served

    # --- where a cursor begins

    def _begin(self, stream: TopicStream, reader: Reader, now: float) -> None:
        if reader.cursor in stream.beginning:
            return
        kind, value = reader.begin
        if stream.damaged and not reader.cursor.startswith(PASSING):
            self._tell(
                f"{stream.label}: its journal was damaged once, and cursor {reader.cursor!r} is not known: it begins "
                "at the beginning"
            )
            kind = FROM_BEGINNING
        if kind == FROM_BEGINNING:
            self._create(stream, reader.cursor, stream.stretch.first, now)
            return
        if kind == FROM_COUNT and any(filter.covers(stream.stretch.filter) for filter in reader.filters):
            self._create(stream, reader.cursor, stream.stretch.safe - int(value) + 1, now)
            return
        stream.beginning[reader.cursor] = reader
        if kind == FROM_TIME:
            stream.disk.seek(stream.id, reader.cursor, value)
        elif kind == FROM_COUNT:
            stream.disk.seek(stream.id, reader.cursor, Newest(int(value), reader.filters))
        else:
            self._ask(stream, reader, now)

    def _ask(self, stream: TopicStream, reader: Reader, now: float) -> None:
        """When it came into being; again until it answers."""
        if stream.beginning.get(reader.cursor) is reader and (reader.peer, reader.puller) in stream.readers:
            self._send(reader.peer, Binding(queue_of(reader.cursor, stream.id), reader.puller, now))
            self._timers.set(
                (stream, "begin", reader.cursor), now + ASK_AGAIN, lambda when: self._ask(stream, reader, when)
            )
        elif stream.beginning.get(reader.cursor) is reader:
            del stream.beginning[reader.cursor]
            others = [other for other in stream.readers.values() if other.cursor == reader.cursor]
            if others:
                self._begin(stream, others[0], now)

    def on_since(self, peer: bytes, since: Since, now: float) -> None:
        for stream in self:
            for reader in list(stream.beginning.values()):
                if (reader.peer, reader.puller) == (peer, since.puller) and since.queue == queue_of(
                    reader.cursor, stream.id
                ):
                    self._timers.cancel((stream, "begin", reader.cursor))
                    kind, value = reader.begin
                    began = min(since.clock, now) + self._replaying.ahead
                    stream.disk.seek(stream.id, reader.cursor, began - (value if kind == FROM_AGO else 0.0))

    def on_sought(self, id: bytes, cursor: str, number: int, now: float) -> None:
        stream = self._streams.get(id)
        if stream is None:
            return
        if not cursor:
            self._raise_floor(stream, number)
        elif cursor in stream.beginning:
            self._create(stream, cursor, number, now)
            self._forget_later(stream, cursor, now)  # its reader may have gone meanwhile

    def _create(self, stream: TopicStream, name: str, number: int, now: float) -> None:
        stream.beginning.pop(name, None)
        number = max(number, stream.stretch.first)
        stream.disk.note(stream.id, Begun(name, number))
        doubtful = stream.stretch.safe if stream.damaged else 0  # it may be one that was lost
        found = Found(name=name, base=number, settled=Ranges(), attempts={}, doubtful=doubtful)
        stream.cursors[name] = StreamCursor(stream.stretch, found, self._replaying, stream.disk)
        self._changed()
        self._assign(stream, now)

    def _forget_later(self, stream: TopicStream, name: str, now: float, *, after: float = FORGET_AFTER) -> None:
        """A cursor that is to end with its reader has none."""
        if name.startswith(PASSING) and not any(reader.cursor == name for reader in stream.readers.values()):
            self._timers.set((stream, "forget", name), now + after, lambda when: self._drop(stream, name))

    def _forget_not(self, stream: TopicStream, name: str) -> None:
        self._timers.cancel((stream, "forget", name))

    def _drop(self, stream: TopicStream, name: str) -> None:
        cursor = stream.cursors.pop(name, None)
        if cursor is not None and stream.id in self._streams:
            cursor.rest()
            stream.disk.note(stream.id, Forgotten(name))
            self._changed()

    def drop(self, stream: TopicStream, name: str) -> bool:
        """Forgets a cursor that nobody reads by; False if somebody does."""
        if any(reader.cursor == name for reader in stream.readers.values()):
            return False
        self._drop(stream, name)
        return True

    # --- from the disk to readers

    def on_records(self, id: bytes, cursor: str, asked: int, items: Sequence[Item], now: float) -> None:
        stream = self._streams.get(id)
        if stream is not None and not cursor:
            self._on_retained(stream, asked, items)
            return
        reading = None if stream is None else stream.cursors.get(cursor)
        if reading is not None and not reading.on_records(asked, items, now):
            self._timers.set_if_unset((reading, "read"), now + LOOK, reading.go_on)

    def report(self, now: float) -> None:
        """Once each turn."""
        for stream in self._streams.values():
            for cursor in stream.cursors.values():
                if cursor.outbox is None:
                    continue
                cursor.report()
                if self._replaying.links(cursor.queue) or any(
                    reader.cursor == cursor.name for reader in stream.readers.values()
                ):
                    cursor.load_more(now)
                else:
                    cursor.rest()
                    cursor.filters = ()
                    self._changed()

    # --- the end

    def close(self, stream: TopicStream) -> None:
        """Takes no more; `is_stored` says when all that had come is on the disk."""
        stream.closing = True
        if stream.subscription is not None:
            self._unsubscribe(stream.subscription)
            stream.subscription = None
        self._changed()

    def is_stored(self, stream: TopicStream) -> bool:
        return not stream.storing

    def forget(self, stream: TopicStream) -> dict[str, int]:
        """Gives up the stream. Returns for each cursor the highest number that may have been delivered by it and is
        not settled."""
        if stream.id not in self._streams:
            return {}
        for cursor in stream.cursors.values():
            cursor.report()
        sent = {name: cursor.sent() for name, cursor in stream.cursors.items()}
        if not stream.storing:
            self._save(stream)
        for cursor in stream.cursors.values():
            cursor.rest()
            self._timers.cancel((cursor, "read"))
            self._timers.cancel((stream, "forget", cursor.name))
        for name in stream.beginning:
            self._timers.cancel((stream, "begin", name))
        for what in ("room", "age"):
            self._timers.cancel((stream, what))
        del self._streams[stream.id]
        self._changed()
        return sent

    # --- reports

    def rows(self) -> list[list[object]]:
        """As they stand in this peer's roster entry: filter, stream, whether it stores, cursors with messages behind
        and the filters of who reads by them."""
        return [
            [
                stream.stretch.filter.text,
                stream.id,
                stream.subscription is not None,
                [[name, cursor.lag, [f.text for f in cursor.filters]] for name, cursor in stream.cursors.items()],
            ]
            for stream in self._streams.values()
            if not stream.closing
        ]

    def ledger(self) -> tuple[HeldQueue, ...]:
        return tuple(
            cursor.row()
            for stream in self._streams.values()
            for cursor in stream.cursors.values()
            if not cursor.name.startswith(PASSING) or cursor.outbox is not None
        )
