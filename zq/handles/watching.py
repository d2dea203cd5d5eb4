"""What happens to the other peers of the realm, for who watches."""

from __future__ import annotations

from collections import deque

from zq.engine.engine import Engine
from zq.engine.wake import Waiters
from zq.handles.steps import Steps, Wait, waiting
from zq.info import PeerEvent


class Watching:
    """The events of the realm for one caller of `watch`, beginning with the peers that are here."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._events: deque[PeerEvent] = deque()
        self._waiters = Waiters()
        engine.everyone.add(self._waiters)
        engine.call(self._begin)

    def _begin(self) -> None:
        node = self._engine.node
        for remote in node.meeting.roster.up():
            self._hear(PeerEvent(kind="joined", peer=remote.info(node.now), at=self._engine.wall()))
        self._engine.events.append(self._hear)

    def _hear(self, event: PeerEvent) -> None:
        self._events.append(event)
        self._waiters.wake()

    def next_steps(self, timeout: float | None) -> Steps[PeerEvent | None]:
        """None when there was none for `timeout` seconds, or the peer was closed."""
        deadline = None if timeout is None else waiting.now() + timeout
        engine = self._engine
        while not self._events:
            if engine.closed:
                if engine.failed is not None:
                    engine.check()
                return None
            woken = yield Wait(self._waiters, lambda: self._events or engine.closed, deadline)
            if not woken and not self._events:
                return None
        return self._events.popleft()

    def close(self) -> None:
        self._engine.everyone.discard(self._waiters)
        self._engine.later(
            lambda: self._engine.events.remove(self._hear) if self._hear in self._engine.events else None
        )
