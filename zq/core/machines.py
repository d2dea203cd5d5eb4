"""The state machines of one peer, made and joined to each other.

This is the one place that knows them all. Each gets what it needs of the others as a call; what comes from outside is
handed to them by `reading` (frames), `encounters` (peers that come and go) and `node` (handles and the time).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from zq.core.announced import Announced
from zq.core.announcement import Announcement
from zq.core.asking import Questions
from zq.core.binding import Bindings
from zq.core.connections import Connections
from zq.core.departures import Departures
from zq.core.durable import Durables
from zq.core.encounters import Encounters
from zq.core.gossip import Gossip
from zq.core.hearing import Hearing
from zq.core.inbox import SubscriptionInbox
from zq.core.inquiry import Answers, Inquiries
from zq.core.inspection import Inspected, Inspections
from zq.core.letters import SpoolAnswers
from zq.core.meeting import Card, Meeting
from zq.core.outbox import Outbox
from zq.core.port import Kind, Port
from zq.core.pulling import Pulling
from zq.core.pushing import Pushing
from zq.core.reading import Reading
from zq.core.rebinding import Rebinding
from zq.core.recalling import Recalling
from zq.core.receptions import Receptions
from zq.core.replying import Replying
from zq.core.requesting import Requesting
from zq.core.roster import Roster
from zq.core.seeds import Seeds
from zq.core.spooling import Spooling
from zq.core.streams import Streams
from zq.core.subscription import Subscription
from zq.core.supervisor import Supervisor
from zq.core.timers import Timers
from zq.core.topics import Origin, Topic, Topics
from zq.info import EventKind, Ledger, PeerInfo
from zq.wire import frames
from zq.wire.body import NONCE_BYTES
from zq.wire.names import Filter

OnEvent = Callable[[EventKind, PeerInfo], None]


class Machines:
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
        self._draw = draw
        self.on_trouble = on_trouble
        self.announced = Announced(on_trouble)
        self.open_topics: dict[Topic, None] = {}  # those that some handle publishes on
        self.turned_away: Callable[[], Mapping[str, int]] = dict  # set by the owner: what its doors have counted
        self.now = 0.0  # this turn's time, for those whom the owner lets in between
        self.roster = roster = Roster()
        self.connections = connections = Connections(card.id, port, roster)
        self.announcement = Announcement(self)
        self.encounters = Encounters(self, on_event, on_trouble)
        self.reading = Reading(self, on_trouble)
        offer_again = self.announcement.offer_again
        origin = Origin(card.id)
        self.topics = Topics(
            origin, self.timers, port.publish, lambda parts: self.connections.loop.append((Kind.FEED, parts))
        )
        self.receptions = Receptions(
            self.timers, connections.send, port.subscribe, lambda nonce: frames.fence_prefix(card.id, nonce)
        )
        self.pushing = self._new_pushing(origin, draw)
        self.relaying = self._new_pushing(origin, draw, relays=True)
        self.forwarding = self._new_pushing(origin, draw)
        self.replaying = self._new_pushing(origin, draw, relays=True)
        self.holders = (self.pushing, self.relaying, self.forwarding, self.replaying)
        self.pulling = Pulling(self.timers, connections.send, roster.their_session, on_trouble)
        self.spooling = Spooling(
            self.timers,
            self.pulling,
            self.relaying,
            self.forwarding,
            draw,
            on_trouble,
            offer_again,
            lambda: self.now,
        )
        self.streams = Streams(
            self.timers,
            self.receptions,
            self.replaying,
            self._subscribe_stream,
            lambda subscription: self.unsubscribe(subscription, self.now),
            connections.send,
            connections.send_work,
            card.id,
            on_trouble,
            offer_again,
            lambda: self.now,
        )
        self.recalling = Recalling(self.timers, self.receptions, connections.send, card.id)
        self.durables = Durables(self.timers, self.pulling, draw, offer_again, on_trouble)
        self.bindings = Bindings(self.timers, connections.send, self.topics, self.pushing, offer_again, on_trouble)
        self.rebinding = Rebinding(self.timers, draw, offer_again)
        self.inquiries = Inquiries(self.timers, connections.send)
        self.answers = SpoolAnswers(Answers(self.pushing, self._reopen), self.spooling, connections.send)
        self.inspections = Inspections(self.timers, connections.send)
        self.inspected = Inspected(connections.send)
        carry = (connections.send_single, connections.send, connections.generation_of)
        self.requesting = Requesting(origin, self.timers, *carry, self._is_queue)
        self.replying = Replying(origin, self.timers, *carry)
        self.meeting = Meeting(card, roster, self.timers, port, draw, connections.new, self.encounters)
        found, knows = self.meeting.found, self.meeting.knows
        self.seeds = Seeds(card, self.timers, port, draw, connections.new, found, lambda id: id == card.id or knows(id))
        self.gossip = Gossip(card.id, roster, self.timers, draw, connections.send, found)
        self.hearing = Hearing(self.timers, self.receptions, roster.get, connections.open_feed, connections.redial_work)
        for holder in self.holders:
            holder.probing.on_silence = self.hearing.on_probe
        self.supervisor = Supervisor(self.timers, roster.get, connections.open_feed, connections.open_work)
        connections.may_work, connections.on_feed = self.supervisor.may_work, self.receptions.connect
        self.receptions.fences.on_unanswered = self.supervisor.on_unanswered
        self.departures = Departures()
        self.questions = Questions(self.timers, connections.send, self.ledger)
        self.receptions.connect(card.id, None, 0.0)
        self.receptions.fences.nonce = draw(NONCE_BYTES)

    def _new_pushing(self, origin: Origin, draw: Callable[[int], bytes], *, relays: bool = False) -> Pushing:
        """For what this peer has in memory, what a spool here has stored (it `relays`), and what outboxes have."""
        connections = self.connections
        return Pushing(
            origin,
            self.timers,
            draw,
            connections.send,
            connections.send_work,
            connections.generation_of,
            self.roster.session,
            name_of=self.name_of,
            tell=self.on_trouble,
            relays=relays,
        )

    # --- what some of them ask of others

    def subscribe(
        self, filters: Iterable[Filter], inbox: SubscriptionInbox, patience: float, now: float
    ) -> Subscription:
        filters = list(filters)
        self.announced.add((), filters)
        self.announcement.dirty = True
        subscription = self.receptions.open(filters, inbox, patience, self._draw(NONCE_BYTES), now)
        self.recalling.on_subscription(subscription, now)
        return subscription

    def unsubscribe(self, subscription: Subscription, now: float) -> None:
        self.receptions.close(subscription, self._draw(NONCE_BYTES), now)
        self.recalling.on_closed(subscription)
        self.announcement.dirty = True

    def _subscribe_stream(
        self, filter: Filter, inbox: SubscriptionInbox, created: float, left: Mapping[tuple[bytes, str], int]
    ) -> Subscription:
        """For a spool: publishers wait for it, for ever."""
        self.announcement.dirty = True
        nonce = self._draw(NONCE_BYTES)
        return self.receptions.open([filter], inbox, math.inf, nonce, self.now, created=created, left=left)

    def _reopen(self, queue: str, now: float) -> Outbox:
        self.announcement.dirty = True
        return self.bindings.revive(queue, now)

    def _is_queue(self, name: str) -> bool:
        """Whether somebody in the realm pushes to it or pulls from it."""
        entries = [remote.entry for remote in self.roster.up() if remote.entry is not None]
        named = [*self.announcement.held(self.now), *self.pulling.rows()]
        named += [row for entry in entries for row in (*entry.pushes, *entry.pulls)]
        return any(row[0] == name for row in named)

    def name_of(self, peer: bytes) -> str:
        """Empty for a peer that is not known, or not any more."""
        remote = self.roster.get(peer)
        return remote.name if remote is not None else self.card.name if peer == self.card.id else ""

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
                *self.bindings.past.with_present(self.pushing.ledger()),
                *self.spooling.ledger(self.relaying),
                *self.spooling.ledger(self.forwarding),
                *self.streams.ledger(),
            ),
            pulled=self.pulling.ledger(),
            published=self.topics.ledger(),
            subscribed=self.receptions.ledger(),
            requested=self.requesting.ledger(),
            replied=self.replying.ledger(),
            refused_frames=self.reading.refused,
            turned_away={why: count for why, count in self._turned_away().items() if count},
            departed=self.departures.rows(now),
        )

    def _turned_away(self) -> dict[str, int]:
        return {**self.turned_away(), "announcement": self.meeting.cut_offs}
