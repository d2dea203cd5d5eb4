"""The journal: what it says survives kills; damage and power cuts only ever make it say less."""

from __future__ import annotations

import errno
import random

import pytest

from tests.spool.simulated_disk import SimulatedDisk
from zq.spool.journal import COMPACT_FROM, JOURNAL, Journal

STREAM = b"s" * 16


def opened(disk: SimulatedDisk) -> Journal:
    journal = Journal(disk, STREAM)
    journal.open()
    return journal


def settled(journal: Journal) -> set[int]:
    return {number for first, last in journal.settled for number in range(first, last + 1)}


def test_what_was_written_survives_a_kill() -> None:
    disk = SimulatedDisk()
    journal = opened(disk)
    journal.settle(1, 10)
    journal.charge(12, 3)
    journal.move("dashboard", 77)
    journal.move("gone", 1)
    journal.forget("gone")
    journal.write()
    again = opened(disk)
    assert (settled(again), again.attempts, again.cursors) == (set(range(1, 11)), {12: 3}, {"dashboard": 77})
    assert not again.damaged


def test_a_settled_message_has_no_attempts_left_to_remember() -> None:
    journal = opened(SimulatedDisk())
    journal.charge(5, 2)
    journal.settle(5, 5)
    assert journal.attempts == {}


def test_power_cuts_take_only_from_the_end_and_what_was_synced_stays() -> None:
    for seed in range(300):
        made = random.Random(seed)
        disk = SimulatedDisk(seed)
        journal = opened(disk)
        order: list[int] = []
        safe = 0
        for number in made.sample(range(1, 200), made.randint(1, 60)):
            journal.settle(number, number)
            order.append(number)
            if made.random() < 0.2:
                journal.sync()
                safe = len(order)
            elif made.random() < 0.5:
                journal.write()
        after = settled(opened(disk.after_a_power_cut()))
        assert set(order[:safe]) <= after
        assert after in [set(order[:length]) for length in range(safe, len(order) + 1)], f"seed {seed}"


@pytest.mark.parametrize("step", range(60))
def test_any_damage_costs_what_follows_it_at_most_and_is_noticed(step: int) -> None:
    disk = SimulatedDisk()
    journal = opened(disk)
    for number in range(1, 200, 2):
        journal.settle(number, number)
    journal.close()
    whole = bytes(disk.files[JOURNAL].seen)
    bit = step * len(whole) * 8 // 60
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    disk.files[JOURNAL].seen = flipped
    again = opened(disk)
    assert again.damaged
    assert settled(again) <= set(range(1, 200, 2))
    assert bytes(disk.files[f"{JOURNAL}.bad"].seen) == bytes(flipped)
    again.settle(2, 2)
    again.close()
    assert 2 in settled(opened(disk))


def test_the_journal_of_another_stream_is_set_aside() -> None:
    disk = SimulatedDisk()
    journal = opened(disk)
    journal.settle(1, 5)
    journal.close()
    other = Journal(disk, b"t" * 16)
    other.open()
    assert other.damaged
    assert settled(other) == set()


def test_it_is_written_anew_when_most_of_it_is_out_of_date() -> None:
    disk = SimulatedDisk()
    journal = opened(disk)
    number = 1
    while journal._file is not None and journal._file.size < COMPACT_FROM:
        for _ in range(1_000):
            journal.settle(number, number)
            number += 2
        journal.write()
    journal.move("dashboard", 9)
    journal.write()
    before = len(disk.files[JOURNAL].seen)
    journal.compact(number - 100)
    after = len(disk.files[JOURNAL].seen)
    assert after < before / 100
    again = opened(disk)
    assert settled(again) == set(range(number - 100, number, 2))
    assert again.cursors == {"dashboard": 9}


def test_a_cursor_that_fell_behind_keeps_its_place_when_it_is_written_anew() -> None:
    """Else its reader would never see a gap where what it has not had was trimmed."""
    disk = SimulatedDisk()
    journal = opened(disk)
    journal.begin("away", 5)
    journal.settle_at("away", 5, 6)
    journal.begin("busy", 1)
    number = 1
    while journal._file is not None and journal._file.size < COMPACT_FROM:
        for _ in range(1_000):
            journal.settle_at("busy", number, number)
            number += 1
        journal.write()
    journal.compact(number - 100)
    assert len(disk.files[JOURNAL].seen) < COMPACT_FROM
    again = opened(disk)
    assert (again.position_of("away"), again.position_of("busy")) == (7, number)


@pytest.mark.parametrize("seed", range(40))
def test_a_write_that_was_torn_hides_nothing_that_follows(seed: int) -> None:
    disk = SimulatedDisk(seed)
    journal = opened(disk)
    journal.settle(1, 10)
    disk.fails = lambda number, what: errno.ENOSPC
    with pytest.raises(OSError, match="simulated"):
        journal.write()
    disk.fails = lambda number, what: 0
    journal.settle(20, 30)
    journal.sync()
    again = opened(disk.after_a_power_cut())
    assert not again.damaged
    assert list(again.settled) == [(1, 10), (20, 30)]


@pytest.mark.parametrize("seed", range(40))
def test_a_sync_that_failed_is_not_repeated_on_the_same_file(seed: int) -> None:
    """The second one would say that all is well, and the segments would go."""
    disk = SimulatedDisk(seed)
    journal = opened(disk)
    journal.settle(1, 10)
    disk.fails = lambda number, what: errno.EIO if what == "sync" else 0
    with pytest.raises(OSError, match="simulated"):
        journal.sync()
    disk.fails = lambda number, what: 0
    journal.sync()
    assert list(opened(disk.after_a_power_cut()).settled) == [(1, 10)]


def test_it_stays_small_while_a_straggler_keeps_all_that_is_behind_it() -> None:
    disk = SimulatedDisk()
    journal = opened(disk)
    largest = 0
    for number in range(2, 200_000):
        journal.settle(number, number)
        if number % 1_000 == 0:
            journal.write()
            journal.compact(1)
            largest = max(largest, len(disk.files[JOURNAL].seen))
    assert largest < 2 * COMPACT_FROM
    assert list(opened(disk).settled) == [(2, 199_000)]


def test_a_journal_that_was_set_aside_is_not_overwritten_by_the_next_one() -> None:
    disk = SimulatedDisk()
    for content in (b"first", b"second"):
        opened(disk).close()
        disk.files[JOURNAL].seen = bytearray(content)
    opened(disk)
    assert [bytes(disk.files[name].seen) for name in (f"{JOURNAL}.bad", f"{JOURNAL}.1.bad")] == [b"first", b"second"]
