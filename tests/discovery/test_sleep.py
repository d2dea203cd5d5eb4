"""A machine that was suspended is noticed to have been."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest

from zq.discovery.sleep import Sleep, asleep


def test_sleep_is_told_once() -> None:
    slept = 5.0
    sleep = Sleep(lambda: slept)
    assert sleep.has_been() == 0.0
    slept += 3_600.0
    assert sleep.has_been() == 3_600.0
    assert sleep.has_been() == 0.0


def test_what_heartbeats_survive_is_not_worth_mentioning() -> None:
    slept = 0.0
    sleep = Sleep(lambda: slept)
    slept += 0.5
    assert sleep.has_been() == 0.0


@pytest.mark.parametrize("late", range(10))
def test_a_thread_that_is_held_up_between_two_clocks_takes_it_for_no_sleep(
    late: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, reading = 1_000.0, itertools.count()

    def read() -> float:
        nonlocal now
        now += 3.0 if next(reading) == late else 0.0
        return now

    clocks = SimpleNamespace(CLOCK_BOOTTIME=7, clock_gettime=lambda _: read() + 50.0, monotonic=read)
    monkeypatch.setattr("zq.discovery.sleep.time", clocks)
    sleep = Sleep()
    assert [sleep.has_been(), sleep.has_been()] == [0.0, 0.0]


def test_this_machine_can_tell() -> None:
    assert asleep() > -1.0
    assert Sleep().has_been() == 0.0
