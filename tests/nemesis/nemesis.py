"""What befalls the players of a round: each fault at its time, and the end of each at its own.

All is drawn from one seed before the first fault: when, what, whom, for how long. Faults overlap as they come. One
thread does all of it, in the order of time; what cannot be done when its time has come (a process that is not there
cannot be killed) is left out and not counted.
"""

from __future__ import annotations

import heapq
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from tests.lan.lan import Lan
from tests.nemesis.players import Player

SPAN = 10.0  # s within which the faults of a round begin
LONG_STOP = (6.0, 8.0)  # s a process stands still until all others have given it up: that takes 5
SHORT_STOP = (0.1, 2.0)  # s that nobody gives it up for
CUT = (0.5, 8.0)  # s that a network is divided: shorter and longer than the others' patience
LOSS, LOSSY = 20, (1.0, 5.0)  # percent of all frames of a host, and for how many s
STORM, STORM_EVERY = 4, 0.15  # resets of all connections of one host, s between them
FLAPS, FLAP_EVERY = 3, 0.8  # times a cable is pulled out, s; for half of that each time

Action = Callable[[], None]


class Nemesis:
    """Draws `count` faults; `strike` lets them happen. `done` counts those that did."""

    def __init__(
        self, chance: random.Random, lan: Lan, players: Sequence[Player], count: int, say: Callable[[str], None]
    ) -> None:
        self._lan, self._players, self._say = lan, players, say
        self._heap: list[tuple[float, int, Action]] = []
        self._order = 0
        self.done: Counter[str] = Counter()
        kinds = (
            *(self._kill, self._kill, self._kill, self._kill),
            *(self._stop, self._stop),
            *(self._reset, self._reset, self._storm),
            *(self._partition, self._one_way, self._lose, self._flap),
        )
        for _ in range(count):
            chance.choice(kinds)(chance.uniform(0.0, SPAN), chance)

    def _at(self, when: float, action: Action) -> None:
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, action))

    def strike(self) -> None:
        """Returns when the last fault is over, and all players live and run."""
        began = time.monotonic()
        while self._heap:
            when, _, action = heapq.heappop(self._heap)
            threading.Event().wait(max(when - (time.monotonic() - began), 0.0))
            action()
        self._lan.heal()
        for host in self._lan.hosts:
            self._lan.plug_in(host)
        for player in self._players:
            player.go_on()
            player.begin()

    def _did(self, fault: str, what: object) -> None:
        self.done[fault] += 1
        self._say(f"    {fault}: {what}")

    # --- processes

    def _kill(self, when: float, chance: random.Random) -> None:
        player = chance.choice(self._players)

        def kill() -> None:
            if player.process is not None:
                self._did("kill", player)
                player.kill()

        self._at(when, kill)
        self._at(when + chance.choice((0.0, 0.2, 1.0)), player.begin)

    def _stop(self, when: float, chance: random.Random) -> None:
        player, long = chance.choice(self._players), chance.random() < 0.5

        def stop() -> None:
            if player.process is not None and not player.stopped:
                self._did("long stop" if long else "stop", player)
                player.stop()

        self._at(when, stop)
        self._at(when + chance.uniform(*(LONG_STOP if long else SHORT_STOP)), player.go_on)

    # --- connections

    def _reset(self, when: float, chance: random.Random) -> None:
        host = chance.choice(self._lan.hosts)
        self._at(when, lambda: self._reset_host(host))

    def _storm(self, when: float, chance: random.Random) -> None:
        host = chance.choice(self._lan.hosts)
        for index in range(STORM):
            self._at(when + STORM_EVERY * index, lambda: self._reset_host(host))

    def _reset_host(self, host: int) -> None:
        """All its connections, whichever side has made them."""
        self._did("reset", f"host {host}")
        command = [*self._lan.command(host), "ss", "--kill", "--tcp", "--no-header", "state", "established"]
        subprocess.run(command, capture_output=True, check=True)

    # --- the network

    def _for(self, when: float, seconds: float, begin: Callable[[], str]) -> None:
        """What the LAN can mend."""
        ends: list[str] = []
        self._at(when, lambda: ends.append(begin()))
        self._at(when + seconds, lambda: self._lan.mend(ends[0]))

    def _partition(self, when: float, chance: random.Random) -> None:
        hosts = chance.sample(self._lan.hosts, len(self._lan.hosts))
        size = chance.choice((1, 2))

        def begin() -> str:
            self._did("partition", f"hosts {hosts[:size]} from the others")
            return self._lan.partition(hosts[:size], hosts[size:])

        self._for(when, chance.uniform(*CUT), begin)

    def _one_way(self, when: float, chance: random.Random) -> None:
        silent, listener = chance.sample(self._lan.hosts, 2)

        def begin() -> str:
            self._did("one-way partition", f"host {silent} to {listener}")
            return self._lan.one_way(silent, listener)

        self._for(when, chance.uniform(*CUT), begin)

    def _lose(self, when: float, chance: random.Random) -> None:
        host = chance.choice(self._lan.hosts)

        def begin() -> str:
            self._did("loss", f"{LOSS} % at host {host}")
            return self._lan.lose(host, LOSS)

        self._for(when, chance.uniform(*LOSSY), begin)

    def _flap(self, when: float, chance: random.Random) -> None:
        host = chance.choice(self._lan.hosts)
        self._at(when, lambda: self._did("flapping link", f"host {host}"))
        for index in range(FLAPS):
            self._at(when + FLAP_EVERY * index, lambda: self._lan.pull_out(host))
            self._at(when + FLAP_EVERY * (index + 0.5), lambda: self._lan.plug_in(host))
