"""Publishers and pushers: packing what is sent, leaving it for the engine, waiting for room and for confirmation.

It is longer than most: publishers and pushers differ in a few steps of one way from the program to the pile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from zq.core.intake import Intake
from zq.core.outbox import Outbox
from zq.core.outgoing import SMALL, Item, Outgoing, size_of
from zq.core.pushing import Pushing
from zq.core.topics import Topic
from zq.engine.engine import Engine
from zq.engine.wake import Waiters
from zq.errors import IDS_KEPT, Closed, Refused, SpoolFull, Timeout, Undelivered
from zq.handles.bound import BoundReceipt
from zq.handles.deposits import CHUNK, NOBODY_TELLS, Call, Deposits, OutboxReceipt
from zq.handles.opening import Opening
from zq.handles.steps import Steps, Wait, deadline_after, until
from zq.wire.batch import decode_topic
from zq.wire.data import Extended, Packed, pack, pack_flat
from zq.wire.plan import Lane, Planned, plan_of, planned


def extra_of(headers: Mapping[str, str] | None, id: str | None) -> list[Any] | None:
    """The extra fields of a message, None when it has none."""
    if not headers and id is None:
        return None
    flat: list[str] | None = None
    if headers:
        if not isinstance(headers, Mapping):
            raise Refused(f"headers are a mapping of str to str, not {headers!r:.80}")
        flat = list(chain.from_iterable(headers.items()))
    return [id, flat, None, None, None, None]


def pack_job(
    data: Any,
    headers: Mapping[str, str] | None,
    id: str | None,
    key: str | None,
    lane: Lane,
    ttl: float | None,
    delay: float,
    copy: bool,
) -> Item:
    """A message for a queue, with whatever its sender asks for."""
    extra, plan = extra_of(headers, id), plan_of(key, lane, ttl, delay)
    if plan is None:
        return pack(data, extra, copy=copy)
    return planned(pack(data, [*(extra or (None, None))[:2], *plan.extra], copy=copy), plan)


def _pack_all(values: list[Any], make: Callable[[Any], Item]) -> tuple[list[Item], Refused | None]:
    """The messages up to the first that cannot be sent, and why it cannot."""
    if make is pack and (bodies := pack_flat(values)) is not None:
        return bodies, None  # type: ignore[return-value] # a list of its own
    items: list[Item] = []
    try:
        items.extend(map(make, values))
    except Refused as error:
        return items, error
    return items, None


class Stream:
    """One topic or queue of a peer, with the handles that are views of it."""

    def __init__(self, engine: Engine, core: Topic | Outbox | Intake, options: Mapping[str, Any]) -> None:
        self.engine = engine
        self.core = core
        self.options = options
        self.outgoing = core.outgoing
        self.room = Waiters()
        self.lock = threading.Lock()  # for large items: their bytes are counted before they are appended
        self.views = 0  # handles; counted by the peer, under its lock
        self.left = 0  # handles that were closed while others were open, and did not wait
        self.deposits: Deposits | None = None  # the outbox on disk that its messages go to
        self.outgoing.wake = self.room.wake_all
        engine.piles.add(self.outgoing)
        engine.everyone.add(self.room)

    def has_room(self) -> bool:
        outgoing = self.outgoing
        return len(outgoing.items) < outgoing.limit or outgoing.limit < 0

    def has_room_for(self, size: int) -> bool:
        """For a large item. One larger than everything passes when there is nothing else."""
        outgoing = self.outgoing
        piled = outgoing.large_in - outgoing.large_out
        return self.has_room() and (piled == 0 or piled + size <= outgoing.budget or outgoing.limit < 0)

    def append_large(self, item: Item) -> bool:
        size = size_of(item)
        with self.lock:
            if not self.has_room_for(size) or self.outgoing.limit < 0:
                return False
            if size > SMALL or not isinstance(item, bytes):
                self.outgoing.large_in += size
            self.outgoing.items.append(item)
        self.engine.mark(self.core)
        return True

    def release(self) -> None:
        self.engine.piles.discard(self.outgoing)
        self.engine.everyone.discard(self.room)


_SHUT = Outgoing()
_SHUT.limit = -1
_NEVER_AT_ONCE = Outgoing()  # of whoever has to wait for a disk
_NEVER_AT_ONCE.limit = 0


class Sender:
    """What Publisher and Pusher have in common. Thread-safe."""

    _what = ""
    _leads = True  # who waits for room does the engine's work meanwhile
    _opening: Opening[Stream] | None = None  # until that is over there is no stream

    def __init__(self, stream: Stream | Opening[Stream], name: str) -> None:
        self.name = name
        if isinstance(stream, Stream):
            self._see(stream)
        else:
            self._opening = stream
            self._engine = stream.engine
            self._outgoing = _NEVER_AT_ONCE

    def _see(self, stream: Stream) -> None:
        self._stream = stream
        self._engine = stream.engine
        self._core = stream.core
        # Replaced by one that is shut when this view is closed.
        self._outgoing = stream.outgoing if stream.deposits is None else _NEVER_AT_ONCE

    def _adopt(self) -> None:
        """Its stream is open, or cannot be: then that is raised."""
        if self._opening is not None:
            opened = self._opening.result()
            if self._opening is not None and not self.closed:
                self._see(opened)
            self._opening = None

    def _opened_steps(self, deadline: float | None) -> Steps[None]:
        """Waits for its disk, if it has one that is being opened."""
        opening = self._opening
        if opening is not None:
            self._check_open()
            yield from opening.steps(deadline)
            self._adopt()

    @property
    def closed(self) -> bool:
        return self._outgoing is _SHUT

    def _check_open(self) -> None:
        self._engine.check()
        if self.closed:
            raise Closed(f"this {type(self).__name__.lower()} of {self.name} is closed")

    def _put(
        self,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        copy: bool = True,
        timeout: float | None = None,
    ) -> Steps[None] | None:
        """Takes the message, or returns the steps to wait for room."""
        deadline = None if timeout is None else deadline_after(timeout)
        return self._leave(pack(data, extra_of(headers, id), copy=copy), deadline, timeout)

    def _leave(self, item: Item, deadline: float | None, timeout: float | None) -> Steps[None] | None:
        outgoing = self._outgoing
        if len(outgoing.items) < outgoing.limit and item.__class__ is not Packed and len(item) <= SMALL:
            outgoing.items.append(item)
            if not outgoing.marked:
                self._mark(outgoing)
            return None
        return self._put_steps(item, deadline, timeout)

    def _mark(self, outgoing: Outgoing) -> None:
        """Tells the engine that there is something in the pile."""
        outgoing.marked = True
        try:
            self._engine.mark(self._core)
        except BaseException:
            outgoing.marked = False  # interrupted: whoever comes next tells it
            raise

    def _put_steps(self, item: Item, deadline: float | None, timeout: float | None) -> Steps[None]:
        stream = self._stream
        size = size_of(item)
        self._check_open()
        while not stream.append_large(item):
            self._engine.hurry(self._core)
            if not self._leads:
                self._engine.wake()
            leader = self._engine if self._leads else None
            woken = yield Wait(stream.room, lambda: stream.has_room_for(size), deadline, leader)
            self._check_open()
            if not woken and not stream.has_room_for(size):
                raise self._no_room(timeout)

    def _no_room(self, timeout: float | None) -> Timeout:
        core = self._core
        if isinstance(core, Outbox) and self._engine.node.pushing.paths.is_full(core):
            return SpoolFull(f"the spool of {self.name} takes no more, for {timeout} s; the message was not taken")
        return Timeout(f"no room for a message to {self._what} {self.name} within {timeout} s; it was not taken")

    def _put_many(self, data: Iterable[Any], timeout: float | None, make: Callable[[Any], Item] = pack) -> Steps[int]:
        """A sequence is packed in chunks; of anything else each item goes as it comes."""
        deadline = deadline_after(timeout)
        self._check_open()
        sent = 0
        iterator = iter(data)
        most = CHUNK if isinstance(data, Sequence) else 1
        while chunk := list(islice(iterator, most)):
            items, error = _pack_all(chunk, make)
            while items:
                taken = self._append_run(items)
                if not taken:
                    try:
                        yield from self._put_steps(items[0], deadline, timeout)
                    except Timeout as late:
                        raise type(late)(str(late), sent=sent) from None
                    taken = 1
                del items[:taken]
                sent += taken
            if error is not None:
                raise error
        return sent

    def _append_run(self, items: list[Item]) -> int:
        """Appends as many as there is room for, if they are all small; returns how many."""
        outgoing = self._outgoing
        run = items[: max(outgoing.limit - len(outgoing.items), 0)]
        if not run or not {bytes, Extended, Planned}.issuperset(map(type, run)) or max(map(len, run)) > SMALL:
            return 0
        outgoing.items.extend(run)
        self._engine.mark(self._core)
        return len(run)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self._state()}>"

    def _state(self) -> str:
        raise NotImplementedError


class PublisherCore(Sender):
    """A publisher without its waiting."""

    _what = "topic"
    _core: Topic

    def _flush_steps(self, timeout: float | None, *, settle: float | None = None) -> Steps[None]:
        """Until all sent so far has arrived at every subscriber, those included that are being met."""
        deadline = deadline_after(timeout)
        self._check_open()
        self._engine.mark(self._core)
        arrived = Arrival(self._engine, self._core)
        if not (yield from until(self._engine, arrived.everywhere, deadline)):
            raise self._engine.call(arrived.undelivered)

    def _wait_steps(self, count: int, timeout: float | None) -> Steps[None]:
        topic = self._core
        deadline = deadline_after(timeout)
        self._check_open()

        def enough() -> bool:
            return sum(follower.handles for follower in topic.followers.values()) + len(topic.bound) >= count

        if not (yield from until(self._engine, enough, deadline)):
            raise Timeout(f"fewer than {count} subscribers of {self.name} within {timeout} s")

    def clear(self) -> None:
        """Forgets the retained value: who subscribes from now on gets the next one."""
        topic = self._core
        self._check_open()
        node = self._engine.node
        self._engine.call(lambda: node.topics.clear(topic, node.now))

    def _state(self) -> str:
        topic = self._core
        if self.closed:
            return "closed"
        behind = sum(follower.behind for follower in list(topic.followers.values()))
        slow = f", {behind} behind" if behind else ""
        waiting = f", {len(topic.outgoing.items)} waiting" if topic.outgoing.items else ""
        return f"{len(topic.followers)} subscribers, {topic.head} published{waiting}{slow}"


class Arrival:
    """Whether what was left for a topic when first looked at has arrived at all its subscribers and, with `queues`, is
    settled by the queues that it is bound to. Engine's thread."""

    def __init__(self, engine: Engine, topic: Topic, *, queues: bool = True) -> None:
        self._engine = engine
        self._topic = topic
        self._target: int | None = None
        self._announced = False
        self._bound = BoundReceipt(engine, topic) if queues else None

    def everywhere(self) -> bool:
        topic, node = self._topic, self._engine.node
        if self._target is None:
            self._target = topic.head + len(topic.outgoing.items)
        if topic.head < self._target or not node.is_settled():
            return False
        if not self._announced and not topic.arrived_everywhere(self._target):
            self._announced = True
            node.topics.announce_head(topic, node.now)
        settled = self._bound is None or self._bound.complete()
        return topic.arrived_everywhere(self._target) and settled

    def undelivered(self) -> Undelivered:
        topic, target = self._topic, self._target or 0
        missing = [follower for follower in topic.followers.values() if follower.arrived < target]
        if not missing and self._bound is not None and (bound := self._bound.undelivered()) is not None:
            return bound
        arrived = min((follower.arrived for follower in missing), default=topic.head)
        names = [self._name(follower.peer) for follower in missing] or ["the realm to settle"]
        ids: list[str] = []
        for frame in topic.track.frames:
            if frame.first + frame.length - 1 <= arrived or len(ids) >= IDS_KEPT:
                continue
            batch = decode_topic(frame.parts)
            ids += [batch.identify(index) for index in range(max(arrived + 1 - frame.first, 0), frame.length)]
        return Undelivered(target - arrived, ids, f"{', '.join(names)} to get all of topic {topic.name}")

    def _name(self, peer: bytes) -> str:
        remote = self._engine.node.meeting.roster.get(peer)
        return remote.name if remote is not None else "this peer itself"


class PusherCore(Sender):
    """A pusher without its waiting."""

    _what = "queue"
    _leads = False  # its pullers' receipts come all the time, and would wait for the engine's thread in between

    @property
    def _box(self) -> Outbox:
        deposits = self._stream.deposits
        return self._core if deposits is None else deposits.spooled.outbox  # type: ignore[return-value]

    @property
    def _holder(self) -> Pushing:
        node = self._engine.node
        return node.pushing if self._stream.deposits is None else node.forwarding

    def _put_steps(self, item: Item, deadline: float | None, timeout: float | None) -> Steps[None]:
        yield from self._opened_steps(deadline)
        deposits = self._stream.deposits
        if deposits is None:
            yield from super()._put_steps(item, deadline, timeout)
        else:
            yield from Call(deposits, self._check_open, deadline, timeout).put_steps(
                [item], lambda items: (items, None)
            )

    def _put_many(self, data: Iterable[Any], timeout: float | None, make: Callable[[Any], Item] = pack) -> Steps[int]:
        deadline = deadline_after(timeout)
        yield from self._opened_steps(deadline)
        deposits = self._stream.deposits
        if deposits is None:
            return (yield from super()._put_many(data, timeout, make))
        self._check_open()
        call = Call(deposits, self._check_open, deadline, timeout)
        return (yield from call.put_steps(data, lambda values: _pack_all(values, make)))

    def _put_job(
        self,
        data: Any,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        key: str | None = None,
        lane: Lane = "normal",
        ttl: float | None = None,
        delay: float = 0.0,
        copy: bool = True,
        timeout: float | None = None,
    ) -> Steps[None] | None:
        """Takes the message, or returns the steps to wait for room."""
        deadline = None if timeout is None else deadline_after(timeout)
        return self._leave(pack_job(data, headers, id, key, lane, ttl, delay, copy), deadline, timeout)

    def _put_jobs(
        self,
        data: Iterable[Any],
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        key: str | None = None,
        lane: Lane = "normal",
        ttl: float | None = None,
        delay: float = 0.0,
        copy: bool = True,
        timeout: float | None = None,
    ) -> Steps[int]:
        plan_of(key, lane, ttl, delay)  # refuses what cannot be, although there may be nothing to send

        def make(value: Any) -> Item:
            return pack_job(value, headers, id, key, lane, ttl, delay, copy)

        return self._put_many(data, timeout, make)

    def _flush_steps(self, timeout: float | None, until_: str = "stored") -> Steps[None]:
        """Until all sent so far is confirmed; Refused for "processed" once a spool has some of it."""
        if until_ not in ("stored", "processed"):
            raise Refused(f"flush until 'stored' or 'processed', not {until_!r}")
        deadline = deadline_after(timeout)
        yield from self._opened_steps(deadline)
        self._check_open()
        self._engine.mark(self._core)
        receipt = receipt_of(self._stream, processed=until_ == "processed")
        if not (yield from until(self._engine, receipt.complete, deadline)):
            raise self._engine.call(receipt.undelivered)

    def _leave_steps(self, timeout: float | None) -> Steps[None]:
        """Until all is confirmed; what is in an outbox on disk is, and is given time only if anybody is there."""
        if self._stream.deposits is None:
            yield from self._flush_steps(timeout)
            return
        self._check_open()
        receipt = receipt_of(self._stream, leaving=True)
        yield from until(self._engine, receipt.complete, deadline_after(timeout))

    def _wait_steps(self, count: int, timeout: float | None) -> Steps[None]:
        deadline = deadline_after(timeout)
        yield from self._opened_steps(deadline)
        holder, queue = self._holder, self.name
        self._check_open()

        def enough() -> bool:
            return sum(link.confirmed for link in holder.pullers(queue)) >= count

        if not (yield from until(self._engine, enough, deadline)):
            raise Timeout(f"fewer than {count} pullers of {self.name} within {timeout} s")

    def _state(self) -> str:
        if self.closed:
            return "closed"
        if self._opening is not None:
            return "being opened"
        outbox, deposits = self._box, self._stream.deposits
        full = ", window full" if outbox.held >= outbox.window and deposits is None else ""
        pullers = len(self._holder.pullers(outbox.queue))
        waiting = outbox.waiting + len(outbox.outgoing.items)
        if deposits is not None:
            waiting = deposits.spooled.left - outbox.in_flight
            full = f", {deposits.intake.problem or deposits.intake.full}".rstrip(", ")
        dead = sum(outbox.dropped.values())
        given_up = f", {dead} dead" if dead else ""
        return f"{pullers} pullers, {outbox.in_flight} in flight, {waiting} waiting{full}{given_up}"


def receipt_of(stream: Stream, *, processed: bool = False, leaving: bool = False) -> Receipt | OutboxReceipt:
    """What to wait for; `leaving` asks less where the messages are on disk."""
    if stream.deposits is not None:
        return OutboxReceipt(stream.deposits, processed=processed, leaving=leaving)
    assert isinstance(stream.core, Outbox)
    return Receipt(stream.engine, stream.core, processed=processed)


class Receipt:
    """Whether what was left for a queue when first looked at is confirmed. Engine's thread."""

    def __init__(self, engine: Engine, outbox: Outbox, *, processed: bool = False) -> None:
        self._engine = engine
        self._outbox = outbox
        self._processed = processed
        self._target: int | None = None

    def complete(self) -> bool:
        outbox = self._outbox
        if self._target is None:
            self._target = outbox.taken + len(outbox.outgoing.items)
        settled = outbox.settled_through(self._target)
        if settled and self._processed and outbox.stored:
            raise Refused(NOBODY_TELLS.format(outbox.queue))
        return settled

    def undelivered(self) -> Undelivered:
        outbox = self._outbox
        count = outbox.held + len(outbox.outgoing.items)
        pushing = self._engine.node.pushing
        pullers = len(pushing.pullers(outbox.queue))
        what = f"{pullers} pullers of {outbox.queue} to settle them" if pullers else f"a puller of {outbox.queue}"
        if pushing.paths.is_full(outbox):
            what = f"room in the spool of {outbox.queue}, which takes no more"
        return Undelivered(count, pushing.unsettled_ids(outbox), what)
