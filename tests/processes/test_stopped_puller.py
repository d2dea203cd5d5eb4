"""A process that stands still for longer than anybody waits, and goes on: gone, then back, and nothing lost."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from pathlib import Path

import zq
from tests.processes.conftest import Options, Start
from tests.processes.journal import read
from tests.processes.watching import Watcher

SUSPECT, GONE = 6.0, 8.0  # s of silence; the promise is 3 and 5, and three more for a machine that stalls
MESSAGES = 2_000


class World:
    """A pusher here and two pullers elsewhere, of which the first is stopped under load."""

    def __init__(self, start: Start, options: Options, directory: Path, stack: ExitStack) -> None:
        self.journals = [directory / "sleeper", directory / "heir"]
        for journal in self.journals:
            journal.parent.mkdir(exist_ok=True)
        self.sleeper, self.heir = (
            start("work", options, "jobs", str(journal), 0.0005, 100) for journal in self.journals
        )
        self.id, self.other = (process.hear()[0] for process in (self.sleeper, self.heir))
        self.peer = stack.enter_context(zq.Peer(**options))
        self.watcher = Watcher(self.peer)
        self.pusher = self.peer.pusher("jobs")
        self.pusher.wait_for_pullers(2)

    def sleep(self) -> None:
        self.pusher.send_many([number] for number in range(MESSAGES))
        assert self.sleeper.hear() == "reported"
        self.sleeper.send_signal(signal.SIGSTOP)
        self.stopped = time.monotonic()

    def check_absence(self) -> None:
        suspect = self.watcher.wait_for("suspect", self.id, after=self.stopped)
        assert suspect.at - self.stopped <= SUSPECT
        gone = self.watcher.wait_for("left", self.id, after=self.stopped)
        assert gone.at - self.stopped <= GONE
        self.pusher.flush(until="processed", timeout=10.0)  # all of it done by the other
        (held,) = self.peer.ledger().held
        assert (held.taken, held.acked) == (MESSAGES, MESSAGES)

    def check_return(self) -> None:
        back = self.watcher.wait_for("joined", self.id, after=self.stopped).at
        kinds = [kind for kind in self.watcher.of(self.id) if kind != "changed"]
        assert kinds == ["joined", "suspect", "left", "joined"]
        assert "left" not in self.watcher.of(self.other)
        self.pusher.wait_for_pullers(2)
        self.pusher.send_many([MESSAGES + number] for number in range(MESSAGES))
        self.pusher.flush(until="processed")
        (held,) = self.peer.ledger().held
        assert (held.taken, held.acked, held.waiting, held.in_flight) == (2 * MESSAGES, 2 * MESSAGES, 0, 0)
        ledger = self.peer.ledger(realm=True)
        assert ledger.balanced
        assert len(ledger.others) == 2

        sleeper, heir = map(read, self.journals)
        done = {row[2] for row in sleeper + heir if row[1] == "done"}
        assert done == set(range(2 * MESSAGES))
        # It has its share again, and what it had not handed out when it was given up it has dropped.
        assert any(row[2] >= MESSAGES for row in sleeper)
        # Until its engine hears of that it goes on with the hundred or two that were there; and to be up again is that.
        again = [row[2] for row in sleeper if row[1] == "began" and row[0] > back and row[2] < MESSAGES]
        assert len(again) <= 1, again  # which it was just about to begin


def test_a_stopped_puller_is_gone_and_comes_back(start: Start, local: Options, tcp: Options, tmp_path: Path) -> None:
    with ExitStack() as stack:
        worlds = [World(start, options, tmp_path / name, stack) for name, options in (("local", local), ("tcp", tcp))]
        for world in worlds:
            world.sleep()
        for world in worlds:
            world.check_absence()  # the work is done before it is back
        for world in worlds:
            world.sleeper.send_signal(signal.SIGCONT)
        for world in worlds:
            world.check_return()
