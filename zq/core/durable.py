"""The reading end of durable subscriptions: which streams of which spools they read, and by which cursor.

A durable subscription is a puller whose pushers are cursors. For each of its filters it looks for a stream that covers
it, of all that spools tell of in their entries the one with the smallest id, so that all readers of a cursor find the
same; its own entry then names the stream and the cursor, and the spool opens links. What it has found once it keeps
to: a spool that is away comes back with the same streams.

A subscription without a name of its own (`since` alone) has a cursor that ends with it. It is for a past that only a
spool has: once the realm is known and has none, it fails. One with a name waits.

Whoever reads by a cursor wants the same topics. A spool serves those who came first, and tells which those are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from zq.core.inbox import Inbox
from zq.core.puller import Puller
from zq.core.pulling import Pulling
from zq.core.timers import Timers
from zq.record import dataclass, field
from zq.wire.frames import Entry
from zq.wire.kept import FROM_END
from zq.wire.names import Filter

DISPUTED = 1.0  # s for which others must have read by a cursor with other filters before that is an error
Position = tuple[int, float]  # kind and value, see zq.wire.kept


@dataclass(eq=False, slots=True)
class Durable:
    """One durable subscription."""

    puller: Puller
    cursor: str
    filters: tuple[Filter, ...]
    begin: Position
    lasting: bool  # its cursor outlives it
    streams: dict[Filter, bytes] = field(default_factory=dict)
    problem: str = ""  # why it gets nothing and never will
    no_spool: bool = False  # that is the problem

    def rows(self) -> Iterator[list[object]]:
        """As they stand in this peer's roster entry."""
        for stream in sorted(set(self.streams.values())):
            filters = sorted(filter.text for filter, found in self.streams.items() if found == stream)
            yield [stream, self.cursor, self.puller.id, filters, *self.begin]


class Durables:
    """All durable subscriptions of this peer."""

    def __init__(
        self,
        timers: Timers,
        pulling: Pulling,
        draw: Callable[[int], bytes],
        changed: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        self._timers = timers
        self._pulling = pulling
        self._draw = draw
        self._changed = changed
        self._tell = tell
        self._streams: dict[bytes, list[list[Any]]] = {}  # rows of each peer's entry
        self._durables: dict[Puller, Durable] = {}
        self.undecided = False  # somebody wants to know whether there is a spool at all

    def open(
        self,
        cursor: str,
        filters: Iterable[Filter],
        begin: Position | None,
        inbox: Inbox,
        *,
        lasting: bool,
        prefetch_bytes: int,
        now: float,
    ) -> Durable:
        puller = self._pulling.open(
            self._draw(16), f"{cursor}@", inbox, prefetch=None, prefetch_bytes=prefetch_bytes, now=now
        )
        puller.cursor = cursor
        durable = Durable(puller, cursor, tuple(dict.fromkeys(filters)), begin or (FROM_END, 0.0), lasting)
        self._durables[puller] = durable
        self._choose(durable)
        self._look_for_dispute(durable, now)
        self.undecided = True
        self._changed()
        return durable

    def close(self, puller: Puller) -> None:
        """Its entry names it no more; its links end as those of any puller."""
        durable = self._durables.pop(puller, None)
        if durable is not None:
            self._timers.cancel((durable, "disputed"))
            self._changed()

    # --- events

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        if self._streams.get(peer, []) == entry.streams:
            return
        self._streams[peer] = entry.streams
        for durable in self._durables.values():
            if self._choose(durable):
                self._changed()
            self._look_for_dispute(durable, now)

    def on_gone(self, peer: bytes) -> None:
        self._streams.pop(peer, None)

    def on_settled(self) -> None:
        """The realm is known."""
        self.undecided = False
        for durable in self._durables.values():
            missing = [filter.text for filter in durable.filters if filter not in durable.streams]
            if missing and not durable.lasting:
                durable.no_spool = True
                self._fail(
                    durable,
                    f"no spool keeps {' and '.join(map(repr, missing))}, so there is nothing to read since; start one "
                    f"(zq spool --topic {missing[0]!r} --dir DIR), or subscribe without since",
                )
            elif missing:
                self._tell(f"no spool keeps {' and '.join(missing)}: cursor {durable.cursor} waits for one that does")

    # --- which stream

    def _rows(self) -> Iterator[list[Any]]:
        for rows in self._streams.values():
            yield from rows

    def _choose(self, durable: Durable) -> bool:
        """Whether it has found something new."""
        before = len(durable.streams)
        for filter in durable.filters:
            if filter not in durable.streams:
                found = [stream for text, stream, _, _ in self._rows() if Filter(text).covers(filter)]
                if found:
                    durable.streams[filter] = min(found)
        return len(durable.streams) > before

    def _look_for_dispute(self, durable: Durable, now: float) -> None:
        if self._disputed(durable):
            self._timers.set_if_unset(
                (durable, "disputed"), now + DISPUTED, lambda when: self._decide_dispute(durable)
            )  # what is told of others may be old
        else:
            self._timers.cancel((durable, "disputed"))

    def _disputed(self, durable: Durable) -> list[str]:
        """The filters with which others read by its cursor."""
        wanted = {stream: filters for stream, _, _, filters, *_ in durable.rows()}
        for _, stream, _, cursors in self._rows():
            for name, _, filters in cursors if stream in wanted else ():
                if name == durable.cursor and filters and sorted(filters) != wanted[stream]:
                    return sorted(filters)
        return []

    def _decide_dispute(self, durable: Durable) -> None:
        filters = self._disputed(durable)
        if filters:
            self._fail(
                durable,
                f"cursor {durable.cursor!r} is being read with the filters {' '.join(filters)}, not with "
                f"{' '.join(sorted(filter.text for filter in durable.filters))}: who shares a cursor wants the same "
                "topics; take another name for this subscription",
            )

    def _fail(self, durable: Durable, problem: str) -> None:
        durable.problem = problem
        durable.puller.inbox.wake()

    # --- reports

    def rows(self) -> list[list[object]]:
        """As they stand in this peer's roster entry."""
        return [row for durable in self._durables.values() if not durable.problem for row in durable.rows()]
