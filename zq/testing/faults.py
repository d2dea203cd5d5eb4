"""The simulated network with everything that goes wrong on real ones."""

from __future__ import annotations

from collections.abc import Callable

from zq.core.port import Kind
from zq.testing.network import Carrier
from zq.testing.peer import Connection, SimulatedPeer

NOTICE = 0.002  # s until the other end sees that a process was killed; measured
HEARTBEAT = (1.0, 3.0)  # s of silence until a mailbox connection is cut
KEEPALIVE = (3.0, 4.5)  # s until a feed or work connection is cut that nothing comes through


class SimulatedNetwork(Carrier):
    """Peers come into being with `peer`, meet by `introduce`, and live while `run` lets time pass."""

    def _reset_in_silence(self, connection: Connection, holds: Callable[[], bool] = lambda: True) -> None:
        """Resets it when heartbeats, or TCP's own probes, notice that nothing comes through."""
        life = connection.life
        wait = self.random.uniform(*(HEARTBEAT if connection.kind is Kind.MAILBOX else KEEPALIVE))
        self.after(wait, lambda: self.reset(connection) if connection.life == life and holds() else None)

    def sever(self, one: SimulatedPeer, other: SimulatedPeer, *, one_way: bool = False) -> None:
        """A partition: nothing comes from `one` to `other` any more, nor back unless it is `one_way`."""
        self.say(f"{one.name} and {other.name} are severed{', one way' if one_way else ''}")
        self.severed |= {(one, other)} if one_way else {(one, other), (other, one)}
        for connection in self.connections():
            if {connection.dialler, connection.acceptor} == {one, other}:
                there = (connection.dialler, connection.acceptor)
                for direction, pair in ((True, there), (False, there[::-1])):
                    connection.blocked[direction] |= pair in self.severed
                self._reset_in_silence(connection)

    def heal(self, one: SimulatedPeer, other: SimulatedPeer) -> None:
        self.say(f"{one.name} and {other.name} are healed")
        self.severed -= {(one, other), (other, one)}
        self.retry_stuck()

    def slow(self, one: SimulatedPeer, other: SimulatedPeer, latency: float) -> None:
        """Frames between the two take up to `latency` seconds longer."""
        self.latencies[frozenset((one, other))] = latency

    def stop(self, peer: SimulatedPeer) -> None:
        """SIGSTOP: kernels go on, so connections take what they are given until heartbeats stay away."""
        self.say(f"{peer.name} is stopped")
        peer.stopped_at = stopped_at = self.now
        for connection in self.connections():
            if connection.kind is Kind.MAILBOX and peer in (connection.dialler, connection.acceptor):
                self._reset_in_silence(connection, lambda: peer.stopped_at == stopped_at)

    def go_on(self, peer: SimulatedPeer) -> None:
        self.say(f"{peer.name} goes on")
        peer.go_on()
        self.retry_stuck()

    def leave(self, peer: SimulatedPeer) -> None:
        """The process ends in good order: what it has sent still arrives."""
        self.kill(peer, linger=True)

    def kill(self, peer: SimulatedPeer, *, vanish: bool = False, linger: bool = False) -> None:
        """The process ends at once; with `vanish` its machine as well; with `linger` what it has sent still arrives."""
        self.say(f"{peer.name} is killed")
        for connection in self.connections():
            if vanish and peer in (connection.dialler, connection.acceptor):
                connection.blocked = {True: True, False: True}
                self._reset_in_silence(connection)
            elif connection.acceptor is peer:
                self.reset(connection, after=NOTICE)
            elif connection.dialler is peer:
                self.cut(connection, linger=linger)
        if vanish:
            self.severed |= {pair for other in self.peers for pair in ((peer, other), (other, peer))}
        peer.end()
