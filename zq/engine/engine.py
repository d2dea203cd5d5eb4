"""The engine: one thread that owns every socket of a peer and runs its node.

A turn: what other threads asked for is done (`call`), frames are read into the node, the node does what is due, and
whoever waited for a condition is woken if it holds. Then the engine sleeps in its poller until a socket, a deadline
or the bell wakes it. Callers on the hot path only append to a pile or a queue, mark the stream in `dirty`, and ring
the bell if the engine is idle. The order matters: the engine sets `idle`, then looks once more; a caller marks, then
looks at `idle`.

An exception that leaves the loop is a bug: the context is destroyed (libzmq's own thread would go on answering
heartbeats for a dead peer), every waiter is woken and every handle raises EngineFailed.

After a fork the child holds descriptors of the parent's connections, which would keep a dead parent looking alive:
they are closed there, and every use raises Forked. A process that exits without closing its peer drains for at most
a second and says on stderr what nobody has confirmed.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from zq.core.meeting import Card
from zq.core.node import Node, Stream
from zq.core.outgoing import Outgoing
from zq.core.port import Kind
from zq.core.topics import Topic
from zq.engine.doors import open_doors, realm_lock, realm_tag
from zq.engine.leader import CallerToken, Leader
from zq.engine.lookout import Lookout
from zq.engine.sockets import Events, Sockets
from zq.engine.wake import Bell, ThreadToken, Waiters
from zq.errors import Closed, EngineFailed, Error, Forked
from zq.info import EventKind, PeerEvent, PeerInfo
from zq.options import Settings
from zq.wire.batch import Parts

log = logging.getLogger("zq.engine")

EXIT_DRAIN = 1.0  # s that a process which did not close its peer waits at exit: unexpected, so short
BUSY = 8  # messages taken or settled in one turn from which callers are taken to be busy
RINGS, RINGS_WITHIN = 8, 60e-6  # so are they when they ring so often in a row, each so soon (s) after the last turn
PILE_UP = 0.001  # s that the engine then lets more pile up, and callers need not ring; epoll counts in ms
LOOK_AT_TAKEN = 0.002  # s between looks at what callers have taken, unless it is much
SWEEP = 1.0  # s between looks at all piles, for a caller that was interrupted before it could mark its stream
MANY = 16  # groups of waiters; with more nobody looks whether one of them waits
LINGER = 0.5  # s that ZeroMQ may spend on sending the last frames (goodbyes)
_AWAKE: list[bool] = []  # the flag of an engine that does not sleep; always empty
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
        self.taken: set[Stream] = (
            set()
        )  # subscriptions from which callers took something: the next turn is early enough
        self.idle = _AWAKE
        self.failed: BaseException | None = None
        self.closed = False
        self.urgent = False  # a caller has no room and waits: no time to let more pile up
        self._heard = False  # whether frames came in since the last turn
        self._rang = False  # whether somebody ended the last sleep by ringing
        self._rings = 0  # how often in a row so
        self._turned = 0.0  # when the last turn ended
        self._swept = self._look_at_taken = 0.0
        self._due = False  # a turn is due, whatever else happens
        self._deadline: float | None = None  # of the node
        self._piling_until = 0.0  # callers are busy: what they leave is let pile up until then
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
            self._bell.ring()
            raise EngineFailed("the engine did not start in time")
        if self._start_error is not None:
            self._thread.join()
            raise self._start_error
        _engines.add(self)

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

    def look_around(self) -> None:
        """Engine's thread: somebody may have subscribed whom we have not heard of yet, and we are about to leave."""
        if self._lookout is not None:
            self._lookout.look_again(self.node.now)

    def strangers(self) -> int:
        """Engine's thread: peers of other realms that discovery has come across."""
        return 0 if self._lookout is None else self._lookout.strangers

    def forget(self, condition: Condition[Any]) -> None:
        self.everyone.discard(condition.waiters)
        self.later(lambda: self._conditions.remove(condition) if condition in self._conditions else None)

    def stop(self, linger: float = LINGER) -> None:
        """Ends the thread and waits for it; idempotent."""
        if self._stopping is None:
            self._stopping = linger
        self._bell.ring()
        self.leader.call()
        if self._thread.ident is not None and threading.current_thread() is not self._thread:
            self._thread.join()
        _engines.discard(self)

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
            self.closed = True
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
        doors = open_doors(self._sockets, settings, self.id, directory)  # type: ignore[arg-type]
        self._sockets.prove_closed(doors.rows)
        card = Card(
            id=self.id,
            tag=realm_tag(settings),
            name=settings.name,
            host=socket.gethostname(),
            pid=os.getpid(),
            endpoints=doors.rows,
        )
        self.node = Node(card, self._sockets, secrets.token_bytes, self._on_event, self._on_trouble)
        self.node.topics.clock = time.monotonic
        now = self.node.now = time.monotonic()
        self._lookout.start(self.node, doors, self._sockets, now)
        self.node.turn(now, time.time())

    # --- what there is to lead: see zq.engine.leader

    def read(self, token: CallerToken | None) -> None:
        assert self._sockets is not None
        self.idle = _AWAKE
        self.node.now = time.monotonic()
        self._sockets.read(token)
        self._due = True

    def turn(self, *, briefly: bool = False) -> None:
        node, dirty, calls = self.node, self.dirty, self._calls
        self.idle = _AWAKE
        now = node.now = time.monotonic()
        streams: list[Stream] = []
        if self.urgent or now >= self._piling_until:
            self.urgent = False
            while dirty:
                streams.append(dirty.pop())
        if briefly and not calls:
            node.serve(streams, now, time.time())
            self._due = True
            return
        while calls:
            calls.popleft()()
        if now - self._swept >= SWEEP:
            self._swept = now
            self._sweep()
        if self.taken and now >= self._look_at_taken:
            self._look_at_taken = now + LOOK_AT_TAKEN
            while self.taken:
                streams.append(self.taken.pop())
        self._due = False
        self._deadline = node.turn(now, time.time(), streams)
        if self._conditions:
            self._look_at_conditions()
        self._pace()

    def _pace(self) -> None:
        """Whether callers are so busy that more will follow at once."""
        now = time.monotonic()
        moved = self.node.moved
        # A message a turn, in a hurry, and nothing came in that it could be an answer to: more will follow.
        hurried = self._rang and moved and not self._heard and now - self._turned < RINGS_WITHIN
        self._rings = self._rings + 1 if hurried else 0
        if moved >= BUSY or self._rings >= RINGS:
            self._piling_until = now + PILE_UP
        self._heard = self._rang = False
        self._turned = now

    def sleep(self, until: float | None, *, awake: bool = False) -> None:
        """Until something has to be done, or that time. Sets `idle` first, then looks once more."""
        sockets = self._sockets
        assert sockets is not None
        if self._calls or self._due or sockets.has_more():
            self._rang = sockets.wait(0)
            return
        now = time.monotonic()
        if self._deadline is not None and (until is None or self._deadline < until):
            until = self._deadline
        if now < self._piling_until:
            sockets.wait(max((self._piling_until if until is None else min(self._piling_until, until)) - now, 0.0))
            return
        self.idle = [True]
        if self.dirty or self._calls or self.is_over():
            sockets.wait(0)
        else:
            self._rang = sockets.wait(None if until is None else max(until - now, 0.0), awake=awake)
        self.idle = _AWAKE

    def rest(self) -> bool:
        self.idle = [True]
        return not (self.dirty or self._calls or self.is_over() or self._somebody_waits())

    def is_over(self) -> bool:
        return self._stopping is not None or self.failed is not None

    def _somebody_waits(self) -> bool:
        """Perhaps, where there are many who might."""
        everyone = list(self.everyone)
        return len(everyone) > MANY or any(everyone)

    def _look_at_conditions(self) -> None:
        """Those that hold wake their waiters and are done with."""
        for condition in [condition for condition in self._conditions if condition.look()]:
            self._conditions.remove(condition)
            condition.waiters.wake_all()

    def _sweep(self) -> None:
        node = self.node
        self.dirty.update(topic for topic in node.topics if topic.outgoing.items)
        self.dirty.update(outbox for outbox in node.pushing if outbox.outgoing.items)
        self.dirty.update(subscription for subscription in node.receptions if subscription.inbox.taken)
        self.dirty.update(node.pulling)

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
        self.closed = True
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

    def received(self, kind: Kind, parts: Parts, connection: int | None) -> None:
        self._heard = True
        # Not the turn's time: a fence may be younger, and would then make a subscription look younger than it is.
        self.node.received(kind, parts, time.monotonic(), connection)

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

    # --- exit and fork

    def unconfirmed(self) -> int:
        """Messages that nobody has confirmed, those in the piles included."""
        count = sum(len(outbox.outgoing.items) + outbox.held for outbox in self.node.pushing)
        for topic in self.node.topics:
            count += len(topic.outgoing.items)
            arrived = min((follower.arrived for follower in topic.followers.values()), default=topic.head)
            count += topic.head - arrived
        return count

    def drain_at_exit(self) -> None:
        """The program forgot to close: confirm what can be in a second, and say what was not."""
        name = self.settings.name
        warnings.warn(f"peer {name} was not closed", ResourceWarning, stacklevel=1)

        node = self.node
        asked: set[Topic] = set()

        def confirmed() -> bool:
            if any(topic.head or topic.outgoing.items for topic in node.topics) and not node.is_settled():
                return False  # whoever wants it may still be on the way
            for topic in node.topics:
                if topic not in asked and not topic.arrived_everywhere(topic.head):
                    asked.add(topic)
                    node.topics.announce_head(topic, node.now)
            return self.unconfirmed() == 0

        try:
            condition = self.when(confirmed)
            token = ThreadToken()
            condition.waiters.add(token)
            if not condition.holds:
                token.wait(EXIT_DRAIN)
            left = 0 if condition.holds else self.call(self.unconfirmed)
            self.stop(linger=0.1)
        except (Closed, EngineFailed):
            return
        if left:
            print(f"zq: peer {name} was not closed: {left} messages not confirmed", file=sys.stderr)  # noqa: T201

    def abandon(self) -> None:
        """In a forked child: the thread is not here; what it held must not stay open."""
        self.forked = True
        self.leader.abandon()
        for pile in list(self.piles):
            pile.limit = -1
        if self._lookout is not None:
            self._lookout.abandon()
        ours = {_plain(endpoint) for endpoint in self._all_endpoints()}
        for fd, names in _open_sockets():
            if names & ours:
                os.close(fd)

    def _all_endpoints(self) -> Iterator[str]:
        if self._sockets is not None:
            yield from list(self._sockets.endpoints())
        for remote in self.node.meeting.roster:
            for row in remote.endpoints:
                yield from row
            yield from remote.mailboxes


def _plain(endpoint: str) -> str:
    return endpoint.split("://", 1)[-1]


def _open_sockets() -> Iterator[tuple[int, set[str]]]:
    """The sockets among this process's descriptors with the names of both their ends."""
    try:
        fds = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - names are all that is wanted
    except OSError:
        fds = list(range(3, 1024))  # no /proc: those that a program usually has
    for fd in fds:
        try:
            duplicate = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue  # no socket
        with duplicate:
            names: set[str] = set()
            for ask in (duplicate.getsockname, duplicate.getpeername):
                try:
                    name = ask()
                except OSError:
                    continue  # not connected
                if isinstance(name, str) and name:
                    names.add(name)
                elif isinstance(name, tuple) and len(name) >= 2:
                    host = str(name[0]).removeprefix("::ffff:")
                    names.add(f"[{host}]:{name[1]}" if ":" in host else f"{host}:{name[1]}")
        if names:
            yield fd, names


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _at_exit() -> None:
    for engine in list(_engines):
        if not (engine.closed or engine.forked or engine.failed):
            engine.drain_at_exit()


def _after_fork_in_child() -> None:
    for engine in list(_engines):
        engine.abandon()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
