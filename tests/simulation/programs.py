"""What runs on the simulated peers: programs that send, take and settle as programs do, well and badly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgpack

from tests.simulation.oracle import ITEM, News, Reader, Work, Worker, stamp
from zq.core.inbox import Handing, Inbox, Slow, SubscriptionInbox
from zq.core.node import Stream
from zq.core.outgoing import Item, size_of
from zq.core.receiving import Settled
from zq.core.subscription import INHERIT_PATIENCE
from zq.core.topics import Topic
from zq.info import Gap
from zq.message import DELAY, TTL
from zq.testing import SimulatedPeer
from zq.wire.batch import Batch
from zq.wire.data import Packed
from zq.wire.dead import PAIR, split
from zq.wire.frames import NACKED, REJECTED, RETURNED
from zq.wire.names import Filter
from zq.wire.plan import HIGH, LOW, NORMAL, Plan, Planned

if TYPE_CHECKING:
    from tests.simulation.world import World

NO_ROOM = 0.03  # s until a sender that found no room looks again
STEADY = 2.0  # times the latency at most between two messages of a steady sender: one is always under way
OUTCOMES = {"nacked": NACKED, "rejected": REJECTED, "returned": RETURNED}
WORKERS = ("fast", "slow", "rarely", "moody", "hoarder")
READERS = ("fast", "fast", "slow", "rarely")
FILTERS = ("**", "a/**", "a/*", "b/x", "*/x", "a/x")
TOPICS = ("a/x", "a/y", "b/x", "b/x/deep")


class Program:
    """Runs as long as its peer does, in steps; what `stop` ends is only its activity."""

    def __init__(self, world: World, peer: SimulatedPeer) -> None:
        self.world, self.peer, self.random = world, peer, world.random
        self.active = True
        self._due = False

    def later(self, seconds: float) -> None:
        """One step, unless one is due already."""
        if not self._due:
            self._due = True
            self.world.network.after(seconds, self._step)

    def _step(self) -> None:
        self._due = False
        if not self.peer.alive:
            return
        if self.peer.stopped_at is not None:
            self.later(0.05)
            return
        self.step()

    def step(self) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        """Its peer leaves in good order, when it has nothing left."""
        self.active = False

    def settle_down(self) -> None:
        """No more mischief: what is left is to be finished."""
        self.active = False
        self.later(self.random.uniform(0, 0.01))


class Sender(Program):
    """Sends `total` messages in bursts with pauses between them, or *steadily*: one after another.

    Only a steady sender has something new to send while what it has sent is under way, lost or late.
    """

    stream: Stream

    def __init__(self, world: World, peer: SimulatedPeer, total: int) -> None:
        super().__init__(world, peer)
        self.number = len(world.oracle.streams)
        self.left = total
        self._steady = self.random.random() < 0.4
        self._burst = 0

    def step(self) -> None:
        if not self.active or not self.left:
            return
        if not self._burst:
            self._burst = 1 if self._steady else min(self.random.choice((1, 1, 2, 5, 30)), self.left)
        outgoing = self.stream.outgoing  # type: ignore[union-attr]
        while self._burst and len(outgoing.items) < outgoing.limit:
            body = self.message()
            item: Item = body
            if self.random.random() < 0.03:
                data = bytes(split(body)[0]) if isinstance(body, Planned) else body
                item = Packed(body, (b"part of " + data,))
                outgoing.large_in += size_of(item)
            outgoing.items.append(item)
            self._burst -= 1
            self.left -= 1
        self.peer.touch(self.stream)
        self.later(NO_ROOM if self._burst else self._pause())

    def _pause(self) -> float:
        longest = (
            STEADY * self.world.network.weather.latency if self._steady else self.random.choice((0.0, 0.001, 0.05, 0.4))
        )
        return longest * self.random.random()

    def message(self) -> bytes:
        """The next one."""
        raise NotImplementedError


class Pusher(Sender):
    def __init__(self, world: World, peer: SimulatedPeer, queue: str, total: int) -> None:
        super().__init__(world, peer, total)
        self.queue, self.closed = queue, False
        self.work = Work(peer, queue, self.random.choice((1, 2, 5, 20)))
        if self.random.random() < 0.15:
            self.work.poison = self.random.randint(1, total)
        world.oracle.streams.append(self.work)
        self._wishes = self.random.choice(("none", "none", "lanes", "keys", "times", "all"))
        window = self.random.choice((3, 10, 100, 16_384))
        size = ITEM.size * self.random.choice((1, 4, 1_000_000))
        self.stream = peer.node.push(
            queue, window=window, window_bytes=size, max_attempts=self.work.max_attempts, now=peer.clock()
        )
        peer.touch()
        self.later(self.random.uniform(0, 0.5))

    def message(self) -> bytes:
        plan = self._plan()
        body = stamp(self.number, self.world.oracle.pushed(self.number, plan))
        if plan == Plan():
            return body
        planned = Planned(with_extra(body, plan))
        planned.plan = plan
        return planned

    def _plan(self) -> Plan:
        """What is asked for; nothing of all that for some of the messages of every pusher."""
        draw = self.random
        if self._wishes == "none" or draw.random() < 0.2:
            return Plan()
        lane, key, ttl, delay = NORMAL, None, None, 0.0
        if self._wishes in ("lanes", "all"):
            lane = draw.choice((NORMAL, HIGH, LOW))
        if self._wishes in ("keys", "all") and draw.random() < 0.8:
            key = draw.choice("abc")
        if self._wishes in ("times", "all"):
            delay = draw.choice((0.0, 0.0, 0.05, 1.0)) * draw.random()
            ttl = draw.choice((None, None, delay, delay + 0.3, delay + 3.0))
        return Plan(lane, key, ttl, delay)

    @property
    def done(self) -> bool:
        return not (self.stream.held or self.stream.outgoing.items)  # type: ignore[union-attr]

    def close(self) -> None:
        """Once all that was sent is done."""
        self.active = False
        if self.peer.alive and not self.closed:
            if self.done:
                self.closed = True
                self.peer.node.unpush(self.stream, self.peer.clock())  # type: ignore[arg-type]
                self.peer.touch()
            else:
                self.world.network.after(0.05, self.close)


class Publisher(Sender):
    def __init__(self, world: World, peer: SimulatedPeer, topic: str, total: int) -> None:
        super().__init__(world, peer, total)
        self.news = News(peer, topic)
        world.oracle.streams.append(self.news)
        patience = self.random.choice((0.0, 0.3, 1.0, math.inf))
        world.oracle.publishes(self.news)
        self.stream = peer.node.publish_topic(topic, retain=self.random.random() < 0.3, patience=patience)
        peer.touch()
        self.later(self.random.uniform(0, 0.5))

    def message(self) -> bytes:
        return stamp(self.number, self.world.oracle.published(self.number))

    def leave(self) -> None:
        super().leave()
        self.peer.node.topics.announce_head(self.stream, self.peer.clock())  # type: ignore[arg-type]

    @property
    def done(self) -> bool:
        topic, bindings = self.stream, self.peer.node.bindings
        assert isinstance(topic, Topic)
        confirmed = bindings.is_confirmed(topic, {}) and not bindings.is_pending()
        return not topic.outgoing.items and topic.arrived_everywhere(topic.head) and confirmed


def with_extra(body: bytes, plan: Plan) -> bytes:
    """The message that `body` is, with extra fields that say the plan."""
    return PAIR + body + bytes(msgpack.packb([None, None, *plan.extra]))


def messages_of(batch: Batch) -> list[bytes]:
    """One by one, those of a batch with extra fields."""
    body, messages, start = bytes(batch.body), list[bytes](), 0
    unpacker = msgpack.Unpacker()
    unpacker.feed(body)
    for _ in range(batch.count):
        unpacker.skip()
        messages.append(body[start : (start := unpacker.tell())])
    return messages


def ttl_of(message: bytes) -> float | None:
    """What is left of it as it came; its delay is over."""
    extra = split(message)[1]
    assert extra[DELAY] is None
    ttl: float | None = extra[TTL]
    return ttl


class Taker(Program):
    """Takes from an inbox, at its own speed."""

    inbox: Inbox
    stream: Stream
    ttl: float | None = None  # of the message that was looked at last, as it came

    def __init__(self, world: World, peer: SimulatedPeer, behaviour: str) -> None:
        super().__init__(world, peer)
        self.behaviour = behaviour

    def close(self) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        super().leave()
        self.close()

    def woken(self) -> None:
        if self.behaviour != "rarely" or not self.active:
            self.later(self.random.uniform(0, 0.002))
        else:
            self.later(self.random.uniform(0.1, 1.5))

    def take(self) -> Batch | Gap | None:
        """The next message, as a batch with a place to look at, or a gap."""
        inbox = self.inbox
        while not inbox.handing.ready:
            if not inbox.arrived:
                if inbox.stalled:
                    inbox.stalled = False
                    self.peer.touch(self.stream)
                return None
            inbox.taken.append(inbox.arrived.popleft())
            self.peer.touch(self.stream)
            batch = inbox.taken[-1]
            inbox.handing = Handing(batch, range(batch.skip, batch.stop) if isinstance(batch, Batch) else ())
            if isinstance(batch, Gap):
                return batch
        self.place = inbox.handing.ready.popleft()
        assert isinstance(inbox.handing.batch, Batch)
        return inbox.handing.batch

    def item(self, batch: Batch) -> bytes:
        if batch.extended:
            message = messages_of(batch)[self.place]
            item = bytes(split(message)[0])
            self.ttl = ttl_of(message)
        else:
            item = bytes(batch.body[self.place * ITEM.size : (self.place + 1) * ITEM.size])
        if batch.parts:
            assert [bytes(part) for part in batch.parts] == [b"part of " + item]
        return item

    @property
    def pause(self) -> float:
        return self.random.uniform(0.005, 0.08) if self.active and self.behaviour in ("slow", "moody") else 0.0

    @property
    def most(self) -> int:
        return 1 if self.active and self.behaviour in ("slow", "moody") else self.random.randint(1, 60)


class Puller(Taker):
    def __init__(
        self, world: World, peer: SimulatedPeer, queue: str, behaviour: str, filters: Sequence[Filter] = ()
    ) -> None:
        super().__init__(world, peer, behaviour)
        self.queue = queue
        self.worker = Worker(peer, queue)
        if filters:
            self.worker.matches = lambda topic: any(filter.matches(topic) for filter in filters)
        world.oracle.workers.append(self.worker)
        self.held: list[tuple[Batch, int, bytes]] = []
        self.inbox = Inbox(self.woken)
        self.prefetch = self.random.choice((None, 1, 2, 5, 64))
        size = ITEM.size * self.random.choice((1, 3, 1_000_000))
        limit = self.random.choice((None, None, None, 0.2, 1.0))
        self.worker.hurried = limit is not None
        self.stream = core = peer.node.pull(
            queue,
            self.inbox,
            prefetch=self.prefetch,
            prefetch_bytes=size,
            work_timeout=limit,
            topics=filters,
            now=peer.clock(),
        )
        self.worker.id, self.worker.since = core.id, world.network.now
        peer.touch()

    def step(self) -> None:
        if not self.worker.closed:
            for _ in range(self.most):
                batch = self.take()
                if batch is None:
                    break
                assert isinstance(batch, Batch)
                self.ttl = None
                item = self.item(batch)
                self.world.oracle.worked(self.worker, item, batch.attempt, batch.redelivered, batch.topic, self.ttl)
                if self.world.killed_by(self, item):
                    return
                self.held.append((batch, self.place, item))
        self._settle()
        if self.inbox.arrived or self.inbox.handing.ready or self.held:
            self.later(self.pause or self.random.uniform(0.0001, 0.02))

    def _settle(self) -> None:
        keep = 4 if self.active and self.behaviour == "hoarder" and self.random.random() < 0.9 else 0
        if keep:
            self.random.shuffle(self.held)
        while len(self.held) > keep:
            batch, place, item = self.held.pop(0)
            how = self._outcome(batch.attempt)
            if how == "acked":
                batch.link.acks.append(batch.first + place)
            else:
                delay = self.random.choice((0.0, 0.0, 0.05, 0.5))
                batch.link.others.append(Settled(batch.first + place, OUTCOMES[how], delay, "", batch, place))
            self.world.oracle.settled(self.worker, item, how, batch.attempt)
            self.peer.touch(self.stream)

    def _outcome(self, attempt: int) -> str:
        if not self.active or self.behaviour != "moody":
            return "acked"
        return self.random.choices(("acked", "nacked", "returned", "rejected"), (6, 2, 2, 0.3))[0]

    def close(self) -> None:
        """As a puller's close does: gives back, and forgets when all pushers know."""
        if not self.worker.closed and self.peer.alive:
            self.worker.closed = True
            self.peer.node.stop_pulling(self.stream, self.peer.clock())  # type: ignore[arg-type]
            self.peer.touch()
            self._forget()

    def _forget(self) -> None:
        if self.peer.alive and self.peer.node.pulling.is_closed(self.stream):  # type: ignore[arg-type]
            self.peer.node.pulling.forget(self.stream)  # type: ignore[arg-type]
        elif self.peer.alive:
            self.world.network.after(0.05, self._forget)


class Subscriber(Taker):
    def __init__(self, world: World, peer: SimulatedPeer, filters: list[str], policy: Slow, behaviour: str) -> None:
        super().__init__(world, peer, behaviour)
        checked = [Filter(text) for text in filters]
        self.reader = Reader(
            peer, lambda topic: any(filter.matches(topic) for filter in checked), policy, world.network.now
        )
        world.oracle.readers.append(self.reader)
        self.inbox = SubscriptionInbox(policy, self.woken)
        patience = self.random.choice((INHERIT_PATIENCE, INHERIT_PATIENCE, 0.5, math.inf))
        self.stream = peer.node.subscribe(checked, self.inbox, patience, peer.clock())
        peer.touch()

    def step(self) -> None:
        if self.reader.closed:
            return
        for _ in range(self.most):
            batch = self.take()
            if batch is None:
                break
            if isinstance(batch, Gap):
                self.world.oracle.gap(self.reader, batch, self.world.named(batch.publisher))
            else:
                self.world.oracle.read(self.reader, self.item(batch), batch.topic, self.world.named(batch.sender))
        if self.inbox.arrived or self.inbox.handing.ready:
            self.later(self.pause or self.random.uniform(0.0001, 0.02))

    def close(self) -> None:
        if not self.reader.closed and self.peer.alive:
            self.reader.closed = True
            self.peer.node.unsubscribe(self.stream, self.peer.clock())  # type: ignore[arg-type]
            self.peer.touch()
