"""What each part of a peer hears of the others: who is up, what he says of himself, that he has begun anew, that he is
gone. `meeting` finds out; here is who is told, in an order that matters: connections first, since everything else
answers by them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zq.core.roster import Remote
from zq.info import EventKind, PeerInfo
from zq.wire.frames import Entry

if TYPE_CHECKING:
    from zq.core.machines import Machines


class Encounters:
    """The `Neighbours` of a peer's meeting."""

    def __init__(
        self, machines: Machines, on_event: Callable[[EventKind, PeerInfo], None], on_trouble: Callable[[str], None]
    ) -> None:
        self._machines = machines
        self._on_event = on_event
        self.on_trouble = on_trouble

    def on_up(self, remote: Remote, now: float, *, first: bool) -> None:
        machines, connections = self._machines, self._machines.connections
        if first or connections.endpoint(remote, 1) != remote.feed_at:  # it is reached at another address than before
            connections.open_feed(remote, now)
            if remote.work is not None:
                connections.redial_work(remote)
        if first:
            machines.departures.on_up(remote.id)
            machines.gossip.on_up(remote, now)
            machines.pulling.on_back(remote.id)
        else:
            if remote.work is None and remote.generation and machines.supervisor.may_work(remote):
                connections.open_work(remote)  # it broke while the peer could not be reached
            machines.receptions.on_proven(remote.id, now)
            for holder in machines.holders:
                holder.on_proven(remote.id, now)
            machines.pulling.on_proven(remote.id)
            machines.requesting.on_proven(remote.id, now)
            machines.replying.on_proven(remote.id, now)

    def on_entry(self, remote: Remote, entry: Entry, now: float) -> None:
        machines = self._machines
        remote.entry_at = now
        machines.topics.on_entry(remote.id, entry, now)
        self.tell_holders(remote.id, entry, now)
        machines.bindings.on_entry(remote.id, entry, now)
        machines.pulling.on_entry(remote.id, entry, now)
        machines.hearing.on_entry(remote, entry, now)
        machines.requesting.on_entry(remote.id, entry, now)

    def tell_holders(self, peer: bytes, entry: Entry, now: float) -> None:
        """Who pulls and reads there, and what its spools have."""
        machines = self._machines
        for holder in (machines.pushing, machines.relaying, machines.forwarding):
            holder.on_entry(peer, entry, now)
        machines.streams.on_entry(peer, entry, now)
        machines.rebinding.on_entry(peer, entry, now)
        machines.recalling.on_entry(peer, entry, now)
        machines.durables.on_entry(peer, entry, now)

    def on_session(self, remote: Remote, now: float) -> None:
        machines = self._machines
        for holder in machines.holders:
            holder.on_session(remote.id, now, crashed=False)
        machines.pulling.on_session(remote.id)
        machines.requesting.on_lost(remote.id, now)
        machines.replying.on_lost(remote.id)
        machines.announcement.version += 1
        machines.meeting.entries.tell_again(remote, machines.announcement.version, now)

    def on_gone(self, remote: Remote, now: float) -> None:
        machines = self._machines
        machines.connections.on_gone(remote)
        machines.departures.on_gone(remote, now)
        machines.questions.on_gone(remote.id)
        machines.gossip.on_gone(remote.id)
        machines.hearing.on_gone(remote)
        machines.supervisor.on_gone(remote)
        machines.inquiries.on_gone(remote.id)
        machines.inspections.on_gone(remote.id)
        machines.topics.on_gone(remote.id)
        machines.receptions.on_gone(remote.id, now, goodbye=remote.goodbye, silent=remote.silent)
        for holder in machines.holders:
            holder.on_gone(remote.id, now, crashed=not remote.goodbye)
        machines.streams.on_gone(remote.id, now, crashed=not remote.goodbye)
        machines.durables.on_gone(remote.id)
        machines.rebinding.on_gone(remote.id, now)
        machines.recalling.on_gone(remote.id)
        machines.bindings.on_gone(remote.id, now)
        machines.pulling.on_gone(remote.id)
        machines.requesting.on_gone(remote.id, now)
        machines.replying.on_lost(remote.id)
        if remote.goodbye:
            machines.replying.on_departed(remote.id)

    def owed_heads(self, remote: Remote) -> list[list[object]]:
        return self._machines.topics.owed_heads(remote.id)

    def on_event(self, kind: EventKind, remote: Remote, now: float) -> None:
        self._on_event(kind, remote.info(now))
