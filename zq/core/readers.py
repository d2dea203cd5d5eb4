"""Who reads topic streams by which cursor, and where a cursor begins that nobody has had before.

A peer's roster entry has a row for each durable subscription: stream, cursor, puller, filters, and where to begin if
the cursor is not known. Those who come first say which topics; others have to want the same. States of a cursor's name:

    unknown -> beginning (its number is being asked for or sought) -> known: rests, or awake while somebody reads by it
                                                              known -> forgotten: by a program, or with its last reader

Where it begins at the end, or some time ago, that is counted from when its reader came into being, which is asked for
until it answers. A cursor that is to end with its reader (`PASSING`) is kept for a while if that was lost. What a crash
loses: a cursor that was beginning begins anew; what is known is in the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from zq.core.cursors import PASSING, Begun, Forgotten, Found, StreamCursor
from zq.core.pushing import Pushing
from zq.core.ranges import Ranges
from zq.core.stream import Newest, Reader, TopicStream
from zq.core.timers import Timers
from zq.wire.frames import Binding, Entry, Since
from zq.wire.kept import CURSOR_NAME, FROM_AGO, FROM_BEGINNING, FROM_COUNT, FROM_TIME, queue_of
from zq.wire.names import Filter

FORGET_AFTER = 60.0  # s that such a cursor waits for a reader that was lost; as long as a binding
ASK_AGAIN = 0.2  # s until a reader is asked again when it came into being
CURSORS_MOST = 10_000  # of a stream; more are not begun
LARGE = 1e15  # counts and times that make sense are below


class Readers:
    """Of all topic streams of this peer."""

    def __init__(
        self,
        timers: Timers,
        streams: Mapping[bytes, TopicStream],
        replaying: Pushing,
        send: Callable[[bytes, Binding], None],
        tell: Callable[[str], None],
        changed: Callable[[], None],
    ) -> None:
        """`streams`, by id, are those that are open; `changed` hears when the roster entry is to be told again."""
        self._timers = timers
        self._streams = streams
        self._replaying = replaying
        self._send = send
        self._tell = tell
        self._changed = changed
        self._rows: dict[bytes, list[list[object]]] = {}  # by peer, of all streams

    def __iter__(self) -> Iterator[TopicStream]:
        return iter(list(self._streams.values()))

    def open(self, stream: TopicStream, now: float) -> None:
        """Those who are here may have waited for it."""
        for peer, rows in list(self._rows.items()):
            self._note(stream, peer, rows, now)
        for name in list(stream.cursors):
            self._forget_later(stream, name, now)

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        self._rows[peer] = entry.cursors
        for stream in self:
            self._note(stream, peer, entry.cursors, now)

    def on_gone(self, peer: bytes, now: float, *, crashed: bool) -> None:
        self._rows.pop(peer, None)
        for stream in self:
            self._note(stream, peer, [], now, lost=crashed)

    def _note(
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

    def on_sought(self, stream: TopicStream, cursor: str, number: int, now: float) -> None:
        if cursor in stream.beginning:
            self._create(stream, cursor, number, now)
            self._forget_later(stream, cursor, now)  # its reader may have gone meanwhile

    def _create(self, stream: TopicStream, name: str, number: int, now: float) -> None:
        stream.beginning.pop(name, None)
        number = max(number, stream.stretch.first)
        stream.disk.note(stream.id, Begun(name, number))
        doubtful = stream.stretch.safe if stream.damaged else 0  # it may be one that was lost
        found = Found(name=name, base=number, settled=Ranges(), attempts={}, doubtful=doubtful)
        stream.cursors[name] = StreamCursor(stream.stretch, found, self._replaying, stream.disk, new=True)
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

    def close(self, stream: TopicStream) -> None:
        """It is given up."""
        for name in stream.cursors:
            self._timers.cancel((stream, "forget", name))
        for name in stream.beginning:
            self._timers.cancel((stream, "begin", name))
