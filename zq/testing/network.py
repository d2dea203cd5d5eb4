"""What lies between simulated peers: time, connections and the frames on them."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from zq.core.port import Kind
from zq.testing.peer import RECONNECT, Action, Connection, OnPeer, SimulatedPeer, Transit
from zq.wire.batch import Parts

START = 1_000.0  # s; where the clock begins
RECONNECT_MOST = 1.0  # s; up to this the pause between two attempts to connect is doubled


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What the network does to frames. Chances are per frame."""

    latency: float = 0.001  # s a frame takes at most
    mailbox_loss: float = 0.0
    mailbox_repeat: float = 0.0
    mailbox_late: float = 0.0  # overtaken by later ones
    feed_loss: float = 0.0
    room: int = 10_000  # frames under way on one connection; beyond, feeds drop and work refuses
    lag: float = 0.0005  # s at most from an event to the peer's next turn


class Carrier:
    """All peers, the time, and the frames between them. `trace` hears of everything that happens."""

    def __init__(
        self,
        seed: int = 0,
        weather: Weather | None = None,
        *,
        on_event: OnPeer = lambda peer, kind, info: None,
        after_turn: Callable[[SimulatedPeer], None] = lambda peer: None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.now = START
        self.random = random.Random(seed)
        self.weather = weather or Weather()
        self.peers: list[SimulatedPeer] = []
        self.after_turn = after_turn
        self.trace = trace
        self._on_event = on_event
        self._heap: list[tuple[float, int, Action]] = []
        self._count = 0
        self._listeners: dict[str, SimulatedPeer] = {}
        self.severed: set[tuple[SimulatedPeer, SimulatedPeer]] = set()  # nothing comes from the first to the second
        self.latencies: dict[frozenset[SimulatedPeer], float] = {}  # s of latency
        self._stuck: dict[Connection, None] = {}  # attempts that wait for somebody to become reachable

    def say(self, what: str) -> None:
        if self.trace is not None:
            self.trace(f"{self.now - START:9.4f} {what}")

    # --- time

    def after(self, seconds: float, action: Action) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now + seconds, self._count, action))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Lets time pass, for `seconds` or until something holds; returns whether it does."""
        end = self.now + seconds
        while not until():
            if not self._heap or self._heap[0][0] > end:
                self.now = end
                return until()
            self.now, _, action = heapq.heappop(self._heap)
            action()
        return True

    # --- peers

    def peer(self, name: str, *, tag: bytes = b"simulate", endpoint: str | None = None) -> SimulatedPeer:
        """Starts a peer; on the `endpoint` of one that was killed it is a stranger on an old port."""
        peer = SimulatedPeer(self, name, tag, endpoint or f"tcp://{name}", self._on_event)
        self.peers.append(peer)
        self._listeners[peer.endpoint] = peer
        self.say(f"{name} starts, {peer.id.hex()[:8]}")
        peer.touch()
        self.retry_stuck()
        return peer

    def leave(self, peer: SimulatedPeer) -> None:
        """See SimulatedNetwork."""
        raise NotImplementedError

    def introduce(self) -> None:
        """Discovery has a look around: every peer hears of all it can reach, and knows that this was all."""
        running = [peer for peer in self.peers if peer.alive and peer.stopped_at is None]
        for peer in running:
            for other in running:
                if other is not peer and self._reaches(other, peer):
                    peer.node.meeting.found(other.id, [f"{other.endpoint}/mailbox"], "host", peer.clock())
            peer.node.discovered = True
            peer.touch()

    def _reaches(self, sender: SimulatedPeer, receiver: SimulatedPeer) -> bool:
        return not self.severed or (sender, receiver) not in self.severed

    # --- frames

    def delay(self, *between: SimulatedPeer) -> float:
        slow = self.latencies.get(frozenset(between), 0.0) if self.latencies else 0.0
        return self.random.uniform(slow / 2, slow + self.weather.latency)

    def _carry(self, connection: Connection, there: bool, act: Action, *, extra: float | None = None) -> None:
        """`act` happens at the other end, behind all that was carried before; with `extra` seconds out of order."""
        if connection.blocked[there]:
            return
        assert connection.acceptor is not None
        transit = Transit(act)
        connection.under_way[there].append(transit)
        arrives = self.now + self.delay(connection.dialler, connection.acceptor)
        if extra is None:
            arrives = connection.clear[there] = max(arrives, connection.clear[there])
        else:
            arrives += extra
        queue = connection.under_way[there]
        self.after(arrives - self.now, lambda: self._arrive(queue, transit))

    def _arrive(self, queue: deque[Transit], transit: Transit) -> None:
        if transit.residue:
            wait, transit.residue = transit.residue, 0.0
            self.after(wait, lambda: self._arrive(queue, transit))
            return
        queue.remove(transit)
        if not transit.lost:
            transit.act()

    def carry_frame(self, connection: Connection, parts: Parts) -> None:
        receiver, kind = connection.acceptor, connection.kind
        assert receiver is not None

        def arrive() -> None:
            self.say(f"{receiver.name} < {connection.dialler.name} {kind.value} {bytes(parts[0][:1])!r}")
            receiver.deliver(lambda: receiver.node.received(kind, parts, receiver.clock()))

        weather, chance = self.weather, self.random.random
        if kind is Kind.MAILBOX and (weather.mailbox_loss or weather.mailbox_repeat or weather.mailbox_late):
            if chance() < weather.mailbox_loss:
                return
            if chance() < weather.mailbox_repeat:
                self._carry(connection, True, arrive, extra=self.random.expovariate(20))
            if chance() < weather.mailbox_late:
                self._carry(connection, True, arrive, extra=self.random.expovariate(20))
                return
        self._carry(connection, True, arrive)

    def carry_back(self, connection: Connection, parts: Parts) -> None:
        """A frame of a feed; dropped in silence when there is no room."""
        weather = self.weather
        if len(connection.under_way[False]) >= weather.room or (
            weather.feed_loss and self.random.random() < weather.feed_loss
        ):
            return
        receiver = connection.dialler

        def arrive() -> None:
            if connection.number in receiver.connections:
                self.say(f"{receiver.name} < {connection.endpoint} {bytes(parts[0][:8])!r}")
                receiver.deliver(lambda: receiver.node.received(Kind.FEED, parts, receiver.clock(), connection.number))

        self._carry(connection, False, arrive)

    def carry_subscription(self, connection: Connection, prefix: bytes, wanted: bool) -> None:
        acceptor = connection.acceptor
        assert acceptor is not None
        life = connection.life

        def arrive() -> None:
            if connection.life == life and connection.up:
                if wanted:
                    connection.prefixes.add(prefix)
                    acceptor.node.fenced(b"\1" + prefix, acceptor.clock())
                else:
                    connection.prefixes.discard(prefix)
                    acceptor.forget_prefix(prefix)

        self._carry(connection, True, lambda: acceptor.deliver(arrive))

    # --- connections

    def attempt(self, connection: Connection) -> None:
        """The dialler tries to connect, and again until it has or hangs up."""
        dialler = connection.dialler
        if connection.up or not dialler.alive or connection.number not in dialler.connections:
            return
        machine = connection.endpoint.rpartition("/")[0]
        acceptor = self._listeners.get(machine)
        if (
            acceptor is None
            or acceptor.stopped_at is not None
            or dialler.stopped_at is not None
            or not (self._reaches(dialler, acceptor) and self._reaches(acceptor, dialler))
        ):
            self._stuck[connection] = None
        elif not acceptor.alive:
            if connection.kind is not Kind.FEED:
                dialler.deliver(lambda: self._tell(connection, "refused"))
            self.after(connection.pause, lambda: self.attempt(connection))
            connection.pause = min(connection.pause * 2, RECONNECT_MOST)
        else:
            self._establish(connection, acceptor)

    def _tell(self, connection: Connection, what: str) -> None:
        dialler = connection.dialler
        if connection.number in dialler.connections:
            self.say(f"{dialler.name}: {connection.kind.value} to {connection.endpoint} {what}")
            getattr(dialler.node, what)(connection.number, dialler.clock())

    def _establish(self, connection: Connection, acceptor: SimulatedPeer) -> None:
        connection.up, connection.acceptor, connection.pause = True, acceptor, RECONNECT
        connection.life += 1
        connection.blocked = {True: False, False: False}
        connection.under_way = {True: deque(), False: deque()}
        if connection.kind is Kind.FEED:
            connection.prefixes = set()
            acceptor.accepted[connection] = None
            for prefix in connection.wanted:
                self.carry_subscription(connection, prefix, True)
        else:
            connection.dialler.deliver(lambda: self._tell(connection, "connected"))
        for parts in connection.waiting:
            self.carry_frame(connection, parts)
        connection.waiting.clear()

    def cut(self, connection: Connection, *, linger: bool = False) -> None:
        """It ends. A first part of what is under way, or all of it, arrives nonetheless, perhaps late."""
        self._stuck.pop(connection, None)
        if not connection.up:
            return
        connection.up = False
        assert connection.acceptor is not None
        if connection.kind is Kind.FEED:
            self._unsubscribe_all(connection, connection.acceptor)
        for queue in connection.under_way.values():
            kept = len(queue) if linger else self.random.randint(0, len(queue))
            late = 0.0 if linger else self.random.choice((0.0, 0.0, self.random.uniform(0.0, 0.05)))
            for index, transit in enumerate(queue):
                transit.lost = index >= kept
                transit.residue = late
        connection.clear = {True: 0.0, False: 0.0}

    def _unsubscribe_all(self, connection: Connection, acceptor: SimulatedPeer) -> None:
        """An XPUB hears of prefixes that nobody subscribes any more."""
        del acceptor.accepted[connection]
        prefixes = sorted(connection.prefixes)

        def tell() -> None:
            for prefix in prefixes:
                acceptor.forget_prefix(prefix)

        acceptor.deliver(tell)

    def reset(self, connection: Connection, *, after: float = 0.0) -> None:
        """A TCP reset: `broken` for mailbox and work, feeds connect again."""
        if not connection.up:
            return
        self.say(f"{connection.kind.value} {connection.dialler.name} > {connection.endpoint} is reset")
        self.cut(connection)
        dialler = connection.dialler
        if connection.kind is Kind.FEED:
            self.after(after + RECONNECT, lambda: self.attempt(connection))
        else:
            self.after(after, lambda: dialler.deliver(lambda: self._tell(connection, "broken")))

    def connections(self) -> list[Connection]:
        return [
            connection
            for peer in self.peers
            if peer.alive
            for connection in list(peer.connections.values())
            if connection.up
        ]

    def retry_stuck(self) -> None:
        stuck, self._stuck = self._stuck, {}
        for connection in stuck:
            self.after(self.random.uniform(0.0, 0.3), partial(self.attempt, connection))
