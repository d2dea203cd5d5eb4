"""Subscribers and pullers: from the batches in an inbox to messages in the program's hands, and back by settling.

Handing out survives an interrupt between any two steps: a batch is moved to `taken` in one step and made the one
that is handed out in another; a caller that finds one at the end of `taken` which is not being handed out goes on
with it. A batch is decoded a few messages at a time (see zq.wire.reader). Whoever decodes takes the reader out first
and puts it back together with what it has read, in one step; who finds it gone begins anew behind what was handed out.

It is longer than most: taking, decoding, handing out and giving back share the order of steps said above.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count, repeat
from types import TracebackType
from typing import Any

from zq.core.backoff import backoff
from zq.core.durable import Durable
from zq.core.inbox import Handing, Inbox
from zq.core.node import Stream
from zq.core.puller import Puller
from zq.core.receiving import ReceivingLink, Settled
from zq.core.subscription import Subscription
from zq.engine.engine import Engine
from zq.engine.wake import Waiters
from zq.errors import Closed, NoPeer, Refused, Timeout
from zq.handles.steps import Steps, Wait, deadline_after, until, waiting
from zq.info import Gap
from zq.logs import Logger
from zq.message import Message
from zq.wire.batch import EXTRA, GAP, PARTS, Batch
from zq.wire.data import Malformed, unpack
from zq.wire.dead import REASON_MOST
from zq.wire.frames import NACKED, REJECTED, RETURNED
from zq.wire.kept import gaps_in
from zq.wire.reader import CHUNK, Reader

log = Logger("zq.handles")

NOTE_AFTER = 2_048  # messages handed out until the engine is woken to tell the publishers; an eighth of their window
NOTE_BYTES = 8 << 20  # the same in bytes
LITTLE = 16 << 10  # bytes of a frame that may wait for being counted as handed out
ERROR_MOST = 200  # characters of a handler's exception that its message's holder is told

_UNUSUAL = GAP | EXTRA | PARTS
_popleft = deque.popleft


def _only(item: Batch | Gap) -> list[Any]:
    """The data of a batch that has one message, as nearly every batch has when nothing piles up: that is decoded before
    it is taken, with less ado. Empty if it has others, or does not decode."""
    if not isinstance(item, Batch) or item.count != 1 or item.skip or item.flags & _UNUSUAL:
        return []
    try:
        return unpack(item.body, 1)
    except Malformed:
        return []  # it is told when it has been taken


def _note(link: ReceivingLink) -> None:
    """Something was settled on it, and the engine does not know."""
    link.noted = True
    try:
        link.puller.inbox.note()
    except BaseException:
        link.noted = False  # interrupted: who settles the next one tells it
        raise


class WorkMessage(Message):
    """A message of a queue: somebody holds it until it is settled."""

    __slots__ = ("_settled",)

    def __init__(self, data: Any, source: Batch, index: int) -> None:
        self.data = data
        self._source = source
        self._index = index
        self._settled = False

    def ack(self) -> None:
        if not self._settled:
            self._settled = True
            batch = self._source
            link = batch.link  # type: ignore[attr-defined]
            link.acks.append(batch.first + self._index)  # type: ignore[attr-defined]
            if not link.noted:
                _note(link)
        else:
            self._say_settled("ack")

    def nack(self, *, delay: float = 0.0) -> None:
        if not isinstance(delay, int | float) or not delay >= 0:
            raise Refused(f"a delay is seconds >= 0, not {delay!r}")
        self._settle("nack", NACKED, float(delay), "")

    def reject(self, reason: str) -> None:
        self._settle("reject", REJECTED, 0.0, str(reason)[:REASON_MOST])

    def give_back(self) -> None:
        self._settle("give_back", RETURNED, 0.0, "")

    def _finish(self) -> None:
        if not self._settled:
            self.ack()

    def _fail(self, error: BaseException, delay: float) -> None:
        if not self._settled:
            self._settle("nack", NACKED, delay, f"{type(error).__name__}: {error}"[:ERROR_MOST])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._settled:
            return  # in the block, which is what counts
        if kind is None:
            # What `ack` does, in place: this is how most messages are settled.
            self._settled = True
            batch = self._source
            link = batch.link  # type: ignore[attr-defined]
            link.acks.append(batch.first + self._index)  # type: ignore[attr-defined]
            if not link.noted:
                _note(link)
        elif error is not None and isinstance(error, Exception):
            self._fail(error, 0.0)
        else:
            self.give_back()

    def _say_settled(self, how: str) -> None:
        log.warning("%r was settled before; %s() changes nothing", self, how)

    def _settle(self, how: str, outcome: int, delay: float, reason: str) -> None:
        if self._settled:
            self._say_settled(how)
        else:
            batch: Any = self._source
            item = Settled(batch.first + self._index, outcome, delay, reason, batch, self._index)
            others = batch.link.others
            self._settled = True  # an interrupt comes before this or after the next line, never between
            others.append(item)
            if not batch.link.noted:
                _note(batch.link)

    def __del__(self) -> None:
        if self._settled:
            return
        batch: Any = self._source
        if batch.first + self._index in batch.link.settled or batch.link.ended:
            return  # never handed out: the handle was closed
        self.give_back()
        warnings.warn(f"{self!r} was collected without being settled; it is given back", ResourceWarning, stacklevel=1)


WorkMessage.__name__ = WorkMessage.__qualname__ = "Message"


class Receiver:
    """What Subscriber and Puller have in common. Thread-safe: several threads share its messages."""

    _message: type[Message] = Message

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self.name = name
        self._waiters = Waiters()
        self._lock = threading.Lock()  # one caller at a time unpacks the next batch
        self._unreported = self._unreported_bytes = 0
        self._closed = False
        self._draining = False
        self._inbox: Inbox
        self._core: Stream
        self._on_gap: Callable[[Gap], None] | None = None
        self._little: set[Stream] = engine.taken  # where to say that little was taken
        engine.everyone.add(self._waiters)

    @property
    def closed(self) -> bool:
        return self._closed

    def _check_open(self) -> None:
        if self._engine.gone:
            self._engine.check()
        if self._closed:
            raise Closed(f"this {type(self).__name__.lower()} of {self.name} is closed")

    def _has_something(self) -> bool:
        inbox = self._inbox
        handing = inbox.handing
        return bool(
            inbox.arrived
            or handing.ready
            or handing.left
            or inbox.stalled  # set since we looked: the engine's question, too, is answered before we sleep
            or self._closed
            or self._draining
            or self._engine.closed
        )

    def _next(self) -> Message | None:
        """The next message that is here."""
        while True:
            ready = self._inbox.handing.ready
            if ready:
                try:
                    message: Message = ready.popleft()
                except IndexError:
                    continue  # another thread was faster
                return message
            if not self._refill():
                return None

    def _refill(self) -> bool:
        """Decodes the next messages, of the batch at hand or the next one; False when there are none."""
        inbox = self._inbox
        gaps: list[Gap] = []
        if not (inbox.arrived or inbox.handing.ready or inbox.handing.left or inbox.claimed):
            return False
        with self._lock:
            handing = inbox.handing
            if handing.ready or (handing.left and self._decode()):
                return True  # another thread was faster, or there is more in this batch
            claimed = inbox.claimed
            first: Batch | Gap | None = None
            if claimed is None:
                try:
                    first = inbox.arrived[0]
                    rows = _only(first)
                    inbox.taken.extend(map(_popleft, (inbox.arrived,)))  # in one step: an interrupt loses nothing
                except IndexError:
                    return False
                claimed = inbox.taken[-1]
            size = 0
            if isinstance(claimed, Batch):
                count, size = claimed.stop - claimed.skip, claimed.size
                if claimed is first and rows:  # else the engine has taken that one back meanwhile
                    self._handing_out(claimed, 0, 1)
                    inbox.handing = Handing(claimed, (self._message(rows[0], claimed, 0),))
                elif claimed.flags & GAP:
                    gaps = self._gaps_in(claimed)
                    self._handing_out(claimed, claimed.skip, claimed.stop)
                    inbox.handing = Handing(claimed, ())
                else:
                    inbox.handing = Handing(claimed, (), count)
                    self._decode()
                self._unreported += count
                self._unreported_bytes += size
            else:
                inbox.handing = Handing(claimed, ())
                gaps = [] if claimed is None else [claimed]
        (self._little if size <= LITTLE else self._engine.taken).add(self._core)
        noteworthy = self._unreported >= NOTE_AFTER or self._unreported_bytes >= NOTE_BYTES
        if noteworthy or (inbox.refused and not inbox.arrived):
            self._unreported = self._unreported_bytes = 0
            self._engine.mark(self._core)
        for gap in gaps if self._on_gap is not None else ():
            assert self._on_gap is not None
            self._on_gap(gap)
        return True

    def _gaps_in(self, batch: Batch) -> list[Gap]:
        """Of a batch that has no messages."""
        return []

    def _handing_out(self, batch: Batch, first: int, stop: int) -> None:
        """Messages first..stop of the batch are about to be; of one that is a gap all of them."""

    def _more(self) -> bool:
        """Decodes more of the batch at hand; False when there is none of it, or nothing more is to be handed out."""
        if self._closed or self._draining:
            return False
        with self._lock:
            return bool(self._inbox.handing.ready) or self._decode()

    def _decode(self) -> bool:
        """The next messages of the batch at hand, under the lock. False when there are none, or none that decode: what
        comes behind those is dropped with them."""
        inbox = self._inbox
        handing = inbox.handing
        batch, left = handing.batch, handing.left
        if not left:
            return False
        assert isinstance(batch, Batch)
        at = batch.stop - left
        reader, handing.source = handing.source, None
        extended = batch.extended
        try:
            if reader is None and left > CHUNK:
                reader = Reader(batch.body, batch.count, at, extended=extended)
            if reader is not None:
                rows = reader.take(min(left, CHUNK))
            else:
                rows = unpack(batch.body, batch.count, batch.parts, at, extended=extended)[:left]
        except Malformed as error:
            log.warning("dropped %d messages of %s that do not decode: %.200r", left, self.name, str(error))
            self._drop(batch.view(at, batch.stop))
            inbox.handing = Handing(batch, ())
            return False
        messages = self._extended(rows, batch, at) if extended else map(self._message, rows, repeat(batch), count(at))
        self._handing_out(batch, at, at + len(rows))  # before they are: an interrupt between may let it happen twice
        if handing.left:  # else it was taken back meanwhile
            inbox.handing = Handing(batch, messages, left - len(rows), reader)
        return True

    def _extended(self, rows: list[Any], batch: Batch, at: int) -> Iterable[Message]:
        messages = [self._message(data, batch, index) for index, (data, _) in enumerate(rows, at)]
        for message, (_, extra) in zip(messages, rows, strict=True):
            message._extra = extra
        return messages

    def _drop(self, batch: Batch) -> None:
        """What cannot be decoded cannot be handed out either."""

    def _receive_steps(self, timeout: float | None) -> Steps[Message]:
        deadline = None if timeout is None else deadline_after(timeout)
        while True:
            self._check_open()
            if self._draining:
                raise Closed(f"{self.name} is being drained")
            message = self._next()
            if message is not None:
                inbox = self._inbox
                if inbox.arrived or inbox.handing.ready or inbox.handing.left:
                    self._waiters.wake()  # there is more: the next waiter's turn
                return message
            if self._inbox.stalled:
                self._inbox.stalled = False
                self._engine.mark(self._core)  # somebody is here, and takes what comes
            woken = yield Wait(self._waiters, self._has_something, deadline, self._engine)
            if not woken:
                raise Timeout(f"nothing on {self.name} within {timeout} s")

    def _receive_many_steps(self, most: int, timeout: float | None) -> Steps[list[Message]]:
        if most < 1:
            raise Refused(f"receive_many takes at least 1 message, not {most}")
        messages = [(yield from self._receive_steps(timeout))]
        while len(messages) < most:
            message = self._next()
            if message is None:
                break
            messages.append(message)
        return messages

    def _shut(self) -> None:
        """Nothing more is handed out; whoever waits is woken."""
        self._closed = True
        self._engine.everyone.discard(self._waiters)
        self._waiters.wake_all()

    def _drain(self) -> None:
        """Ends iteration after the message at hand, as at the end of the stream."""
        self._draining = True
        self._waiters.wake_all()

    def _state(self) -> str:
        return "closed" if self._closed else f"{self._inbox.queued} waiting"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self._state()}>"


class Settling(Receiver):
    """What those have in common whose messages somebody holds until they are settled."""

    def _note(self) -> None:
        """Messages were settled. While there are others here, or were just now, this caller will soon lead again; to
        call somebody else for it would cost more than all these messages."""
        engine = self._engine
        if self._inbox.handing.waiting or engine.is_busy:
            engine.mark_later(self._core)
        else:
            engine.mark(self._core)

    def _reject(self, batch: Batch) -> None:
        for index in range(batch.skip, batch.stop):
            batch.link.others.append(Settled(batch.first + index, REJECTED, 0.0, "it does not decode", batch, index))
        self._note()

    def _stop_steps(self, puller: Puller, timeout: float | None) -> Steps[None]:
        """Gives back what is not settled, and waits for the pushers to know."""
        deadline = deadline_after(timeout)
        engine = self._engine
        if self._closed or engine.closed or engine.forked or engine.failed:
            self._closed = True
            return
        self._shut()
        engine.call(lambda: engine.node.stop_pulling(puller, engine.node.now))
        yield from until(engine, lambda: engine.node.pulling.is_closed(puller), deadline)
        engine.call(lambda: engine.node.pulling.forget(puller))


class PullerCore(Settling):
    """A puller without its waiting."""

    _message = WorkMessage
    _core: Puller

    def attach(self, core: Puller) -> None:
        self._core = core

    def _drop(self, batch: Batch) -> None:
        self._reject(batch)

    def _close_steps(self, timeout: float | None) -> Steps[None]:
        yield from self._stop_steps(self._core, timeout)


class SubscriberCore(Settling):
    """A subscriber without its waiting. A durable one is a puller whose messages come from the cursor of a spool; of
    one that only reads `since` somewhere they settle themselves when they are handed out."""

    _core: Subscription | Puller
    _durable: Durable | None = None

    def attach(self, core: Subscription) -> None:
        self._core = core
        self._little = self._engine.handed

    def attach_durable(self, durable: Durable) -> None:
        self._core, self._durable = durable.puller, durable
        if durable.lasting:
            self._message = WorkMessage

    def _close_steps(self, timeout: float | None) -> Steps[None]:
        engine, core = self._engine, self._core
        if isinstance(core, Puller):
            yield from self._stop_steps(core, timeout)
        elif not self._closed:
            self._shut()
            if not (engine.closed or engine.forked or engine.failed):
                engine.call(lambda: engine.node.unsubscribe(core, engine.node.now))

    def _check_open(self) -> None:
        durable = self._durable
        if durable is None and not (self._closed or self._engine.gone):
            return
        super()._check_open()
        if durable is not None and durable.problem:
            raise NoPeer(durable.problem) if durable.no_spool else Refused(durable.problem)

    def _has_something(self) -> bool:
        return super()._has_something() or (self._durable is not None and bool(self._durable.problem))

    def _handing_out(self, batch: Batch, first: int, stop: int) -> None:
        if self._durable is not None and (batch.flags & GAP or not self._durable.lasting):
            batch.link.acks.extend(range(batch.first + first, batch.first + stop))
            self._note()

    def _gaps_in(self, batch: Batch) -> list[Gap]:
        if self._durable is None:
            return []
        try:
            return gaps_in(batch)
        except Malformed as error:
            log.warning("a gap of %s does not decode: %.200r", self.name, str(error))
            return []

    def _drop(self, batch: Batch) -> None:
        if self._durable is not None and self._durable.lasting:
            self._reject(batch)

    def _shut(self) -> None:
        super()._shut()
        if self._durable is None:
            self._inbox.handing.drop()


class DurableInbox(Inbox):
    """What comes for a durable subscription, a batch each publisher, as its messages say who sent them."""

    __slots__ = ()

    def put(self, batch: Batch) -> None:
        for part in _by_publisher(batch):
            super().put(part)


def _by_publisher(batch: Batch) -> list[Batch]:
    parts: list[Batch] = []
    at = 0
    for run in batch.runs:
        low, high = max(batch.skip, at), min(batch.stop, at + run.length)
        at += run.length
        if low >= high:
            continue
        if parts and parts[-1].sender == run.origin:
            parts[-1].stop = high
        else:
            part = batch.view(low, high)
            part.sender = run.origin
            part.size = batch.size if not parts else 0
            parts.append(part)
    return parts


def pause_after(message: Message) -> float:
    """Seconds until a message whose handler failed is to come again."""
    return backoff(message.attempt, waiting.random())
