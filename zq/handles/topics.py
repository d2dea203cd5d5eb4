"""The topics of an open spool: opened with its directory, kept by the engine, ended in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from zq.core.cursors import PASSING
from zq.core.spooled import Item, Room
from zq.core.stream import Retention, TopicStream
from zq.engine.engine import Engine
from zq.errors import Refused
from zq.handles.steps import Steps, until
from zq.info import SpoolCursor, SpooledTopic
from zq.options import SpoolOptions
from zq.spool.keeper import Keeper
from zq.spool.topics import TopicDisk


class _ToEngine:
    """What the disk says becomes an event of the node, in the engine's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streams = engine.node.streams

    def _tell(self, what: Callable[[float], None]) -> None:
        engine = self._engine
        engine.later(lambda: what(engine.node.now))

    def read(self, stream: bytes, cursor: str, asked: int, items: Sequence[Item]) -> None:
        self._tell(lambda now: self._streams.on_records(stream, cursor, asked, items, now))

    def sought(self, stream: bytes, cursor: str, number: int) -> None:
        def tell(now: float) -> None:
            self._streams.on_sought(stream, cursor, number, now)
            self._engine.node.announcement.count_later(now)  # nobody misses any more what was too old

        self._tell(tell)

    def looked(self, stream: bytes, room: Room, floor: int) -> None:
        self._tell(lambda now: self._streams.on_room(stream, room, floor, now))


class TopicStreams:
    """Those of one spool."""

    def __init__(self, engine: Engine, keeper: Keeper, filters: Sequence[str], options: SpoolOptions) -> None:
        """Opens the files; before the keeper starts. SpoolDamaged, or Refused if this peer stores one of them."""
        self._engine = engine
        self._options = options
        self.filters = tuple(filters)
        self._streams: list[TopicStream] = []
        node = engine.node
        for text in filters:
            if engine.call(lambda text=text: node.streams.find(text)) is not None:  # type: ignore[misc]
                raise Refused(f"this peer has a spool of {text} already")
        self.disk = TopicDisk(keeper, _ToEngine(engine))
        self._found = [self.disk.open(text, options.max_bytes) for text in filters]

    def start(self) -> None:
        """The keeper has: from now on everything is stored. Engine's thread."""
        node, options = self._engine.node, self._options
        wall = time.time()  # behind the node's: earlier, what was published in between would look stored already
        keeps = Retention(options.max_age, options.max_bytes, options.max_messages, options.min_free)
        self._streams = [node.streams.open(found, keeps, self.disk, node.now, wall) for found in self._found]

    def rows(self) -> list[SpooledTopic]:
        """Engine's thread."""
        return [
            SpooledTopic(
                filter=stream.stretch.filter.text,
                messages=stream.stretch.safe - stream.stretch.first + 1,
                first=stream.stretch.first,
                last=stream.stretch.safe,
                bytes=stream.room.used,
                stored=stream.subscription is not None,
                problem=stream.problem,
                cursors=tuple(_cursors(stream)),
            )
            for stream in self._streams
        ]

    def forget(self, text: str, name: str) -> bytes | None:
        """Forgets a cursor of one filter, and says which stream that is; None if it is not kept here. Refused if there
        is none of that name, or if somebody reads by it. Engine's thread."""
        found = [stream for stream in self._streams if stream.stretch.filter.text == text]
        for stream in found:
            if name not in stream.cursors:
                known = ", ".join(sorted(cursor for cursor in stream.cursors if not cursor.startswith(PASSING)))
                raise Refused(f"{text} has no cursor {name!r}; it has {known or 'none'}")
            if not self._engine.node.streams.readers.drop(stream, name):
                raise Refused(f"somebody reads {text} by cursor {name!r} now; end that subscription first")
            return stream.id
        return None

    # --- the end

    def close_steps(self, deadline: float | None) -> Steps[None]:
        """Takes no more, and waits until all that has come is stored."""
        engine, streams = self._engine, self._engine.node.streams
        engine.call(lambda: list(map(streams.close, self._streams)))
        yield from until(engine, lambda: all(map(streams.is_stored, self._streams)), deadline)

    def forget_streams(self) -> None:
        """Engine's thread."""
        streams = self._engine.node.streams
        for stream in self._streams:
            stored = streams.is_stored(stream)
            sent = streams.forget(stream)
            if stored:  # else what comes of it is not known
                self.disk.end(stream.id, sent)


def _cursors(stream: TopicStream) -> list[SpoolCursor]:
    return [
        SpoolCursor(
            kind="topic",
            stream=stream.stretch.filter.text,
            cursor=cursor.name,
            position=cursor.position,
            lag=cursor.lag,
            missed=max(stream.stretch.first - cursor.position, 0),
        )
        for cursor in sorted(stream.cursors.values(), key=lambda cursor: cursor.name)
        if not cursor.name.startswith(PASSING)
    ]
