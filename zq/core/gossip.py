"""Peers tell each other whom they are connected to now, so that one address that is known leads to everybody.

What is told is state and a hint: it makes the other dial, and says nothing about what it omits. Who came by a seed is
told of everyone at once, before our entry, so that it is not settled too early. All others are told a moment later, of
whoever has come until then and has not been named by themselves: when many start at once, one of each two tells. Once
in a while one peer, drawn by lot, is told of everyone again, which repairs whatever was lost or has healed since; its
cost does not grow with the realm.

Only peers that are up are told of, with addresses that mean something on other hosts; peers without a network, which
meet in the host directory, have none and say nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from zq.core.endpoints import TCP, is_local
from zq.core.liveness import Life
from zq.core.roster import Remote, Roster
from zq.core.timers import Timers
from zq.wire.frames import Peers

SPREAD = 1.0  # s in which changes gather until they are told, drawn from half of it to all of it
REPEAT = 10.0  # s until somebody is told everything again, drawn alike
ROWS = 256  # peers in one frame
FRAME_BYTES = 64 << 10  # of ids and addresses in one frame; a mailbox takes 1 MiB
TOLD = 16  # addresses of one peer; as many are dialled
CANDIDATES = 256  # peers that are dialled at once because somebody told of them; a liar can name millions


class Gossip:
    """What each of the others has been told, and what to do with what they tell."""

    def __init__(
        self,
        id: bytes,
        roster: Roster,
        timers: Timers,
        draw: Callable[[int], bytes],
        send: Callable[[bytes, Peers], None],
        found: Callable[[bytes, list[str], str, float], None],
    ) -> None:
        self._id = id
        self._roster = roster
        self._timers = timers
        self._draw = draw
        self._send = send
        self._found = found
        self._up: set[bytes] = set()  # those with a network: of whom there is something to tell
        self._told: dict[bytes, set[bytes]] = {}  # peer: those of whom it has been told, or has told us

    # --- telling

    def on_up(self, remote: Remote, now: float) -> None:
        if not any(row[0].startswith(TCP) for row in remote.endpoints):
            return
        self._up.add(remote.id)
        self._told[remote.id] = {remote.id}
        if remote.seeks:
            self._tell(remote)
        if len(self._up) > 1:
            self._timers.set_if_unset("gossip", now + self._lot(SPREAD), self._spread)
            self._timers.set_if_unset("gossip again", now + self._lot(REPEAT), self._repeat)

    def on_seeker(self, id: bytes) -> None:
        """Somebody has called anybody: it knows our address and nothing else."""
        remote = self._roster.get(id)
        if remote is not None:
            remote.seeks = True
            if id in self._up and remote.mailbox is not None:
                self._tell(remote)

    def on_gone(self, id: bytes) -> None:
        self._up.discard(id)
        self._told.pop(id, None)
        for told in self._told.values():
            told.discard(id)  # if it comes back, that is news

    def _spread(self, now: float) -> None:
        if [remote for remote in self._roster.up() if self._tell(remote)]:  # to all of them, whoever needs more
            self._timers.set("gossip", now + self._lot(SPREAD), self._spread)

    def _repeat(self, now: float) -> None:
        up = self._roster.up()
        if len(up) > 1:
            remote = up[int.from_bytes(self._draw(4), "big") % len(up)]
            self._told[remote.id] = {remote.id}
            if self._tell(remote):
                self._timers.set_if_unset("gossip", now + self._lot(SPREAD), self._spread)
            self._timers.set("gossip again", now + self._lot(REPEAT), self._repeat)

    def _lot(self, most: float) -> float:
        return most * (0.5 + self._draw(1)[0] / 512)

    def _tell(self, remote: Remote) -> bool:
        """Of those it has not been told of, as many as a frame takes; True if there are more."""
        told = self._told.get(remote.id)
        if told is None:
            return False  # it has no network
        rows: list[list[object]] = []
        size = 0
        for id in self._up - told:
            other = self._roster.get(id)
            if other is None or other.mailbox is None or not (endpoints := self._addresses(other, remote)):
                continue
            size += 16 + sum(map(len, endpoints))
            if rows and (len(rows) == ROWS or size > FRAME_BYTES):
                self._send(remote.id, Peers(rows))
                return True
            rows.append([id, endpoints])
            told.add(id)
        if rows:
            self._send(remote.id, Peers(rows))
        return False

    @staticmethod
    def _addresses(other: Remote, remote: Remote) -> list[str]:
        """Those of `other` that may mean something to `remote`, the one that we use first."""
        assert other.mailbox is not None
        assert remote.mailbox is not None
        here = is_local(remote.mailbox.endpoint)  # it is on this host as well
        known = dict.fromkeys([other.mailbox.endpoint, *(row[0] for row in other.endpoints)])
        return [each for each in known if each.startswith(TCP) and (here or not is_local(each))][:TOLD]

    # --- being told

    def on_peers(self, sender: bytes, peers: Peers, now: float) -> None:
        remote = self._roster.get(sender)
        if remote is None or remote.mailbox is None:
            return
        here = is_local(remote.mailbox.endpoint)
        candidates = sum(each.state is Life.FOUND for each in self._roster)
        told = self._told.get(sender, set())
        for id, endpoints in peers.peers[:ROWS]:
            if id == self._id:
                continue
            known = self._roster.get(id)
            if known is not None and known.mailbox is not None:
                told.add(id)
                continue
            usable = [each for each in endpoints if each.startswith(TCP) and (here or not is_local(each))]
            if usable and (known is not None or candidates < CANDIDATES):
                candidates += known is None
                self._found(id, usable[:TOLD], "gossip", now)
