"""All ZeroMQ sockets of a peer, made in one place and used by one thread.

Three bound sockets (feed XPUB, mailbox PULL, work PULL) and one connecting socket for each connection of the core:
PUSH to a mailbox or to a work socket, SUB to a feed. ZeroMQ's file descriptors are edge-triggered, so EVENTS is read
of every socket that was signalled or just used, and again after each use, before the engine sleeps (see `read`).

What happens to a connection comes from the socket's monitor. A connection that ends is hung up by the core and made
anew, never left to reconnect by itself, so that what is queued on it cannot reach a stranger; only feeds, which
carry nothing away from us, reconnect as ZeroMQ does it.
"""

from __future__ import annotations

import os
import select
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from zq.core.endpoints import TCP, is_local
from zq.core.port import Kind
from zq.discovery.place import SHUT
from zq.engine.descriptors import Descriptors
from zq.engine.leader import CallerToken
from zq.engine.wake import Bell
from zq.logs import Logger
from zq.security.guard import Guard
from zq.security.overfill import EVERY, Overfill
from zq.security.porch import Porch
from zq.security.subscribers import Subscribers
from zq.wire.batch import Parts
from zq.wire.limits import MAILBOX_FRAME, PAYLOAD

if TYPE_CHECKING:  # loaded with the first key
    from zq.security.knocks import Knocks
    from zq.security.lock import Lock
    from zq.security.zap import Zap

log = Logger("zq.engine")

HEARTBEAT = 1_000  # ms between pings on mailboxes
HEARTBEAT_TIMEOUT = 1_900  # ms without an answer until the connection is cut: suspect within 3 s of silence
# On this machine only so many mailboxes are asked like others. Each costs 60 us of processor a second: with 200 peers
# they alone took more than two processors. What dies here the kernel tells us; who is stopped may be noticed later. All
# together there are as many pairs as the square of their number, so that is by how much later each is asked.
FEW = 32
HEARTBEAT_MOST = 10_000  # ms between pings up to which
HANDSHAKE = 3_000  # ms a connection may take to become one; libzmq's 30 s let strangers hold descriptors
HANDSHAKE_HERE = 30_000  # ms; where only this user can come from. When 200 peers start at once, it may take seconds
RECONNECT, RECONNECT_MOST = 20, 200  # ms between attempts to connect, doubled up to; one that leads nowhere takes 1 s
CONNECT_TIMEOUT = 1_000  # ms; a SYN that is not answered is sent anew, rather than after TCP's longer and longer waits
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = (
    1,
    1,
    3,
)  # s, s, probes: for feed and work, which have no heartbeat
RETRANSMIT = 3_000  # ms that written data may stay unacknowledged (TCP_MAXRT)
CONTROL_FRAME = 1 << 10  # bytes; where no messages come in, only subscriptions, pings and the handshake do
SEAL = 33  # bytes that CURVE adds to a frame, and that libzmq counts: name, nonce, flags and authenticator; RFC 26
HIGH_WATER_MARK = 10_000  # frames; bounds a stalled pipe, back-pressure is credit and windows
MOST_FRAMES = 64  # received of one socket before the others get their turn
LARGE = 16 << 10  # bytes of a frame with so much in it that its receiver may as well wait for those behind it
FRAMES_AT_ONCE = (
    3  # of these that it waits for: beginning to read costs as much; more take longer to hand out than PARK
)
KNOCKS = 0.02  # s from one look at the doors to the next, while somebody waits there
BACKLOG = 512  # connections waiting to be accepted, on this machine or from everybody
BACKLOG_LOCKED = 128  # where strangers may come: what waits there comes in although the valve is closed by then
MAX_SOCKETS = 16_384  # three and two monitors a remote peer
ZERO_COPY = 128 << 10  # bytes; below it copying a frame costs less than tracking it
REFUSED_WITHIN = 0.5  # s; a failed attempt sooner than this was refused, later it timed out
FEED = 0.005  # s that a subscription may wait for its answer while messages go to and fro
AWAKE = 150e-6  # s that who expects an answer stays awake for it: what a peer on this machine takes, measured
ENDPOINTS = 4_096  # of which it is remembered which of two keys fits
MILLISECOND = 0.001  # s; what epoll counts in
SELECTABLE = 1_024  # FD_SETSIZE: descriptors from here on cannot be given to select
PORT_TRIES = 200  # ports of the range that are tried

_EVENTS = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CONNECT_RETRIED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)
_MONITOR_EVENT = struct.Struct("=H")  # begins a monitor's frame; pyzmq's own parser would bring asyncio
_CALLERS = (zmq.PUSH, zmq.SUB, zmq.PUSH)  # who connects to mailbox, feed and work
_TYPES = {Kind.MAILBOX: zmq.PUSH, Kind.WORK: zmq.PUSH, Kind.FEED: zmq.SUB}


# As plain numbers: every operation on zmq's enumerations costs a microsecond.
_NOBLOCK, _STATE, _POLLIN = int(zmq.NOBLOCK), int(zmq.EVENTS), int(zmq.POLLIN)


def _is_readable(socket: zmq.Socket[bytes]) -> bool:
    return bool(socket.getsockopt(_STATE) & _POLLIN)  # type: ignore[operator]


def interval_among(crowd: int) -> int:
    """Milliseconds between pings to one of so many peers on this machine."""
    return HEARTBEAT if crowd < FEW else min(HEARTBEAT * crowd**2 // FEW**2, HEARTBEAT_MOST)


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
    received: Callable[[Kind, Parts, int | None], None]
    fenced: Callable[[bytes], None]


class Sockets:
    """The port of the engine's node. Every method belongs to the engine's thread.

    With a `lock` every socket gets it: nobody without the key of the realm is connected, in either direction.
    """

    def __init__(self, events: Events, bell: Bell, lock: Lock | None = None) -> None:
        self._events = events
        self._bell = bell
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, MAX_SOCKETS)
        self._connections: dict[int, Connection] = {}
        self._poll = select.epoll() if hasattr(select, "epoll") else select.poll()
        # epoll counts in milliseconds; for less its own descriptor is waited for, if select can have it.
        self._select: list[int] = []
        if hasattr(self._poll, "fileno") and self._poll.fileno() < SELECTABLE:
            self._select.append(self._poll.fileno())
        self._second = 1 if hasattr(select, "epoll") else 1_000  # in the unit of the poller's timeout
        self._readers: dict[int, tuple[zmq.Socket[bytes], Callable[[], bool]]] = {}
        self._again: set[int] = set()  # descriptors of sockets that may have something although nothing was signalled
        self._published = False  # on the feed, which is such a socket then
        self._feed_at = 0.0  # when that is looked at, at the latest
        self._poll.register(bell.fd, select.POLLIN)
        self._monitors = 0
        self.crowd = 0  # peers on this host, as far as somebody has counted them
        self._exhausted = False  # there were no descriptors or sockets for a connection once
        self._descriptors = Descriptors()
        self._files: list[str] = []  # doors that are files
        self._shut = False  # these
        self._postponed: dict[int, str] = {}  # mailboxes that are dialled when there are descriptors for them
        self._token: CallerToken | None = None  # of who reads
        self.guard = Guard(quiet=True)  # of the trial, where we are the strangers ourselves
        self._lock = lock
        self._zap: Zap | None = None
        if lock is not None:
            from zq.security.zap import Zap

            self._zap = Zap(self._context, lock, self.guard)  # before any door is bound
        self._knocks: list[Knocks] = []
        self._knock_fds: list[int] = []
        self._crowded = False  # somebody waits at the doors, and who comes there is looked at once in a while
        self._next_knocks = 0.0
        self.overfill = Overfill()
        self.porch = Porch()
        self.subscribers = Subscribers()
        self._fitting: OrderedDict[str, int] = OrderedDict()  # endpoint: which key to dial it with
        self.feed = self._listener(zmq.XPUB)
        self.feed.set(zmq.XPUB_VERBOSER, 1)  # all that is subscribed and taken back, so that it can be counted
        self.feed.set(zmq.MAXMSGSIZE, CONTROL_FRAME)
        self.mailbox = self._listener(zmq.PULL)
        self.mailbox.set(zmq.MAXMSGSIZE, MAILBOX_FRAME + (0 if lock is None else SEAL))
        self.work = self._listener(zmq.PULL)
        self.work.set(zmq.MAXMSGSIZE, PAYLOAD + MAILBOX_FRAME)
        self.bound: list[str] = []
        self._feed_fd = self._watch(self.feed, self._read_fences)
        self._mailbox_fd = self._watch(self.mailbox, lambda: self._read(self.mailbox, Kind.MAILBOX, None))
        self._watch(self.work, lambda: self._read(self.work, Kind.WORK, None))

    # --- making sockets

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.set(zmq.LINGER, 0)
        for option in (zmq.SNDHWM, zmq.RCVHWM):
            socket.set(option, HIGH_WATER_MARK)
        return socket

    @staticmethod
    def _prepare_for_networks(socket: zmq.Socket[bytes]) -> None:
        """What a Unix socket has no use for: each option takes microseconds, and hundreds of peers are dialled."""
        socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE)
        socket.set(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT)
        socket.set(zmq.TCP_KEEPALIVE, 1)
        socket.set(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE)
        socket.set(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL)
        socket.set(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT)
        socket.set(zmq.TCP_MAXRT, RETRANSMIT)
        socket.set(zmq.IPV6, 1)

    def _listener(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._socket(kind)
        self._prepare_for_networks(socket)
        socket.set(zmq.BACKLOG, BACKLOG if self._lock is None else BACKLOG_LOCKED)
        if self._lock is not None:
            self._lock.shut(socket)
        return socket

    def prove_closed(self, rows: Sequence[Sequence[str]]) -> None:
        """Tries the doors (mailbox, feed, work; a row an address), then opens them to whoever has the key.

        Raises AccessDenied if a stranger gets in. Without a lock there is nothing to prove.
        """
        if self._lock is None or self._zap is None:
            return
        from zq.security.knocks import Knocks
        from zq.security.trial import stand_trial

        stand_trial([door for row in rows for door in zip(row, _CALLERS, strict=True)], self._lock, self._zap)
        self.guard = self._zap.guard = Guard()
        if self._descriptors.limit:
            self.guard.share(self._descriptors.limit)
        self._zap.porch = self.porch
        self._watch(self._zap.socket, self._zap.answer)
        for socket in (self.mailbox, self.feed, self.work):
            knocks = Knocks(self._context, socket, self.guard, self.overfill, self.porch)
            self._knocks.append(knocks)
            self._knock_fds.append(self._watch(knocks.socket, knocks.read))
        self.porch.shut(self.guard)

    def bind(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        """Raises zmq.ZMQError when the endpoint cannot be had."""
        if not endpoint.startswith(TCP):
            socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_HERE)
            self._files.append(endpoint.removeprefix("ipc://"))
        if self._lock is None or self._knocks:  # these hear of it
            socket.bind(endpoint)
        else:
            from zq.security.knocks import listen

            self.porch.opened(listen(self._context, socket, endpoint), endpoint)
        self.bound.append(endpoint)

    def unbind(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        socket.unbind(endpoint)
        self.bound.remove(endpoint)
        self.porch.forget(endpoint)

    def _watch(self, socket: zmq.Socket[bytes], read: Callable[[], bool]) -> int:
        fd = int(socket.FD)
        self._readers[fd] = (socket, read)
        self._poll.register(fd, select.POLLIN)
        self._again.add(fd)  # something may have come before it was watched
        return fd

    def _unwatch(self, socket: zmq.Socket[bytes]) -> None:
        fd = int(socket.FD)
        self._poll.unregister(fd)
        del self._readers[fd]
        self._again.discard(fd)

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
            self._watch(monitor, lambda: self._read_monitor(made))
        if kind is Kind.FEED:
            self._watch(socket, lambda: self._read(socket, kind, connection))
        if self._lock is not None:
            made.key = self._likely_key(endpoint)
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
        """Doors that are files are shut while descriptors are scarce: see `descriptors`."""
        self._descriptors.look(now)
        if self._descriptors.scarce == self._shut:
            return
        self._shut = self._descriptors.scarce
        log.warning(
            "of the %d file descriptors that this process may have %s",
            self._descriptors.limit,
            "few are left: nobody new is met until more are; raise the hard limit (`ulimit -Hn`, LimitNOFILE=)"
            if self._shut
            else "enough are free again: others are met",
        )
        self._move_files()

    def _move_files(self) -> None:
        """Nobody comes in by a file that has another name; unbinding it would end all who came in there before."""
        for path in self._files:
            here, there = (path, path + SHUT) if self._shut else (path + SHUT, path)
            try:
                Path(here).rename(there)
            except FileNotFoundError:
                pass  # somebody has removed it: nobody comes in there any more

    def _dial_postponed(self) -> None:
        while self._postponed and not self._descriptors.scarce:
            connection = next(iter(self._postponed))
            self.dial(connection, Kind.MAILBOX, self._postponed.pop(connection))

    def _make(self, connection: int, kind: Kind, endpoint: str) -> Connection:
        """Its sockets, not connected yet. Raises zmq.ZMQError, and leaves nothing behind, if they cannot be had."""
        socket = self._socket(_TYPES[kind])
        monitor = None
        try:
            socket.set(zmq.RECONNECT_IVL, RECONNECT)
            socket.set(zmq.RECONNECT_IVL_MAX, RECONNECT_MOST)
            if endpoint.startswith(TCP):
                self._prepare_for_networks(socket)
            else:
                socket.set(zmq.HANDSHAKE_IVL, HANDSHAKE_HERE)
            socket.set(zmq.MAXMSGSIZE, PAYLOAD + MAILBOX_FRAME if kind is Kind.FEED else CONTROL_FRAME)
            if kind is Kind.MAILBOX:
                known = len(self._connections) // 2  # each with its feed
                interval = interval_among(max(known, self.crowd)) if is_local(endpoint) else HEARTBEAT
                socket.set(zmq.HEARTBEAT_IVL, interval)
                socket.set(zmq.HEARTBEAT_TIMEOUT, max(interval, HEARTBEAT_TIMEOUT))
            if kind is not Kind.FEED or self._has_two_keys():
                self._monitors += 1
                address = f"inproc://monitor-{self._monitors}"
                socket.monitor(address, _EVENTS)
                monitor = self._context.socket(zmq.PAIR)
                monitor.set(zmq.LINGER, 0)
                monitor.connect(address)
        except zmq.ZMQError:
            socket.close(0)
            if monitor is not None:
                monitor.close(0)
            raise
        return Connection(connection, kind, endpoint, socket, monitor)

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
            self._unwatch(made.monitor)
            made.socket.disable_monitor()
            made.monitor.close(0)
        if made.kind is Kind.FEED:
            self._unwatch(made.socket)
        made.socket.close(0)

    def subscribe(self, connection: int, prefix: bytes, wanted: bool) -> None:
        made = self._connections.get(connection)
        if made is not None:
            made.socket.set(zmq.SUBSCRIBE if wanted else zmq.UNSUBSCRIBE, prefix)
            self._again.add(int(made.socket.FD))

    def publish(self, parts: Parts) -> None:
        self._send(self.feed, parts)
        self._published = True

    # --- receiving

    def wait(self, timeout: float | None, *, awake: bool = False) -> None:
        """Sleeps until a socket or the bell is signalled, or for `timeout` seconds.

        Shorter while there are strangers to be watched.

        `awake` looks again and again for a while first: a processor that sleeps takes long to come back.
        """
        poll, now = self._poll.poll, time.monotonic()
        if now >= self._descriptors.next or self._descriptors.scarce is not self._shut:
            self._tend_files(now)
        if self._postponed:
            self._dial_postponed()
        if self._lock is not None:
            timeout = self._look_at_doors(timeout, now)
        ready: list[tuple[int, int]] = []
        if awake and (timeout is None or timeout > AWAKE):
            until = now + AWAKE
            while not (ready := poll(0)) and time.monotonic() < until:
                os.sched_yield()
            if not ready and self.has_more():
                timeout = 0
        if not ready and timeout is not None and 0 < timeout < MILLISECOND and self._select:
            select.select(self._select, (), (), timeout)
            timeout = 0
        again, readers = self._again, self._readers
        for fd, _ in ready or poll(None if timeout is None else timeout * self._second):
            if fd in readers:
                again.add(fd)
            else:
                self._bell.silence()

    def _look_at_doors(self, timeout: float | None, now: float) -> float | None:
        """At who comes there. Returns how long to sleep, if `timeout` were the limit otherwise."""
        if self.overfill:
            self.overfill.look(now)
            timeout = EVERY if timeout is None else min(timeout, EVERY)
        if self.porch or self._crowded:
            timeout = self._attend(timeout)
        return timeout

    def _attend(self, timeout: float | None) -> float | None:
        """To those who wait at the doors. Returns how long to sleep, if `timeout` were the limit otherwise.

        While some wait, nobody is woken by whoever comes, but all who have come are looked at KNOCKS seconds later:
        being woken for each of them costs several times what they do themselves.
        """
        now = time.monotonic()
        turn = self.porch.look(now)
        if bool(self.porch) is not self._crowded:
            self._crowded = not self._crowded
            for fd in self._knock_fds:
                self._poll.modify(fd, 0 if self._crowded else select.POLLIN)
        elif now < self._next_knocks:
            return turn if timeout is None else min(timeout, turn)
        self._next_knocks = now + KNOCKS
        self._again.update(self._knock_fds)
        return 0.0

    def has_more(self, *, soon: bool = False) -> bool:
        """Whether a socket has something although nothing is signalled: using it may have eaten the signal.

        Who comes again `soon` need not look at the feed each time, where all that comes in are subscriptions.
        """
        if self._published and not (soon and time.monotonic() < self._feed_at):
            self._published = False
            self._feed_at = time.monotonic() + FEED
            self._again.add(self._feed_fd)
        if self._again:
            self._again = {fd for fd in self._again if _is_readable(self._readers[fd][0])}
        return bool(self._again)

    def read(self, token: CallerToken | None = None) -> None:
        """Reads every socket that may have something; those that may have more, or of which that is not known, stay
        marked.

        No more messages once `token` is woken, so that who waits for one need not wait for those behind it. Mailboxes
        come first and whole: a peer whose connections end has said goodbye there, or it has died.
        """
        self._token = token
        marked, self._again = self._again, set()
        first = self._mailbox_fd
        for fd in (first, *(marked - {first})) if first in marked else marked:
            reader = self._readers.get(fd)
            if reader is not None and reader[1]():
                self._again.add(fd)

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
                received(kind, (first, *rest), connection)
            else:
                received(kind, (first,), connection)
            if token is not None and token.woken and kind is not Kind.MAILBOX:
                large = large + 1 if len(first) > LARGE else FRAMES_AT_ONCE
                if large >= FRAMES_AT_ONCE:
                    return True
            if socket.closed or not _is_readable(socket):
                return False
        return True

    def _read_fences(self) -> bool:
        for _ in range(MOST_FRAMES):
            if not _is_readable(self.feed):
                self.subscribers.look()
                return False
            frame = self.feed.recv(_NOBLOCK, copy=False)
            if self.subscribers.count(frame):
                self._events.fenced(frame.bytes)
        return True

    def turned_away(self) -> dict[str, int]:
        """How many the limits have cut off or refused, by what it was for (SECURITY.md, "Limits")."""
        return {
            "handshake": self.guard.failures,
            "failed too often": self.guard.cut_off,
            "too much before the key": self.overfill.cut_off,
            "too many waiting": self.porch.turned_away,
            "too many at once": self.porch.shut_out,
            "too many connections": self.guard.crowded_out,
            "subscriptions": self.subscribers.cut_off,
        }

    def _read_monitor(self, made: Connection) -> bool:
        monitor = made.monitor
        assert monitor is not None
        while not monitor.closed and _is_readable(monitor):
            event, _ = monitor.recv_multipart(_NOBLOCK)  # event and value, then the endpoint
            self._on_event(made, _MONITOR_EVENT.unpack_from(event)[0])
        return False

    def _on_event(self, made: Connection, kind: int) -> None:
        now = time.monotonic()
        if kind != zmq.EVENT_CONNECT_RETRIED and self._has_two_keys():
            self._choose_key(made, kind)
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

    # --- two keys, while one is being replaced: each endpoint is dialled with the one and the other until one fits

    def _has_two_keys(self) -> bool:
        return self._lock is not None and self._lock.keys > 1

    def _likely_key(self, endpoint: str) -> int:
        """The one that fitted last, there or at least on that host; else the one that we listen with."""
        assert self._lock is not None
        host = endpoint.rpartition(":")[0]
        return self._fitting.get(endpoint, self._fitting.get(host, self._lock.own))

    def _note_key(self, endpoint: str, index: int) -> None:
        self._fitting[endpoint] = index
        self._fitting.move_to_end(endpoint)
        while len(self._fitting) > ENDPOINTS:
            self._fitting.popitem(last=False)

    def _choose_key(self, made: Connection, kind: int) -> None:
        """After what happened to a connection. A feed is connected anew here, the others by the core."""
        assert self._lock is not None
        if kind == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._note_key(made.endpoint, made.key)
            self._note_key(made.endpoint.rpartition(":")[0], made.key)
            made.established = True
        elif kind == zmq.EVENT_DISCONNECTED or made.kind is not Kind.FEED:  # a feed's failure has two events
            if made.established:
                made.established = False  # the same key once more
                return
            made.key = (made.key + 1) % self._lock.keys
            self._note_key(made.endpoint, made.key)
            if made.kind is Kind.FEED:
                made.socket.disconnect(made.endpoint)
                self._lock.fit(made.socket, made.key)
                made.socket.connect(made.endpoint)

    # --- the end

    def close(self, linger: float) -> None:
        """Closes everything; what is still being sent has `linger` seconds."""
        if self._shut:
            self._shut = False
            self._move_files()  # libzmq removes them by the names that it knows
        for connection in list(self._connections.values()):
            if connection.monitor is not None:
                connection.socket.disable_monitor()
                connection.monitor.close(0)
            connection.socket.close(int(linger * 1000))
        self._connections.clear()
        for knocks in self._knocks:
            knocks.close()
        if self._zap is not None:
            self._zap.stop()
        for socket in (self.mailbox, self.work):
            socket.close(0)
        self.feed.close(int(linger * 1000))
        if hasattr(self._poll, "close"):
            self._poll.close()
        self._context.term()

    def destroy(self) -> None:
        """After a failure: nothing is sent any more, least of all heartbeats."""
        self._context.destroy(linger=0)

    def endpoints(self) -> Iterable[str]:
        """Of every connection and listener, for closing what a forked child has inherited."""
        yield from self.bound
