"""The engine: one thread that owns every socket of a peer and runs its node.

A turn: frames are read into the node, what other threads asked for is done (`call`), the node does what is due, and
whoever waited for a condition is woken if it holds. Then the engine sleeps in its poller until a socket, a deadline
or the bell wakes it. All this is the thread's work, or that of a caller who waits: see `leader`.

Callers on the hot path only append to a pile or a queue, mark the stream in `dirty`, and ring the bell if the engine
is idle. The order matters: the engine sets `idle`, then looks once more; a caller marks, then looks at `idle`.

An exception that leaves the loop is a bug: the context is destroyed (libzmq's own thread would go on answering
heartbeats for a dead peer), every waiter is woken and every handle raises EngineFailed.

It is longer than most: what callers may do from any thread and what the thread does with it are one protocol.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Generic, TypeVar

from zq.core.meeting import Card
from zq.core.node import Node, Stream
from zq.core.outgoing import Outgoing
from zq.core.port import Kind
from zq.engine import leaving
from zq.engine.doors import open_doors, realm_lock, realm_tag
from zq.engine.leader import CallerToken, Leader
from zq.engine.lookout import Lookout
from zq.engine.pace import BUSY, Pace
from zq.engine.sockets import Events, Sockets
from zq.engine.wake import Bell, ThreadToken, Waiters
from zq.errors import Closed, EngineFailed, Error, Forked
from zq.info import EventKind, PeerEvent, PeerInfo
from zq.logs import Logger
from zq.options import Settings
from zq.wire.batch import Parts

log = Logger("zq.engine")

SETTLE = 0.05  # s that small messages handed out may wait for being counted, while there is nothing else to do
SWEEP = 1.0  # s between looks at all piles, for a caller that was interrupted before it could mark its stream
MANY = 16  # groups of waiters; with more nobody looks whether one of them waits
LINGER = 0.5  # s that ZeroMQ may spend on sending the last frames (goodbyes)
_AWAKE: list[bool] = []  # the flag of an engine that does not sleep; always empty
_TOKENS = attrgetter("tokens")
T = TypeVar("T")


class Condition(Generic[T]):
    """Something that will hold some day: looked at after each turn until it does."""

    __slots__ = ("error", "holds", "test", "value", "waiters")

    def __init__(self, test: Callable[[], T]) -> None:
        self.test = test
        self.holds = False
        self.value: T | None = None
        self.error: Exception | None = None
        self.waiters = Waiters()

    def look(self) -> bool:
        try:
            self.value = self.test()
        except Error as error:
            self.error = error
        self.holds = bool(self.value) or self.error is not None
        return self.holds


class Engine(Events):
    """One peer's engine. `start` returns when its doors are open; after that `call` and the piles are its interface."""

    def __init__(self, settings: Settings, id: bytes) -> None:
        self.settings = settings
        self.id = id
        self.node: Node
        self.dirty: set[Stream] = set()
        self.taken: set[Stream] = set()  # from which callers took something: the next full turn is early enough
        self.handed: set[Stream] = set()  # the same of topics, where that is little: SETTLE is early enough
        self._settle_at = math.inf
        self.idle = _AWAKE
        self.failed: BaseException | None = None
        self.closed = False
        self.over = False  # there is nothing to lead any more
        self.gone = False  # `check` raises
        self.urgent = False  # a caller has no room and waits: no time to let more pile up
        self._sweep_at = 0.0
        self._pace = Pace()
        self.forked = False
        self.events: list[Callable[[PeerEvent], None]] = []  # of those who watch
        self.piles: set[Outgoing] = set()  # all that are open, to shut them at once
        self.everyone: set[Waiters] = set()  # all that are in use, to wake them at once
        self._calls: deque[Callable[[], None]] = deque()
        self._conditions: list[Condition[Any]] = []
        self._bell = Bell()
        self.leader = Leader(self, self._bell.ring)
        self._started = ThreadToken()
        self._start_error: BaseException | None = None
        self._stopping: float | None = None  # linger
        self._lookout: Lookout | None = None
        self._sockets: Sockets | None = None
        self._thread = threading.Thread(target=self._run, name=f"zq-{self.id.hex()[:8]}", daemon=True)

    # --- for callers

    def start(self, timeout: float | None) -> None:
        """Raises what went wrong with opening."""
        self._thread.start()
        if not self._started.wait(timeout):
            self._stopping = 0.0
            self.over = True
            self._bell.ring()
            raise EngineFailed("the engine did not start in time")
        if self._start_error is not None:
            self._thread.join()
            raise self._start_error
        leaving.watch_over(self)

    def wake(self) -> None:
        """Somebody is to look: who leads, or if nobody does this thread or the engine's.

        Rings, then clears the flag: an interrupt between the two rings twice, never not at all. Each sleep has a
        flag of its own, so that a caller who is late clears that of the sleep it has ended, and never that of the
        next one, into which nobody has rung.
        """
        sleep = self.idle
        if not self.leader.nobody:
            self._bell.ring()
        elif not self.leader.act():
            self.leader.call()
        sleep.clear()

    def mark(self, stream: Stream) -> None:
        """`stream` has something for the engine."""
        self.dirty.add(stream)
        if self.idle:
            self.wake()

    def mark_later(self, stream: Stream) -> None:
        """`stream` has something for the engine that can wait until somebody leads: PARK at the most."""
        self.dirty.add(stream)  # first: whoever takes the lead from here on sees it
        if self.idle and not self.leader.nobody:
            self.wake()

    def hurry(self, stream: Stream) -> None:
        """`stream` has no room, and a caller is about to wait for some: it leads, or whoever does looks at once."""
        self.dirty.add(stream)
        self.urgent = True
        if not self.leader.nobody:
            self._bell.ring()

    @property
    def is_busy(self) -> bool:
        """Whether callers had left or settled many messages when last looked at."""
        return self.node.moved >= BUSY

    def check(self) -> None:
        """Raises what every handle raises when the engine is not there."""
        if self.forked:
            raise Forked("this peer was opened before the fork; open a new one in this process")
        if self.failed is not None:
            raise EngineFailed(f"the engine has failed: {self.failed!r}") from self.failed
        if self.closed:
            raise Closed("the peer is closed")

    def later(self, what: Callable[[], None]) -> None:
        """Does it in the engine's thread, some time soon."""
        self._calls.append(what)
        self.wake()

    def call(self, what: Callable[[], T]) -> T:
        """Does it in the engine's thread and returns what it returns; a few milliseconds at the most."""
        self.check()
        if self.leader.is_me():
            return what()
        done = ThreadToken()
        result: list[T] = []
        errors: list[BaseException] = []

        def perform() -> None:
            try:
                result.append(what())
            except Error as error:
                errors.append(error)
            finally:
                done.wake()

        self.later(perform)
        while not done.wait(1.0):
            self.check()  # it may have ended without looking at its calls
        if errors:
            raise errors[0]
        if not result:
            self.check()
        return result[0]

    def when(self, test: Callable[[], T]) -> Condition[T]:
        """A condition to wait for; `test` is called in the engine's thread, at once and after each turn."""
        condition = Condition(test)
        self.everyone.add(condition.waiters)
        self.later(lambda: self._conditions.append(condition))
        return condition

    @staticmethod
    def thread(work: Callable[[], None], name: str) -> threading.Thread:
        """A thread that uses this peer, not started yet."""
        return threading.Thread(target=work, name=name)

    @staticmethod
    def clock_at(time: float) -> float:
        """What this peer's clock shows at a time on that of its callers, which is the same one."""
        return time

    def look_around(self) -> None:
        """Engine's thread: somebody may have subscribed whom we have not heard of yet, and we are about to leave."""
        if self._lookout is not None:
            self._lookout.look_again(self.node.now)

    def strangers(self) -> int:
        """Engine's thread: peers of other realms that discovery has come across."""
        return 0 if self._lookout is None else self._lookout.strangers

    @property
    def lookout(self) -> Lookout:
        """Engine's thread, while it runs."""
        assert self._lookout is not None
        return self._lookout

    def forget(self, condition: Condition[Any]) -> None:
        self.everyone.discard(condition.waiters)
        self.later(lambda: self._conditions.remove(condition) if condition in self._conditions else None)

    def stop(self, linger: float = LINGER) -> None:
        """Ends the thread and waits for it; idempotent."""
        if self._stopping is None:
            self._stopping = linger
        self.over = True
        self._bell.ring()
        self.leader.call()
        if self._thread.ident is not None and threading.current_thread() is not self._thread:
            self._thread.join()
        leaving.forget(self)

    # --- the thread

    def _run(self) -> None:
        try:
            self._open()
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that waits for the start
            self._start_error = error
            self._close_discovery()
            if self._sockets is not None:
                self._sockets.destroy()
            self._bell.close()
            self.closed = self.gone = True
            self._started.wake()
            return
        self._started.wake()
        try:
            self.leader.run()
            if self.failed is None:
                self._end()
        except BaseException as error:  # noqa: BLE001 - whatever it is, nobody else will hear of it
            self.fail(error)
        finally:
            self.leader.lock.release()

    def _open(self) -> None:
        settings = self.settings
        lock = realm_lock(settings)
        self._lookout = Lookout(settings, self.later, lock)
        self._sockets = Sockets(self, self._bell, lock)
        directory = self._lookout.directory
        assert directory is not None or settings.networked
        doors = open_doors(self._sockets.listeners, settings, self.id, directory)  # type: ignore[arg-type]
        self._sockets.listeners.prove_closed(doors.rows)
        card = Card(
            id=self.id,
            tag=realm_tag(settings),
            name=settings.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            endpoints=doors.rows,
        )
        self.node = Node(card, self._sockets, os.urandom, self._on_event, self._on_trouble)
        self.node.topics.clock = time.monotonic
        self.node.turned_away = self._sockets.listeners.turned_away
        now = self.node.now = time.monotonic()
        self._lookout.start(self.node, doors, self._sockets, now)
        self.node.turn(now, time.time())

    # --- what there is to lead: see zq.engine.leader

    def read(self, token: CallerToken | None) -> None:
        assert self._sockets is not None
        self.idle = _AWAKE
        self.node.now = time.monotonic()
        self._sockets.read(token)

    def serve(self) -> None:
        dirty, now = self.dirty, time.monotonic()
        if self._calls or now < self._pace.piling_until:
            self.turn()
            return
        self.idle = _AWAKE
        node = self.node
        node.now = now
        streams: list[Stream] = []
        while dirty:
            streams.append(dirty.pop())
        node.serve(streams, now, time.time())

    def turn(self) -> None:
        node, dirty, calls = self.node, self.dirty, self._calls
        self.idle = _AWAKE
        now = node.now = time.monotonic()
        streams: list[Stream] = []
        if dirty and (self.urgent or now >= self._pace.piling_until):
            self.urgent = False
            while dirty:
                streams.append(dirty.pop())
        due = min(node.timers.soonest, self._settle_at, self._sweep_at)
        if now < due and not (streams or calls or self.taken or self._conditions or node.has_rest()):
            self._pace.heard = False
            return  # as with nearly every turn of who is asked and answers at once
        while calls:
            calls.popleft()()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP
            self._sweep()
        while self.taken:
            streams.append(self.taken.pop())
        if now >= self._settle_at:
            self._settle_at = math.inf
            while self.handed:
                streams.append(self.handed.pop())
        node.turn(now, time.time(), streams)
        if self._conditions:
            self._look_at_conditions()
        self._pace.turned(node.moved, now, time.monotonic())

    def sleep(self, until: float | None, *, awake: bool = False) -> None:
        """Until something has to be done, or that time. Sets `idle` first, then looks once more."""
        sockets = self._sockets
        assert sockets is not None
        now = time.monotonic()
        if self.handed and self._settle_at == math.inf:
            self._settle_at = now + SETTLE
        if self._calls or self.taken or sockets.has_more(soon=awake):
            sockets.wait(0)
            return
        until = min(self.node.timers.soonest, self._settle_at, math.inf if until is None else until)
        piling = self._pace.piling_until
        if now < piling and not self.urgent:
            sockets.wait(max(min(piling, until) - now, 0.0))
            return
        self.idle = [True]
        if self.dirty or self._calls or self.over:
            sockets.wait(0)
        else:
            sockets.wait(None if until == math.inf else max(until - now, 0.0), awake=awake)
        self.idle = _AWAKE

    def rest(self) -> bool:
        if time.monotonic() < self._pace.piling_until:  # callers need not ring: the thread looks after a while
            return not (self._calls or self.over or self._somebody_waits())
        self.idle = [True]
        return not (self.dirty or self._calls or self.over or self._somebody_waits())

    def _somebody_waits(self) -> bool:
        """Perhaps, where there are many who might."""
        everyone = list(self.everyone)
        return len(everyone) > MANY or any(map(_TOKENS, everyone))

    def _look_at_conditions(self) -> None:
        """Those that hold wake their waiters and are done with."""
        for condition in [condition for condition in self._conditions if condition.look()]:
            self._conditions.remove(condition)
            condition.waiters.wake_all()

    def _sweep(self) -> None:
        node = self.node
        self.dirty.update(topic for topic in node.topics if topic.outgoing.items)
        self.dirty.update(outbox for outbox in node.pushing if outbox.outgoing.items)
        self.dirty.update(intake for intake in node.spooling.intakes() if intake.outgoing.items)
        self.dirty.update(subscription for subscription in node.receptions if subscription.inbox.taken)
        self.dirty.update(node.pulling)
        self.dirty.update(replier for replier in node.replying if replier.answers)
        if node.requesting.pile:
            self.dirty.add(node.requesting)

    def _end(self) -> None:
        sockets = self._sockets
        assert sockets is not None
        self.node.meeting.say_goodbye()
        self._close_discovery()
        sockets.close(self._stopping or 0.0)
        self._shut()
        self._bell.close()

    def _close_discovery(self) -> None:
        if self._lookout is not None:
            self._lookout.close()

    def _shut(self) -> None:
        """Nothing is taken any more, and nobody waits for anything."""
        self.closed = self.gone = True
        self.idle = _AWAKE
        for pile in list(self.piles):
            pile.limit = -1
        for waiters in list(self.everyone):
            waiters.wake_all()
        while self._calls:
            self._calls.popleft()()

    def fail(self, error: BaseException) -> None:
        """Takes the peer out of its realm, and whoever uses it raises EngineFailed."""
        self.failed = error
        self.over = self.gone = True
        log.critical("the engine of peer %s has failed; it is out of its realm", self.settings.name, exc_info=error)
        with contextlib.suppress(Exception):  # the socket that failed may fail again
            assert self._sockets is not None
            self._sockets.destroy()
        with contextlib.suppress(Exception):
            self._close_discovery()
        self._shut()

    # --- events of the sockets

    def connected(self, connection: int) -> None:
        self.node.connected(connection, self.node.now)

    def broken(self, connection: int) -> None:
        self.node.broken(connection, self.node.now)

    def refused(self, connection: int) -> None:
        self.node.refused(connection, self.node.now)

    def received(self, kind: Kind, parts: Parts, connection: int | None) -> bool:
        self._pace.heard = True
        # Not the turn's time: a fence may be younger, and would then make a subscription look younger than it is.
        return self.node.received(kind, parts, time.monotonic(), connection)

    def offended(self, connection: int) -> None:
        self.node.offended(connection, self.node.now)

    def fenced(self, frame: bytes) -> None:
        self.node.fenced(frame, self.node.now)

    # --- events of the node

    def _on_event(self, kind: EventKind, peer: PeerInfo) -> None:
        log.info("%s: %.200r (%s)", kind, peer.name, peer.id.hex()[:8])  # its name: it may be anything
        if self.events:
            event = PeerEvent(kind=kind, peer=peer, at=self.wall())
            for listener in self.events:
                listener(event)

    @staticmethod
    def wall() -> datetime:
        return datetime.now(UTC)

    def name_of(self, peer: bytes) -> str:
        """As listings call it."""
        remote = self.node.meeting.roster.get(peer)
        return self.settings.name if remote is None else remote.name

    @staticmethod
    def _on_trouble(what: str) -> None:
        log.warning("%s", what)

    # --- fork

    def abandon(self) -> None:
        """In a forked child: the thread is not here; what it held must not stay open."""
        self.forked = self.gone = True
        self.leader.abandon()
        for pile in list(self.piles):
            pile.limit = -1
        if self._lookout is not None:
            self._lookout.abandon()

    def endpoints(self) -> Iterator[str]:
        """Of every connection and listener."""
        if self._sockets is not None:
            yield from list(self._sockets.endpoints())
        for remote in self.node.meeting.roster:
            for row in remote.endpoints:
                yield from row
            yield from remote.mailboxes
