"""The roster entry of a peer: what it tells all others of its handles, its counts and its spools.

    CLEAN --a handle comes or goes, a spool stores for somebody new--> DIRTY --the end of the turn--> told, CLEAN
    CLEAN --a count has changed--> counted at most ENTRY_REFRESH later --it still differs--> DIRTY

An entry has a version and is sent whole; `meeting` sends it again until it is noted. A crash loses it with the peer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zq.core.standing import Standing, standing
from zq.wire.frames import Entry

if TYPE_CHECKING:
    from zq.core.machines import Machines

ENTRY_REFRESH = 2.0  # s; counts in the roster entry are at most this old


class Announcement:
    """This peer's own entry."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self.version = 0
        self.dirty = True
        self.unbinds: dict[str, None] = {}  # queues whose pullers here are closing for good
        self._told: list[Any] = []  # counts of the last entry
        self._standing: tuple[list[list[object]], list[list[object]]] = ([], [])  # lags and drops as last looked at

    def offer_again(self) -> None:
        self.dirty = True
        self.count_later(self._machines.now)  # what was dropped with a binding is told as well

    def count_later(self, now: float) -> None:
        self._machines.timers.set_if_unset("counts", now + ENTRY_REFRESH, self._refresh_counts)

    def _refresh_counts(self, now: float) -> None:
        self._standing = self.standing().rows()
        if self._counts(now) != self._told:
            self.dirty = True
            self.count_later(now)

    def _counts(self, now: float) -> list[Any]:
        machines = self._machines
        topics = [[topic.name, topic.head] for topic in machines.open_topics]
        # Whatever is taken or settled changes one of these, and the age of the oldest is told anew with it.
        held = [(outbox.queue, outbox.held, outbox.taken) for outbox in machines.pushing]
        return [topics, held, [row[:2] for row in self.spooled(now)], self._standing, machines.streams.rows()]

    # --- rows

    def spooled(self, now: float) -> list[list[object]]:
        """Queues that are on a disk here, as the entry tells of them."""
        machines = self._machines
        return [*machines.spooling.rows(machines.relaying, now), *machines.spooling.rows(machines.forwarding, now)]

    def held(self, now: float) -> list[list[object]]:
        """The same of all that this peer holds messages of."""
        return [*self._machines.pushing.rows(now), *self.spooled(now)]

    def standing(self) -> Standing:
        """How well those who take from this peer keep up, and what was dropped here."""
        machines = self._machines
        return standing(machines.topics, machines.pushing, machines.receptions, machines.bindings.past.rows())

    # --- telling

    def publish(self, now: float) -> None:
        machines = self._machines
        self.dirty = False
        self.version += 1
        self._told = self._counts(now)
        entry = Entry(
            self.version,
            machines.receptions.fences.nonce,
            machines.receptions.rows(),
            self._told[0],
            self.held(now),
            machines.pulling.rows(),
            machines.replying.rows(),
            [*machines.pulling.binds(), *machines.rebinding.binds()],
            [*self.unbinds, *machines.rebinding.unbinds()],
            *self._standing,
            machines.pulling.spools(),
            machines.streams.rows(),
            machines.durables.rows(),
        )
        entry = machines.announced.fit(entry)
        machines.topics.on_entry(machines.card.id, entry, now)
        machines.topics.on_fence(machines.card.id, machines.receptions.fences.nonce, now)
        machines.encounters.tell_holders(machines.card.id, entry, now)
        machines.bindings.on_entry(machines.card.id, entry, now)
        machines.requesting.on_entry(machines.card.id, entry, now)
        machines.meeting.entries.publish(entry, now)

    def ask_for_entries(self, now: float) -> int:
        """Sends our entry to everyone again: whoever has noted it has told us its own as it was before."""
        self.publish(now)
        return self.version

    def has_entries(self, version: int) -> bool:
        """Whether everyone who is up has noted that version of our entry."""
        return all(remote.noted >= version for remote in self._machines.meeting.roster.up())
