"""A peer's life: its settings, its engine, what is open, and the order in which it leaves."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zq.core.intake import Intake
from zq.core.meeting import ANSWER
from zq.core.puller import Puller
from zq.core.subscription import Subscription
from zq.core.timers import LATE
from zq.engine.engine import Engine
from zq.errors import Closed, Error, Undelivered
from zq.handles.bound import Rest
from zq.handles.incoming import Receiver
from zq.handles.opening import Opening
from zq.handles.outgoing import Arrival, Sender, Stream, receipt_of
from zq.handles.replying import ReplierCore
from zq.handles.spool import SpoolCore
from zq.handles.steps import Steps, deadline_after, until, waiting
from zq.options import Settings, load

if TYPE_CHECKING:  # with all that writes to a disk: few programs need it
    from zq.handles.outbox import OutboxDirectory

SYNC = 0.5  # s that a spool has at least to end in order


class Life:
    """Thread-safe but for opening and closing."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings: Settings = self._load(settings)
        self.id: bytes = os.urandom(16)
        self.name: str = self._settings.name
        self.realm: str = self._settings.realm
        self.key_file: Path | None = self._settings.key_file
        self._engine: Engine | None = None
        self._lock = threading.RLock()  # guards the tables below
        self._topics: dict[str, Stream] = {}
        self._queues: dict[str, Stream] = {}
        self._receivers: list[Receiver] = []
        self._spools: list[SpoolCore] = []
        self._outboxes: dict[Path, OutboxDirectory] = {}
        self._disks = threading.RLock()  # held while an outbox is opened; taken before the other, and never in a loop
        self._openings: list[Opening[Any]] = []  # of an event loop's
        self._ending: list[OutboxDirectory] = []  # that nobody pushes to any more, and are to be closed
        self._shortcuts: dict[tuple[type[Sender], str], Any] = {}

    @staticmethod
    def _load(settings: Mapping[str, Any]) -> Settings:
        return load(**settings)

    # --- life

    def _running(self) -> Engine:
        engine = self._engine
        if engine is None:
            raise Closed("the peer is not open yet; use `with`, or call open()")
        engine.check()
        return engine

    def _new_engine(self) -> Engine:
        if self._engine is not None:
            raise Closed("a peer is opened once; make a new one")
        if waiting.simulated:
            raise Error("a simulated network is open in this thread; its peers come from network.peer()")
        self._engine = Engine(self._settings, self.id)
        return self._engine

    def _close_steps(self, timeout: float | None) -> Steps[None]:
        """Stops receiving, waits for what was sent to be confirmed, leaves. The engine is stopped by the caller."""
        deadline = deadline_after(timeout)
        try:
            yield from self._leave_steps(timeout)
        finally:
            with self._lock:
                openings, self._openings = self._openings, []
                spools, self._spools = self._spools, []
                boxes, self._outboxes, self._ending = [*self._outboxes.values(), *self._ending], {}, []
            for opening in openings:
                opening.give_up()
            for box in boxes:
                yield from box._close_steps(None if deadline is None else max(deadline - time.monotonic(), SYNC))
            for spool in spools:  # last: what was sent here may go there
                yield from spool._close_steps(None if deadline is None else max(deadline - time.monotonic(), SYNC))

    def _leave_steps(self, timeout: float | None) -> Steps[None]:
        engine = self._engine
        deadline = deadline_after(timeout)
        if engine is None or engine.closed or engine.forked or engine.failed:
            return
        with self._lock:
            receivers, self._receivers = self._receivers, []
            streams = [*self._topics.values(), *self._queues.values()]
        pullers = [receiver._core for receiver in receivers if isinstance(receiver._core, Puller)]
        for receiver in receivers:
            receiver._shut()
        node = engine.node

        def leave_queues() -> None:
            for receiver in receivers:
                if isinstance(receiver._core, Puller):
                    node.stop_pulling(receiver._core, node.now)
                elif isinstance(receiver._core, Subscription):
                    node.unsubscribe(receiver._core, node.now)
                elif isinstance(receiver, ReplierCore):
                    node.stop_replying(receiver._core, node.now)

        engine.call(leave_queues)
        if self._topics:
            yield from hear_everyone(engine, deadline)
        for stream in streams:
            engine.mark(stream.core)
        rest = Rest(engine, (stream.core for stream in streams if not isinstance(stream.core, Intake)))
        arrivals = [Arrival(engine, stream.core, queues=False) for stream in self._topics.values()]  # type: ignore[arg-type]
        receipts = [receipt_of(stream, leaving=True) for stream in self._queues.values()]

        def all_done() -> bool:
            done = [arrival.everywhere() for arrival in arrivals]
            done += [receipt.complete() for receipt in receipts]
            done += [node.pulling.is_closed(puller) for puller in pullers]
            complete = all(done) and node.replying.is_flushed()
            return complete and rest.complete()  # last: what was piled up is with the queues only then

        if (yield from until(engine, all_done, deadline)):
            return

        def what_is_left() -> list[Undelivered]:
            left = [arrival.undelivered() for arrival in arrivals if not arrival.everywhere()]
            left += [receipt.undelivered() for receipt in receipts if not receipt.complete()]
            return left + rest.undelivered()

        left = [part for part in engine.call(what_is_left) if part.count > 0]
        if left:
            raise Undelivered(
                sum(part.count for part in left),
                [id for part in left for id in part.ids],
                "; ".join(part.waiting_for for part in left),
            )

    def __repr__(self) -> str:
        engine = self._engine
        if engine is None:
            state = "not open"
        elif engine.failed is not None:
            state = f"failed: {engine.failed!r:.80}"
        elif engine.closed or engine.forked:
            state = "closed" if engine.closed else "of another process"
        else:
            state = f"{len(engine.node.meeting.roster.up())} peers"
        return f"<{type(self).__name__} {self.name} in {self.realm}: {state}>"


def hear_everyone(engine: Engine, deadline: float | None) -> Steps[None]:
    """A publisher is about to leave: whoever has subscribed before this call is known after it.

    Who does not answer within a second is not waited for, unless it was we who stood still meanwhile.
    """
    node = engine.node

    def ask() -> int:
        engine.look_around()
        return node.announcement.ask_for_entries(node.now)

    version = engine.call(ask)
    for _ in range(2):
        patience = waiting.now() + ANSWER
        over = patience if deadline is None else min(deadline, patience)
        heard = yield from until(engine, lambda: node.is_settled() and node.announcement.has_entries(version), over)
        if heard or waiting.now() < over + LATE:
            return
