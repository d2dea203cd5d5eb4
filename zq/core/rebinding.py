"""Bound queues of a spool: what their services have named is announced while the services are away.

A queue that pullers bind to topics, and that is spooled here, stays bound without them: this peer announces a binding
of its own, with the filters that the last of them had named, for as long as the spool is open, and again when it is
started again. So publishers that have never met the service hold for it as well, and what they hold goes to the spool.

Events:
- entry, gone: the filters are those that all pullers who are there name; while nobody is there they stay as they were.
- unbind: a service says that its queue need not be bound any more, and no other puller binds it: then neither do we,
  and say so for a while, so that publishers forget it at once.
- binding: a publisher asks when the binding came into being.

A crash loses nothing that was written down; a binding that a service had announced just before it is announced by the
service itself, if it lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zq.core.timers import Timers
from zq.record import dataclass, field
from zq.wire.frames import Binding, Entry, Since

TELL_UNBOUND = 10.0  # s for which it is told that a queue is bound no more: longer than any entry takes
Filters = tuple[str, ...]


@dataclass(eq=False, slots=True)
class Rebound:
    """One queue."""

    queue: str
    filters: Filters  # sorted; none: it is not bound
    save: Callable[[Filters], None]
    id: bytes  # of this binding, as if it were a puller: another one when the filters change
    created: float  # this peer's clock
    named: dict[bytes, set[str]] = field(default_factory=dict)  # by peer: what its pullers name


class Rebinding:
    """All spooled queues of this peer. `changed` hears when the roster entry is to be told again."""

    def __init__(self, timers: Timers, draw: Callable[[int], bytes], changed: Callable[[], None]) -> None:
        self._timers = timers
        self._draw = draw
        self._changed = changed
        self._queues: dict[str, Rebound] = {}
        self._unbound: dict[str, None] = {}
        self._rows: dict[bytes, dict[str, set[str]]] = {}  # by peer and queue: what its pullers name

    def open(self, queue: str, filters: Filters, save: Callable[[Filters], None], now: float) -> None:
        """`filters` are those it was bound to when `save` was last called."""
        rebound = Rebound(queue, filters, save, self._draw(16), now)
        self._queues[queue] = rebound
        for peer, rows in self._rows.items():
            if queue in rows:
                rebound.named[peer] = rows[queue]
        self._unite(rebound, now)
        self._changed()

    def close(self, queue: str) -> None:
        if self._queues.pop(queue, None) is not None:
            self._changed()

    # --- services coming and going

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        pullers = {(queue, puller) for queue, puller in entry.pulls}  # who only announces for others is none
        rows: dict[str, set[str]] = {}
        for queue, puller, filters in entry.binds:
            if (queue, puller) in pullers:
                rows.setdefault(queue, set()).update(filters)
        self._rows[peer] = rows
        for rebound in self._queues.values():
            self._note(rebound, peer, rows.get(rebound.queue), now)
            if rebound.queue in entry.unbinds and rebound.filters and not rebound.named:
                self._unbind(rebound, now)

    def on_gone(self, peer: bytes, now: float) -> None:
        self._rows.pop(peer, None)
        for rebound in self._queues.values():
            self._note(rebound, peer, None, now)

    def _note(self, rebound: Rebound, peer: bytes, filters: set[str] | None, now: float) -> None:
        if filters == rebound.named.get(peer):
            return
        if filters:
            rebound.named[peer] = filters
        else:
            rebound.named.pop(peer, None)
        self._unite(rebound, now)

    def _unite(self, rebound: Rebound, now: float) -> None:
        filters = tuple(sorted(set().union(*rebound.named.values())))
        if filters and filters != rebound.filters:
            self._unbound.pop(rebound.queue, None)
            self._set(rebound, filters, now)

    def _unbind(self, rebound: Rebound, now: float) -> None:
        self._unbound[rebound.queue] = None
        self._timers.set((self, rebound.queue), now + TELL_UNBOUND, lambda when: self._forget(rebound.queue))
        self._set(rebound, (), now)

    def _forget(self, queue: str) -> None:
        if self._unbound.pop(queue, "") is None:
            self._changed()

    def _set(self, rebound: Rebound, filters: Filters, now: float) -> None:
        rebound.filters, rebound.id, rebound.created = filters, self._draw(16), now
        rebound.save(filters)
        self._changed()

    def on_binding(self, question: Binding, now: float) -> Since | None:
        """A publisher asks when a binding came into being, by its clock. None: it is not ours."""
        rebound = self._queues.get(question.queue)
        if rebound is None or rebound.id != question.puller:
            return None
        return Since(question.queue, question.puller, question.clock - (now - rebound.created))

    # --- as they stand in this peer's roster entry

    def binds(self) -> Iterator[list[object]]:
        for rebound in self._queues.values():
            if rebound.filters:
                yield [rebound.queue, rebound.id, list(rebound.filters)]

    def unbinds(self) -> list[str]:
        return list(self._unbound)
