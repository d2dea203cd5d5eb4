"""A member of a realm: all that a program can ask of it, with the contracts.

Long for that reason, and in the order of its twin in `zq.aio`; nothing else is here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from zq.blocking.closing import leave
from zq.blocking.receivers import Puller, Replier, Subscriber
from zq.blocking.senders import Publisher, Pusher
from zq.core.inbox import Slow
from zq.engine.engine import Engine
from zq.handles.dead import inquire_steps
from zq.handles.outgoing import PublisherCore, PusherCore
from zq.handles.requests import Survey, request_steps
from zq.handles.session import PeerCore
from zq.handles.since import Since
from zq.handles.steps import Progress, SendOptions, Timeout, deadline_after, finish
from zq.handles.watching import Watching
from zq.info import DeadLetters, Gap, Ledger, PeerEvent, SpoolAnswer
from zq.message import INHERIT, Headers, Inherit, Message
from zq.options import SpoolOptions
from zq.wire.frames import CURSORS, LIST, MESSAGES, PURGE, RETRY, STREAMS, VERIFY

if TYPE_CHECKING:
    from zq.blocking.spool import Spool

_UNLIMITED = SpoolOptions()


class Peer(PeerCore):
    """One member of a realm. Entering opens it, leaving closes it.

    Arguments that are None are taken from the environment (`ZQ_*`), the settings file, the defaults, in this order.
    Nothing configured, a peer meets those of the same user on the same machine. `key_file` opens TCP on `interfaces`
    to everyone who has the realm key in that file, and finds them by mDNS; `insecure=True` opens it to everybody.
    Thread-safe. Raises Refused for settings that cannot be.
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

    # --- life

    def open(self, *, timeout: Timeout = 10.0) -> Self:
        """Returns when this peer can be found. Raises AccessDenied for a host directory or key file that is not
        ours alone, Refused for a key file without a key, an interface that is not there, a port in use."""
        deadline_after(timeout)
        self._new_engine().start(timeout)
        return self

    def close(self, *, timeout: Timeout = 5.0) -> None:
        """Waits until what was sent is confirmed, gives back what was not settled, leaves the realm. Idempotent.

        Raises Undelivered when the time runs out; the peer is closed all the same.
        """
        deadline_after(timeout)  # refuses a bad one, and nothing is closed
        try:
            finish(self._close_steps(timeout))
        finally:
            if self._engine is not None and not self._engine.forked:
                self._engine.stop()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self.close, error, 5.0)

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
        (or this one), "drop-oldest" and "latest" drop here, counted. `on_gap` hears of holes, in the receiver's thread.

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
        queues, all of which go on their way. `window` and `window_bytes` have no meaning then. Opening reads the
        directory (made if it is not there) and raises what `spool` raises.
        """
        options = self._queue_options(queue, window, window_bytes, max_attempts, outbox)
        if options["outbox"] is None:
            return Pusher(self, self._queue_stream(queue, options), queue)
        return Pusher(self, self._outbox_stream(self._running(), queue, options), queue)

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

    def publish(self, topic: str, data: Any, *, headers: Headers | None = None, timeout: Timeout = None) -> None:
        """Publishes with the topic's stream as it is, or a new one with defaults; at full speed."""
        publisher: Publisher = self._shortcut(PublisherCore, topic, lambda: self._any_publisher(topic))
        if headers is None and timeout is None:
            publisher.send(data)
        else:
            publisher.send(data, headers=headers, timeout=timeout)

    def push(self, queue: str, data: Any, **options: Unpack[SendOptions]) -> None:
        """Pushes with the queue's stream as it is, or a new one with defaults; at full speed."""
        pusher: Pusher = self._shortcut(PusherCore, queue, lambda: self._any_pusher(queue))
        pusher.send(data, **options)

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

        Opening reads the directory (made if it is not there) and may take a second. Raises Refused for a directory
        with other things in it or of a newer format, AccessDenied, SpoolLocked if another process has it open,
        SpoolDamaged if it cannot be read.
        """
        from zq.blocking.spool import Spool  # few programs need it

        return self._keep_spool(Spool(self, Path(directory), queues, topics, options))

    # --- requests

    def request(
        self, service: str, data: Any = None, *, headers: Headers | None = None, timeout: Timeout = 5.0
    ) -> Message:
        """Asks one replier of `service`, the one with the fewest unanswered requests, and returns its reply.

        At most once: nothing that a program may have begun is ever asked again. Raises RemoteError when the replier
        failed, PeerLost when it was gone before it replied, NoPeer when nobody in the realm replies to `service`,
        Timeout, Refused for data that cannot be sent, for a bad name, and for one that is a queue's.
        """
        return finish(request_steps(self._running(), service, data, headers, timeout))

    def request_all(self, service: str, data: Any = None, *, timeout: Timeout = 5.0) -> Iterator[Message]:
        """Asks every replier of `service` that is known, and yields their replies as they come. Ends when each has
        replied, failed or gone, or after `timeout` seconds. Raises NoPeer when there is none."""
        survey = Survey(self._running(), service, data, timeout)
        try:
            finish(survey.begin_steps())
            while (reply := finish(survey.next_steps())) is not None:
                yield reply
        finally:
            survey.close()

    def replier(self, service: str) -> Replier:
        """A new handle that gets its share of the requests to `service`."""
        return Replier(self, service)

    def wait_for_repliers(self, service: str, count: int = 1, *, timeout: Timeout = 30.0) -> None:
        """Waits until `count` repliers of `service` are known, those of this peer included. Raises Timeout."""
        finish(self._wait_for_repliers_steps(service, count, timeout))

    # --- the realm

    def settle(self, *, timeout: Timeout = 5.0) -> None:
        """Waits until everybody who can be found has been met, or had a second to answer. Raises Timeout."""
        finish(self._settle_steps(timeout))

    def wait_for_peers(self, count: int, *, timeout: Timeout = 30.0) -> None:
        """Waits until `count` other peers are up. Raises Timeout."""
        finish(self._wait_for_peers_steps(count, timeout))

    def watch(self, *, timeout: Timeout = None) -> Iterator[PeerEvent]:
        """What happens to the other peers, beginning with those already here. Ends when the peer is closed, or after
        `timeout` seconds without an event."""
        deadline_after(timeout)
        watching = Watching(self._running())
        try:
            while (event := finish(watching.next_steps(timeout))) is not None:
                yield event
        finally:
            watching.close()

    def strangers(self, *, ask: float = 0.0) -> int:
        """How many peers are near that this one cannot meet: of another realm, or with another key. They are known by
        what they tell everybody, which is no name. Over mDNS, who was asked by somebody else within the last second is
        silent for as long (RFC 6762, section 6), unless he is asked in person: `ask` seconds are spent on that.
        Refused for what is no such time. Thread-safe."""
        if ask:
            deadline_after(ask)  # refuses a bad one
            self._ask_around(ask)
        return super().strangers()

    def ledger(self, *, realm: bool = False, timeout: Timeout = 5.0) -> Ledger:
        """The counters that account for every message of this peer; with `realm` those of all others as well.
        Who has not answered within `timeout` seconds is named in `unknown`."""
        return finish(self._ledger_steps(realm, timeout))

    def dead_letters(self, queue: str | None = None, *, ids: Iterable[str] = (), timeout: Timeout = 5.0) -> DeadLetters:
        """The dead letters that the peers of the realm keep, this one included: of `queue`, or of all queues; with
        `ids` only those. Who has not answered within `timeout` seconds is named in `unknown`."""
        return finish(inquire_steps(self._running(), LIST, queue, ids, timeout))

    def retry_dead_letters(self, queue: str, *, ids: Iterable[str] = (), timeout: Timeout = 5.0) -> DeadLetters:
        """Pushes the dead letters of `queue` again, all or those with `ids`, each with its old id and attempt 1.

        Each is pushed by the peer that keeps it, if that still pushes to `queue`. What is on its way to a puller of
        `<queue>.dead` stays dead. `count` of the result says how many were pushed.
        """
        return finish(inquire_steps(self._running(), RETRY, queue, ids, timeout))

    def purge_dead_letters(self, queue: str, *, ids: Iterable[str] = (), timeout: Timeout = 5.0) -> DeadLetters:
        """Forgets the dead letters of `queue`, all or those with `ids`. `count` of the result says how many."""
        return finish(inquire_steps(self._running(), PURGE, queue, ids, timeout))

    def spooled_streams(self, *, timeout: Timeout = 5.0) -> SpoolAnswer:
        """How the queues and topics stand that spools of the realm have on disk, this peer's included: rows are
        `SpooledStream`. Here and below, who has not answered within `timeout` seconds is named in `unknown`."""
        return finish(self._inspect_steps(STREAMS, timeout))

    def spooled_cursors(self, *, timeout: Timeout = 5.0) -> SpoolAnswer:
        """The named positions in topics that spools of the realm keep: rows are `SpoolCursor`."""
        return finish(self._inspect_steps(CURSORS, timeout))

    def spooled_messages(
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
        return finish(steps)

    def verify_spools(self, progress: Progress | None = None, *, timeout: Timeout = None) -> SpoolAnswer:
        """Has every spool of the realm read everything it has: rows are `SpoolProblem`, `count` is in bytes.
        `progress` hears how many bytes of how many were read."""
        return finish(self._inspect_steps(VERIFY, timeout, progress=progress))

    def purge_spools(self, queue: str, *, timeout: Timeout = 5.0) -> SpoolAnswer:
        """Removes all that waits in a queue at the spools of the realm, for good; `count` messages. Where some of it is
        in flight at a puller nothing is removed, and `problems` says so. Refused if nobody has that queue."""
        return finish(self._purge_spools_steps(queue, timeout))

    def forget_cursor(self, stream: str, cursor: str, *, timeout: Timeout = 5.0) -> SpoolAnswer:
        """Forgets a named position at the spools of the realm. Refused if there is none."""
        return finish(self._forget_cursor_steps(stream, cursor, timeout))

    def __del__(self) -> None:
        engine: Engine | None = getattr(self, "_engine", None)
        if engine is not None and not (engine.closed or engine.forked or engine.failed):
            warnings.warn(f"{self!r} was not closed", ResourceWarning, source=self, stacklevel=1)
