"""The asyncio face: every wait is awaited. zq.Peer has the same names and blocks instead.

Only what can wait is awaited: factories, settling, peers, topics, queues are plain calls. A peer belongs to the event
loop it was opened in.

Long, since all that a program can call stands here with its contract, in the order of its twin.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
import warnings
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from zq.core.inbox import Slow
from zq.core.outgoing import SMALL
from zq.engine.engine import Engine
from zq.engine.wake import LoopToken
from zq.errors import Closed, Refused, Undelivered
from zq.handles.dead import inquire_steps
from zq.handles.incoming import PullerCore, Receiver, SubscriberCore, pause_after
from zq.handles.opening import Opening
from zq.handles.outgoing import PublisherCore, PusherCore, Sender, Stream
from zq.handles.replying import ReplierCore, Request
from zq.handles.requests import Survey, request_steps
from zq.handles.session import LEAVING, PeerCore
from zq.handles.since import Since
from zq.handles.spool import SpoolCore
from zq.handles.steps import OnDamage, OnGap, Progress, Release, SendOptions, Steps, Timeout, Wait, deadline_after
from zq.handles.watching import Watching
from zq.info import (
    DeadLetters,
    Gap,
    Ledger,
    PeerEvent,
    SpoolAnswer,
    SpoolCursor,
    SpooledMessage,
    SpooledStream,
    SpoolReport,
)
from zq.logs import Logger
from zq.message import INHERIT, Headers, Inherit, Message
from zq.options import SpoolOptions
from zq.wire.data import pack_plain
from zq.wire.frames import CURSORS, LIST, MESSAGES, PURGE, RETRY, STREAMS, VERIFY

_UNLIMITED = SpoolOptions()
log = Logger("zq.aio")

PAGE = 1_000  # messages that are read in a thread at once
YIELD_EVERY = 1_024  # sends that find room until one lets the loop run: 1 ms at full speed; less is half a frame
T = TypeVar("T")

_get_ident = threading.get_ident


async def finish(steps: Steps[T]) -> T:
    """Runs the steps as a coroutine."""
    try:
        wait = next(steps)
        while True:
            try:
                woken = await _sleep(wait)
            except BaseException:
                steps.close()
                raise
            wait = steps.send(woken)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def _sleep(wait: Wait) -> bool:
    token = LoopToken(asyncio.get_running_loop())
    try:
        wait.waiters.add(token)  # within: an interrupt right behind it must not leave a token that swallows a wake
        if wait.ready():
            return True
        if wait.deadline is None:
            await token.future
            return True
        remaining = max(wait.deadline - time.monotonic(), 0.0)
        done, _ = await asyncio.wait({token.future}, timeout=remaining)
        return bool(done) or bool(wait.ready())
    except BaseException:
        if not wait.waiters.leave(token):
            wait.waiters.wake()  # the wake was for somebody who will not look any more
        raise
    finally:
        wait.waiters.leave(token)


class Peer(PeerCore):
    """One member of a realm, for one event loop. `async with` opens and closes it.

    Arguments that are None are taken from the environment (`ZQ_*`), the settings file, the defaults, in this order.
    Nothing configured, a peer meets those of the same user on the same machine. `key_file` opens TCP on `interfaces`
    to everyone who has the realm key in that file, and finds them by mDNS; `insecure=True` opens it to everybody.
    Raises Refused for settings that cannot be, and for use in another loop.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        realm: str | None = None,
        key_file: Path | str | None = None,
        insecure: bool | None = None,
        interfaces: Sequence[str] | None = None,
        seeds: Sequence[str] | None = None,
        discovery: Sequence[str] | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(
            {
                "name": name,
                "realm": realm,
                "key_file": key_file,
                "insecure": insecure,
                "interfaces": interfaces,
                "seeds": seeds,
                "discovery": discovery,
                "port": port,
            }
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0  # in which the loop runs

    def _running(self) -> Engine:
        engine = super()._running()
        self._check_loop()
        return engine

    def _check_loop(self) -> None:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is not self._loop:
            raise Refused("this peer belongs to the event loop it was opened in; open another one here")

    # --- life

    async def open(self, *, timeout: Timeout = 10.0) -> Self:
        """Returns when this peer can be found. Raises AccessDenied for a host directory or key file that is not
        ours alone, Refused for a key file without a key, an interface that is not there, a port in use."""
        deadline_after(timeout)
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        await asyncio.to_thread(self._new_engine().start, timeout)
        return self

    async def close(self, *, timeout: Timeout = 5.0) -> None:
        """Waits until what was sent is confirmed, gives back what was not settled, leaves the realm. Idempotent.

        Raises Undelivered when the time runs out; the peer is closed all the same. Cancelled, it closes at once.
        """
        engine = self._engine
        if engine is None or engine.closed or engine.forked:
            return
        self._check_loop()
        deadline_after(timeout)  # refuses a bad one, and nothing is closed
        try:
            await finish(self._close_steps(timeout))
        except asyncio.CancelledError:
            engine.stop()
            raise
        finally:
            await asyncio.to_thread(engine.stop)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await leave(self.close, error)

    # --- handles

    def publisher(self, topic: str, *, retain: bool = False, patience: Timeout = 1.0) -> Publisher:
        """A handle to publish on `topic`. `retain` keeps the last value for those who subscribe later. `patience` is
        how long, in seconds, a slow subscriber may hold the topic back before it is left behind.

        Handles of one name are views of one stream: Refused when the options differ from those it has.
        """
        return Publisher(self, self._topic_stream(topic, retain=retain, patience=patience), topic)

    def subscriber(
        self,
        *filters: str,
        slow: Slow = "wait",
        patience: Timeout | Inherit = INHERIT,
        durable: str | None = None,
        since: Since | None = None,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> Subscriber:
        """A new subscription to all topics that any of `filters` matches; each message comes once.

        `slow` says what happens when the program does not keep up: "wait" holds publishers back for their patience
        (or this one), "drop-oldest" and "latest" drop here, counted. `on_gap` hears of holes, in the receiver.

        With `durable` the messages come from a spool that keeps all of the topics, and so does what is published while
        nobody is here: the name is that of a cursor there, which all who use it share, as the pullers of a queue share
        that. It moves as messages are settled (`with message:`, ack); it begins with what is published from now on, or
        where `since` says. While no spool is there `receive` waits. `since` is "beginning", "end", a count (of the last
        messages), a timedelta (so long ago) or a datetime, by when the spool stored them. Without `durable` it needs a
        spool (`receive` raises NoPeer if the realm has none), and nothing is to be settled. `slow` is for neither.
        """
        return Subscriber(self, filters, slow, patience, on_gap, durable, since)

    def pusher(
        self,
        queue: str,
        *,
        window: int = 16_384,
        window_bytes: int = 64 << 20,
        max_attempts: int = 5,
        outbox: Path | str | None = None,
    ) -> Pusher:
        """A handle to push to `queue`. `window` and `window_bytes` bound what is held unconfirmed; `send` waits.

        A message of which `max_attempts` deliveries have failed (nacked, or a puller lost over it) is dead, as one
        that is rejected: it is kept, among the newest 1,000 or on the disk of a spool, for whoever pulls
        `<queue>.dead` or asks `dead_letters`.

        With `outbox`, a directory, messages are held on disk instead: `send` returns when what it sent is synced, and
        it goes on its way whenever somebody is there, from this process or any later one that opens the outbox. Neither
        close nor exit nor a crash loses it. One process at a time has a directory; it may have outboxes of several
        queues, all of which go on their way. `window` and `window_bytes` have no meaning then. The directory (made if
        it is not there) is opened in a thread: the first call that waits waits for that as well, `async with` and
        `await peer.pusher(...)` for nothing else. Each raises what `spool` raises.
        """
        options = self._queue_options(queue, window, window_bytes, max_attempts, outbox)
        opened = self._queue_stream if options["outbox"] is None else self._outbox_later
        return Pusher(self, opened(queue, options), queue)

    def puller(
        self,
        queue: str,
        *,
        prefetch: int | None = None,
        prefetch_bytes: int = 64 << 20,
        work_timeout: Timeout = None,
        topics: Sequence[str] = (),
    ) -> Puller:
        """A new handle that gets its share of `queue`. `prefetch` is how many messages may be here unsettled: None
        adapts from 64 to 4,096; give 1 for long jobs.

        What the program has held for `work_timeout` seconds without settling it counts as failed, and goes to
        somebody else; what it says of it later is logged. None: a job may take as long as it likes.

        With `topics` (filters) the queue is *bound* to them: every publisher that this peer meets holds each message it
        publishes on a matching topic from now on for the queue as well, until one of the queue's pullers has settled
        it, and waits while its window (16,384 messages, 64 MiB) is full. The binding outlives the last such puller by
        60 s, so that a service may be restarted; see `unbind`. Retained values are not bound. What pullers of one queue
        name is united.
        """
        return Puller(self, queue, prefetch, prefetch_bytes, work_timeout, topics)

    async def publish(self, topic: str, data: Any, *, headers: Headers | None = None, timeout: Timeout = None) -> None:
        """Publishes with the topic's stream as it is, or a new one with defaults; at full speed."""
        publisher: Publisher = self._shortcut(PublisherCore, topic, lambda: self._any_publisher(topic))
        await publisher.send(data, headers=headers, timeout=timeout)

    async def push(self, queue: str, data: Any, **options: Unpack[SendOptions]) -> None:
        """Pushes with the queue's stream as it is, or a new one with defaults; at full speed."""
        pusher: Pusher = self._shortcut(PusherCore, queue, lambda: self._any_pusher(queue))
        await pusher.send(data, **options)

    def _any_publisher(self, topic: str) -> Publisher:
        stream = self._view(self._topics, topic)
        return self.publisher(topic) if stream is None else Publisher(self, stream, topic)

    def _any_pusher(self, queue: str) -> Pusher:
        stream = self._view(self._queues, queue)
        return self.pusher(queue) if stream is None else Pusher(self, stream, queue)

    def spool(
        self,
        directory: Path | str,
        *,
        queues: Sequence[str] = (),
        topics: Sequence[str] = (),
        options: SpoolOptions = _UNLIMITED,
    ) -> Spool:
        """Keeps these queues on disk, in a directory of their own: from now on whoever pushes to one of them pushes to
        this spool, which confirms what is synced and gives it to the queue's pullers, now or after any restart. Of
        `topics` (filters) it stores everything that is published, for durable subscriptions.

        The directory (made if it is not there) is opened in a thread, which may take a second, or as long as its disk
        hangs: `async with peer.spool(...) as spool` and `spool = await peer.spool(...)` wait for that, and so does all
        that is awaited. These raise Refused for a directory with other things in it or of a newer format, AccessDenied,
        SpoolLocked if another process has it open, SpoolDamaged if it cannot be read. Whoever is cancelled in them has
        closed it.
        """
        return self._keep_spool(Spool(self, Path(directory), queues, topics, options))

    # --- requests

    async def request(
        self, service: str, data: Any = None, *, headers: Headers | None = None, timeout: Timeout = 5.0
    ) -> Message:
        """Asks one replier of `service`, the one with the fewest unanswered requests, and returns its reply.

        At most once: nothing that a program may have begun is ever asked again. Raises RemoteError when the replier
        failed, PeerLost when it was gone before it replied, NoPeer when nobody in the realm replies to `service`,
        Timeout, Refused for data that cannot be sent, for a bad name, and for one that is a queue's.
        """
        return await finish(request_steps(self._running(), service, data, headers, timeout))

    async def request_all(self, service: str, data: Any = None, *, timeout: Timeout = 5.0) -> AsyncIterator[Message]:
        """Asks every replier of `service` that is known, and yields their replies as they come. Ends when each has
        replied, failed or gone, or after `timeout` seconds. Raises NoPeer when there is none."""
        survey = Survey(self._running(), service, data, timeout)
        try:
            await finish(survey.begin_steps())
            while (reply := await finish(survey.next_steps())) is not None:
                yield reply
        finally:
            survey.close()

    def replier(self, service: str) -> Replier:
        """A new handle that gets its share of the requests to `service`."""
        return Replier(self, service)

    async def wait_for_repliers(self, service: str, count: int = 1, *, timeout: Timeout = 30.0) -> None:
        """Waits until `count` repliers of `service` are known, those of this peer included. Raises Timeout."""
        await finish(self._wait_for_repliers_steps(service, count, timeout))

    # --- the realm

    async def settle(self, *, timeout: Timeout = 5.0) -> None:
        """Waits until everybody who can be found has been met, or had a second to answer. Raises Timeout."""
        await finish(self._settle_steps(timeout))

    async def wait_for_peers(self, count: int, *, timeout: Timeout = 30.0) -> None:
        """Waits until `count` other peers are up. Raises Timeout."""
        await finish(self._wait_for_peers_steps(count, timeout))

    async def watch(self, *, timeout: Timeout = None) -> AsyncIterator[PeerEvent]:
        """What happens to the other peers, beginning with those already here. Ends when the peer is closed, or after
        `timeout` seconds without an event."""
        deadline_after(timeout)
        watching = Watching(self._running())
        try:
            while (event := await finish(watching.next_steps(timeout))) is not None:
                yield event
        finally:
            watching.close()

    async def ledger(self, *, realm: bool = False, timeout: Timeout = 5.0) -> Ledger:
        """The counters that account for every message of this peer; with `realm` those of all others as well.
        Who has not answered within `timeout` seconds is named in `unknown`."""
        return await finish(self._ledger_steps(realm, timeout))

    async def dead_letters(
        self, queue: str | None = None, *, ids: Iterable[str] = (), timeout: Timeout = 5.0
    ) -> DeadLetters:
        """The dead letters that the peers of the realm keep, this one included: of `queue`, or of all queues; with
        `ids` only those. Who has not answered within `timeout` seconds is named in `unknown`."""
        return await finish(inquire_steps(self._running(), LIST, queue, ids, timeout))

    async def retry_dead_letters(self, queue: str, *, ids: Iterable[str] = (), timeout: Timeout = 5.0) -> DeadLetters:
        """Pushes the dead letters of `queue` again, all or those with `ids`, each with its old id and attempt 1.

        Each is pushed by the peer that keeps it, if that still pushes to `queue`. What is on its way to a puller of
        `<queue>.dead` stays dead. `count` of the result says how many were pushed.
        """
        return await finish(inquire_steps(self._running(), RETRY, queue, ids, timeout))

    async def purge_dead_letters(self, queue: str, *, ids: Iterable[str] = (), timeout: Timeout = 5.0) -> DeadLetters:
        """Forgets the dead letters of `queue`, all or those with `ids`. `count` of the result says how many."""
        return await finish(inquire_steps(self._running(), PURGE, queue, ids, timeout))

    async def spooled_streams(self, *, timeout: Timeout = 5.0) -> SpoolAnswer:
        """How the queues and topics stand that spools of the realm have on disk, this peer's included: rows are
        `SpooledStream`. Here and below, who has not answered within `timeout` seconds is named in `unknown`."""
        return await finish(self._inspect_steps(STREAMS, timeout))

    async def spooled_cursors(self, *, timeout: Timeout = 5.0) -> SpoolAnswer:
        """The named positions in topics that spools of the realm keep: rows are `SpoolCursor`."""
        return await finish(self._inspect_steps(CURSORS, timeout))

    async def spooled_messages(
        self,
        stream: str,
        *,
        holder: bytes,
        first: int = 1,
        most: int = 1_000,
        settled: bool = False,
        timeout: Timeout = 5.0,
    ) -> SpoolAnswer:
        """Messages of a queue or topic that the spool of peer `holder` has, from number `first` on; nothing is taken.
        Rows are `SpooledMessage`, about 512 KiB of them or one that is larger, and `gaps` what the spool never got of
        topics; `next` is where to go on, 0 for the end."""
        steps = self._inspect_steps(
            MESSAGES, timeout, stream=stream, first=first, most=most, settled=settled, holder=holder
        )
        return await finish(steps)

    async def verify_spools(self, progress: Progress | None = None, *, timeout: Timeout = None) -> SpoolAnswer:
        """Has every spool of the realm read everything it has: rows are `SpoolProblem`, `count` is in bytes.
        `progress` hears how many bytes of how many were read."""
        return await finish(self._inspect_steps(VERIFY, timeout, progress=progress))

    async def purge_spools(self, queue: str, *, timeout: Timeout = 5.0) -> SpoolAnswer:
        """Removes all that waits in a queue at the spools of the realm, for good; `count` messages. Where some of it is
        in flight at a puller nothing is removed, and `problems` says so. Refused if nobody has that queue."""
        return await finish(self._purge_spools_steps(queue, timeout))

    async def forget_cursor(self, stream: str, cursor: str, *, timeout: Timeout = 5.0) -> SpoolAnswer:
        """Forgets a named position at the spools of the realm. Refused if there is none."""
        return await finish(self._forget_cursor_steps(stream, cursor, timeout))

    def __del__(self) -> None:
        engine: Engine | None = getattr(self, "_engine", None)
        if engine is not None and not (engine.closed or engine.forked or engine.failed):
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=1)


async def leave(close: Callable[..., Awaitable[None]], error: BaseException | None) -> None:
    """Closes; with an exception under way briefly, and what that raises becomes a note of it."""
    if error is None:
        await close()
        return
    try:
        await close(timeout=0.0 if isinstance(error, asyncio.CancelledError) else LEAVING)
    except Undelivered as undelivered:
        error.add_note(f"zq: {undelivered}")


class _Closing:
    """Whoever is entered is open already, and is closed when it is left."""

    @abstractmethod
    async def close(self, *, timeout: Timeout = 5.0) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await leave(self.close, error)


async def _opened(handle: _Closing, steps: Steps[None]) -> None:
    """Waits until the disk of a handle is open. If that fails, the handle is closed."""
    try:
        await finish(steps)
    except BaseException as error:
        await leave(handle.close, error)
        raise


class _AsyncSender(_Closing, Sender):
    """The waiting of Publisher and Pusher."""

    def __init__(self, peer: Peer, stream: Stream | Opening[Stream], name: str) -> None:
        super().__init__(stream, name)
        self._peer = peer
        assert peer._loop is not None
        self._loop = peer._loop
        self._thread = peer._thread
        self._until_yield = YIELD_EVERY

    def _check_open(self) -> None:
        super()._check_open()
        self._peer._check_loop()

    async def send(
        self,
        data: Any,
        *,
        headers: Headers | None = None,
        id: str | None = None,
        copy: bool = True,
        timeout: Timeout = None,
    ) -> None:
        """Takes the message. Published, it is in the ring and on its way to everybody who subscribes; pushed, it is
        held here until a puller confirms that it was processed.

        Waits while there is no room: the window is full, or a slow subscriber holds the topic back. Raises Timeout
        (then it was not taken), Refused for data that cannot be sent, Closed. `copy=False` promises that writable
        buffers in `data` stay as they are.
        """
        # While our loop runs in this thread no other does. CPython 3.11 asks the kernel to tell the running loop.
        if _get_ident() != self._thread or not self._loop.is_running():
            self._check_open()
        if headers is None and id is None and timeout is None:
            # What `_put` does, in place: a call more is a tenth of what a message costs.
            item = pack_plain(data)
            if item is not None:
                outgoing = self._outgoing
                items = outgoing.items
                if len(items) < outgoing.limit and len(item) <= SMALL:
                    items.append(item)
                    if not outgoing.marked:
                        self._mark(outgoing)
                    self._until_yield -= 1
                    if not self._until_yield:
                        self._until_yield = YIELD_EVERY
                        await asyncio.sleep(0)  # lets other tasks run; nothing is waited for
                    return
                await finish(self._put_steps(item, None, None))
                return
        steps = self._put(data, headers, id, copy, timeout)
        if steps is not None:
            await finish(steps)

    async def send_many(self, data: Iterable[Any], *, timeout: Timeout = None) -> int:
        """Sends each item; returns how many. `timeout` is for all of them: Timeout.sent says how many were taken."""
        return await finish(self._put_many(data, timeout))

    async def close(self, *, timeout: Timeout = 5.0) -> None:
        """Waits until all that was sent is confirmed, if this is the last handle of its name. Raises Undelivered."""
        await finish(self._peer._close_sender_steps(self, timeout))


class Publisher(_AsyncSender, PublisherCore):
    """A handle to publish on one topic."""

    async def flush(self, *, timeout: Timeout = 30.0) -> None:
        """Waits until all sent so far has arrived at all subscribers and every queue that is bound to the topic has
        settled it: then this peer need not live any longer for it. Raises Undelivered."""
        await finish(self._flush_steps(timeout))

    async def wait_for_subscribers(self, count: int = 1, *, timeout: Timeout = 30.0) -> None:
        """Waits until `count` subscriptions and bound queues match the topic. Raises Timeout."""
        await finish(self._wait_steps(count, timeout))


class Pusher(_AsyncSender, PusherCore):
    """A handle to push to one queue. One with an outbox can be awaited: then that is open."""

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await _opened(self, self._opened_steps(None))
        return self

    async def send(self, data: Any, **options: Unpack[SendOptions]) -> None:
        """Takes the message: it is held here until a puller confirms that it was processed.

        The options, all of them by name: `headers`, `id`, `copy` and `timeout` are those of Publisher.send.
        `lane` is "high", "normal" (the default) or "low": when several wait, they go 8:4:1. Of a `key`, a str, one
        message at a time is on its way, in the order sent, a nacked one before those that follow; meanwhile others
        overtake it. `delay` seconds pass before it goes; until then it takes room in the window, keeps `flush` and
        `close` waiting, and holds up nobody. A message that nobody has got after `ttl` seconds is dropped here and
        counted as `expired`. Both are measured by a clock that nobody sets, from when the message is taken.

        Waits while the window is full. Raises Timeout (then it was not taken), Refused for data or options that
        cannot be, Closed. With an outbox it waits until the message is synced there; then it raises SpoolFull, which is
        a Timeout, if the disk has no room, and SpoolDamaged if it fails.
        """
        if _get_ident() != self._thread or not self._loop.is_running():
            self._check_open()
        if not options:
            # What `_leave` does, in place. None of the options has a parameter of its own, as each costs every message
            # a look for its default.
            item = pack_plain(data)
            if item is not None:
                outgoing = self._outgoing
                items = outgoing.items
                if len(items) < outgoing.limit and len(item) <= SMALL:
                    items.append(item)
                    if not outgoing.marked:
                        self._mark(outgoing)
                    self._until_yield -= 1
                    if not self._until_yield:
                        self._until_yield = YIELD_EVERY
                        await asyncio.sleep(0)  # lets other tasks run; nothing is waited for
                    return
                await finish(self._put_steps(item, None, None))
                return
        steps = self._put_job(data, **options)
        if steps is not None:
            await finish(steps)

    async def send_many(self, data: Iterable[Any], **options: Unpack[SendOptions]) -> int:
        """Sends each item with these options; returns how many. `timeout` is for all of them: Timeout.sent says how
        many were taken."""
        return await finish(self._put_jobs(data, **options) if options else self._put_many(data, None))

    async def flush(self, *, until: Release = "stored", timeout: Timeout = 30.0) -> None:
        """Waits until all sent so far is confirmed: until it is "stored" by a spool or in an outbox, or processed; or
        until it is "processed" by pullers. Raises Undelivered; Refused for "processed" if a spool has some of it."""
        await finish(self._flush_steps(timeout, until))

    async def wait_for_pullers(self, count: int = 1, *, timeout: Timeout = 30.0) -> None:
        """Waits until `count` pullers of the queue are connected. Raises Timeout."""
        await finish(self._wait_steps(count, timeout))


class _AsyncReceiver(_Closing, Receiver):
    """The waiting of Subscriber and Puller."""

    _peer: Peer

    def _check_open(self) -> None:
        super()._check_open()
        self._peer._check_loop()

    async def receive(self, *, timeout: Timeout = None) -> Message:
        """The next message. Raises Timeout, Closed. Cancelling it never loses one."""
        if timeout is None and not self._closed:
            try:
                message: Message = self._inbox.handing.ready.popleft()
            except IndexError:
                pass
            else:
                return message
        return await finish(self._receive_steps(timeout))

    async def receive_many(self, most: int, *, timeout: Timeout = None) -> list[Message]:
        """Up to `most` messages that are here; waits for the first only. Raises Timeout, Closed."""
        return await finish(self._receive_many_steps(most, timeout))

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Every message as it comes; ends when this handle or its peer is closed here."""
        while True:
            ready = self._inbox.handing.ready
            try:
                while True:
                    yield ready.popleft()
            except IndexError:
                if self._more():
                    continue
                await asyncio.sleep(0)  # this batch is handed out; lets other tasks run, nothing is waited for
            try:
                message = await self.receive()
            except Closed:
                return
            yield message

    async def run(self, handler: Callable[[Message], object], *, concurrency: int = 1) -> None:
        """Calls `handler` (a function or a coroutine function) with each message, in `concurrency` tasks, until closed.

        Returning acks; an exception of the handler is logged and nacks with a delay that grows with the attempt.
        Cancelled, the messages at hand are given back.
        """
        if concurrency < 1:
            raise Refused(f"concurrency is at least 1, not {concurrency}")
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(self._work(handler))

    async def _work(self, handler: Callable[[Message], object]) -> None:
        async for message in self:
            try:
                result = handler(message)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                log.exception("the handler of %s failed with %r", self.name, message)
                message._fail(error, pause_after(message))
            except BaseException as interrupt:
                message.__exit__(type(interrupt), interrupt, None)
                raise
            else:
                message._finish()

    async def close(self, *, timeout: Timeout = 5.0) -> None:
        """Ends this handle: what is not settled goes back, and iterating over it ends. Idempotent."""
        await finish(self._peer._close_receiver_steps(self, timeout))


class Subscriber(_AsyncReceiver, SubscriberCore):
    """One subscription. Tasks that share it share its messages."""

    def __init__(
        self,
        peer: Peer,
        filters: Sequence[str],
        slow: Slow,
        patience: Timeout | Inherit,
        on_gap: Callable[[Gap], None] | None,
        durable: str | None,
        since: Since | None,
    ) -> None:
        super().__init__(peer._running(), " ".join(map(str, filters)))
        self._peer = peer
        peer._open_subscriber(self, filters, slow, patience, on_gap, durable, since)


class Puller(_AsyncReceiver, PullerCore):
    """One consumer of a queue. Tasks that share it share its messages."""

    def __init__(
        self,
        peer: Peer,
        queue: str,
        prefetch: int | None,
        prefetch_bytes: int,
        work_timeout: Timeout,
        topics: Sequence[str],
    ) -> None:
        super().__init__(peer._running(), queue)
        self._peer = peer
        peer._open_puller(self, queue, prefetch, prefetch_bytes, work_timeout, topics)

    async def unbind(self, *, timeout: Timeout = 5.0) -> None:
        """Closes this handle of a bound queue, and if nobody else binds that queue any more, has publishers forget it
        at once: what they still hold for it is dropped and counted as `unbound`. Without this they keep it for 60 s.

        Raises Refused if the puller names no topics, Timeout if some publisher has not confirmed: there it ends later.
        """
        await finish(self._peer._unbind_steps(self, timeout))


class Replier(_AsyncReceiver, ReplierCore):
    """A replier of a service: iterating yields each Request. Tasks that share it share its requests."""

    def __init__(self, peer: Peer, service: str) -> None:
        super().__init__(peer._running(), service)
        self._peer = peer
        peer._open_replier(self, service)

    async def run(self, handler: Callable[[Any], object], *, concurrency: int = 1) -> None:
        """Calls `handler` (a function or a coroutine function) with each request, in `concurrency` tasks, until closed.

        What it returns is the reply, unless it has replied itself; an exception is logged here, and its type and
        message are what the requester gets. Cancelled, the requests at hand fail.
        """
        await super().run(handler, concurrency=concurrency)

    async def _work(self, handler: Callable[[Any], object]) -> None:
        async for request in self:
            assert isinstance(request, Request)
            try:
                result = handler(request)
                if inspect.isawaitable(result):
                    result = await result
            except Exception as error:
                log.exception("the handler of %s failed with %r", self.name, request)
                self._fail(request, error)
            except BaseException:
                request.give_back()
                raise
            else:
                self._reply(request, result)


__all__ = ["Peer", "Publisher", "Puller", "Pusher", "Replier", "Request", "Subscriber"]


class Spool(_Closing, SpoolCore):
    """An open spool."""

    def __init__(
        self, peer: Peer, directory: Path, queues: Sequence[str], topics: Sequence[str], options: SpoolOptions
    ) -> None:
        super().__init__(peer._running(), directory, queues, topics, options)
        self._peer = peer
        self._open_later()

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await _opened(self, self._opened_steps(None))
        return self

    async def streams(self) -> list[SpooledStream]:
        """How each of its queues and topics stands on the disk, by kind and name."""
        await finish(self._opened_steps())
        return await asyncio.to_thread(self._shelf().streams)

    async def cursors(self) -> list[SpoolCursor]:
        """The named positions in its topics."""
        await finish(self._opened_steps())
        return await asyncio.to_thread(self._shelf().cursors)

    async def export(
        self,
        stream: str,
        *,
        first: int = 1,
        settled: bool = False,
        on_damage: OnDamage | None = None,
        on_gap: OnGap | None = None,
    ) -> AsyncIterator[SpooledMessage]:
        """What waits in a queue, or is kept of a topic, in order, as `SpoolDirectory.export`; nothing is taken."""
        await finish(self._opened_steps())
        shelf = self._shelf()
        messages = await asyncio.to_thread(
            shelf.export, stream, first=first, settled=settled, on_damage=on_damage, on_gap=on_gap
        )
        while page := await asyncio.to_thread(lambda: list(islice(messages, PAGE))):
            for message in page:
                yield message

    async def verify(self, progress: Progress | None = None) -> SpoolReport:
        """Reads everything that is on the disk, beside what goes on, and tells what is wrong. `progress` hears how
        many bytes of how many were read, in a thread."""
        await finish(self._opened_steps())
        return await asyncio.to_thread(self._shelf().verify, progress)

    async def purge(self, queue: str, *, timeout: Timeout = 30.0) -> int:
        """Removes all that waits in a queue for good, and says how many messages that were. Refused, and nothing is
        removed, if some of it is in flight at a puller, or if there is no such queue. It is on the disk when this
        returns; SpoolDamaged if the disk has not taken it: then it is delivered no more as long as this spool is open,
        and may be back when it is opened again."""
        return await finish(self._purge_steps(queue, timeout))

    async def close(self, *, timeout: Timeout = 5.0) -> None:
        """Syncs what has come, leaves the queues to their pushers, and lets go of the directory. Idempotent."""
        await finish(self._peer._close_spool_steps(self, timeout))
