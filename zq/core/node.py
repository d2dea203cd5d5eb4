"""One peer as a state machine: frames and the time go in, frames and deliveries come out.

The node owns the parts (meeting, seeds, gossip, topics, receptions, pushing, pulling), hands each frame to the one it
is for, and carries frames between this peer's own two ends, since a peer hears itself. It holds no socket, clock or
thread; the engine and the simulated network drive it through the same few calls: `received`, `broken`, `refused`,
`turn`.

Frames that make no sense, or are for somebody else, are counted in `refused_frames` and reported once a sender;
they never raise.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from zq.core.announced import Announced, subscriptions
from zq.core.asking import Questions
from zq.core.binding import Bindings
from zq.core.departures import Departures
from zq.core.durable import Durable, Durables, Position
from zq.core.endpoints import at_host_of, is_local
from zq.core.gossip import Gossip
from zq.core.hearing import Hearing
from zq.core.inbox import Inbox, SubscriptionInbox
from zq.core.inquiry import Answers, Inquiries, Inquiry
from zq.core.inspection import Inspected, Inspection, Inspections
from zq.core.intake import Intake
from zq.core.letters import SpoolAnswers
from zq.core.liveness import Life
from zq.core.meeting import Card, Meeting
from zq.core.outbox import MAX_ATTEMPTS, Outbox
from zq.core.port import Kind, Port
from zq.core.pulling import Puller, Pulling
from zq.core.pushing import Pushing
from zq.core.rebinding import Rebinding
from zq.core.recalling import Recalling
from zq.core.reception import Receptions, Subscription
from zq.core.replying import Replier, Replying, RequestInbox
from zq.core.requesting import Requesting
from zq.core.roster import Remote
from zq.core.seeds import ANYBODY, Seeds
from zq.core.spooling import Spooling
from zq.core.standing import Standing, standing
from zq.core.streams import Streams
from zq.core.supervisor import Supervisor
from zq.core.timers import Timers
from zq.core.topics import Origin, Topic, Topics
from zq.errors import Refused
from zq.info import EventKind, Ledger, PeerInfo
from zq.wire import frames
from zq.wire.batch import BATCH, TOPIC, BatchHeader, Parts, decode_batch, decode_topic
from zq.wire.body import ID_BYTES, NONCE_BYTES, Addressed, Body, decode_addressed
from zq.wire.data import Malformed
from zq.wire.frames import Entry
from zq.wire.limits import SUBSCRIPTIONS
from zq.wire.names import Filter
from zq.wire.requests import REPLY, REQUEST, Single, decode_reply, decode_request, is_small

ENTRY_REFRESH = 2.0  # s; counts in the roster entry are at most this old
REPORTED_SENDERS = 256  # senders of refused frames that are logged; more are only counted

Stream = Topic | Outbox | Intake | Subscription | Puller | Replier | Requesting
OnEvent = Callable[[EventKind, PeerInfo], None]


class Node:
    """`draw` gives random bytes, `on_event` hears of peers, `on_trouble` of what an operator should know."""

    def __init__(
        self,
        card: Card,
        port: Port,
        draw: Callable[[int], bytes],
        on_event: OnEvent,
        on_trouble: Callable[[str], None],
    ) -> None:
        self.card = card
        self.timers = Timers()
        self._port = port
        self._draw = draw
        self._on_event = on_event
        self.on_trouble = on_trouble
        self._connections = 0
        self._feeds: dict[int, Remote] = {}
        self._works: dict[int, Remote] = {}
        self._loop: deque[tuple[Kind, Parts]] = deque()
        self._entry_version = 0
        self._entry_dirty = True
        self.announced = Announced(on_trouble)
        self._told: list[Any] = []  # counts of the last entry
        self._standing: tuple[list[list[object]], list[list[object]]] = ([], [])  # lags and drops as last looked at
        self._lost = 0  # of subscriptions, as last noticed
        self._reported: set[bytes] = set()
        self.open_topics: dict[Topic, None] = {}  # those that some handle publishes on
        self.moved = 0  # messages taken from callers or settled by them in the last turn
        self.now = 0.0  # this turn's time, for those whom the owner lets in between
        self.discovered = False  # set by the owner when discovery has had its first look around
        self.refused_frames = 0
        self.turned_away: Callable[[], Mapping[str, int]] = dict  # set by the owner: what its doors have counted
        origin = Origin(card.id)
        self.topics = Topics(origin, self.timers, port.publish, lambda parts: self._loop.append((Kind.FEED, parts)))
        self.receptions = Receptions(
            self.timers, self._send, port.subscribe, lambda nonce: frames.fence_prefix(card.id, nonce)
        )
        self.pushing = self._new_pushing(origin)
        self.relaying = self._new_pushing(origin, relays=True)
        self.forwarding = self._new_pushing(origin)
        self.replaying = self._new_pushing(origin, relays=True)
        self._holders = (self.pushing, self.relaying, self.forwarding, self.replaying)
        self.pulling = Pulling(self.timers, self._send, self._session_of, on_trouble)
        self.spooling = Spooling(
            self.timers,
            self.pulling,
            self.relaying,
            self.forwarding,
            draw,
            on_trouble,
            self._offer_again,
            lambda: self.now,
        )
        self.streams = Streams(
            self.timers,
            self.receptions,
            self.replaying,
            self._subscribe_stream,
            lambda subscription: self.unsubscribe(subscription, self.now),
            self._send,
            self._send_work,
            card.id,
            on_trouble,
            self._offer_again,
            lambda: self.now,
        )
        self.recalling = Recalling(self.timers, self.receptions, self._send, card.id)
        self.durables = Durables(self.timers, self.pulling, draw, self._offer_again, on_trouble)
        self.bindings = Bindings(self.timers, self._send, self.topics, self.pushing, self._offer_again, on_trouble)
        self.rebinding = Rebinding(self.timers, draw, self._offer_again)
        self._unbinds: dict[str, None] = {}
        self.inquiries = Inquiries(self.timers, self._send)
        self.answers = SpoolAnswers(Answers(self.pushing, self._reopen), self.spooling, self._send)
        self.inspections = Inspections(self.timers, self._send)
        self.inspected = Inspected(self._send)
        carry = (self._send_single, self._send, self._generation_of)
        self.requesting = Requesting(origin, self.timers, *carry, self._is_queue)
        self.replying = Replying(origin, self.timers, *carry)
        self.meeting = Meeting(card, self.timers, port, draw, self._new_connection, self)
        found, knows = self.meeting.found, self.meeting.knows
        self.seeds = Seeds(
            card, self.timers, port, draw, self._new_connection, found, lambda id: id == card.id or knows(id)
        )
        roster = self.meeting.roster
        self.gossip = Gossip(card.id, roster, self.timers, draw, self._send, found)
        self.hearing = Hearing(self.timers, self.receptions, roster.get, self._open_feed, self._redial_work)
        for holder in self._holders:
            holder.on_silence = self.hearing.on_probe
        self.supervisor = Supervisor(self.timers, roster.get, self._open_feed, self._open_work)
        self.receptions.on_unanswered = self.supervisor.on_unanswered
        self.departures = Departures()
        self.questions = Questions(self.timers, self._send, self.ledger)
        self.receptions.connect(card.id, None, 0.0)
        self.receptions.nonce = draw(NONCE_BYTES)

    def _new_pushing(self, origin: Origin, *, relays: bool = False) -> Pushing:
        """For what this peer has in memory, what a spool here has stored (it `relays`), and what outboxes have."""
        return Pushing(
            origin,
            self.timers,
            self._draw,
            self._send,
            self._send_work,
            self._generation_of,
            self._session_with,
            name_of=self.name_of,
            tell=self.on_trouble,
            relays=relays,
        )

    def _new_connection(self) -> int:
        self._connections += 1
        return self._connections

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
        self._entry_dirty = True
        return topic

    def unpublish_topic(self, topic: Topic) -> None:
        self.open_topics.pop(topic, None)
        self._entry_dirty = True

    def subscribe(
        self, filters: Iterable[Filter], inbox: SubscriptionInbox, patience: float, now: float
    ) -> Subscription:
        filters = list(filters)
        self.announced.add((), filters)
        self._entry_dirty = True
        subscription = self.receptions.open(filters, inbox, patience, self._draw(NONCE_BYTES), now)
        self.recalling.on_subscription(subscription, now)
        return subscription

    def unsubscribe(self, subscription: Subscription, now: float) -> None:
        self.receptions.close(subscription, self._draw(NONCE_BYTES), now)
        self.recalling.on_closed(subscription)
        self._entry_dirty = True

    def _subscribe_stream(
        self, filter: Filter, inbox: SubscriptionInbox, created: float, left: Mapping[tuple[bytes, str], int]
    ) -> Subscription:
        """For a spool: publishers wait for it, for ever."""
        self._entry_dirty = True
        nonce = self._draw(NONCE_BYTES)
        return self.receptions.open([filter], inbox, math.inf, nonce, self.now, created=created, left=left)

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
        self._entry_dirty = True
        bound = self.bindings.adopt(queue, window=window, window_bytes=window_bytes, max_attempts=max_attempts, now=now)
        return bound or self.pushing.open(
            queue, window=window, window_bytes=window_bytes, max_attempts=max_attempts, now=now
        )

    def _reopen(self, queue: str, now: float) -> Outbox:
        self._entry_dirty = True
        return self.bindings.revive(queue, now)

    def unpush(self, outbox: Outbox, now: float) -> None:
        if not self.bindings.keep(outbox, now):
            self.pushing.close(outbox)
        self._entry_dirty = True

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
        self._entry_dirty = True
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
        peers = [self.card.id, *(remote.id for remote in self.meeting.roster.up())]
        return self.inquiries.begin(action, queue, ids, peers, now)

    def inspect(self, question: Callable[[int], frames.Inspect], peers: Sequence[bytes], now: float) -> Inspection:
        """Asks these peers about their spools; none: all, this one included."""
        everybody = [self.card.id, *(remote.id for remote in self.meeting.roster.up())]
        return self.inspections.begin(question, peers or everybody, now)

    def stop_pulling(self, puller: Puller, now: float) -> None:
        if puller.cursor is not None:
            self.durables.close(puller)
        self.pulling.close(puller, now)
        self._entry_dirty = True

    def unbind(self, queue: str, now: float) -> int:
        """Its pullers here are closing; publishers need not hold for it any more if nobody else binds it. Returns the
        version of the entry that says so (see `has_entries`), until `unbound` is called."""
        self._unbinds[queue] = None
        return self.ask_for_entries(now)

    def unbound(self, queue: str) -> None:
        self._unbinds.pop(queue, None)
        self._entry_dirty = True

    def _offer_again(self) -> None:
        self._entry_dirty = True
        self._count_later(self.now)  # what was dropped with a binding is told as well

    def reply_to(self, service: str, inbox: RequestInbox) -> Replier:
        self.announced.add([service])
        self._entry_dirty = True
        return self.replying.open(self._draw(16), service, inbox)

    def stop_replying(self, replier: Replier, now: float) -> None:
        self.replying.close(replier, now)
        self._entry_dirty = True

    def _is_queue(self, name: str) -> bool:
        """Whether somebody in the realm pushes to it or pulls from it."""
        entries = [remote.entry for remote in self.meeting.roster.up() if remote.entry is not None]
        named = [*self.held(self.now), *self.pulling.rows()]
        named += [row for entry in entries for row in (*entry.pushes, *entry.pulls)]
        return any(row[0] == name for row in named)

    def ask_for_entries(self, now: float) -> int:
        """Sends our entry to everyone again: whoever has noted it has told us its own as it was before."""
        self._publish_entry(now)
        return self._entry_version

    def has_entries(self, version: int) -> bool:
        """Whether everyone who is up has noted that version of our entry."""
        return all(remote.noted >= version for remote in self.meeting.roster.up())

    def is_settled(self) -> bool:
        """Everyone who can be found has been, or had its chance."""
        return self.discovered and self.seeds.is_settled() and self.meeting.is_settled()

    # --- events

    def turn(self, now: float, wall: float, streams: Iterable[Stream] = ()) -> float | None:
        """Does what is due: `streams` are those with something new. Returns when to come again, None: on an event."""
        self.moved = 0
        for holder in self._holders:
            holder.ahead = wall - now
        self.serve(streams, now, wall)
        for due in self.timers.due(now):
            due(now)
        self._settle(now)
        while True:
            self._drain_loop(now)
            while self.topics.released:
                self.topics.take(self.topics.released.pop(), now, wall)
            while self.pushing.released:
                self.pushing.take(self.pushing.released.pop(), now, wall)
            for holder in self._holders:
                if holder.opened:
                    holder.opened, self._entry_dirty = False, True
            self.relaying.released.clear()  # nobody waits for room there
            self.forwarding.released.clear()
            self.replaying.released.clear()
            self.spooling.report()
            self.streams.report(now)
            if self._entry_dirty:
                self._publish_entry(now)
            self.receptions.report()
            self.pulling.report()
            if self.receptions.lost != self._lost:
                self._lost = self.receptions.lost
                self._count_later(now)
            if not (self._loop or self.topics.released or self._entry_dirty):
                return self.timers.next()

    def serve(self, streams: Iterable[Stream], now: float, wall: float) -> None:
        """Only what is new with these; a turn is due."""
        self.replying.wall = wall
        for stream in streams:
            self.moved += self._serve(stream, now, wall)

    def _serve(self, stream: Stream, now: float, wall: float) -> int:
        """How many messages that was about."""
        if isinstance(stream, Topic):
            self._count_later(now)
            return self.topics.take(stream, now, wall)
        if isinstance(stream, Outbox):
            if stream.outgoing.limit < 0:
                return 0
            self._count_later(now)
            return self.pushing.take(stream, now, wall)
        if isinstance(stream, Intake):
            self._count_later(now)
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
            for holder in self._holders:
                holder.may_send = True
                for outbox in holder:
                    holder.dispatch(outbox, now)
        if self.durables.undecided and self.is_settled():
            self.durables.on_settled()
        if self.requesting.undecided and self.is_settled():
            self.requesting.on_settled(now)

    def connected(self, connection: int, now: float) -> None:
        """The carrier has made a connection."""
        self.meeting.on_connected(connection, now)
        remote = self._works.get(connection)
        if remote is not None:
            self.supervisor.on_work_made(remote)
            for holder in self._holders:
                holder.on_work_connection(remote.id, now)
            self.requesting.inquire(remote.id, now)
            self.replying.on_connection(remote.id)

    def broken(self, connection: int, now: float) -> None:
        if self.meeting.is_mailbox(connection):
            self.meeting.on_broken(connection, now)
        elif self.seeds.has(connection):
            self.seeds.on_lost(connection, now)
        elif (remote := self._works.get(connection)) is not None:
            self._drop_work(remote)
            self.supervisor.on_work_ended(remote, now)

    def refused(self, connection: int, now: float) -> None:
        if self.meeting.is_mailbox(connection):
            self.meeting.on_refused(connection, now)
        elif self.seeds.has(connection):
            self.seeds.on_lost(connection, now)

    def received(self, kind: Kind, parts: Parts, now: float, connection: int | None = None) -> None:
        """A frame from the socket of `kind`; of the feed, on `connection`."""
        remote = self._feeds.get(connection or 0) if kind is Kind.FEED else None
        try:
            if kind is Kind.FEED:
                if remote is not None:
                    self._on_feed(remote.id, parts, now)
            elif kind is Kind.WORK:
                self._on_work(parts, now)
            else:
                self._on_mailbox(parts, now)
        except (Malformed, Refused) as error:
            self._refuse(bytes(parts[0][17:33]) if remote is None else remote.id, str(error))

    def fenced(self, frame: bytes, now: float) -> None:
        """A subscription as the publishing socket got it: 0 or 1, then the prefix."""
        if frame[1:2] != frames.FENCE or len(frame) != 2 + ID_BYTES + NONCE_BYTES:
            return
        if frame[0]:
            self.topics.on_fence(frame[2:18], frame[18:], now)
        else:
            self.topics.on_fence_lifted(frame[2:18], frame[18:])

    def _refuse(self, sender: bytes, why: str) -> None:
        self.refused_frames += 1
        if sender not in self._reported and len(self._reported) < REPORTED_SENDERS:
            self._reported.add(sender)
            self.on_trouble(f"refused a frame of {sender.hex()[:8]}: {why[:200]!r}; more of them are only counted")

    # --- frames

    def _on_feed(self, publisher: bytes, parts: Parts, now: float) -> None:
        kind = bytes(parts[0][:1])
        if kind == TOPIC:
            self.receptions.on_batch(publisher, decode_topic(parts), now)
        elif kind == frames.FENCE:
            fence = frames.decode_fence(parts[0])
            if fence.subscriber == self.card.id and fence.publisher == publisher:
                self.receptions.on_fence(publisher, fence.nonce, fence.clock, fence.heads, now)
        else:
            raise Malformed(f"a feed frame of unknown kind {kind!r}")

    def _known(self, frame: Addressed | BatchHeader | Single) -> bool:
        """Whether it is for us and from somebody we have met."""
        if frame.addressee == self.card.id:
            if frame.sender == self.card.id:
                return True
            remote = self.meeting.roster.get(frame.sender)
            if remote is not None and remote.state is Life.FOUND:
                # Early: it may have met us before we have met it. What counts is said again.
                return isinstance(frame, Addressed) and frame.kind in (frames.WELCOME, frames.GOODBYE)
            if remote is not None:
                return True
            if self.meeting.roster.has_been(frame.sender):
                return False  # late
        self._refuse(frame.sender, "not for this peer, or of nobody we have met")
        return False

    def _on_work(self, parts: Parts, now: float) -> None:
        if bytes(parts[0][:1]) == BATCH:
            header, batch = decode_batch(parts)
            if self._known(header) and not self.pulling.on_batch(header, batch, now):
                self._refuse(header.sender, "a batch that we gave no credit for")
            return
        if bytes(parts[0][:1]) in (REQUEST, REPLY):
            self._on_single(parts, now)
            return
        frame = decode_addressed(parts[0])
        if not self._known(frame):
            return
        if frame.kind == frames.REFILL:
            if len(frame.body) != 8 or len(parts) < 2:
                raise Malformed("a refill without its frame")
            batch, number = decode_topic(parts[1:]), int.from_bytes(frame.body, "big")
            if number > frames.RECALLS:
                self.recalling.on_value(frame.sender, number, batch, now)
            else:
                self.receptions.on_refill(frame.sender, number, batch, now)
        elif frame.kind == frames.REFILLED:
            end = frames.Refilled.decode(frame.body)
            if end.request > frames.RECALLS:
                self.recalling.on_answered(frame.sender, end.request, now)
            else:
                self.receptions.on_refilled(frame.sender, end, now)
        else:
            raise Malformed(f"a work frame of unknown kind {frame.kind!r}")

    def _on_mailbox(self, parts: Parts, now: float) -> None:
        frame = decode_addressed(parts[0])
        sender, body = frame.sender, frame.body
        if frame.kind == frames.HELLO:
            hello = frames.Hello.decode(body)
            if sender == self.card.id:
                self.seeds.on_own_hello(hello, now)
            else:
                self.meeting.on_hello(sender, frame.addressee, hello, now)
                if frame.addressee == ANYBODY:
                    self.gossip.on_seeker(sender)
            return
        if not self._known(frame):
            return
        if frame.kind in (REQUEST, REPLY):
            self._on_single(parts, now)
        elif frame.kind == frames.WELCOME:
            welcome = frames.Welcome.decode(body)
            self.seeds.on_welcome(sender, welcome, now)
            self.meeting.on_welcome(sender, welcome, now)
        elif frame.kind == frames.STATE:
            state = frames.State.decode(body)
            holder = next((holder for holder in self._holders if holder.has(state.link)), self.pushing)
            holder.on_state(sender, state, now)
            self._count_later(now)
            if self.topics.blocked:
                self.topics.unblock()
        elif frame.kind == frames.PROBE:
            self.pulling.on_probe(sender, frames.Probe.decode(body), now)
        elif frame.kind == frames.SEEN:
            self.topics.on_seen(sender, frames.Seen.decode(body))
            self._count_later(now)
        elif frame.kind == frames.REPAIR:
            repair = frames.Repair.decode(body)
            answers = self.topics.refill(sender, repair)
            for answer in answers:
                if not self._send_work(sender, answer):
                    break  # it asks again
            self.hearing.on_repair(sender, repair, sum(len(part) for answer in answers for part in answer), now)
        elif frame.kind == frames.RECALL:
            self.streams.on_recall(sender, frames.Recall.decode(body))
        elif frame.kind == frames.ENTRY:
            if self._entry_dirty:
                self._publish_entry(now)  # first: see `ask_for_entries`
            entry = frames.Entry.decode(body)
            if subscriptions(entry) > SUBSCRIPTIONS:
                self.meeting.cut_off(sender, f"subscribes to more than {SUBSCRIPTIONS:,} filters", now)
            else:
                self.meeting.on_entry(sender, entry, now)
        elif frame.kind == frames.NOTED:
            self.meeting.on_noted(sender, frames.Noted.decode(body))
        elif frame.kind == frames.PEERS:
            self.gossip.on_peers(sender, frames.Peers.decode(body), now)
        elif frame.kind == frames.BINDING:
            question = frames.Binding.decode(body)
            since_ours = self.rebinding.on_binding(question, now)
            if since_ours is None:
                self.pulling.on_binding(sender, question, now)
            else:
                self._send(sender, since_ours)
        elif frame.kind == frames.SINCE:
            since = frames.Since.decode(body)
            self.bindings.on_since(sender, since, now)
            self.streams.on_since(sender, since, now)
        elif frame.kind == frames.END:
            self.pulling.on_end(sender, frames.End.decode(body).link)
        elif frame.kind == frames.INQUIRY:
            self.replying.on_inquiry(sender, frames.Inquiry.decode(body))
        elif frame.kind == frames.MISSING:
            self.requesting.on_missing(sender, frames.Missing.decode(body), now)
        elif frame.kind == frames.GOODBYE:
            self.receptions.on_last_heads(sender, frames.Goodbye.decode(body).heads)
            self.meeting.on_goodbye(sender, now)
        elif frame.kind == frames.ASK:
            self.questions.on_ask(sender, frames.Ask.decode(body), now)
        elif frame.kind == frames.LEDGER:
            self.questions.on_reply(sender, frames.LedgerReply.decode(body))
        elif frame.kind == frames.INQUIRE:
            self.answers.on_inquire(sender, frames.Inquire.decode(body), now)
            self._count_later(now)
        elif frame.kind == frames.INSPECT:
            self.inspected.on_inspect(sender, frames.Inspect.decode(body))
        elif frame.kind == frames.FINDINGS:
            self.inspections.on_findings(sender, frames.Findings.decode(body))
        elif frame.kind == frames.LETTERS:
            self.inquiries.on_letters(sender, frames.Letters.decode(body), now)
        else:
            raise Malformed(f"a mailbox frame of unknown kind {frame.kind!r}")

    def _on_single(self, parts: Parts, now: float) -> None:
        """A request or a reply, by mailbox or work."""
        if bytes(parts[0][:1]) == REQUEST:
            request = decode_request(parts)
            if self._known(request):
                self.replying.on_request(request.sender, request, now)
        else:
            reply = decode_reply(parts)
            if self._known(reply):
                self.requesting.on_reply(reply.sender, reply, now)

    # --- sending

    def _send_single(self, peer: bytes, parts: Parts) -> bool:
        """A request or a reply."""
        if not is_small(parts):
            return self._send_work(peer, parts)
        if peer == self.card.id:
            self._loop.append((Kind.MAILBOX, parts))
            return True
        remote = self.meeting.roster.get(peer)
        return remote is not None and remote.mailbox is not None and self._port.send(remote.mailbox.connection, parts)

    def _send(self, peer: bytes, body: Body) -> None:
        frame = (body.encode(peer, self.card.id),)
        if peer == self.card.id:
            self._loop.append((Kind.MAILBOX, frame))
            return
        remote = self.meeting.roster.get(peer)
        if remote is not None and remote.mailbox is not None:
            self._port.send(remote.mailbox.connection, frame)  # state: what is lost is told again

    def _send_work(self, peer: bytes, parts: Parts) -> bool:
        if peer == self.card.id:
            self._loop.append((Kind.WORK, parts))
            return True
        remote = self.meeting.roster.get(peer)
        if remote is None or not remote.reachable:
            return False
        if remote.work is None and self.supervisor.may_work(remote):
            self._open_work(remote)
        return remote.work is not None and self._port.send(remote.work, parts)

    def _open_work(self, remote: Remote) -> None:
        endpoint = self._endpoint(remote, 2)
        if endpoint is None:
            return
        remote.work = self._new_connection()
        remote.generation += 1
        self._works[remote.work] = remote
        self._port.dial(remote.work, Kind.WORK, endpoint)

    def _drop_work(self, remote: Remote) -> None:
        """What is queued on it must not reach a stranger who takes over the address: the next one is a new one."""
        assert remote.work is not None
        del self._works[remote.work]
        self._port.hang_up(remote.work)
        remote.work = None

    def _redial_work(self, remote: Remote) -> None:
        self._drop_work(remote)
        if remote.reachable:
            self._open_work(remote)

    def redial_data(self, now: float) -> None:
        """An address of this host is gone. What was dialled from it is dead, and swallows what is written to it until
        TCP finds out; which connections those are nobody tells."""
        for remote in self.meeting.roster:
            if remote.feed_at is None or is_local(remote.feed_at):
                continue
            if remote.work is not None:
                self._redial_work(remote)
            if remote.reachable:
                self._open_feed(remote, now)
            else:
                remote.feed_at = ""  # dialled anew when the peer can be reached

    def _open_feed(self, remote: Remote, now: float) -> None:
        endpoint = self._endpoint(remote, 1)
        if endpoint is None:
            return
        if remote.feed is not None:
            del self._feeds[remote.feed]
            self._port.hang_up(remote.feed)
        remote.feed, remote.feed_at = self._new_connection(), endpoint
        self._feeds[remote.feed] = remote
        self._port.dial(remote.feed, Kind.FEED, endpoint)
        self.receptions.connect(remote.id, remote.feed, now)

    @staticmethod
    def _endpoint(remote: Remote, column: int) -> str | None:
        """Of the address that won: its feed is column 1, its work column 2."""
        assert remote.mailbox is not None
        reached = remote.mailbox.endpoint
        if rows := [row for row in remote.endpoints if row[0] == reached]:
            return rows[0][column]
        return at_host_of(reached, remote.endpoints[0][column]) if remote.endpoints else None

    def _generation_of(self, peer: bytes) -> int:
        remote = self.meeting.roster.get(peer)
        return remote.generation if remote is not None else 0

    def name_of(self, peer: bytes) -> str:
        """Empty for a peer that is not known, or not any more."""
        remote = self.meeting.roster.get(peer)
        return remote.name if remote is not None else self.card.name if peer == self.card.id else ""

    def _session_with(self, peer: bytes) -> int:
        """How often we have declared it gone."""
        remote = self.meeting.roster.get(peer)
        return remote.session if remote is not None else 0

    def _session_of(self, peer: bytes) -> int:
        """How often it has declared us gone, as far as it has said."""
        remote = self.meeting.roster.get(peer)
        return remote.their_session if remote is not None else 0

    def _drain_loop(self, now: float) -> None:
        """What this peer has sent itself. The one receiver of a batch must not see the sender's flags change."""
        while self._loop:
            kind, parts = self._loop.popleft()
            if kind is Kind.FEED:
                self._on_feed(self.card.id, parts, now)
            elif kind is Kind.WORK:
                self._on_work(parts, now)
            else:
                self._on_mailbox(parts, now)

    # --- the roster entry

    def _count_later(self, now: float) -> None:
        self.timers.set_if_unset("counts", now + ENTRY_REFRESH, self._refresh_counts)

    def _refresh_counts(self, now: float) -> None:
        self._standing = self.standing().rows()
        if self._counts(now) != self._told:
            self._entry_dirty = True
            self._count_later(now)

    def _counts(self, now: float) -> list[Any]:
        topics = [[topic.name, topic.head] for topic in self.open_topics]
        # Whatever is taken or settled changes one of these, and the age of the oldest is told anew with it.
        held = [(outbox.queue, outbox.held, outbox.taken) for outbox in self.pushing]
        return [topics, held, [row[:2] for row in self.spooled(now)], self._standing, self.streams.rows()]

    def spooled(self, now: float) -> list[list[object]]:
        """Queues that are on a disk here, as the entry tells of them."""
        return [*self.spooling.rows(self.relaying, now), *self.spooling.rows(self.forwarding, now)]

    def held(self, now: float) -> list[list[object]]:
        """The same of all that this peer holds messages of."""
        return [*self.pushing.rows(now), *self.spooled(now)]

    def standing(self) -> Standing:
        """How well those who take from this peer keep up, and what was dropped here."""
        return standing(self.topics, self.pushing, self.receptions, self.bindings.past())

    def _publish_entry(self, now: float) -> None:
        self._entry_dirty = False
        self._entry_version += 1
        self._told = self._counts(now)
        entry = Entry(
            self._entry_version,
            self.receptions.nonce,
            self.receptions.rows(),
            self._told[0],
            self.held(now),
            self.pulling.rows(),
            self.replying.rows(),
            [*self.pulling.binds(), *self.rebinding.binds()],
            [*self._unbinds, *self.rebinding.unbinds()],
            *self._standing,
            self.pulling.spools(),
            self.streams.rows(),
            self.durables.rows(),
        )
        entry = self.announced.fit(entry)
        self.topics.on_entry(self.card.id, entry, now)
        self.topics.on_fence(self.card.id, self.receptions.nonce, now)
        self._tell_holders(self.card.id, entry, now)
        self.bindings.on_entry(self.card.id, entry, now)
        self.requesting.on_entry(self.card.id, entry, now)
        self.meeting.publish_entry(entry, now)

    # --- neighbours

    def on_up(self, remote: Remote, now: float, *, first: bool) -> None:
        if first or self._endpoint(remote, 1) != remote.feed_at:  # it is reached at another address than before
            self._open_feed(remote, now)
            if remote.work is not None:
                self._redial_work(remote)
        if first:
            self.departures.on_up(remote.id)
            self.gossip.on_up(remote, now)
            self.pulling.on_back(remote.id)
        else:
            if remote.work is None and remote.generation and self.supervisor.may_work(remote):
                self._open_work(remote)  # it broke while the peer could not be reached
            self.receptions.on_proven(remote.id, now)
            for holder in self._holders:
                holder.on_proven(remote.id, now)
            self.pulling.on_proven(remote.id)
            self.requesting.on_proven(remote.id, now)
            self.replying.on_proven(remote.id, now)

    def on_entry(self, remote: Remote, entry: Entry, now: float) -> None:
        remote.entry_at = now
        self.topics.on_entry(remote.id, entry, now)
        self._tell_holders(remote.id, entry, now)
        self.bindings.on_entry(remote.id, entry, now)
        self.pulling.on_entry(remote.id, entry, now)
        self.hearing.on_entry(remote, entry, now)
        self.requesting.on_entry(remote.id, entry, now)

    def _tell_holders(self, peer: bytes, entry: Entry, now: float) -> None:
        """Who pulls and reads there, and what its spools have."""
        for holder in (self.pushing, self.relaying, self.forwarding):
            holder.on_entry(peer, entry, now)
        self.streams.on_entry(peer, entry, now)
        self.rebinding.on_entry(peer, entry, now)
        self.recalling.on_entry(peer, entry, now)
        self.durables.on_entry(peer, entry, now)

    def on_session(self, remote: Remote, now: float) -> None:
        for holder in self._holders:
            holder.on_session(remote.id, now, crashed=False)
        self.pulling.on_session(remote.id)
        self.requesting.on_lost(remote.id, now)
        self.replying.on_lost(remote.id)
        self._entry_version += 1
        self.meeting.tell_again(remote, self._entry_version, now)

    def on_gone(self, remote: Remote, now: float) -> None:
        for connection, table in ((remote.feed, self._feeds), (remote.work, self._works)):
            if connection is not None:
                del table[connection]
                self._port.hang_up(connection)
        self.departures.on_gone(remote, now)
        self.questions.on_gone(remote.id)
        self.gossip.on_gone(remote.id)
        self.hearing.on_gone(remote)
        self.supervisor.on_gone(remote)
        self.inquiries.on_gone(remote.id)
        self.inspections.on_gone(remote.id)
        self.topics.on_gone(remote.id)
        self.receptions.on_gone(remote.id, goodbye=remote.goodbye)
        for holder in self._holders:
            holder.on_gone(remote.id, now, crashed=not remote.goodbye)
        self.streams.on_gone(remote.id, now, crashed=not remote.goodbye)
        self.durables.on_gone(remote.id)
        self.rebinding.on_gone(remote.id, now)
        self.recalling.on_gone(remote.id)
        self.bindings.on_gone(remote.id, now)
        self.pulling.on_gone(remote.id)
        self.requesting.on_gone(remote.id, now)
        self.replying.on_lost(remote.id)
        if remote.goodbye:
            self.replying.on_departed(remote.id)

    def owed_heads(self, remote: Remote) -> list[list[object]]:
        return self.topics.owed_heads(remote.id)

    def on_event(self, kind: EventKind, remote: Remote, now: float) -> None:
        self._on_event(kind, remote.info(now))

    # --- ledger

    def ledger(self, now: float) -> Ledger:
        """All of this peer's counters in one step."""
        for subscription in self.receptions:
            self.receptions.on_taken(subscription, now)
        for puller in self.pulling:
            self.pulling.on_taken(puller, now)
        return Ledger(
            peer=self.card.id,
            name=self.card.name,
            held=(
                *self.bindings.ledger(self.pushing.ledger()),
                *self.spooling.ledger(self.relaying),
                *self.spooling.ledger(self.forwarding),
                *self.streams.ledger(),
            ),
            pulled=self.pulling.ledger(),
            published=self.topics.ledger(),
            subscribed=self.receptions.ledger(),
            requested=self.requesting.ledger(),
            replied=self.replying.ledger(),
            refused_frames=self.refused_frames,
            turned_away={why: count for why, count in self._turned_away().items() if count},
            departed=self.departures.rows(now),
        )

    def _turned_away(self) -> dict[str, int]:
        return {**self.turned_away(), "announcement": self.meeting.cut_offs}

    def has_up(self, count: int) -> bool:
        return sum(remote.state is Life.UP for remote in self.meeting.roster) >= count
