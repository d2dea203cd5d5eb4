"""One peer as a state machine: frames and the time go in, frames and deliveries come out.

The node is the peer's `machines` with a face: what handles ask of them between turns, what the carrier tells of frames
and connections, and the turn itself, in which what is due is done and what is new is told. It holds no socket, clock or
thread; the engine and the simulated network drive it through the same few calls: `received`, `connected`, `broken`,
`refused`, `fenced`, `turn`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from zq.core.durable import Durable, Position
from zq.core.inbox import Inbox
from zq.core.inquiry import Inquiry
from zq.core.inspection import Inspection
from zq.core.intake import Intake
from zq.core.liveness import Life
from zq.core.machines import Machines, OnEvent
from zq.core.meeting import Card
from zq.core.outbox import MAX_ATTEMPTS, Outbox
from zq.core.port import Kind, Port
from zq.core.puller import Puller
from zq.core.replier import Replier, RequestInbox
from zq.core.requesting import Requesting
from zq.core.subscription import Subscription
from zq.core.topics import Topic
from zq.wire import frames
from zq.wire.batch import TOPIC, Parts
from zq.wire.names import Filter

Stream = Topic | Outbox | Intake | Subscription | Puller | Replier | Requesting


class Node(Machines):
    """`draw` gives random bytes, `on_event` hears of peers, `on_trouble` of what an operator should know."""

    def __init__(
        self,
        card: Card,
        port: Port,
        draw: Callable[[int], bytes],
        on_event: OnEvent,
        on_trouble: Callable[[str], None],
    ) -> None:
        super().__init__(card, port, draw, on_event, on_trouble)
        self.moved = 0  # messages taken from callers or settled by them in the last turn
        self.discovered = False  # set by the owner when discovery has had its first look around
        self._lost = 0  # of subscriptions, as last noticed
        self._stirred = True  # by something that only a whole turn brings to its end

    # --- handles, called by the owner between turns

    def publish_topic(self, name: str, *, retain: bool, patience: float) -> Topic:
        """A topic is kept for repairs until the node ends; opened again it goes on."""
        topic = next((topic for topic in self.topics if topic.name == name), None)
        if topic is None or topic not in self.open_topics:
            self.announced.add([name])
        if topic is None:
            topic = self.topics.open(name, retain=retain, patience=patience)
            self.bindings.on_topic(topic)
        topic.retain, topic.patience = retain, patience
        self.open_topics[topic] = None
        self.announcement.dirty = True
        return topic

    def unpublish_topic(self, topic: Topic) -> None:
        self.open_topics.pop(topic, None)
        self.announcement.dirty = True

    def read(
        self,
        cursor: str,
        filters: Iterable[Filter],
        begin: Position | None,
        inbox: Inbox,
        *,
        lasting: bool,
        prefetch_bytes: int,
        now: float,
    ) -> Durable:
        """A durable subscription."""
        filters = list(filters)
        self.announced.add([cursor], filters)
        return self.durables.open(
            cursor, filters, begin, inbox, lasting=lasting, prefetch_bytes=prefetch_bytes, now=now
        )  # fmt: skip

    def push(
        self, queue: str, *, window: int, window_bytes: int, max_attempts: int = MAX_ATTEMPTS, now: float
    ) -> Outbox:
        self.announced.add([queue])
        self.announcement.dirty = True
        bound = self.bindings.adopt(queue, window=window, window_bytes=window_bytes, max_attempts=max_attempts, now=now)
        return bound or self.pushing.open(
            queue, window=window, window_bytes=window_bytes, max_attempts=max_attempts, now=now
        )

    def unpush(self, outbox: Outbox, now: float) -> None:
        if not self.bindings.keep(outbox, now):
            self.pushing.close(outbox)
        self.announcement.dirty = True

    def pull(
        self,
        queue: str,
        inbox: Inbox,
        *,
        prefetch: int | None,
        prefetch_bytes: int,
        work_timeout: float | None = None,
        topics: Iterable[Filter] = (),
        now: float = 0.0,
    ) -> Puller:
        """With `topics` the queue is bound to them; it counts from `now` on."""
        topics = list(topics)
        self.announced.add([queue], topics)
        self.announcement.dirty = True
        return self.pulling.open(
            self._draw(16),
            queue,
            inbox,
            prefetch=prefetch,
            prefetch_bytes=prefetch_bytes,
            work_timeout=work_timeout,
            filters=topics,
            now=now,
        )

    def inquire(self, action: int, queue: str, ids: Sequence[str], now: float) -> Inquiry:
        """Asks every peer, this one included, for its dead letters, or to do something with them."""
        peers = [self.card.id, *(remote.id for remote in self.roster.up())]
        return self.inquiries.begin(action, queue, ids, peers, now)

    def inspect(self, question: Callable[[int], frames.Inspect], peers: Sequence[bytes], now: float) -> Inspection:
        """Asks these peers about their spools; none: all, this one included."""
        everybody = [self.card.id, *(remote.id for remote in self.roster.up())]
        return self.inspections.begin(question, peers or everybody, now)

    def stop_pulling(self, puller: Puller, now: float) -> None:
        if puller.cursor is not None:
            self.durables.close(puller)
        self.pulling.close(puller, now)
        self.announcement.dirty = True

    def unbind(self, queue: str, now: float) -> int:
        """Its pullers here are closing; publishers need not hold for it any more if nobody else binds it. Returns the
        version of the entry that says so (see `has_entries`), until `unbound` is called."""
        self.announcement.unbinds[queue] = None
        return self.announcement.ask_for_entries(now)

    def unbound(self, queue: str) -> None:
        self.announcement.unbinds.pop(queue, None)
        self.announcement.dirty = True

    def reply_to(self, service: str, inbox: RequestInbox) -> Replier:
        self.announced.add([service])
        self.announcement.dirty = True
        return self.replying.open(self._draw(16), service, inbox)

    def stop_replying(self, replier: Replier, now: float) -> None:
        self.replying.close(replier, now)
        self.announcement.dirty = True

    def is_settled(self) -> bool:
        """Everyone who can be found has been, or had its chance."""
        return self.discovered and self.seeds.is_settled() and self.meeting.is_settled()

    # --- events

    def has_rest(self) -> bool:
        """Whether something has come in or was served since the last turn that a turn has to bring to its end, timers
        apart. What is published, and what comes of topics in order, is done with at once."""
        receptions = self.receptions
        return bool(
            self._stirred
            or self.connections.loop
            or self.announcement.dirty
            or self.topics.released
            or receptions.has_reports()
            or receptions.lost != self._lost
            or self.streams  # of which nobody else says so
        )

    def turn(self, now: float, wall: float, streams: Iterable[Stream] = ()) -> float | None:
        """Does what is due: `streams` are those with something new. Returns when to come again, None: on an event."""
        self.moved = 0
        self._stirred = False
        for holder in self.holders:
            holder.ahead = wall - now
        self.serve(streams, now, wall)
        for due in self.timers.due(now):
            due(now)
        self._settle(now)
        while True:
            self.reading.drain_loop(now)
            while self.topics.released:
                self.topics.take(self.topics.released.pop(), now, wall)
            if any(holder.released for holder in self.holders):
                self.announcement.count_later(now)  # what expired or died has left
            while self.pushing.released:
                self.pushing.take(self.pushing.released.pop(), now, wall)
            for holder in self.holders:
                if holder.opened:
                    holder.opened, self.announcement.dirty = False, True
            self.relaying.released.clear()  # nobody waits for room there
            self.forwarding.released.clear()
            self.replaying.released.clear()
            self.spooling.report()
            self.streams.report(now)
            if self.announcement.dirty:
                self.announcement.publish(now)
            self.receptions.report()
            self.pulling.report(now)
            if self.receptions.lost != self._lost:
                self._lost = self.receptions.lost
                self.announcement.count_later(now)
            if not (self.connections.loop or self.topics.released or self.announcement.dirty):
                return self.timers.next()

    def serve(self, streams: Iterable[Stream], now: float, wall: float) -> None:
        """Only what is new with these; a turn is due."""
        self.replying.wall = wall
        for stream in streams:
            self.moved += self._serve(stream, now, wall)

    def _serve(self, stream: Stream, now: float, wall: float) -> int:
        """How many messages that was about."""
        if isinstance(stream, Topic):
            self.announcement.count_later(now)
            if stream.bound:
                self._stirred = True
            return self.topics.take(stream, now, wall)
        self._stirred = True
        if isinstance(stream, Outbox):
            if stream.outgoing.limit < 0:
                return 0
            self.announcement.count_later(now)
            return self.pushing.take(stream, now, wall)
        if isinstance(stream, Intake):
            self.announcement.count_later(now)
            self.spooling.take(stream)
            return 0
        if isinstance(stream, Subscription):
            self.receptions.on_taken(stream, now)
            return 0
        if isinstance(stream, Puller):
            before = stream.acked
            self.pulling.on_taken(stream, now)
            return stream.acked - before
        if isinstance(stream, Replier):
            self.replying.serve(stream, now)
        else:
            stream.serve(now, wall)
        return 0

    def _settle(self, now: float) -> None:
        if not self.pushing.may_send and self.is_settled():
            for holder in self.holders:
                holder.may_send = True
                for outbox in holder:
                    holder.dispatch(outbox, now)
        if self.durables.undecided and self.is_settled():
            self.durables.on_settled()
        if self.requesting.undecided and self.is_settled():
            self.requesting.on_settled(now)

    def connected(self, connection: int, now: float) -> None:
        """The carrier has made a connection."""
        self._stirred = True
        self.meeting.on_connected(connection, now)
        remote = self.connections.works.get(connection)
        if remote is not None:
            self.supervisor.on_work_made(remote)
            for holder in self.holders:
                holder.on_work_connection(remote.id, now)
            self.requesting.inquire(remote.id, now)
            self.replying.on_connection(remote.id)

    def broken(self, connection: int, now: float) -> None:
        self._stirred = True
        if self.meeting.is_mailbox(connection):
            self.meeting.on_broken(connection, now)
        elif self.seeds.has(connection):
            self.seeds.on_lost(connection, now)
        elif (remote := self.connections.works.get(connection)) is not None:
            self.connections.drop_work(remote)
            self.supervisor.on_work_ended(remote, now)

    def refused(self, connection: int, now: float) -> None:
        self._stirred = True
        if self.meeting.is_mailbox(connection):
            self.meeting.on_refused(connection, now)
        elif self.seeds.has(connection):
            self.seeds.on_lost(connection, now)

    def received(self, kind: Kind, parts: Parts, now: float, connection: int | None = None) -> bool:
        """A frame from the socket of `kind`; of the feed, on `connection`. Whether it made sense."""
        if kind is not Kind.FEED or parts[0][:1] != TOPIC:
            self._stirred = True
        return self.reading.received(kind, parts, now, connection)

    def offended(self, connection: int, now: float) -> None:
        """Too much of what has come on that feed made no sense."""
        remote = self.connections.feeds.get(connection)
        if remote is not None:
            self.meeting.bar(remote.id, "sends what makes no sense", now)

    def fenced(self, frame: bytes, now: float) -> None:
        """A subscription as the publishing socket got it: 0 or 1, then the prefix."""
        self._stirred = True
        self.reading.fenced(frame, now)

    def has_up(self, count: int) -> bool:
        return sum(remote.state is Life.UP for remote in self.roster) >= count
