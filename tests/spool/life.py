"""The life of a stream on a simulated disk, cut short at any step: what must hold afterwards.

A life appends and commits, settles, trims, shrinks segments, compacts, closes and opens again, as the keeper does, and
remembers what was confirmed and what was settled: the oracle. `lives` ends them by power cuts, kills and failing calls.
"""

from __future__ import annotations

import errno
import random
import traceback
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.spool.simulated_disk import SimulatedDisk
from zq.core.ranges import Ranges
from zq.spool.journal import Journal
from zq.spool.log import Log
from zq.spool.record import Record
from zq.spool.reserve import Reserve
from zq.spool.survey import Missing
from zq.wire.batch import Run
from zq.wire.stored import TRIMMED

STREAM = b"s" * 16
ORIGIN = b"o" * 16
CUTS = 3  # ends of one life, each of which leaves an image
ERRORS = (errno.EIO, errno.ENOSPC, errno.EINTR)


class PowerCut(Exception):
    """At some step."""


def cut_at(step: int) -> Callable[[int, str], int]:
    def fails(number: int, what: str) -> int:
        if number >= step:
            raise PowerCut
        return 0

    return fails


def part(record: Record, start: int, stop: int) -> tuple[Sequence[Run], bytes]:
    (run,) = record.runs
    size = len(record.body) // record.length
    return [Run(run.origin, run.first + start, stop - start, run.time)], record.body[start * size : stop * size]


class GivenUp(Exception):
    """A sync has failed, then the process was killed, then what it found could be written again neither elsewhere nor
    in its place: see `Log._trust`. What a power cut makes of that nobody can know."""


class Life:
    """One stream, from the first file on."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.disk = SimulatedDisk(seed)
        self.confirmed: dict[int, bytes] = {}
        self.ever: dict[int, set[bytes]] = {}  # what a number has ever stood for
        self.settled = Ranges()  # by the consumer
        self.synced = Ranges()  # of these, what is on the medium
        self.charged: dict[int, int] = {}  # the most attempts that were ever charged
        self.origin = 0

    def open(self) -> tuple[Log, Journal, Ranges]:
        """As the keeper does it; the ranges are those that it trims by."""
        log = Log(self.disk, STREAM, wall=lambda: 1.0, segment_bytes=self.random.choice([300, 2_000, 20_000]))
        log.open()
        for found in log.found:
            if "nor once more in its place" in found.what and self.disk.files[found.file].lost:
                raise GivenUp
        journal = Journal(self.disk, STREAM)
        journal.open()
        settled = Ranges()
        for first, last in journal.settled:
            if first <= log.safe:
                settled.add(first, min(last, log.safe))
        return log, journal, settled

    # --- what must hold

    def check(self, log: Log, journal: Journal) -> None:
        assert log.lost == [], log.lost
        assert not journal.damaged or self.disk.torn, "a journal is torn by power cuts only"
        for first, last in journal.settled:
            assert self.settled.count_between(first, last) == last - first + 1, "nobody has settled that"
        for first, last in self.synced:
            below = max(first, log.first)
            assert below > last or journal.settled.count_between(below, last) == last - below + 1
        for number, attempts in journal.attempts.items():
            assert attempts <= self.charged[number]
        assert self.settled.count_between(1, log.first - 1) == log.first - 1, "more was trimmed than was settled"
        known = Ranges()
        for origin, first, last in log.known:
            assert origin == ORIGIN
            known.add(first, last)
        assert known.count_between(1, self.origin) == known.count(), "known is what nobody has sent"
        found = self._read(log, known)
        for number, body in self.confirmed.items():
            if number >= log.first and number not in self.settled:
                assert found.get(number) == body, f"{number} was confirmed"
        for number, body in found.items():
            assert body in self.ever[number], f"{number} was never that"
        self.confirmed |= found  # whoever asks is told from now on that it is stored

    def _read(self, log: Log, known: Ranges) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        at = log.first
        while items := log.read(at, self.random.choice([1, 500, 1 << 20])):
            for item in items:
                assert not isinstance(item, Missing), item
                assert item.first == at, "a hole"
                at = item.last + 1
                if item.flags & TRIMMED:
                    assert self.settled.count_between(item.first, item.last) == item.length
                    continue
                (run,) = item.runs
                assert known.count_between(run.first, run.first + run.length - 1) == run.length, "it would come twice"
                size = len(item.body) // item.length
                for place in range(item.length):
                    found[item.first + place] = item.body[place * size : place * size + size]
        assert at == log.safe + 1
        return found

    # --- what happens

    def live(self, steps: int) -> None:
        log, journal, settled = self.open()
        self.check(log, journal)
        reserve = Reserve(self.disk, 600, self.random.randbytes)
        for _ in range(steps):
            match self.random.randrange(12):
                case 0:
                    journal.close()
                    self._note_synced(journal)
                    log.close()
                    log, journal, settled = self.open()
                case 1:
                    log.write_mark(clean=False)
                case 2 | 3 | 4:
                    self._settle(log, journal, settled)
                case 5:
                    if reserve.take() and self.random.random() < 0.5:
                        reserve.let_go()
                case _:
                    self._commit(log)
        journal.close()
        log.close()

    def _commit(self, log: Log) -> None:
        batches: dict[int, tuple[int, bytes]] = {}
        for _ in range(self.random.randint(1, 4)):
            count = self.random.choice([1, 1, 5, 100])
            self.origin += count
            size = self.random.choice([1, 10, 40] if count > 1 else [1, 40, 700, 3_000])
            body = self.random.randbytes(count * size)
            first = log.append(count, [Run(ORIGIN, self.origin - count + 1, count, 1.0)], body)
            for place in range(count):
                self.ever.setdefault(first + place, set()).add(body[place * size : place * size + size])
            batches[first] = count, body
        try:
            log.commit()
        finally:
            for first, (count, body) in batches.items():
                if first + count - 1 <= log.safe:
                    size = len(body) // count
                    for place in range(count):
                        self.confirmed[first + place] = body[place * size : place * size + size]

    def _settle(self, log: Log, journal: Journal, settled: Ranges) -> None:
        """What a consumer has done with some of it, and what the keeper does then."""
        for _ in range(self.random.randint(1, 5)):
            if log.safe < log.first:
                return
            first = settled.first_missing(log.first)
            if self.random.random() < 0.3:
                first = self.random.randint(log.first, log.safe)
            last = min(first + self.random.choice([0, 3, 60, 400]), log.safe)
            if last < first:
                continue
            if self.random.random() < 0.2:
                self.charged[first] = self.charged.get(first, 1) + 1
                journal.charge(first, self.charged[first])
            self.settled.add(first, last)
            settled.add(first, last)
            journal.settle(first, last)
        journal.write()
        below = settled.first_missing(log.first)
        if log.holds_nothing_from(below):
            journal.sync()
            self._note_synced(journal)
            log.drop_below(below)
            settled.forget_below(log.first)
        elif log.is_worth_shrinking(settled):
            journal.sync()
            self._note_synced(journal)
            log.shrink(settled, part)
        journal.compact(log.first)

    def _note_synced(self, journal: Journal) -> None:
        for first, last in journal.settled:
            self.synced.add(first, last)


class Outcome(NamedTuple):
    """Of many lives."""

    images: int  # found by an opening after an end
    failures: list[str]


def end(life: Life) -> None:
    """Lives until a power cut, a failing call or of itself; then what the next one finds is on its disk."""
    made = life.random
    step = life.disk.steps + made.choice([made.randint(1, 12), made.randint(1, 80)])
    length, error = made.choice([1, 2, 5]), made.choice(ERRORS)
    failing = made.random() < 0.3
    life.disk.fails = (lambda number, what: error if step <= number < step + length else 0) if failing else cut_at(step)
    if made.random() < 0.1:
        life.disk.capacity = life.disk.used() + made.randint(0, 20_000)
    try:
        life.live(made.randint(1, 12))
    except (PowerCut, OSError):
        pass  # its end
    if made.random() < 0.8:
        life.disk = life.disk.after_a_power_cut()
    life.disk.fails = lambda number, what: 0
    life.disk.capacity = None


def play(seed: int) -> str:
    """One life with `CUTS` ends, looked at after each; what was wrong, if something was."""
    life = Life(seed)
    try:
        for cut in range(CUTS):
            end(life)
            if cut == CUTS - 1 or life.random.random() < 0.5:  # else the next life opens it, and may be cut meanwhile
                log, journal, _ = life.open()
                life.check(log, journal)
    except GivenUp:
        return ""
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"seed {seed}: {type(error).__name__}: {error} ({where.name}: {where.line})"
    return ""


def lives(seeds: Sequence[int]) -> Outcome:
    failures = [failure for seed in seeds if (failure := play(seed))]
    return Outcome(CUTS * len(seeds), failures)
