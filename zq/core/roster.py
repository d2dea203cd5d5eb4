"""What this peer knows of the others: where they are, how they are reached, what they offer."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from zq.core.liveness import Life, Liveness
from zq.info import PeerInfo, PeerState
from zq.record import dataclass, field
from zq.wire.frames import Entry

REMEMBERED = 4_096  # sessions and departures of peers long gone; then the oldest are forgotten


@dataclass(eq=False, slots=True)
class Dial:
    """One mailbox connection that is tried, or was proven."""

    connection: int
    endpoint: str
    nonce: bytes
    since: float
    patience: float = 0.0  # s until its hello is repeated
    refusals: int = 0  # one soon after the other
    refused_at: float = -math.inf
    established: bool = False  # the connection is there, whoever is at its other end


@dataclass(eq=False, slots=True)
class Remote:
    """One other peer."""

    id: bytes
    found_at: float
    live: Liveness
    name: str = ""
    host: str = ""
    pid: int = 0
    found_by: list[str] = field(default_factory=list)
    endpoints: list[list[str]] = field(default_factory=list)  # mailbox, feed, work; one row an address
    mailboxes: list[str] = field(default_factory=list)  # dialled so far
    dials: dict[int, Dial] = field(default_factory=dict)
    mailbox: Dial | None = None  # the proven one
    greeting: bytes = b""  # the nonce of its last hello
    dropped: int = 0  # connections that were taken there and ended unproven, since the last that was proven
    feed: int | None = None
    feed_at: str | None = None  # the endpoint that it was dialled at; empty: to be dialled anew
    work: int | None = None
    generation: int = 0  # work connections made
    session: int = 0  # times we declared it gone, as told in hello
    their_session: int = 0
    entry: Entry | None = None
    entry_at: float = 0.0  # when it came
    noted: int = 0  # version of our entry that it has
    entry_patience: float = 0.0
    joined_at: float | None = None
    failed: bool = False  # it had its chance to answer; nobody waits for it
    incompatible: bool = False
    pursued: bool = False  # it fell silent, and is still dialled
    goodbye: bool = False
    silent: bool = False  # it is gone since nothing is heard of it, and may be back
    barred: bool = False  # it did not keep to its limits
    seeks: bool = False  # it has called us without knowing who we are: we are its seed

    @property
    def state(self) -> Life:
        return self.live.state

    @property
    def reachable(self) -> bool:
        return self.mailbox is not None

    def info(self, now: float) -> PeerInfo:
        state: PeerState
        if self.incompatible:
            state = "incompatible"
        else:
            state = "up" if self.state is Life.UP else "suspect" if self.state is Life.SUSPECT else "gone"
        entry = self.entry
        joined = self.joined_at
        return PeerInfo(
            id=self.id,
            name=self.name,
            host=self.host,
            pid=self.pid,
            state=state,
            found_by=tuple(self.found_by),
            address=self.mailbox.endpoint if self.mailbox else (self.mailboxes[0] if self.mailboxes else ""),
            up_for=now - joined if joined is not None else 0.0,
            found_in=joined - self.found_at if joined is not None else 0.0,
            publishes=tuple(row[0] for row in entry.topics) if entry else (),
            subscribes=tuple(dict.fromkeys(row[0] for row in entry.filters)) if entry else (),
            pushes=tuple(row[0] for row in entry.pushes) if entry else (),
            pulls=tuple(dict.fromkeys(row[0] for row in entry.pulls)) if entry else (),
            replies=tuple(dict.fromkeys(row[0] for row in entry.replies)) if entry else (),
        )


class Roster:
    """The other peers by id, and a bounded memory of those that have left."""

    def __init__(self) -> None:
        self._remotes: dict[bytes, Remote] = {}
        self._sessions: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._departed: OrderedDict[bytes, None] = OrderedDict()

    def __iter__(self) -> Iterator[Remote]:
        return iter(list(self._remotes.values()))

    def session(self, peer: bytes) -> int:
        """How often we have declared it gone."""
        remote = self._remotes.get(peer)
        return remote.session if remote is not None else 0

    def their_session(self, peer: bytes) -> int:
        """How often it has declared us gone, as far as it has said."""
        remote = self._remotes.get(peer)
        return remote.their_session if remote is not None else 0

    def __len__(self) -> int:
        return len(self._remotes)

    def __contains__(self, id: bytes) -> bool:
        return id in self._remotes

    def get(self, id: bytes) -> Remote | None:
        return self._remotes.get(id)

    def up(self) -> list[Remote]:
        return [remote for remote in self._remotes.values() if remote.state is Life.UP]

    def add(self, id: bytes, now: float) -> Remote:
        remote = Remote(id=id, found_at=now, live=Liveness())
        remote.session, remote.their_session = self._sessions.get(id, (0, 0))
        self._remotes[id] = remote
        return remote

    def remove(self, remote: Remote, *, departed: bool) -> None:
        """Gone: it may be found again, unless it has said goodbye: an id is never used twice."""
        del self._remotes[remote.id]
        if departed:
            self._remember(self._departed, remote.id, None)
        else:
            self._remember(self._sessions, remote.id, (remote.session, remote.their_session))

    def has_departed(self, id: bytes) -> bool:
        return id in self._departed

    def has_been(self, id: bytes) -> bool:
        """Whether it was here once, however it went."""
        return id in self._departed or id in self._sessions

    @staticmethod
    def _remember(table: OrderedDict[bytes, Any], id: bytes, value: object) -> None:
        table[id] = value
        table.move_to_end(id)
        while len(table) > REMEMBERED:
            table.popitem(last=False)
