"""Timers come due in order, once, and as they were set last."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zq.core.timers import LATE, Timers

STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "if unset", "cancel", "due"]), st.integers(0, 4), st.integers(0, 20))
)


def test_what_is_due_comes_earliest_first_and_once() -> None:
    timers, order = Timers(), list[str]()
    timers.set("b", 2.0, lambda now: order.append("b"))
    timers.set("a", 1.0, lambda now: order.append("a"))
    timers.set("c", 3.0, lambda now: order.append("c"))
    assert timers.next() == 1.0
    for due in timers.due(2.0):
        due(2.0)
    assert order == ["a", "b"]
    assert timers.next() == 3.0
    assert list(timers.due(2.5)) == []


def test_a_timer_set_while_others_are_due_is_seen() -> None:
    timers, order = Timers(), list[str]()

    def first(now: float) -> None:
        order.append("first")
        timers.set("second", now, lambda when: order.append("second"))

    timers.set("first", 1.0, first)
    for due in timers.due(1.0):
        due(1.0)
    assert order == ["first", "second"]
    assert timers.next() is None


@pytest.mark.parametrize(
    ("looked_at", "expected"), [((2.0,), 2.0), ((2.0 + LATE, 3.0 + LATE), 3.0 + LATE), ((9.0, 99.0), 99.0)]
)
def test_what_others_have_time_for_is_given_once_more_to_those_who_were_looked_at_late(
    looked_at: tuple[float, ...], expected: float
) -> None:
    timers, over = Timers(), list[float]()
    timers.give("answer", 1.0, 1.0, over.append)
    for now in looked_at:
        assert over == []
        for due in timers.due(now):
            due(now)
    assert over == [expected]
    assert timers.next() is None


@given(STEPS)
@settings(deadline=None)
def test_timers_are_a_table_of_deadlines(steps: list[tuple[str, int, int]]) -> None:
    timers, table, fired = Timers(), dict[int, int](), list[int]()

    def due_for(key: int) -> object:
        return lambda now: fired.append(key)

    for step, key, when in steps:
        if step == "set":
            timers.set(key, when, due_for(key))  # type: ignore[arg-type]
            table[key] = when
        elif step == "if unset":
            timers.set_if_unset(key, when, due_for(key))  # type: ignore[arg-type]
            table.setdefault(key, when)
        elif step == "cancel":
            timers.cancel(key)
            table.pop(key, None)
        else:
            fired.clear()
            for due in timers.due(when):
                due(when)
            expected = {key for key, at in table.items() if at <= when}
            assert set(fired) == expected
            assert [table[key] for key in fired] == sorted(table[key] for key in fired)
            table = {key: at for key, at in table.items() if key not in expected}
        assert all(timers.soonest <= at for at in table.values()), "somebody would sleep past a deadline"
        assert timers.next() == min(table.values(), default=None)
        assert timers.soonest == min(table.values(), default=math.inf)
