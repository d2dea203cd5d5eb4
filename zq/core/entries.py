"""Roster entries: what each peer subscribes, publishes, pushes and pulls, told to all that it has met.

An entry is state: the highest version wins, and it is sent again until it is noted, later and later. So lost frames,
repeated ones and those that overtake others are harmless. A crash loses what is told anew at the next meeting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from zq.core.port import Port
from zq.core.roster import Remote, Roster
from zq.core.timers import Timers
from zq.info import EventKind
from zq.wire.frames import Entry, Noted

AGAIN, MOST = 0.2, 2.0  # s until an entry that was not noted is sent again, doubled up to


class Readers(Protocol):
    """Who wants to know what others offer."""

    def on_entry(self, remote: Remote, entry: Entry, now: float) -> None: ...

    def on_event(self, kind: EventKind, remote: Remote, now: float) -> None: ...


class Entries:
    """Ours, and what is known of others' (`Remote.entry`). `later` says how long to wait for an answer next."""

    def __init__(
        self,
        id: bytes,
        roster: Roster,
        timers: Timers,
        port: Port,
        readers: Readers,
        later: Callable[[float, float, float], float],
    ) -> None:
        self._id = id
        self._roster = roster
        self._timers = timers
        self._port = port
        self._readers = readers
        self._later = later
        self._entry: Entry | None = None

    # --- telling

    def publish(self, entry: Entry, now: float) -> None:
        """Our entry has changed: everyone who is up gets it."""
        self._entry = entry
        for remote in self._roster.up():
            remote.entry_patience = 0.0
            self._send(remote, now)

    def tell_again(self, remote: Remote, version: int, now: float) -> None:
        """It has forgotten our entry, and gets it as a new version: what it noted of an old one may come late."""
        if self._entry is not None:
            self._entry = Entry(**(vars(self._entry) | {"version": version}))
            remote.entry_patience = 0.0
            self._send(remote, now)

    def on_up(self, remote: Remote, now: float, *, first: bool) -> None:
        if first:
            remote.noted = 0
        remote.entry_patience = 0.0
        self._send(remote, now)

    def on_gone(self, remote: Remote) -> None:
        self._timers.cancel((remote, "entry"))

    def _send(self, remote: Remote, now: float) -> None:
        if self._entry is None or remote.noted >= self._entry.version or remote.mailbox is None:
            return
        self._port.send(remote.mailbox.connection, (self._entry.encode(remote.id, self._id),))
        remote.entry_patience = self._later(remote.entry_patience, AGAIN, MOST)
        self._timers.set((remote, "entry"), now + remote.entry_patience, lambda when: self._send(remote, when))

    def on_noted(self, sender: bytes, noted: Noted) -> None:
        remote = self._roster.get(sender)
        if remote is not None:
            remote.noted = max(remote.noted, noted.version)

    # --- being told

    def on_entry(self, sender: bytes, entry: Entry, now: float) -> None:
        remote = self._roster.get(sender)
        if remote is None or remote.mailbox is None:
            return  # it will be sent again when we have met
        self._port.send(remote.mailbox.connection, (Noted(entry.version).encode(sender, self._id),))
        if remote.entry is not None and remote.entry.version >= entry.version:
            return
        known = remote.entry is not None
        remote.entry = entry
        self._readers.on_entry(remote, entry, now)
        if known:
            self._readers.on_event("changed", remote, now)
