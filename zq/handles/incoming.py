"""Subscribers and pullers: from the batches in an inbox to messages in the program's hands, and back by settling.

Handing out survives an interrupt between any two steps: a batch is moved to `taken` in one step and made the one
that is handed out in another; a caller that finds one at the end of `taken` which is not being handed out goes on
with it.
"""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable
from itertools import count, repeat
from types import TracebackType
from typing import Any

from zq.core.backoff import backoff
from zq.core.inbox import Handing, Inbox
from zq.core.node import Stream
from zq.core.pulling import Puller, Settled
from zq.core.reception import Subscription
from zq.engine.engine import Engine
from zq.engine.wake import Waiters
from zq.errors import Closed, Refused, Timeout
from zq.handles.steps import Steps, Wait, deadline_after, until, waiting
from zq.info import Gap
from zq.logs import Logger
from zq.message import Message
from zq.wire.batch import Batch
from zq.wire.data import Malformed, unpack
from zq.wire.dead import REASON_MOST
from zq.wire.frames import NACKED, REJECTED, RETURNED

log = Logger("zq.handles")

NOTE_AFTER = 2_048  # messages handed out until the engine is woken to tell the publishers; an eighth of their window
NOTE_BYTES = 8 << 20  # the same in bytes
ERROR_MOST = 200  # characters of a handler's exception that its message's holder is told

_popleft = deque.popleft


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
            link.puller.inbox.note()
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
            link.puller.inbox.note()
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
            batch.link.puller.inbox.note()

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
        engine.everyone.add(self._waiters)

    @property
    def closed(self) -> bool:
        return self._closed

    def _check_open(self) -> None:
        self._engine.check()
        if self._closed:
            raise Closed(f"this {type(self).__name__.lower()} of {self.name} is closed")

    def _has_something(self) -> bool:
        inbox = self._inbox
        return bool(inbox.handing.ready or inbox.arrived or self._closed or self._draining or self._engine.closed)

    def _next(self) -> Message | None:
        """The next message that is here."""
        while True:
            try:
                message: Message = self._inbox.handing.ready.popleft()
            except IndexError:
                if not self._refill():
                    return None
            else:
                return message

    def _refill(self) -> bool:
        """Makes the next batch the one that is handed out; False when there is none."""
        inbox = self._inbox
        gap = None
        with self._lock:
            if inbox.handing.ready:
                return True  # another thread was faster
            claimed = inbox.taken[-1] if inbox.taken else None
            if claimed is None or claimed is inbox.handing.batch:
                try:
                    inbox.taken.extend(map(_popleft, (inbox.arrived,)))  # in one step: an interrupt loses nothing
                except IndexError:
                    return False
                claimed = inbox.taken[-1]
            if isinstance(claimed, Batch):
                inbox.handing = Handing(claimed, self._messages(claimed))
                self._unreported += claimed.live
                self._unreported_bytes += claimed.size
            else:
                inbox.handing = Handing(claimed, ())
                gap = claimed
        self._engine.taken.add(self._core)
        noteworthy = self._unreported >= NOTE_AFTER or self._unreported_bytes >= NOTE_BYTES
        if noteworthy or (inbox.refused and not inbox.arrived):
            self._unreported = self._unreported_bytes = 0
            self._engine.mark(self._core)
        if gap is not None and self._on_gap is not None:
            self._on_gap(gap)
        return True

    def _messages(self, batch: Batch) -> list[Message]:
        try:
            rows = unpack(batch.body, batch.count, batch.parts, batch.skip, extended=batch.extended)
        except Malformed as error:
            log.warning("dropped %d messages of %s that do not decode: %.200r", batch.live, self.name, str(error))
            self._drop(batch)
            return []
        if batch.stop != batch.count:
            del rows[batch.live :]
        make = self._message
        if not batch.extended:
            return list(map(make, rows, repeat(batch), count(batch.skip)))
        messages = [make(data, batch, index) for index, (data, _) in enumerate(rows, batch.skip)]
        for message, (_, extra) in zip(messages, rows, strict=True):
            message._extra = extra
        return messages

    def _drop(self, batch: Batch) -> None:
        """What cannot be decoded cannot be handed out either."""

    def _receive_steps(self, timeout: float | None) -> Steps[Message]:
        deadline = deadline_after(timeout)
        while True:
            self._check_open()
            if self._draining:
                raise Closed(f"{self.name} is being drained")
            message = self._next()
            if message is not None:
                if self._inbox.handing.ready or self._inbox.arrived:
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


class SubscriberCore(Receiver):
    """A subscriber without its waiting."""

    _core: Subscription

    def _shut(self) -> None:
        super()._shut()
        self._inbox.handing.ready.clear()

    def attach(self, core: Subscription) -> None:
        self._core = core


class PullerCore(Receiver):
    """A puller without its waiting."""

    _message = WorkMessage
    _core: Puller

    def attach(self, core: Puller) -> None:
        self._core = core

    def _note(self) -> None:
        """A message was settled."""
        engine = self._engine
        engine.dirty.add(self._core)
        if engine.idle:
            engine.wake()

    def _drop(self, batch: Batch) -> None:
        for index in range(batch.skip, batch.stop):
            batch.link.others.append(Settled(batch.first + index, REJECTED, 0.0, "it does not decode", batch, index))
        self._note()

    def _close_steps(self, timeout: float | None) -> Steps[None]:
        """Gives back what is not settled, and waits for the pushers to know."""
        deadline = deadline_after(timeout)
        engine, puller = self._engine, self._core
        if self._closed or engine.closed or engine.forked or engine.failed:
            self._closed = True
            return
        self._shut()
        engine.call(lambda: engine.node.stop_pulling(puller, engine.node.now))
        yield from until(engine, lambda: engine.node.pulling.is_closed(puller), deadline)
        engine.call(lambda: engine.node.pulling.forget(puller))


def pause_after(message: Message) -> float:
    """Seconds until a message whose handler failed is to come again."""
    return backoff(message.attempt, waiting.random())
