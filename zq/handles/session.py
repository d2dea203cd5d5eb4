"""A peer without its waiting: its settings, its engine, its streams, and the order in which it leaves."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from zq.core.account import add_up
from zq.core.cursors import PASSING
from zq.core.departures import last_words
from zq.core.inbox import Inbox, Slow, SubscriptionInbox
from zq.core.intake import Intake
from zq.core.meeting import ANSWER
from zq.core.pulling import Puller
from zq.core.reception import INHERIT_PATIENCE, Subscription, patience_on_wire
from zq.core.replying import RequestInbox
from zq.core.roster import Remote
from zq.core.spooled import Spooled
from zq.core.standing import PACES, QUEUE, TOPIC, Lag, from_entry, merged
from zq.engine.engine import Engine
from zq.engine.wake import Waiters
from zq.errors import Closed, Error, Refused, Timeout, Undelivered
from zq.handles.bound import Rest
from zq.handles.deposits import Deposits
from zq.handles.incoming import DurableInbox, PullerCore, Receiver, SubscriberCore
from zq.handles.opening import Opening
from zq.handles.outbox import OutboxDirectory
from zq.handles.outgoing import _SHUT, Arrival, PublisherCore, PusherCore, Sender, Stream, receipt_of
from zq.handles.replying import ReplierCore
from zq.handles.since import Since, check_cursor, position_of
from zq.handles.spool import SpoolCore
from zq.handles.steps import Steps, Wait, deadline_after, finish, until, waiting
from zq.info import Consumer, Departed, Gap, Ledger, PeerEvent, PeerInfo, QueueInfo, SpoolAnswer, TopicInfo
from zq.message import INHERIT, Inherit
from zq.options import Settings, load
from zq.wire.batch import ATTEMPT_MOST
from zq.wire.names import Filter, check_name, check_not_dead, check_queue

SpoolT = TypeVar("SpoolT", bound=SpoolCore)
POLICIES = ("wait", "drop-oldest", "latest")
READ_BYTES = 64 << 20  # bytes that a durable subscription may have here unsettled; a puller's default
SYNC = 0.5  # s that a spool has at least to end in order
LEAVING = 1.0  # s that leaving with an exception under way may take


class PeerCore:
    """What zq.Peer and zq.aio.Peer share. Thread-safe but for opening and closing."""

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

    # --- senders

    def _stream(
        self, table: dict[str, Stream], name: str, options: Mapping[str, Any], make: Callable[[], Stream]
    ) -> Stream:
        """The stream of that name with one view more."""
        with self._lock:
            stream = table.get(name)
            if stream is None:
                stream = table[name] = make()
            elif differing := {key: value for key, value in options.items() if stream.options[key] != value}:
                has = {key: stream.options[key] for key in differing}
                raise Refused(f"{name} is open with {has}, not {differing}; all handles of one name share one stream")
            stream.views += 1  # within: the last of the others may be closing just now
            return stream

    def _view(self, table: dict[str, Stream], name: str) -> Stream | None:
        """The stream of that name with one view more, whatever its options; None if there is none."""
        with self._lock:
            stream = table.get(name)
            if stream is not None:
                stream.views += 1
            return stream

    def _topic_stream(self, topic: str, *, retain: bool, patience: float | None) -> Stream:
        check_not_dead(check_name(topic, "topic"), "topic")
        if patience is not None and not (isinstance(patience, int | float) and patience >= 0):
            raise Refused(f"patience is seconds >= 0, or None for ever; not {patience!r}")
        engine = self._running()
        options = {"retain": bool(retain), "patience": patience}
        waits = patience_on_wire(patience)

        def make() -> Stream:
            core = engine.call(lambda: engine.node.publish_topic(topic, retain=retain, patience=waits))
            return Stream(engine, core, options)

        return self._stream(self._topics, topic, options, make)

    @staticmethod
    def _queue_options(
        queue: str, window: int, window_bytes: int, max_attempts: int, outbox: Path | str | None
    ) -> dict[str, Any]:
        check_queue(queue)
        if not isinstance(max_attempts, int) or not 1 <= max_attempts <= ATTEMPT_MOST:
            raise Refused(
                f"max_attempts is a whole number from 1 to {ATTEMPT_MOST:,}, not {max_attempts!r}; 1 delivers once, "
                "and gives up when that fails"
            )
        for what, value in (("window", window), ("window_bytes", window_bytes)):
            if not isinstance(value, int) or value < 1:
                raise Refused(f"{what} is a whole number >= 1, not {value!r}")
        if outbox is not None and not isinstance(outbox, str | os.PathLike):
            raise Refused(f"outbox is a directory, not {outbox!r:.80}")
        directory = None if outbox is None else Path(outbox).absolute()
        return {"window": window, "window_bytes": window_bytes, "max_attempts": max_attempts, "outbox": directory}

    def _queue_stream(self, queue: str, options: Mapping[str, Any]) -> Stream:
        engine = self._running()
        node = engine.node
        given = {name: value for name, value in options.items() if name != "outbox"}

        def make() -> Stream:
            core = engine.call(lambda: node.push(queue, **given, now=node.now))
            return Stream(engine, core, options)

        return self._stream(self._queues, queue, options, make)

    def _opened_stream(self, queue: str, options: Mapping[str, Any]) -> Stream | None:
        """None if there is none of that name. Refused if its options are others."""

        def none() -> Stream:
            raise LookupError

        with contextlib.suppress(LookupError):
            return self._stream(self._queues, queue, options, none)
        if waiting.simulated:
            raise Error("an outbox is on a real disk; a simulated network has none")
        return None

    def _outbox_stream(self, engine: Engine, queue: str, options: Mapping[str, Any]) -> Stream:
        """Waits for the disk, with no lock held that somebody needs who opens nothing."""
        directory: Path = options["outbox"]
        with self._disks:
            stream = self._opened_stream(queue, options)
            if stream is not None:
                return stream
            with self._lock:
                box = self._outboxes.get(directory)
                if box is not None:
                    box.users += 1  # already: who closes it now leaves it open
            if box is None:
                box = OutboxDirectory(engine, directory)
                with self._lock:
                    box.users += 1
                    self._outboxes[directory] = box
            try:
                spooled = box.queue(queue, options["max_attempts"])
                return self._stream(
                    self._queues, queue, options, lambda: self._deposit(engine, spooled, directory, options)
                )
            except BaseException:
                self._leave_box(directory)
                self._close_boxes(engine)
                raise

    @staticmethod
    def _deposit(engine: Engine, spooled: Spooled, directory: Path, options: Mapping[str, Any]) -> Stream:
        assert spooled.intake is not None
        stream = Stream(engine, spooled.intake, options)
        stream.deposits = Deposits(stream, spooled, directory)
        return stream

    def _leave_box(self, directory: Path) -> None:
        """One queue of it less; without any it is to be closed."""
        with self._lock:
            box = self._outboxes.get(directory)
            if box is not None:
                box.users -= 1
                if not box.users:
                    self._ending.append(self._outboxes.pop(directory))

    def _close_boxes(self, engine: Engine) -> None:
        """Those that nobody pushes to; all of them if the peer is closed, which has closed those that it had."""
        with self._lock:
            boxes, self._ending = self._ending, []
            if engine.closed:
                boxes += self._outboxes.values()
                self._outboxes = {}
        for box in boxes:
            finish(box._close_steps(SYNC))

    def _outbox_later(self, queue: str, options: Mapping[str, Any]) -> Stream | Opening[Stream]:
        """Begins to open it in a thread, if it is not open; closing the peer gives it up."""
        engine = self._running()

        def undo(stream: Stream) -> None:
            finish(self._close_sender_steps(PusherCore(stream, queue), SYNC))
            self._close_boxes(engine)

        stream = self._opened_stream(queue, options)
        if stream is not None:
            return stream
        what = f"the outbox {options['outbox']}"
        opening = Opening(engine, what, lambda: self._outbox_stream(engine, queue, options), undo)
        with self._lock:
            self._openings = [*[other for other in self._openings if not other.over], opening]
        return opening

    def _close_sender_steps(self, sender: Sender, timeout: float | None) -> Steps[None]:
        """The last view of a stream waits until all that was sent is confirmed; then the stream is withdrawn."""
        deadline = deadline_after(timeout)
        engine = sender._engine
        if sender.closed:
            return
        opening = sender._opening
        if opening is not None and (opening.give_up() or opening.failed):
            sender._outgoing = _SHUT
            return
        sender._adopt()
        if engine.closed or engine.forked or engine.failed:
            sender._outgoing = _SHUT
            return
        done = self._close_view(sender, None)
        try:
            while not done:
                left = sender._stream.left
                if isinstance(sender, PublisherCore):
                    yield from hear_everyone(engine, deadline)
                remaining = None if deadline is None else max(deadline - waiting.now(), 0.0)
                if isinstance(sender, PublisherCore):
                    yield from sender._flush_steps(remaining)
                elif isinstance(sender, PusherCore):
                    yield from sender._leave_steps(remaining)
                done = self._close_view(sender, left)
        finally:
            if not done:
                self._close_view(sender, sender._stream.left)
            with self._lock:
                boxes, self._ending = self._ending, []
            for box in boxes:
                yield from box._close_steps(None if deadline is None else max(deadline - time.monotonic(), SYNC))

    def _close_view(self, sender: Sender, left: int | None) -> bool:
        """Closes it, unless it is the last view and somebody has to wait first for what this stream has sent.

        `left` is what the stream's was when all was last confirmed: views that have closed since did not wait.
        """
        stream = sender._stream
        with self._lock:
            if sender.closed:
                return True
            last = stream.views == 1
            if last and stream.left != left:
                return False
            sender._outgoing = _SHUT
            stream.views -= 1
            stream.left += 1
            if last and not stream.engine.closed:
                self._withdraw(sender, stream)
            return True

    def _withdraw(self, sender: Sender, stream: Stream) -> None:
        engine = stream.engine
        table = self._topics if isinstance(sender, PublisherCore) else self._queues
        if table.get(sender.name) is stream:
            del table[sender.name]
            stream.release()
            if isinstance(sender, PublisherCore):
                engine.call(lambda: engine.node.unpublish_topic(sender._core))
            elif stream.deposits is not None:
                self._leave_box(stream.deposits.directory)
            elif isinstance(sender, PusherCore):
                engine.call(lambda: engine.node.unpush(sender._box, engine.node.now))

    def _shortcut(self, kind: type[Sender], name: str, make: Callable[[], Any]) -> Any:
        """The handle behind `publish` and `push`; it lives as long as the peer."""
        sender = self._shortcuts.get((kind, name))
        if sender is None or sender.closed:
            with self._lock:
                sender = self._shortcuts.get((kind, name))
                if sender is None or sender.closed:  # no other thread was faster
                    sender = self._shortcuts[kind, name] = make()
        return sender

    # --- receivers

    def _open_subscriber(
        self,
        handle: SubscriberCore,
        filters: Iterable[str],
        slow: Slow,
        patience: float | Inherit | None,
        on_gap: Callable[[Gap], None] | None,
        durable: str | None,
        since: Since | None,
    ) -> None:
        engine = self._running()
        checked = [Filter(text) for text in filters]
        for filter in checked:
            check_not_dead(filter.text, "filter")
        if not checked:
            raise Refused("a subscriber needs at least one filter; '**' is every topic")
        if slow not in POLICIES:
            raise Refused(f"slow is one of {', '.join(POLICIES)}; not {slow!r}")
        if patience is INHERIT:
            waits = INHERIT_PATIENCE
        elif patience is None or (isinstance(patience, int | float) and patience >= 0):
            waits = patience_on_wire(patience)
        else:
            raise Refused(f"patience is seconds >= 0, None for ever or zq.INHERIT; not {patience!r}")
        handle._on_gap = on_gap
        if durable is not None or since is not None:
            if slow != "wait":
                which = "durable" if durable is not None else "since"
                raise Refused(
                    f"slow={slow!r} is not for a subscription with {which}=: its spool keeps what it has not taken"
                )
            self._read(handle, checked, durable, since)
        else:
            inbox = SubscriptionInbox(slow, handle._waiters.wake)
            handle._inbox = inbox
            node = engine.node
            handle.attach(engine.call(lambda: node.subscribe(checked, inbox, waits, node.now)))
        with self._lock:
            self._receivers.append(handle)

    def _read(
        self, handle: SubscriberCore, filters: Sequence[Filter], durable: str | None, since: Since | None
    ) -> None:
        """From a spool, by a cursor; without `durable` by one that nobody else knows."""
        name = PASSING + os.urandom(8).hex() if durable is None else check_cursor(durable)
        begin = None if since is None else position_of(since)
        inbox = DurableInbox(handle._waiters.wake)
        inbox.note = handle._note
        handle._inbox = inbox
        engine = self._running()
        node, lasting = engine.node, durable is not None
        handle.attach_durable(
            engine.call(
                lambda: node.read(name, filters, begin, inbox, lasting=lasting, prefetch_bytes=READ_BYTES, now=node.now)
            )
        )

    def _open_puller(
        self,
        handle: PullerCore,
        queue: str,
        prefetch: int | None,
        prefetch_bytes: int,
        work_timeout: float | None,
        topics: Iterable[str],
    ) -> None:
        engine = self._running()
        check_name(queue, "queue")
        if isinstance(topics, str):
            raise Refused(f"topics are a sequence of filters, as in topics=[{topics!r}]")
        filters = [Filter(text) for text in topics]
        if filters:
            check_queue(queue)
        for filter in filters:
            check_not_dead(filter.text, "filter")
        for what, value in (("prefetch", prefetch), ("prefetch_bytes", prefetch_bytes)):
            if not (value is None and what == "prefetch") and (not isinstance(value, int) or value < 1):
                raise Refused(f"{what} is a whole number >= 1, not {value!r}")
        if work_timeout is not None and not (isinstance(work_timeout, int | float) and 0 < work_timeout < math.inf):
            raise Refused(f"work_timeout is seconds > 0, or None for as long as it takes; not {work_timeout!r}")
        inbox = Inbox(handle._waiters.wake)
        inbox.note = handle._note
        handle._inbox = inbox
        node = engine.node
        handle.attach(
            engine.call(
                lambda: node.pull(
                    queue,
                    inbox,
                    prefetch=prefetch,
                    prefetch_bytes=prefetch_bytes,
                    work_timeout=work_timeout,
                    topics=filters,
                    now=node.now,
                )
            )
        )
        with self._lock:
            self._receivers.append(handle)

    def _open_replier(self, handle: ReplierCore, service: str) -> None:
        engine = self._running()
        check_name(service, "service")
        inbox = RequestInbox(handle._waiters.wake)
        inbox.note = handle._note
        handle._inbox = inbox
        handle.attach(engine.call(lambda: engine.node.reply_to(service, inbox)))
        with self._lock:
            self._receivers.append(handle)

    def _close_receiver_steps(self, receiver: Receiver, timeout: float | None) -> Steps[None]:
        deadline_after(timeout)
        with self._lock:
            if receiver in self._receivers:
                self._receivers.remove(receiver)
        if isinstance(receiver, PullerCore | SubscriberCore | ReplierCore):
            yield from receiver._close_steps(timeout)

    def _unbind_steps(self, puller: PullerCore, timeout: float | None) -> Steps[None]:
        """Closes it; then everybody is told that the queue need not be bound any more."""
        deadline = deadline_after(timeout)
        if not puller._core.filters:
            raise Refused(f"the puller of {puller.name} binds it to no topics; just close it")
        yield from self._close_receiver_steps(puller, timeout)
        engine = puller._engine
        if engine.closed or engine.forked or engine.failed:
            return
        node = engine.node
        version = engine.call(lambda: node.unbind(puller.name, node.now))
        told = yield from until(engine, lambda: node.announcement.has_entries(version), deadline)
        engine.call(lambda: node.unbound(puller.name))
        if not told:
            raise Timeout(f"not all peers know within {timeout} s that {puller.name} is not bound any more")

    # --- spools

    def _inspect_steps(self, action: int, timeout: float | None, **options: Any) -> Steps[SpoolAnswer]:
        from zq.handles.look import inspect_steps  # with all that reads a disk: few programs need it

        return inspect_steps(self._running(), action, timeout, **options)

    def _purge_spools_steps(self, queue: str, timeout: float | None) -> Steps[SpoolAnswer]:
        from zq.handles.look import purge_steps  # the same

        return purge_steps(self._running(), queue, timeout)

    def _forget_cursor_steps(self, stream: str, cursor: str, timeout: float | None) -> Steps[SpoolAnswer]:
        from zq.handles.look import forget_steps  # the same

        return forget_steps(self._running(), stream, cursor, timeout)

    def _keep_spool(self, spool: SpoolT) -> SpoolT:
        with self._lock:
            self._spools.append(spool)
        return spool

    def _close_spool_steps(self, spool: SpoolCore, timeout: float | None) -> Steps[None]:
        deadline_after(timeout)
        with self._lock:
            if spool in self._spools:
                self._spools.remove(spool)
        yield from spool._close_steps(timeout)

    # --- the realm

    def peers(self) -> list[PeerInfo]:
        """The other peers of the realm, as they are now; those of another protocol version as `incompatible`."""
        engine = self._running()

        def look() -> list[PeerInfo]:
            node = engine.node
            return [
                remote.info(node.now)
                for remote in node.meeting.roster
                if remote.joined_at is not None or remote.incompatible
            ]

        return engine.call(look)

    def strangers(self) -> int:
        """How many peers are near that this one cannot meet: of another realm, or with another key. They are known
        by what they tell everybody, which is no name."""
        engine = self._running()
        return engine.call(engine.strangers)

    def _wait_for_peers_steps(self, count: int, timeout: float | None) -> Steps[None]:
        deadline = deadline_after(timeout)
        engine = self._running()
        if not (yield from until(engine, lambda: engine.node.has_up(count) or count <= 0, deadline)):
            raise Timeout(f"fewer than {count} other peers in realm {self.realm} within {timeout} s")

    def _wait_for_repliers_steps(self, service: str, count: int, timeout: float | None) -> Steps[None]:
        check_name(service, "service")
        deadline = deadline_after(timeout)
        engine = self._running()
        requesting = engine.node.requesting
        if not (yield from until(engine, lambda: len(requesting.repliers(service)) >= count, deadline)):
            raise Timeout(f"fewer than {count} repliers of {service} in realm {self.realm} within {timeout} s")

    def _settle_steps(self, timeout: float | None) -> Steps[None]:
        deadline = deadline_after(timeout)
        engine = self._running()
        if not (yield from until(engine, engine.node.is_settled, deadline)):
            raise Timeout(f"realm {self.realm} has not settled within {timeout} s")

    def topics(self) -> list[TopicInfo]:
        """Every topic that is published in the realm, by this peer too, by name."""
        engine = self._running()
        return engine.call(lambda: list_topics(engine))

    def queues(self) -> list[QueueInfo]:
        """Every queue that is pushed to or pulled from in the realm, by this peer too, by name."""
        engine = self._running()
        return engine.call(lambda: list_queues(engine))

    def _ledger_steps(self, realm: bool, timeout: float | None) -> Steps[Ledger]:
        deadline = deadline_after(timeout)
        engine = self._running()
        node = engine.node
        if not realm:
            return engine.call(lambda: node.ledger(node.now))

        def ask() -> tuple[int, dict[bytes, Departed]]:
            asked = {remote.id: last_words(remote) for remote in node.meeting.roster if remote.joined_at is not None}
            return node.questions.ask(asked, node.now), asked

        request, asked = engine.call(ask)
        replies = node.questions.replies(request)

        def complete() -> bool:
            return all(id in replies or node.meeting.roster.get(id) is None for id in asked)

        yield from until(engine, complete, deadline)

        def gather() -> Ledger:
            node.questions.forget(request)
            return node.ledger(node.now)

        mine = engine.call(gather)
        others = sorted(replies.values(), key=lambda ledger: (ledger.name, ledger.peer))
        return add_up(mine, others, [words for id, words in asked.items() if id not in replies])

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

    Who does not answer within a second is not waited for.
    """
    node = engine.node

    def ask() -> int:
        engine.look_around()
        return node.announcement.ask_for_entries(node.now)

    version = engine.call(ask)
    patience = waiting.now() + ANSWER
    deadline = patience if deadline is None else min(deadline, patience)
    yield from until(engine, lambda: node.is_settled() and node.announcement.has_entries(version), deadline)


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


class Standings:
    """How all peers of the realm keep up: this one as it is, the others as they have told last. Engine's thread."""

    def __init__(self, engine: Engine) -> None:
        node = engine.node
        others = [from_entry(remote.entry) for remote in node.meeting.roster.up() if remote.entry]
        everyone = [node.announcement.standing(), *others]
        self._engine = engine
        self._lags: dict[tuple[int, str], list[Lag]] = {}
        self._drops: dict[tuple[int, str], dict[str, int]] = {}
        for each in everyone:
            for lag in each.lags:
                self._lags.setdefault((lag.kind, lag.name), []).append(lag)
            for drop in each.drops:
                reasons = self._drops.setdefault((drop.kind, drop.name), {})
                reasons[drop.reason] = reasons.get(drop.reason, 0) + drop.messages

    def consumers(self, kind: int, name: str) -> tuple[Consumer, ...]:
        return tuple(
            Consumer(peer=lag.peer, name=self._name(lag.peer), lag=lag.messages, pace=PACES[lag.pace])
            for lag in merged(self._lags.get((kind, name), ()))
        )

    def _name(self, peer: bytes) -> str:
        """Somebody may be connected to others and not to us."""
        known = peer == self._engine.id or peer in self._engine.node.meeting.roster
        return self._engine.name_of(peer) if known else peer.hex()[:8]

    def dropped(self, kind: int, name: str) -> dict[str, int]:
        return self._drops.get((kind, name), {})


def _cursors_of(engine: Engine, topic: str) -> list[Consumer]:
    """Those of spools that keep the topic, if they lag, those that lag most first."""
    node = engine.node
    rows = [(engine.id, node.streams.rows())]
    rows += [(remote.id, remote.entry.streams) for remote in node.meeting.roster.up() if remote.entry]
    found = [
        Consumer(peer=peer, name=f"{cursor}@{text}", lag=lag, pace="up")
        for peer, streams in rows
        for text, _, _, cursors in streams
        if Filter(str(text)).matches(topic)
        for cursor, lag, _ in cursors  # type: ignore[attr-defined]
        if lag and not cursor.startswith(PASSING)
    ]
    return sorted(found, key=lambda consumer: (-consumer.lag, consumer.name))


def list_topics(engine: Engine) -> list[TopicInfo]:
    """Engine's thread."""
    node = engine.node
    remotes: Sequence[Remote] = node.meeting.roster.up()
    published: dict[str, list[int]] = {}
    for topic in node.open_topics:
        published.setdefault(topic.name, []).append(topic.head)
    for remote in remotes:
        for name, head in remote.entry.topics if remote.entry else ():
            published.setdefault(name, []).append(head)
    filters = [{Filter(row[0]) for row in remote.entry.filters} for remote in remotes if remote.entry]
    filters.append({filter for subscription in node.receptions for filter in subscription.filters})
    bound: dict[str, set[Filter]] = {}
    for rows in [node.pulling.binds(), *(remote.entry.binds for remote in remotes if remote.entry)]:
        for queue, _, texts in rows:
            bound.setdefault(str(queue), set()).update(map(Filter, texts))
    filters.extend(bound.values())
    standings = Standings(engine)
    infos: list[TopicInfo] = []
    for name, heads in sorted(published.items()):
        consumers = (*standings.consumers(TOPIC, name), *_cursors_of(engine, name))
        infos.append(
            TopicInfo(
                name=name,
                publishers=len(heads),
                subscribers=sum(any(filter.matches(name) for filter in those) for those in filters),
                published=sum(heads),
                lag=max((consumer.lag for consumer in consumers), default=0),
                slow=tuple(sorted({consumer.name for consumer in consumers if consumer.pace != "up"})),
                consumers=consumers,
                dropped=standings.dropped(TOPIC, name),
            )
        )
    return infos


def list_queues(engine: Engine) -> list[QueueInfo]:
    """Engine's thread."""
    node = engine.node
    pushes: dict[str, list[tuple[int, float]]] = {}
    pulls: dict[str, int] = {}
    entries = [(remote.entry.pushes, node.now - remote.entry_at) for remote in node.meeting.roster.up() if remote.entry]
    for rows, since in [(node.announcement.held(node.now), 0.0), *entries]:
        for queue, held, age in rows:
            pushes.setdefault(str(queue), []).append((held, age + since))  # if it moves, there is a newer entry
    for rows in [node.pulling.rows(), *(remote.entry.pulls for remote in node.meeting.roster.up() if remote.entry)]:
        for queue, _ in rows:
            pulls[str(queue)] = pulls.get(str(queue), 0) + 1
    standings = Standings(engine)
    infos: list[QueueInfo] = []
    for name in sorted({*pushes, *pulls}):
        held = pushes.get(name, [])
        consumers = standings.consumers(QUEUE, name)
        infos.append(
            QueueInfo(
                name=name,
                pushers=len(held),
                pullers=pulls.get(name, 0),
                depth=sum(count for count, _ in held),
                lag=max((age for count, age in held if count), default=0.0),
                slow=tuple(sorted({consumer.name for consumer in consumers if consumer.pace != "up"})),
                consumers=consumers,
                dropped=standings.dropped(QUEUE, name),
            )
        )
    return infos


__all__ = ["Error", "PeerCore", "Watching"]
