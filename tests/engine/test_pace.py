"""How long the engine lets messages pile up."""

from __future__ import annotations

import pytest

from zq.engine.pace import PILE_LEAST, PILE_MOST, Pace

TURN = 60e-6  # s a turn takes on a quiet machine


class Clock:
    """Callers that send at a rate, and an engine that turns as the pace says."""

    def __init__(self, rate: float, turn: float = TURN) -> None:
        self.pace = Pace()
        self._every, self._turn = 1 / rate, turn
        self._now = 1.0
        self.ages: list[float] = []
        self.turns = 0

    def run(self, seconds: float) -> None:
        """Messages come in time; each is as old as it is at the end of the turn that takes it."""
        due, end = self._now, self._now + seconds
        while due < end:
            rang = self._now >= self.pace.piling_until and due > self._now
            self._now = max(self._now, self.pace.piling_until, due if rang else 0.0)
            taken = []
            while due <= self._now:
                taken.append(due)
                due += self._every
            if not taken:
                self._now = due
                continue
            began, self._now = self._now, self._now + self._turn
            self.pace.turned(len(taken), began, self._now)
            self.turns += 1
            self.ages += [self._now - sent for sent in taken]


def test_a_message_now_and_then_goes_at_once() -> None:
    clock = Clock(1_000)
    clock.run(1.0)
    assert max(clock.ages) == pytest.approx(TURN)


def test_at_ten_thousand_a_second_none_waits_for_half_a_millisecond() -> None:
    clock = Clock(10_000)
    clock.run(1.0)
    assert max(clock.ages) < 0.0005


def test_the_engine_keeps_a_fifth_of_the_time_and_leaves_the_rest_to_callers() -> None:
    clock = Clock(20_000)
    clock.run(1.0)
    assert clock.turns * TURN < 0.25
    slow = Clock(20_000, turn=5 * TURN)  # others want the processor too
    slow.run(1.0)
    assert slow.turns * 5 * TURN < 0.25
    assert max(slow.ages) < 2 * PILE_MOST


def test_at_full_speed_what_piles_up_fills_frames() -> None:
    clock = Clock(1_000_000, turn=0.0004)
    clock.run(0.5)
    assert len(clock.ages) / clock.turns > 512


def test_the_first_message_after_a_burst_waits_no_longer_than_a_pile() -> None:
    pace = Pace()
    pace.turned(100, 1.0, 1.0 + TURN)
    assert pace.piling_until - (1.0 + TURN) == pytest.approx(PILE_LEAST)
    until = pace.piling_until
    pace.turned(1, until, until + TURN)
    assert pace.piling_until <= until + TURN, "one message in all that time: whoever sends it is not busy"


def test_answers_never_pile_up() -> None:
    pace = Pace()
    now = 1.0
    for _ in range(100):
        pace.heard = True
        pace.turned(1, now, now + TURN)
        now += 2 * TURN
    assert pace.piling_until == 0.0


def test_a_turn_in_between_takes_nothing_and_changes_nothing() -> None:
    pace = Pace()
    pace.turned(100, 1.0, 1.0 + TURN)
    until = pace.piling_until
    pace.heard = True
    pace.turned(0, 1.0 + 2 * TURN, 1.0 + 3 * TURN)
    assert pace.piling_until == until
    pace.turned(2, until, until + TURN)
    assert pace.piling_until > until, "it goes on piling up as if nothing had come in between"


def test_what_is_settled_in_between_does_not_put_off_what_callers_have_left() -> None:
    pace = Pace()
    pace.turned(100, 1.0, 1.0 + TURN)
    until = pace.piling_until
    pace.turned(100, until - 2 * TURN, until - TURN)
    assert pace.piling_until == until
    pace.turned(0, until, until + TURN)
    assert pace.piling_until > until, "with what was settled in between callers are busy"
