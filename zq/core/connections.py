"""The connections by which a peer sends to the others: who is at the end of each, and what goes by which.

To each peer that has been met there are three at most. The mailbox is made and proven by `meeting` and `seeds`, which
draw its number here; feed and work are made here, at the address of the mailbox that won, and made anew when that
changes or when somebody finds them deaf (`supervisor`, `hearing`). What is for this peer itself goes round by `loop`,
since a peer hears itself; whoever takes the turn reads it.

Nothing here waits, and nothing is kept: what a connection loses is told, asked for or sent again by those whose it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from zq.core.endpoints import at_host_of, is_local
from zq.core.port import Kind, Port
from zq.core.roster import Remote, Roster
from zq.wire.batch import Parts
from zq.wire.body import Body
from zq.wire.requests import is_small


class Connections:
    """Of the peer `id` to those of `roster`. `on_feed` hears of each feed that is dialled; `may_work` says whether a
    work connection may be made at the moment."""

    def __init__(self, id: bytes, port: Port, roster: Roster) -> None:
        self._id = id
        self._port = port
        self._roster = roster
        self._drawn = 0
        self.feeds: dict[int, Remote] = {}
        self.works: dict[int, Remote] = {}
        self.loop: deque[tuple[Kind, Parts]] = deque()  # to this peer itself
        self.on_feed: Callable[[bytes, int, float], None] = lambda publisher, connection, now: None
        self.may_work: Callable[[Remote], bool] = lambda remote: True

    def new(self) -> int:
        """The number of a connection, never used before."""
        self._drawn += 1
        return self._drawn

    def send(self, peer: bytes, body: Body) -> None:
        frame = (body.encode(peer, self._id),)
        if peer == self._id:
            self.loop.append((Kind.MAILBOX, frame))
            return
        remote = self._roster.get(peer)
        if remote is not None and remote.mailbox is not None:
            self._port.send(remote.mailbox.connection, frame)  # state: what is lost is told again

    def send_single(self, peer: bytes, parts: Parts) -> bool:
        """A request or a reply."""
        if not is_small(parts):
            return self.send_work(peer, parts)
        if peer == self._id:
            self.loop.append((Kind.MAILBOX, parts))
            return True
        remote = self._roster.get(peer)
        return remote is not None and remote.mailbox is not None and self._port.send(remote.mailbox.connection, parts)

    def send_work(self, peer: bytes, parts: Parts) -> bool:
        if peer == self._id:
            self.loop.append((Kind.WORK, parts))
            return True
        remote = self._roster.get(peer)
        if remote is None or not remote.reachable:
            return False
        if remote.work is None and self.may_work(remote):
            self.open_work(remote)
        return remote.work is not None and self._port.send(remote.work, parts)

    # --- feed and work

    def open_work(self, remote: Remote) -> None:
        endpoint = self.endpoint(remote, 2)
        if endpoint is None:
            return
        remote.work = self.new()
        remote.generation += 1
        self.works[remote.work] = remote
        self._port.dial(remote.work, Kind.WORK, endpoint)

    def drop_work(self, remote: Remote) -> None:
        """What is queued on it must not reach a stranger who takes over the address: the next one is a new one."""
        assert remote.work is not None
        del self.works[remote.work]
        self._port.hang_up(remote.work)
        remote.work = None

    def redial_work(self, remote: Remote) -> None:
        self.drop_work(remote)
        if remote.reachable:
            self.open_work(remote)

    def open_feed(self, remote: Remote, now: float) -> None:
        endpoint = self.endpoint(remote, 1)
        if endpoint is None:
            return
        if remote.feed is not None:
            del self.feeds[remote.feed]
            self._port.hang_up(remote.feed)
        remote.feed, remote.feed_at = self.new(), endpoint
        self.feeds[remote.feed] = remote
        self._port.dial(remote.feed, Kind.FEED, endpoint)
        self.on_feed(remote.id, remote.feed, now)

    def redial(self, now: float) -> None:
        """An address of this host is gone. What was dialled from it is dead, and swallows what is written to it until
        TCP finds out; which connections those are nobody tells."""
        for remote in self._roster:
            if remote.feed_at is None or is_local(remote.feed_at):
                continue
            if remote.work is not None:
                self.redial_work(remote)
            if remote.reachable:
                self.open_feed(remote, now)
            else:
                remote.feed_at = ""  # dialled anew when the peer can be reached

    @staticmethod
    def endpoint(remote: Remote, column: int) -> str | None:
        """Of the address that won: its feed is column 1, its work column 2."""
        assert remote.mailbox is not None
        reached = remote.mailbox.endpoint
        if rows := [row for row in remote.endpoints if row[0] == reached]:
            return rows[0][column]
        return at_host_of(reached, remote.endpoints[0][column]) if remote.endpoints else None

    def generation_of(self, peer: bytes) -> int:
        remote = self._roster.get(peer)
        return remote.generation if remote is not None else 0

    def on_gone(self, remote: Remote) -> None:
        for connection, table in ((remote.feed, self.feeds), (remote.work, self.works)):
            if connection is not None:
                del table[connection]
                self._port.hang_up(connection)
