"""Addresses that are dialled without knowing who lives there, for as long as it takes.

    name --resolve--> addresses --HELLO(to anybody)--> somebody answers: WELCOME(nonce) --> found(its id, that address)
      ^                                                  |
      +------- backoff: nobody, refused, not resolved ---+------ the one who answered is not known any more

A seed only says whom to meet; the meeting itself goes as always, on a connection of its own. Whoever lives at a seed
may change: when the peer that answered is gone, the address is dialled again. A seed that is our own address is
noticed by our own hello, and left alone.

Events: names resolved (by the owner, who may take his time), connections refused and broken, WELCOME, timers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zq.core.meeting import ADDRESSES, ANSWER, Card
from zq.core.port import Kind, Port
from zq.core.timers import Timers
from zq.record import dataclass, field
from zq.wire.frames import VERSION, Hello, Welcome

RETRY, RETRY_MOST = 0.2, 5.0  # s until a seed that did not answer is dialled again, doubled up to
TRY = 3.0  # s that a hello may wait for its answer on one connection; then the name is resolved anew
LOOK = 1.0  # s between looks whether the peer that answered is still known

ANYBODY = bytes(16)  # the addressee of a hello to whoever lives there


@dataclass(eq=False, slots=True)
class Seed:
    """One address, as the settings name it."""

    name: str
    tries: dict[int, tuple[str, bytes]] = field(default_factory=dict)  # connection: endpoint, nonce
    id: bytes | None = None  # who answered last
    patience: float = 0.0
    failed: bool = False  # it had its chance; nobody waits for it


class Seeds:
    """All seeds of this peer. `resolve` is set by the owner, and answers by calling `resolved`."""

    def __init__(
        self,
        card: Card,
        timers: Timers,
        port: Port,
        draw: Callable[[int], bytes],
        connection: Callable[[], int],
        found: Callable[[bytes, list[str], str, float], None],
        is_known: Callable[[bytes], bool],
    ) -> None:
        self.resolve: Callable[[str], None] = lambda name: None
        self._card = card
        self._timers = timers
        self._port = port
        self._draw = draw
        self._connection = connection
        self._found = found
        self._is_known = is_known
        self._seeds: dict[str, Seed] = {}
        self._tries: dict[int, Seed] = {}

    def add(self, names: Iterable[str], now: float) -> None:
        for name in names:
            if name not in self._seeds:
                seed = self._seeds[name] = Seed(name)
                self._timers.give((seed, "answer"), now, ANSWER, lambda when, seed=seed: self._fail(seed))  # type: ignore[misc]
                self._dial(seed, now)

    def is_settled(self) -> bool:
        """Each has answered, or had its chance to."""
        return all(seed.failed or seed.id is not None for seed in self._seeds.values())

    def hurry(self, now: float) -> None:
        """The network has changed: those that do not answer are tried at once."""
        for seed in self._seeds.values():
            if seed.id is None or not self._is_known(seed.id):
                seed.patience = 0.0
                self._dial(seed, now)

    @staticmethod
    def _fail(seed: Seed) -> None:
        seed.failed = True

    # --- dialling

    def _dial(self, seed: Seed, now: float) -> None:
        self._hang_up(seed)
        self._timers.set((seed, "next"), now + TRY, lambda when: self._again(seed, when))
        self.resolve(seed.name)

    def resolved(self, name: str, endpoints: list[str], now: float) -> None:
        """The addresses behind a name, none if it has none now."""
        seed = self._seeds.get(name)
        if seed is None or seed.tries or (seed.id is not None and self._is_known(seed.id)):
            return  # asked twice
        if not endpoints:
            self._fail(seed)
            self._again(seed, now)
        card = self._card
        for endpoint in endpoints[:ADDRESSES]:
            connection, nonce = self._connection(), self._draw(8)
            seed.tries[connection] = endpoint, nonce
            self._tries[connection] = seed
            self._port.dial(connection, Kind.MAILBOX, endpoint)
            hello = Hello(VERSION, VERSION, card.tag, nonce, 0, card.name, card.host, card.pid, card.rows(endpoint))
            self._port.send(connection, (hello.encode(ANYBODY, card.id),))

    def _hang_up(self, seed: Seed) -> None:
        for connection in seed.tries:
            self._port.hang_up(connection)
            del self._tries[connection]
        seed.tries.clear()

    def _again(self, seed: Seed, now: float) -> None:
        """Nobody has answered: again, later and later."""
        self._hang_up(seed)
        seed.patience = min(max(seed.patience * 2, RETRY), RETRY_MOST)
        self._timers.set((seed, "next"), now + seed.patience, lambda when: self._dial(seed, when))

    # --- what connections do

    def has(self, connection: int) -> bool:
        return connection in self._tries

    def on_lost(self, connection: int, now: float) -> None:
        """Refused or broken: this address is no way, now."""
        seed = self._tries.pop(connection)
        del seed.tries[connection]
        self._port.hang_up(connection)
        if not seed.tries:
            self._fail(seed)
            self._again(seed, now)

    # --- answers

    def on_welcome(self, sender: bytes, welcome: Welcome, now: float) -> None:
        """Perhaps to a hello of ours to anybody; then this is who lives there."""
        self._answered(sender, welcome.nonce, now)

    def on_own_hello(self, hello: Hello, now: float) -> None:
        """We have called ourselves: every host may have the same list of seeds."""
        self._answered(self._card.id, hello.nonce, now)

    def _answered(self, id: bytes, nonce: bytes, now: float) -> None:
        for seed in self._seeds.values():
            endpoint = next((endpoint for endpoint, drawn in seed.tries.values() if drawn == nonce), None)
            if endpoint is not None:
                seed.id, seed.patience = id, 0.0
                self._hang_up(seed)
                self._found(id, [endpoint], "seed", now)
                self._timers.set((seed, "next"), now + LOOK, lambda when, seed=seed: self._look(seed, when))  # type: ignore[misc]

    def _look(self, seed: Seed, now: float) -> None:
        """Whether the one who lived there is still known; if not, somebody else may live there, or he comes back."""
        assert seed.id is not None
        if self._is_known(seed.id):
            self._timers.set((seed, "next"), now + LOOK, lambda when: self._look(seed, when))
        else:
            seed.id = None
            self._dial(seed, now)
