"""A simulated process: a node, its clock, its turns, and the connections it has dialled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from zq.core.meeting import Card
from zq.core.node import Node, Stream
from zq.core.port import Kind
from zq.info import EventKind, PeerInfo
from zq.wire.batch import Parts

if TYPE_CHECKING:
    from zq.testing.network import Carrier

EPOCH = 1_700_000_000.0  # s since 1970 at which the simulated wall clock begins
RECONNECT = 0.02  # s until a dialler tries again; as the engine's sockets
TICK = 1e-6  # s; so that a deadline has passed when its alarm rings, whatever the rounding

Action = Callable[[], object]


class Transit:
    """One frame under way, or a subscription."""

    __slots__ = ("act", "lost", "residue")

    def __init__(self, act: Action) -> None:
        self.act = act
        self.lost = False
        self.residue = 0.0  # s that it comes later, having outlived its connection


class Connection:
    """One dialled connection, through all its lives. Feeds carry frames back and subscriptions there."""

    def __init__(self, dialler: SimulatedPeer, number: int, kind: Kind, endpoint: str) -> None:
        self.dialler, self.number, self.kind, self.endpoint = dialler, number, kind, endpoint
        self.acceptor: SimulatedPeer | None = None
        self.up = False
        self.life = 0
        self.pause = RECONNECT
        self.waiting: list[Parts] = []  # sent before it was first established
        self.wanted: dict[bytes, None] = {}  # prefixes the dialler subscribes
        self.prefixes: set[bytes] = set()  # those the acceptor knows of
        self.clear = {True: 0.0, False: 0.0}  # when the last frame there and back arrives
        self.under_way: dict[bool, deque[Transit]] = {True: deque(), False: deque()}
        self.blocked = {True: False, False: False}  # silent until it breaks


class SimulatedPeer:
    """One process on a machine of its own: a node, its clock, and its port to the network."""

    def __init__(self, network: Carrier, name: str, tag: bytes, endpoint: str, on_event: OnPeer) -> None:
        self.network, self.name, self.endpoint = network, name, endpoint
        self.id = network.random.randbytes(16)
        self.alive = True
        self.stopped_at: float | None = None
        self.connections: dict[int, Connection] = {}
        self.accepted: dict[Connection, None] = {}  # feeds that others have dialled
        self.troubles: list[str] = []
        self._offset = network.random.uniform(0.0, 1e5)  # clocks of different machines have nothing in common
        self._backlog: deque[Action] = deque()  # what came while it was stopped
        self._touched: dict[Stream, None] = {}
        self._turning = False
        self._alarm: float | None = None
        card = Card(
            id=self.id,
            tag=tag,
            name=name,
            host=name,
            pid=1,
            endpoints=[[f"{endpoint}/{kind.value}" for kind in Kind]],
        )
        self.node = Node(
            card, self, network.random.randbytes, lambda kind, info: on_event(self, kind, info), self._note
        )

    def __repr__(self) -> str:
        state = "killed" if not self.alive else "stopped" if self.stopped_at is not None else "running"
        return f"<SimulatedPeer {self.name}: {state}>"

    def clock(self) -> float:
        return self.network.now + self._offset

    def wall(self) -> float:
        return EPOCH + self.network.now

    def _note(self, what: str) -> None:
        self.troubles.append(what)

    # --- turns

    def touch(self, *streams: Stream) -> None:
        """The program has left something for the node in these streams; with none: it should have a turn anyway."""
        self._touched.update(dict.fromkeys(streams))
        if not self._turning:
            self._turning = True
            self.network.after(self.network.random.uniform(0, self.network.weather.lag), self._on_turn)

    def deliver(self, event: Action) -> None:
        """Something happens to this peer; when it is stopped, after it goes on."""
        if self.stopped_at is not None:
            self._backlog.append(event)
        elif self.alive:
            self.node.now = self.clock()
            event()
            self.touch()

    def _on_turn(self) -> None:
        self._turning = False
        if self.alive and self.stopped_at is None:
            self._turn(self.clock())

    def _turn(self, now: float) -> None:
        streams, self._touched = list(self._touched), {}
        deadline = self.node.turn(now, self.wall(), streams)
        self.network.after_turn(self)
        if deadline is not None:
            when = max(deadline - self._offset, self.network.now) + TICK
            if self._alarm is None or when < self._alarm:
                self._alarm = when
                self.network.after(when - self.network.now, lambda: self._ring(when))

    def _ring(self, when: float) -> None:
        if self._alarm == when:
            self._alarm = None
            if not self._turning:
                self._on_turn()

    def go_on(self) -> None:
        """It had read its clock before it was stopped, and works with that at first."""
        stopped_at, self.stopped_at = self.stopped_at, None
        if stopped_at is not None and self.alive:
            self._turn(stopped_at + self._offset)
            while self._backlog:
                self._backlog.popleft()()
            self.touch()

    def forget_prefix(self, prefix: bytes) -> None:
        """Somebody does not subscribe it any more; an XPUB tells its owner when nobody does."""
        if not any(prefix in connection.prefixes for connection in self.accepted):
            self.node.fenced(b"\0" + prefix, self.clock())

    def end(self) -> None:
        self.alive = False
        self._backlog.clear()

    # --- zq.core.port.Port

    def dial(self, connection: int, kind: Kind, endpoint: str) -> None:
        made = self.connections[connection] = Connection(self, connection, kind, endpoint)
        self.network.after(self.network.delay(), lambda: self.network.attempt(made))

    def send(self, connection: int, parts: Parts) -> bool:
        made = self.connections.get(connection)
        if made is None or len(made.under_way[True]) + len(made.waiting) >= self.network.weather.room:
            return False
        if made.up:
            self.network.carry_frame(made, parts)
        elif made.life == 0:
            made.waiting.append(parts)
        return True  # on a connection that ended it waits in vain

    def hang_up(self, connection: int) -> None:
        made = self.connections.pop(connection, None)
        if made is not None:
            self.network.cut(made)

    def subscribe(self, connection: int, prefix: bytes, wanted: bool) -> None:
        made = self.connections.get(connection)
        if made is None:
            return
        if wanted:
            made.wanted[prefix] = None
        else:
            made.wanted.pop(prefix, None)
        if made.up:
            self.network.carry_subscription(made, prefix, wanted)

    def publish(self, parts: Parts) -> None:
        first = bytes(parts[0][:300])
        for connection in self.accepted:
            if connection.up and first.startswith(tuple(connection.prefixes)):
                self.network.carry_back(connection, parts)


OnPeer = Callable[[SimulatedPeer, EventKind, PeerInfo], None]
