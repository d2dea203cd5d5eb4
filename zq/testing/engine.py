"""What takes the engine's place under a simulated peer: no thread and no socket, turns when the network says so.

Everything is done at once in the thread that calls, since only one runs at a time. The handles cannot tell the
difference; how they wait is the network's business.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, TypeVar

from zq.core.node import Node, Stream
from zq.core.outgoing import Outgoing
from zq.engine.engine import Condition
from zq.engine.wake import Waiters
from zq.errors import Closed
from zq.info import EventKind, PeerEvent, PeerInfo
from zq.testing.peer import SimulatedPeer
from zq.testing.tasks import Task

T = TypeVar("T")


class Ordered(dict[T, None]):
    """A set that is gone through in the order it was filled, so that every run is the same."""

    def add(self, item: T) -> None:
        self[item] = None

    def discard(self, item: T) -> None:
        self.pop(item, None)


class Touched:
    """Takes what callers mark; the process gets a turn for it."""

    def __init__(self, process: SimulatedPeer) -> None:
        self._process = process

    def add(self, stream: Stream) -> None:
        self._process.touch(stream)


class SimulatedEngine:
    """As `zq.engine.engine.Engine` to whoever holds a handle."""

    forked = False
    failed: BaseException | None = None
    idle: tuple[()] = ()  # it never sleeps: what is marked is seen
    is_busy = False  # nothing that can wait: all of it costs nothing here
    leader = None  # no thread can do its work

    def __init__(self, process: SimulatedPeer, thread: Callable[[Callable[[], object], str], Task]) -> None:
        self.process = process
        self.id = process.id
        self.settings = SimpleNamespace(name=process.name)
        self.node: Node = process.node
        self.thread = thread
        self.dirty = self.taken = self.handed = Touched(process)
        self.closed = False
        self.killed = False
        self.events: list[Callable[[PeerEvent], None]] = []
        self.piles: Ordered[Outgoing] = Ordered()
        self.everyone: Ordered[Waiters] = Ordered()
        self._conditions: list[Condition[Any]] = []

    # --- for handles

    def clock_at(self, time: float) -> float:
        return time - self.process.network.now + self.process.clock()

    @property
    def gone(self) -> bool:
        return self.closed

    def check(self) -> None:
        if self.closed:
            raise Closed("this process was killed" if self.killed else "the peer is closed")

    def wake(self) -> None:
        self.process.touch()

    def mark_later(self, stream: Stream) -> None:
        self.mark(stream)

    def mark(self, stream: Stream) -> None:
        self.process.touch(stream)

    def hurry(self, stream: Stream) -> None:
        self.process.touch(stream)

    def call(self, what: Callable[[], T]) -> T:
        self.check()
        self.node.now = self.process.clock()
        result = what()
        self.process.touch()
        return result

    def later(self, what: Callable[[], None]) -> None:
        what()
        self.process.touch()

    def when(self, test: Callable[[], T]) -> Condition[T]:
        condition = Condition(test)
        self.everyone.add(condition.waiters)
        self._conditions.append(condition)
        self.process.touch()
        return condition

    def forget(self, condition: Condition[Any]) -> None:
        self.everyone.discard(condition.waiters)
        if condition in self._conditions:
            self._conditions.remove(condition)

    def look_around(self) -> None:
        """Discovery looks around all the time."""

    def strangers(self) -> int:
        return 0

    def name_of(self, peer: bytes) -> str:
        remote = self.node.meeting.roster.get(peer)
        return self.process.name if remote is None else remote.name

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.process.wall(), UTC)

    # --- for the network

    def turned(self) -> None:
        """After each turn: who waits for something that holds now is woken."""
        for condition in [condition for condition in self._conditions if condition.look()]:
            self._conditions.remove(condition)
            condition.waiters.wake_all()

    def heard(self, kind: EventKind, peer: PeerInfo) -> None:
        event = PeerEvent(kind=kind, peer=peer, at=self.wall())
        for listener in list(self.events):
            listener(event)

    def end(self) -> None:
        """Nothing is taken any more, and nobody waits for anything."""
        self.closed = True
        for puller in self.node.pulling:
            for link in puller.links.values():
                link.ended = True  # whatever becomes of its messages here, nobody hears of it
        for pile in self.piles:
            pile.limit = -1
        for waiters in list(self.everyone):
            waiters.wake_all()

    def stop(self, linger: float = 0.0) -> None:
        """Leaves in good order."""
        if not self.closed:
            self.node.meeting.say_goodbye()
            self.process.network.leave(self.process)
            self.end()
