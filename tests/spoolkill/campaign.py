"""Producers with outboxes, one without, a spool and consumers, each killed with -9 again and again under load.

Who is killed starts again at once in the same directory, and is often killed once more while it starts or recovers, up
to `LOOPS` times in a row. Everything that is drawn comes from the seed; when exactly a process does something does not.
At the end nobody is killed any more, and journals that stand outside of zq say what was confirmed, and what has come.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes.journal import read
from tests.processes.process import Process
from zq.spool.disk import DirectoryDisk
from zq.spool.log import Log
from zq.spool.record import Record
from zq.spool.store import open_store

ROLES = ("produce", "produce", "push", "keep", "consume", "consume")
WEIGHTS = (3, 3, 1, 4, 1, 1)  # how often each is the one that is killed
BETWEEN = (0.0, 0.5)  # s from one kill to the next
LOOPS, LOOPED = 4, 0.3  # kills of one that starts, and how often there are some
STARTING = (0.0, 0.6)  # s after its start at which it is killed again: an interpreter takes 0.2
PATIENCE = 120.0  # s until everything has come
MOST = 20  # violations that are told


@dataclass(slots=True)
class Player:
    """One place: the processes that fill it one after another have a stream and a journal each."""

    role: str
    number: int
    directory: Path
    process: Process | None = None
    lives: list[tuple[int, Path]] = field(default_factory=list)

    def begin(self) -> None:
        stream = self.number + 100 * len(self.lives)
        journal = self.directory / f"{self.role}-{stream}"
        own = {"produce": [str(self.directory / f"outbox-{self.number}")], "keep": [str(self.directory / "spool")]}
        self.lives.append((stream, journal))
        self.process = Process(
            self.role,
            stream,
            str(journal),
            *own.get(self.role, []),
            module="tests.spoolkill.roles",
            environment={"ZQ_HOST_DIR": str(self.directory / "host")},
        )

    def kill(self) -> None:
        assert self.process is not None
        assert self.process._popen.poll() is None, f"{self.role} has ended by itself\n{self.process.errors()}"
        self.process.end()
        self.process = None

    def tell(self, word: str | None) -> None:
        assert self.process is not None
        self.process.tell(word)

    def hear_finished(self) -> None:
        assert self.process is not None
        while not isinstance(self.process.hear(PATIENCE), dict):
            pass


@dataclass(slots=True)
class Verdict:
    kills: Counter[str] = field(default_factory=Counter)  # by role
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def blame(self, what: str) -> None:
        if len(self.violations) < MOST:
            self.violations.append(what)


def play(seed: int, kills: int, say: Callable[[str], None] = lambda text: None) -> Verdict:
    """Raises AssertionError when a process ends by itself, or something does not come to its end."""
    chance = random.Random(f"spool-kill {seed}")
    verdict = Verdict()
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="zqk-", dir="/tmp"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        (directory / "host").mkdir(mode=0o700)
        players = [Player(role, number, directory) for number, role in enumerate(ROLES, 1)]
        stack.callback(lambda: [player.process.end() for player in players if player.process is not None])
        for player in players:
            player.begin()
        while verdict.kills.total() < kills:
            pause(chance.uniform(*BETWEEN))
            (player,) = chance.choices(players, WEIGHTS)
            for again in range(chance.randint(1, LOOPS) + 1 if chance.random() < LOOPED else 1):
                if again:
                    pause(chance.uniform(*STARTING))
                player.kill()
                player.begin()
                verdict.kills[player.role] += 1
            if verdict.kills.total() % 50 == 0:
                say(f"    {verdict.kills.total()} kills")
        _finish(players)
        judge(players, verdict)
        for player in players:
            player.tell(None)
        for player in players:
            assert player.process is not None
            if status := player.process.wait(PATIENCE):
                verdict.blame(f"{player.role} has left with {status}: {player.process.errors()[-500:]}")
        for repeated in stored_twice(directory / "spool"):
            verdict.blame(f"the spool has {repeated} twice")
    return verdict


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def _finish(players: Sequence[Player]) -> None:
    """No more is sent; what was is to arrive. Senders first, then what is between, then the others."""
    for player in players:
        player.tell("calm")
    for roles in (("produce", "push"), ("keep",), ("consume",)):
        for player in players:
            if player.role in roles:
                player.tell("finish")
        for player in players:
            if player.role in roles:
                player.hear_finished()


def judge(players: Sequence[Player], verdict: Verdict) -> None:
    """By the journals alone."""
    came: Counter[tuple[int, int]] = Counter()
    new: Counter[tuple[int, int]] = Counter()
    for player in players:
        for _, journal in player.lives if player.role == "consume" else ():
            for _, _, stream, number, again in read(journal):
                came[stream, number] += 1
                new[stream, number] += not again
    for player in players:
        for stream, journal in player.lives if player.role in ("produce", "push") else ():
            confirmed = max((row[2] for row in read(journal) if row[1] == "confirmed"), default=0)
            verdict.counts["confirmed"] += confirmed
            if lost := [number for number in range(1, confirmed + 1) if not came[stream, number]]:
                verdict.counts["lost"] += len(lost)
                verdict.blame(f"{player.role} {stream}: {len(lost)} of {confirmed} confirmed are lost: {lost[:10]}")
    verdict.counts["came"] = len(came)
    verdict.counts["redelivered"] = came.total() - len(came)
    for message, count in new.items():
        if count > 1:
            verdict.counts["unmarked"] += 1
            verdict.blame(f"{message} came {count} times without saying that it might be a repetition")


def stored_twice(directory: Path) -> list[tuple[str, int]]:
    """What the segments that a spool still has hold more than once, by origin and number."""
    store = open_store(directory)
    (stream,) = (stream for stream in store.streams() if stream.name == "jobs")
    log = Log(DirectoryDisk(directory / stream.uuid.hex()), stream.uuid, wall=time.time)
    log.open()
    counts: Counter[tuple[str, int]] = Counter()
    at = log.first
    while items := log.read(at):
        for item in items:
            if isinstance(item, Record):
                counts.update((run.origin.hex(), run.first + place) for run in item.runs for place in range(run.length))
            at = item.last + 1
    log.close()
    store.close()
    return [number for number, count in counts.items() if count > 1]
