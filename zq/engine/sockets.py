"""The port of a peer's node: its listeners, and one connecting socket for each connection of the core.

PUSH to a mailbox or to a work socket, SUB to a feed. What happens to a connection comes from the socket's monitor. One
that ends is hung up by the core and made anew, never left to reconnect by itself, so that what is queued on it cannot
reach a stranger; only feeds, which carry nothing away from us, reconnect as ZeroMQ does it.

    postponed     a mailbox that is dialled when there are descriptors for it
    dialled       an attempt that fails is told as `refused`
    established   told as `connected`; its end as `broken`
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import zmq

from zq.core.port import Kind
from zq.engine.descriptors import Descriptors
from zq.engine.factory import Factory
from zq.engine.heap import Heap
from zq.engine.leader import CallerToken
from zq.engine.listeners import Listeners
from zq.engine.wake import Bell
from zq.engine.watch import AWAKE, Watch, is_readable
from zq.logs import Logger
from zq.wire.batch import Parts

if TYPE_CHECKING:  # loaded with the first key
    from zq.security.fitting import Fitting
    from zq.security.lock import Lock

log = Logger("zq.engine")

MOST_FRAMES = 64  # received of one socket before the others get their turn
LARGE = 16 << 10  # bytes of a frame with so much in it that its receiver may as well wait for those behind it
FRAMES_AT_ONCE = 3  # that it waits for: beginning to read costs as much; more take longer to hand out than PARK
ZERO_COPY = 128 << 10  # bytes; below it copying a frame costs less than tracking it
REFUSED_WITHIN = 0.5  # s; a failed attempt sooner than this was refused, later it timed out
FEED = 0.005  # s that a subscription may wait for its answer while messages go to and fro

_MONITOR_EVENT = struct.Struct("=H")  # begins a monitor's frame; pyzmq's own parser would bring asyncio
_NOBLOCK = int(zmq.NOBLOCK)  # as a plain number: every operation on zmq's enumerations costs a microsecond


class Connection:
    """One connecting socket, its monitor, and what is known of its state."""

    __slots__ = ("dialled", "endpoint", "established", "id", "key", "kind", "monitor", "socket")

    def __init__(
        self, id: int, kind: Kind, endpoint: str, socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes] | None
    ) -> None:
        self.id = id
        self.kind = kind
        self.endpoint = endpoint
        self.socket = socket
        self.monitor = monitor
        self.established = False
        self.key = 0  # which of the lock's it was dialled with
        self.dialled = time.monotonic()


class Events:
    """Who is told what sockets do; the node's methods of the same names."""

    connected: Callable[[int], None]
    broken: Callable[[int], None]
    refused: Callable[[int], None]
    received: Callable[[Kind, Parts, int | None], bool]  # whether it made sense
    offended: Callable[[int], None]  # too much on that feed made none
    fenced: Callable[[bytes], None]


class Sockets:
    """The port of the engine's node. Every method belongs to the engine's thread.

    With a `lock` every socket gets it: nobody without the key of the realm is connected, in either direction.
    """

    def __init__(self, events: Events, bell: Bell, lock: Lock | None = None) -> None:
        self._events = events
        self._factory = Factory(lock)
        self._watch = Watch(bell)
        self._descriptors = Descriptors()
        self.heap = Heap()
        self.listeners = Listeners(self._factory, self._watch, self._descriptors.limit)
        self._lock = lock
        self._fitting: Fitting | None = None
        if lock is not None:
            from zq.security.fitting import Fitting

            self._fitting = Fitting(lock)
        self._connections: dict[int, Connection] = {}
        self._postponed: dict[int, str] = {}  # mailboxes, by their connections
        self.crowd = 0  # peers on this host, as far as somebody has counted them
        self._exhausted = False  # there were no descriptors or sockets for a connection once
        self._published = False  # on the feed: its signal may be eaten
        self._feed_at = 0.0  # when that is looked at, at the latest
        self._token: CallerToken | None = None  # of who reads
        listeners = self.listeners
        self._feed_fd = self._watch.add(listeners.feed, self._read_fences)
        self._mailbox_fd = self._watch.add(listeners.mailbox, lambda: self._read(listeners.mailbox, Kind.MAILBOX, None))
        self._watch.add(listeners.work, lambda: self._read(listeners.work, Kind.WORK, None))

    # --- zq.core.port.Port

    def dial(self, connection: int, kind: Kind, endpoint: str) -> None:
        if kind is Kind.MAILBOX and not self._descriptors.can_afford_a_peer():
            self._say_exhausted(endpoint, "few file descriptors are left; raise the hard limit (`ulimit -Hn`)")
            self._postponed[connection] = endpoint
            return  # until then it is as if nobody answered; feed and work of those who are met use the reserve
        try:
            made = self._connections[connection] = self._make(connection, kind, endpoint)
        except zmq.ZMQError as error:  # no descriptors are left, or no sockets: it is as if nobody answered
            self._say_exhausted(endpoint, str(error))
            return
        socket, monitor = made.socket, made.monitor
        if monitor is not None:
            self._watch.add(monitor, lambda: self._read_monitor(made))
        if kind is Kind.FEED:
            self._watch.add(socket, lambda: self._read(socket, kind, connection))
        if self._lock is not None and self._fitting is not None:
            made.key = self._fitting.likely(endpoint)
            self._lock.fit(socket, made.key)
        try:
            socket.connect(endpoint)
        except zmq.ZMQError as error:
            log.warning("cannot dial %.200r: %s", endpoint, error)  # a name another peer gave us: it may be anything

    def _say_exhausted(self, endpoint: str, why: str) -> None:
        if not self._exhausted:
            log.warning("cannot dial %.200r: %s; more of this is not said", endpoint, why)
        self._exhausted = True

    def _tend_files(self, now: float) -> None:
        """Doors that are files are hidden while descriptors are scarce: see `descriptors`."""
        self._descriptors.look(now)
        if self._descriptors.scarce == self.listeners.hidden:
            return
        scarce = self._descriptors.scarce
        log.warning(
            "of the %d file descriptors that this process may have %s",
            self._descriptors.limit,
            "few are left: nobody new is met until more are; raise the hard limit (`ulimit -Hn`, LimitNOFILE=)"
            if scarce
            else "enough are free again: others are met",
        )
        self.listeners.hide(scarce)

    def _dial_postponed(self) -> None:
        while self._postponed and not self._descriptors.scarce:
            connection = next(iter(self._postponed))
            self.dial(connection, Kind.MAILBOX, self._postponed.pop(connection))

    def _make(self, connection: int, kind: Kind, endpoint: str) -> Connection:
        crowd = max(len(self._connections) // 2, self.crowd)  # each with its feed
        watched = kind is not Kind.FEED or bool(self._fitting)
        return Connection(connection, kind, endpoint, *self._factory.caller(kind, endpoint, crowd, watched=watched))

    def send(self, connection: int, parts: Parts) -> bool:
        made = self._connections.get(connection)
        return made is not None and self._send(made.socket, parts)

    @staticmethod
    def _send(socket: zmq.Socket[bytes], parts: Parts) -> bool:
        try:
            if len(parts) == 1:
                socket.send(parts[0], _NOBLOCK, copy=len(parts[0]) < ZERO_COPY)
            else:
                socket.send_multipart(parts, _NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def hang_up(self, connection: int) -> None:
        self._postponed.pop(connection, None)
        made = self._connections.pop(connection, None)
        if made is None:
            return
        if made.monitor is not None:
            self._watch.remove(made.monitor)
            made.socket.disable_monitor()
            made.monitor.close(0)
        if made.kind is Kind.FEED:
            self._watch.remove(made.socket)
        made.socket.close(0)

    def subscribe(self, connection: int, prefix: bytes, wanted: bool) -> None:
        made = self._connections.get(connection)
        if made is not None:
            made.socket.set(zmq.SUBSCRIBE if wanted else zmq.UNSUBSCRIBE, prefix)
            self._watch.mark(int(made.socket.FD))

    def publish(self, parts: Parts) -> None:
        self._send(self.listeners.feed, parts)
        self._published = True

    # --- receiving

    def wait(self, timeout: float | None, *, awake: bool = False) -> None:
        """Sleeps until a socket or the bell is signalled, or for `timeout` seconds; sooner while there are strangers
        to be watched. Who expects something stays `awake` for a while first.
        """
        now = time.monotonic()
        if now >= self._descriptors.next or self._descriptors.scarce is not self.listeners.hidden:
            self._tend_files(now)
        if self._postponed:
            self._dial_postponed()
        if self._lock is not None:
            timeout = self.listeners.look(timeout, now)
        if awake and (timeout is None or timeout > AWAKE):
            if self._watch.stay_awake():
                return
            if self.has_more():
                timeout = 0
        self._watch.sleep(timeout)

    def has_more(self, *, soon: bool = False) -> bool:
        """Whether a socket has something although nothing is signalled: using it may have eaten the signal.

        Who comes again `soon` need not look at the feed each time, where all that comes in are subscriptions.
        """
        if self._published and not (soon and time.monotonic() < self._feed_at):
            self._published = False
            self._feed_at = time.monotonic() + FEED
            self._watch.mark(self._feed_fd)
        return self._watch.has_marked()

    def read(self, token: CallerToken | None = None) -> None:
        """Reads every socket that may have something; those that may have more, or of which that is not known, stay
        marked.

        No more messages once `token` is woken, so that who waits for one need not wait for those behind it. Mailboxes
        come first and whole: a peer whose connections end has said goodbye there, or it has died.
        """
        self._token = token
        self._watch.read(first=self._mailbox_fd)

    def _read(self, socket: zmq.Socket[bytes], kind: Kind, connection: int | None) -> bool:
        received, token = self._events.received, self._token
        large = 0
        for _ in range(MOST_FRAMES):
            try:
                frame = socket.recv(_NOBLOCK, copy=False)
            except zmq.Again:
                return False
            first = frame.bytes
            if frame.more:
                rest = [part.buffer.toreadonly() for part in socket.recv_multipart(_NOBLOCK, copy=False)]
                parts: Parts = (first, *rest)
                if not self.heap.keeps:
                    self.heap.received(sum(map(len, rest)))
            else:
                parts = (first,)
            if not received(kind, parts, connection):
                self._refused(frame, sum(map(len, parts)), connection)
            if token is not None and token.woken and kind is not Kind.MAILBOX:
                large = large + 1 if len(first) > LARGE else FRAMES_AT_ONCE
                if large >= FRAMES_AT_ONCE:
                    return True
            if socket.closed or not is_readable(socket):
                return False
        return True

    def _refused(self, frame: zmq.Frame, size: int, feed: int | None) -> None:
        """Who offends at a door is cut off there already."""
        if self.listeners.offenders.refused(frame, size, feed) and feed is not None:
            self._events.offended(feed)

    def _read_fences(self) -> bool:
        feed, subscribers = self.listeners.feed, self.listeners.subscribers
        for _ in range(MOST_FRAMES):
            if not is_readable(feed):
                subscribers.look()
                return False
            frame = feed.recv(_NOBLOCK, copy=False)
            if subscribers.count(frame):
                self._events.fenced(frame.bytes)
        return True

    def _read_monitor(self, made: Connection) -> bool:
        monitor = made.monitor
        assert monitor is not None
        while not monitor.closed and is_readable(monitor):
            event, _ = monitor.recv_multipart(_NOBLOCK)  # event and value, then the endpoint
            self._on_event(made, _MONITOR_EVENT.unpack_from(event)[0])
        return False

    def _on_event(self, made: Connection, kind: int) -> None:
        now = time.monotonic()
        if kind != zmq.EVENT_CONNECT_RETRIED and self._fitting:
            self._choose_key(self._fitting, made, kind)
        if made.kind is Kind.FEED:
            return  # it connects anew by itself
        if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            made.established = True
            self._events.connected(made.id)
        elif kind == zmq.EVENT_CONNECT_RETRIED:
            if now - made.dialled < REFUSED_WITHIN:
                self._events.refused(made.id)
            made.dialled = now
        else:  # ended, or it spoke no ZMTP: libzmq may not try again, so it is made anew
            self._events.broken(made.id)

    def _choose_key(self, fitting: Fitting, made: Connection, kind: int) -> None:
        """After what happened to a connection. A feed is connected anew here, the others by the core."""
        if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            fitting.fits(made.endpoint, made.key)
            made.established = True
        elif kind == zmq.EVENT_DISCONNECTED or made.kind is not Kind.FEED:  # a feed's failure has two events
            if made.established:
                made.established = False  # the same key once more
                return
            made.key = fitting.does_not(made.endpoint, made.key)
            if made.kind is Kind.FEED and self._lock is not None:
                made.socket.disconnect(made.endpoint)
                self._lock.fit(made.socket, made.key)
                made.socket.connect(made.endpoint)

    # --- the end

    def close(self, linger: float) -> None:
        """Closes everything; what is still being sent has `linger` seconds."""
        if self.listeners.hidden:
            self.listeners.hide(False)  # libzmq removes them by the names that it knows
        for connection in list(self._connections.values()):
            if connection.monitor is not None:
                connection.socket.disable_monitor()
                connection.monitor.close(0)
            connection.socket.close(int(linger * 1000))
        self._connections.clear()
        self.listeners.close(linger)
        self._watch.close()
        self._factory.context.term()

    def destroy(self) -> None:
        """After a failure: nothing is sent any more, least of all heartbeats."""
        self._factory.context.destroy(linger=0)

    def endpoints(self) -> Iterable[str]:
        """Of every connection and listener, for closing what a forked child has inherited."""
        yield from self.listeners.bound
