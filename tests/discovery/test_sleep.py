"""A machine that was suspended is noticed to have been."""

from __future__ import annotations

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


def test_this_machine_can_tell() -> None:
    assert asleep() > -1.0
    assert Sleep().has_been() == 0.0
