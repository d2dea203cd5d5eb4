"""Stragglers: what nobody settles is kept, and next to nothing of what is settled around it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tests.spool.life import PowerCut, cut_at
from tests.spool.simulated_disk import SimulatedDisk
from zq.core.ranges import Ranges
from zq.spool.log import Log
from zq.spool.record import Record
from zq.spool.segment import name_of
from zq.spool.survey import Missing
from zq.wire.batch import Run
from zq.wire.stored import TRIMMED

STREAM = b"s" * 16
SEGMENT = 4_000  # bytes
BATCH = 5  # messages in a record, ten bytes each


def part(record: Record, start: int, stop: int) -> tuple[Sequence[Run], bytes]:
    (run,) = record.runs
    return [Run(run.origin, run.first + start, stop - start, run.time)], record.body[start * 10 : stop * 10]


def opened(disk: SimulatedDisk) -> Log:
    log = Log(disk, STREAM, wall=lambda: 1.0, segment_bytes=SEGMENT)
    log.open()
    return log


def filled(disk: SimulatedDisk, messages: int = 1_000) -> Log:
    log = opened(disk)
    for first in range(1, messages + 1, BATCH):
        body = b"".join(b"%010d" % number for number in range(first, first + BATCH))
        assert log.append(BATCH, [Run(b"o" * 16, first, BATCH, 1.0)], body) == first
        log.commit()
    return log


def messages(log: Log) -> dict[int, bytes]:
    """What is still there, by number; everything else is said to be trimmed."""
    found: dict[int, bytes] = {}
    at = log.first
    while items := log.read(at, 5_000):
        for item in items:
            assert not isinstance(item, Missing), item
            assert item.first <= at <= item.last
            at = item.last + 1
            if item.flags & TRIMMED:
                assert (item.body, item.runs) == (b"", ())
                continue
            for place in range(item.length):
                found[item.first + place] = item.body[place * 10 : place * 10 + 10]
                assert item.runs[0].first + place == item.first + place
    assert at == log.safe + 1
    return found


def all_but(last: int, *kept: int) -> Ranges:
    settled = Ranges()
    settled.add(1, last)
    for number in kept:
        settled.remove(number, number)
    return settled


def test_one_message_that_nobody_settles_keeps_no_segment() -> None:
    disk = SimulatedDisk()
    log = filled(disk)
    before = log.size
    settled = all_but(log.safe, 7, 503)
    while log.shrink(settled, part):
        pass
    assert log.size < before / 5
    found = messages(log)
    assert {7: b"%010d" % 7, 503: b"%010d" % 503}.items() <= found.items()
    assert len(found) < 60, "only what is in the last segments"
    assert log.verify() == []
    log.close()
    again = opened(disk)
    assert (again.lost, again.found) == ([], [])
    assert messages(again) == found
    assert list(again.known) == [(b"o" * 16, 1, 1_000)], "what was settled is known when it comes again"


def test_nothing_is_written_anew_before_it_is_worth_it() -> None:
    log = filled(SimulatedDisk())
    half, front = Ranges(), Ranges()
    for number in range(1, log.safe, 2):
        half.add(number, number)
    front.add(1, log._segments[0].last - 1)
    for settled in (half, front):
        assert not log.is_worth_shrinking(settled)
        assert not log.shrink(settled, part)


def test_a_damaged_segment_is_left_alone() -> None:
    disk = SimulatedDisk()
    log = filled(disk)
    disk.files[name_of(1)].seen[200] ^= 1
    before = bytes(disk.files[name_of(1)].seen)
    settled = all_but(log.safe, 7)
    while log.is_worth_shrinking(settled):
        log.shrink(settled, part)
    assert bytes(disk.files[name_of(1)].seen) == before
    assert not log.shrink(settled, part)


def test_records_that_cannot_be_taken_apart_stay_whole() -> None:
    log = filled(SimulatedDisk())
    settled = all_but(log.safe, 7)
    while log.shrink(settled, lambda record, start, stop: None):
        pass
    assert set(messages(log)) >= {6, 7, 8, 9, 10}


def test_a_power_cut_while_it_is_written_anew_loses_nothing_that_is_not_settled() -> None:
    for seed in range(400):
        made = random.Random(seed)
        disk = SimulatedDisk(seed)
        log = filled(disk, 400)
        kept = made.sample(range(1, 250), made.randint(0, 8))
        settled = all_but(log.safe, *kept)
        disk.fails = cut_at(disk.steps + made.randint(1, 30))
        try:
            while log.shrink(settled, part):
                pass
            log.close()
        except PowerCut:
            pass
        again = opened(disk.after_a_power_cut())
        assert again.lost == [], f"seed {seed}"
        assert again.safe == 400
        found = messages(again)
        assert {number: found.get(number) for number in kept} == {number: b"%010d" % number for number in kept}
        while again.shrink(settled, part):
            pass
        assert set(kept) <= set(messages(again)), f"seed {seed}"


@pytest.mark.parametrize("what", ["write", "sync", "rename", "sync names", "create"])
def test_a_disk_that_fails_meanwhile_leaves_the_segment_as_it_was(what: str) -> None:
    disk = SimulatedDisk()
    log = filled(disk)
    settled = all_but(log.safe, 7)
    disk.fails = lambda number, called: 5 if called == what else 0
    with pytest.raises(OSError, match="simulated"):
        log.shrink(settled, part)
    disk.fails = lambda number, called: 0
    assert 7 in messages(log)
    assert log.shrink(settled, part)
    assert 7 in messages(log)
