"""Power cuts and kills at every step of a log's life: what was confirmed is there, in its place, without holes."""

from __future__ import annotations

import errno
import random

import pytest

from tests.spool.simulated_disk import SimulatedDisk
from zq.core.origins import Origins
from zq.spool.log import Log
from zq.spool.record import Record
from zq.wire.batch import Run

STREAM = b"s" * 16
CUTS = 5_000  # crash images


class PowerCut(Exception):
    """At some step."""


class Writer:
    """Appends, commits, closes and opens again, and remembers what was confirmed: the oracle."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.disk = SimulatedDisk(seed)
        self.confirmed: dict[int, bytes] = {}  # by number of a batch's first message
        self.ever: dict[int, set[bytes]] = {}  # what a number has ever stood for
        self.last = 0
        self.origin = 0

    def open(self) -> Log:
        log = Log(self.disk, STREAM, wall=lambda: 1.0, segment_bytes=self.random.choice([300, 2_000, 20_000]))
        log.open()
        return log

    def check(self, log: Log) -> None:
        assert log.lost == []
        at, found, known = 1, {}, Origins()
        while items := log.read(at, self.random.choice([1, 500, 1 << 20])):
            for item in items:
                assert isinstance(item, Record), item
                assert item.first == at
                found[item.first] = item.body
                for run in item.runs:
                    known.add(run.origin, run.first, run.first + run.length - 1)
                at = item.last + 1
        assert at == log.safe + 1
        assert set(log.known) == set(known), "what is here is known by its origin numbers, and nothing else is"
        for number, body in self.confirmed.items():
            assert found.get(number) == body, f"{number} was confirmed"
        for number, body in found.items():
            assert body in self.ever[number]

    def live(self, steps: int) -> None:
        log = self.open()
        self.check(log)
        for _ in range(steps):
            match self.random.randrange(12):
                case 0:
                    log.close()
                    log = self.open()
                case 1:
                    log.write_mark(clean=False)
                case _:
                    self.commit(log)
        log.close()

    def commit(self, log: Log) -> None:
        batches: dict[int, tuple[int, bytes]] = {}
        for _ in range(self.random.randint(1, 4)):
            count = self.random.choice([1, 1, 5, 100])
            self.origin += count
            body = self.random.randbytes(self.random.choice([1, 40, 700, 3_000]))
            first = log.append(count, [Run(b"o" * 16, self.origin - count + 1, count, 1.0)], body)
            self.ever.setdefault(first, set()).add(body)
            batches[first] = count, body
        try:
            log.commit()
        finally:
            for first, (count, body) in batches.items():
                if first + count - 1 <= log.safe:
                    self.confirmed[first] = body


def cut_at(step: int):
    def fails(number: int, what: str) -> int:
        if number >= step:
            raise PowerCut
        return 0

    return fails


@pytest.mark.parametrize("part", range(5))
def test_a_power_cut_at_any_step_loses_nothing_that_was_confirmed(part: int) -> None:
    for seed in range(part * CUTS // 5 // 3, (part + 1) * CUTS // 5 // 3):
        writer = Writer(seed)
        for _ in range(3):  # cut again while it recovers, or later
            writer.disk.fails = cut_at(
                writer.random.choice([writer.random.randint(1, 12), writer.random.randint(1, 80)])
            )
            try:
                writer.live(writer.random.randint(1, 12))
            except PowerCut:
                pass
            writer.disk = writer.disk.after_a_power_cut() if writer.random.random() < 0.8 else writer.disk
        writer.disk.fails = lambda number, what: 0
        try:
            writer.check(writer.open())
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_calls_that_fail_confirm_nothing_and_lose_nothing(error: int, length: int) -> None:
    for seed in range(150):
        writer = Writer(seed)
        for k in (seed % 60, writer.random.randint(1, 60)):
            writer.disk.steps = 0
            writer.disk.fails = lambda number, what, k=k: error if k <= number < k + length else 0
            try:
                writer.live(8)
            except OSError:
                pass
            if writer.random.random() < 0.5:
                writer.disk = writer.disk.after_a_power_cut()
        writer.disk.fails = lambda number, what: 0
        try:
            writer.check(writer.open())
        except BaseException as failure:
            failure.add_note(f"seed {seed}")
            raise
