"""A spool without its waiting: a directory, its disk thread, and the queues that the engine keeps with it.

It is longer than most: all that a spool is asked by its program, but for the waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zq.core.dead import dead_queue_of
from zq.core.puller import Puller
from zq.core.spooled import Disk, Item, Limits, Recovered, Room, Spooled
from zq.core.spooling import Spooling
from zq.core.stream import Disk as TopicDisk
from zq.core.streams import Streams
from zq.engine.engine import Engine
from zq.errors import Closed, Error, Refused, SpoolDamaged, Timeout
from zq.handles.opening import Opening
from zq.handles.steps import Steps, deadline_after, finish, until
from zq.info import SpooledQueue, SpooledTopic
from zq.logs import Logger
from zq.options import SpoolOptions
from zq.wire.names import check_filter, check_not_dead, check_queue

if TYPE_CHECKING:
    from zq.handles.shelf import SpoolDirectory

log = Logger("zq.spool")
LEAVING = 5.0  # s that a disk has to end in order when nobody has said how long


class ToEngine:
    """What the disk says becomes an event of the node, in the engine's thread."""

    def __init__(self, engine: Engine) -> None:
        self.disk: Disk | None = None  # whose answers these are
        self.topics: TopicDisk | None = None  # the same, of topics
        self._engine = engine
        self._spooling = engine.node.spooling
        self._streams = engine.node.streams

    def _tell(self, what: Callable[[float], None]) -> None:
        engine = self._engine

        def tell() -> None:
            what(engine.node.now)
            engine.node.announcement.count_later(engine.node.now)  # there is more or less than others have heard of

        engine.later(tell)

    def _owner(self, stream: bytes) -> Spooling | Streams:
        return self._streams if stream in self._streams else self._spooling

    def stored(self, stream: bytes, firsts: Sequence[int], room: Room) -> None:
        self._tell(lambda now: self._owner(stream).on_stored(stream, firsts, room, now))

    def failed(self, stream: bytes, count: int, reason: str, full: bool, room: Room) -> None:
        self._tell(lambda now: self._owner(stream).on_failed(stream, count, reason, full=full, room=room, now=now))

    def records(self, stream: bytes, items: Sequence[Item]) -> None:
        self._tell(lambda now: self._spooling.on_records(stream, items, now))

    def room(self, stream: bytes, room: Room) -> None:
        def tell(now: float) -> None:
            self._streams.on_trimmed(stream, room)
            self._spooling.on_room(stream, room)

        self._tell(tell)

    def ended(self) -> None:
        """Whoever waits for it looks again; whom it has left alone is told."""
        self._tell(lambda now: self._spooling.on_ended(self.disk, now))
        self._tell(lambda now: self._streams.on_ended(self.topics, now))


def _row(spooled: Spooled) -> SpooledQueue:
    letters = spooled.letters
    assert letters is not None
    return SpooledQueue(
        queue=spooled.name,
        depth=spooled.unsettled,
        bytes=spooled.room.used + letters.room.used,
        dead=letters.unsettled,
        full=spooled.is_full,
        problem=spooled.broken or letters.broken,
    )


def check_filters(topics: Sequence[str]) -> list[str]:
    """Each once."""
    if isinstance(topics, str):
        raise Refused(f"topics are a sequence of filters, as in topics=[{topics!r}]")
    filters = list(dict.fromkeys(check_filter(text) for text in topics))
    for text in filters:
        check_not_dead(text, "filter")
    return filters


class SpoolCore:
    """A spool: `_open` opens it. Thread-safe but for closing."""

    _opening: Opening[None] | None = None  # until that is over it is not open

    def __init__(
        self, engine: Engine, directory: Path, queues: Sequence[str], topics: Sequence[str], options: SpoolOptions
    ) -> None:
        if isinstance(queues, str):
            raise Refused(f"queues are a sequence of names, as in queues=[{queues!r}]")
        names = list(dict.fromkeys(check_queue(name) for name in queues))
        filters = check_filters(topics)
        if not (names or filters):
            raise Refused("a spool needs at least one queue, or one filter of topics")
        self.directory = Path(directory)
        self._place = self.directory.absolute()  # wherever the program goes
        self.closed = False
        self._engine = engine
        self._names, self._filters, self._options = names, filters, options
        node = engine.node
        for name in names:
            if engine.call(lambda name=name: node.spooling.find(name)) is not None:  # type: ignore[misc]
                raise Refused(f"this peer has a spool of {name} already")
        if len({dead_queue_of(name) for name in names}) < len(names):
            raise Refused("two of these long names would have one queue of dead letters; shorten one of them")

    def _open(self) -> None:
        """Reads the directory and begins to keep the queues; waits for the disk."""
        engine, names, filters, options = self._engine, self._names, self._filters, self._options
        answers = ToEngine(engine)
        from zq.handles.topics import TopicStreams
        from zq.spool.keeper import Keeper  # with its thread and its futures: few programs need it

        self._keeper = answers.disk = Keeper(self.directory, answers, options.max_bytes)
        try:
            found = [(self._keeper.open(name), self._keeper.open(dead_queue_of(name))) for name in names]
            self._topics = TopicStreams(engine, self._keeper, filters, options)
            answers.topics = self._topics.disk
            bound = [self._keeper.bound_to(queue.stream) for queue, _ in found]
        except BaseException:
            self._keeper.close()
            raise
        self._keeper.start()
        try:
            self._begin(found, bound, options)
        except BaseException:  # the peer is being closed, most likely
            self._keeper.close(LEAVING)
            raise

    def _open_later(self) -> None:
        """In a thread: whoever needs it waits. Closing gives it up."""

        def undo(_: None) -> None:
            finish(self._end_steps(time.monotonic() + LEAVING))

        self._opening = Opening(self._engine, f"the spool in {self.directory}", self._open, undo)

    def _begin(
        self, found: list[tuple[Recovered, Recovered]], bound: list[tuple[str, ...]], options: SpoolOptions
    ) -> None:
        engine, node = self._engine, self._engine.node
        limits = Limits(options.max_bytes, options.max_messages, options.min_free, options.max_dead)
        self._queues: list[Spooled] = engine.call(
            lambda: [node.spooling.open(*streams, limits, self._keeper, node.now) for streams in found]
        )
        engine.call(lambda: self._bind(bound))
        engine.call(self._topics.start)
        from zq.handles.look import SpoolLook  # the same

        self._look = SpoolLook(engine, self._place, self._begin_purge, self._forget_here)
        engine.call(lambda: node.inspected.add(self._look))

    def _bind(self, bound: Sequence[tuple[str, ...]]) -> None:
        """Engine's thread."""
        node, keeper = self._engine.node, self._keeper
        for spooled, filters in zip(self._queues, bound, strict=True):
            node.rebinding.open(spooled.name, filters, partial(keeper.bind, spooled.stream), node.now)

    def _check_opened(self) -> None:
        """Raises what went wrong, or Error if it is not open yet."""
        if self._opening is not None:
            if not (self._opening.over or self.closed):
                raise Error(f"the spool in {self.directory} is still being opened: await it first")
            self._opening.result()

    def _opened_steps(self, deadline: float | None = None) -> Steps[None]:
        if self._opening is not None:
            yield from self._opening.steps(deadline)

    def queues(self) -> list[SpooledQueue]:
        """How each of its queues stands, by name."""

        self._check_opened()

        def look() -> list[SpooledQueue]:
            return [_row(spooled) for spooled in sorted(self._queues, key=lambda spooled: spooled.name)]

        return self._engine.call(look)

    def topics(self) -> list[SpooledTopic]:
        """How its topics stand, a row each filter, with the cursors of durable subscriptions."""
        self._check_opened()
        return self._engine.call(self._topics.rows)

    # --- what is on the disk

    def _shelf(self) -> SpoolDirectory:
        if self.closed:
            raise Closed(f"the spool in {self.directory} is closed; zq.SpoolDirectory looks at it all the same")
        from zq.handles.shelf import SpoolDirectory  # with all that reads a disk: few programs need it

        return SpoolDirectory(self._place)

    def _begin_purge(self, queue: str, done: Callable[[int, str], None]) -> bool:
        """Engine's thread; `done` when it is synced, with how many messages that were, or with why it is not. False:
        the queue is not here."""
        parts = [part for spooled in self._queues for part in (spooled, spooled.letters) if part is not None]
        found = [part for part in parts if part.name == queue]
        if not found or self.closed:
            return False
        count = self._engine.node.spooling.purge(found[0])

        def tell(problem: str) -> None:
            left = f"{queue}: {count:,} messages are purged, and may be back when the spool is opened again: {problem}"
            self._engine.later(lambda: done(count, left if problem else ""))

        self._keeper.sync(found[0].stream, tell)
        return True

    def _purge_steps(self, queue: str, timeout: float | None) -> Steps[int]:
        deadline, told = deadline_after(timeout), list[tuple[int, str]]()
        yield from self._opened_steps(deadline)
        shelf = self._shelf()
        if not self._engine.call(lambda: self._begin_purge(queue, lambda *what: told.append(what))):
            names = ", ".join(stream.name for stream in shelf.streams() if stream.kind == "queue")
            raise Refused(f"this spool has no queue {queue!r}; it has {names}")
        if not (yield from until(self._engine, lambda: told, deadline)):
            raise Timeout("the disk has not said yet that the purge is on it; it will be")
        count, problem = told[0]
        if problem:
            raise SpoolDamaged(problem)
        return count

    def _forget_here(self, stream: str, cursor: str, done: Callable[[str], None]) -> bool:
        """Engine's thread; `done` when it is synced, or with why it is not. False: it is not here."""
        kept = self._topics.forget(stream, cursor)
        if kept is None:
            return False

        def tell(problem: str) -> None:
            left = f"{cursor} is forgotten, and may be back when the spool is opened again: {problem}"
            self._engine.later(lambda: done(left if problem else ""))

        self._keeper.sync(kept, tell)
        return True

    def _forget_steps(self, topics: str, cursor: str, timeout: float | None) -> Steps[None]:
        deadline, told = deadline_after(timeout), list[str]()
        yield from self._opened_steps(deadline)
        self._shelf()  # Closed, if it is
        if not self._engine.call(lambda: self._forget_here(topics, cursor, told.append)):
            raise Refused(
                f"this spool keeps no topics {topics!r}; it keeps {', '.join(self._topics.filters) or 'none'}"
            )
        if not (yield from until(self._engine, lambda: told, deadline)):
            raise Timeout("the disk has not said yet that the cursor is forgotten; it will be")
        if told[0]:
            raise SpoolDamaged(told[0])

    def _close_steps(self, timeout: float | None) -> Steps[None]:
        """Takes no more, syncs what has come, leaves the queues to their pushers, and lets go of the directory."""
        deadline = deadline_after(timeout)
        if self.closed:
            return
        self.closed = True
        if self._opening is not None and (self._opening.give_up() or self._opening.failed):
            return
        yield from self._end_steps(deadline)

    def _end_steps(self, deadline: float | None) -> Steps[None]:
        engine = self._engine
        try:
            if not (engine.closed or engine.forked or engine.failed):
                engine.call(lambda: engine.node.inspected.remove(self._look))
                self._look.close()
                yield from self._leave_steps(engine, deadline)
                soon = time.monotonic() + LEAVING
                yield from until(engine, self._look.is_idle, soon if deadline is None else min(soon, deadline))
        except Exception:
            raise
        except BaseException:  # cancelled, most likely: a loop must not stand still for a disk
            deadline = time.monotonic()
            raise
        finally:
            self._look.close()
            left = LEAVING if deadline is None else max(deadline - time.monotonic(), 0.0)
            if not self._keeper.close(left):
                log.warning("%s is still busy with its disk; it ends when that is done", self.directory)

    def _leave_steps(self, engine: Engine, deadline: float | None) -> Steps[None]:
        node, queues, spooling = engine.node, self._queues, engine.node.spooling
        engine.call(lambda: list(map(spooling.close, queues)))
        try:
            yield from self._topics.close_steps(deadline)
            yield from until(engine, lambda: all(map(spooling.is_stored, queues)), deadline)
            engine.call(self._stop_pulling)
            yield from until(engine, lambda: all(map(node.pulling.is_closed, self._pullers())), deadline)
            engine.call(lambda: list(map(spooling.stop, queues)))
            yield from until(engine, lambda: all(map(spooling.is_stored, queues)), deadline)
        finally:
            if not (engine.closed or engine.failed):
                engine.call(self._forget)
        self._keeper.finish()
        yield from until(engine, lambda: not self._keeper.is_running, deadline)

    def _stop_pulling(self) -> None:
        node = self._engine.node
        for puller in self._pullers():
            node.stop_pulling(puller, node.now)

    def _pullers(self) -> list[Puller]:
        return [spooled.puller for spooled in self._queues if spooled.puller is not None]

    def _forget(self) -> None:
        node = self._engine.node
        for puller in self._pullers():
            node.pulling.forget(puller)
        self._topics.forget_streams()
        for spooled in self._queues:
            node.rebinding.close(spooled.name)
        for spooled in self._queues:
            if spooled.sent is None:
                node.spooling.stop(spooled)
            stored = node.spooling.is_stored(spooled)
            for stream, sent in node.spooling.forget(spooled):
                if stored:  # else what comes of it is not known, and all may have been delivered
                    self._keeper.end(stream, sent)

    def __repr__(self) -> str:
        names = ", ".join([*self._names, *self._filters])
        opening = self._opening is not None and not self._opening.over
        state = ", closed" if self.closed else ", being opened" if opening else ""
        return f"<{type(self).__name__} of {names} in {self.directory}{state}>"
