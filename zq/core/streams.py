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

One stream's state is a `TopicStream`; who reads by which cursor, and where a cursor begins, is decided by `readers`,
what becomes of retained values by `retaining`. It is longer than most because storing, stopping and trimming belong
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from zq.core.cursors import PASSING, Moved, Record, StreamCursor, Stretch
from zq.core.heads import LATE, LIMIT, Heads, Key
from zq.core.inbox import SubscriptionInbox
from zq.core.pushing import Pushing
from zq.core.readers import Readers
from zq.core.receptions import Receptions
from zq.core.retaining import Retaining
from zq.core.spooled import LOOK, ROOMY, Item, Room
from zq.core.stream import Disk, Entrance, RecoveredTopics, Retention, TopicStream
from zq.core.subscription import Subscription
from zq.core.timers import Timers
from zq.info import Gap, HeldQueue
from zq.wire.batch import GAP, Batch, Parts
from zq.wire.data import Malformed
from zq.wire.frames import Binding, Entry, Recall, Since
from zq.wire.kept import Kept, KeptGap, encode, encode_gap, keep, run_of_gap
from zq.wire.names import Filter

SAVE_EVERY = 16 << 20  # bytes stored until the table of numbers is written again: what opening has to read
AGE_LOOKS = 20  # times in its `max_age` that a stream looks for what is too old, between these:
AGE_LEAST, AGE_MOST = 0.1, 60.0  # s


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
        self._tell = tell
        self._changed = changed
        self._clock = clock
        self._streams: dict[bytes, TopicStream] = {}
        self._retaining = Retaining(send_work, own, self._save)
        self.readers = Readers(timers, self._streams, replaying, send, tell, changed)

    def __iter__(self) -> Iterator[TopicStream]:
        return iter(list(self._streams.values()))

    def _wall(self) -> float:
        return self._clock() + self._replaying.ahead

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._streams)

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
        self.readers.open(stream, now)
        self._changed()
        return stream

    # --- from publishers to the disk

    def _begin_storing(self, stream: TopicStream) -> None:
        entrance = stream.entrance = Entrance(
            lambda item: self._store(stream, item), lambda key, number: self._retaining.clear(stream, key, number)
        )
        left = {key: number + 1 for key, number in stream.heads.numbers().items()}
        stream.subscription = self._subscribe(stream.stretch.filter, entrance, stream.began, left)
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
            self._retaining.note(stream, kept)  # behind it: what is cleared may be settled by it
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

    # --- what peers say

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        self.readers.on_entry(peer, entry, now)

    def on_gone(self, peer: bytes, now: float, *, crashed: bool) -> None:
        self.readers.on_gone(peer, now, crashed=crashed)

    def on_since(self, peer: bytes, since: Since, now: float) -> None:
        self.readers.on_since(peer, since, now)

    def on_recall(self, peer: bytes, recall: Recall) -> None:
        self._retaining.on_recall(self._streams.get(recall.stream), peer, recall)

    # --- from the disk to readers

    def on_sought(self, id: bytes, cursor: str, number: int, now: float) -> None:
        stream = self._streams.get(id)
        if stream is not None and not cursor:
            self._raise_floor(stream, number)
        elif stream is not None:
            self.readers.on_sought(stream, cursor, number, now)

    def on_records(self, id: bytes, cursor: str, asked: int, items: Sequence[Item], now: float) -> None:
        stream = self._streams.get(id)
        if stream is not None and not cursor:
            self._retaining.on_read(stream, asked, items)
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
        self.readers.close(stream)
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
