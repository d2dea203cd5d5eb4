"""A member of a realm, for one event loop: all that a program can ask of it, with the contracts.

Long for that reason, and in the order of its twin in `zq.blocking`; nothing else is here.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from zq.aio.closing import leave
from zq.aio.receivers import Puller, Replier, Subscriber
from zq.aio.senders import Publisher, Pusher
from zq.aio.spool import Spool
from zq.aio.waiting import finish
from zq.core.inbox import Slow
from zq.engine.engine import Engine
from zq.errors import Refused
from zq.handles.dead import inquire_steps
from zq.handles.outgoing import PublisherCore, PusherCore
from zq.handles.requests import Survey, request_steps
from zq.handles.session import PeerCore
from zq.handles.since import Since
from zq.handles.steps import Progress, SendOptions, Timeout, deadline_after
from zq.handles.watching import Watching
from zq.info import DeadLetters, Gap, Ledger, PeerEvent, SpoolAnswer
from zq.message import INHERIT, Headers, Inherit, Message
from zq.options import SpoolOptions
from zq.wire.frames import CURSORS, LIST, MESSAGES, PURGE, RETRY, STREAMS, VERIFY

_UNLIMITED = SpoolOptions()


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
        if headers is None and timeout is None:
            await publisher.send(data)
        else:
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
