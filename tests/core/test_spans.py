"""Ranges of origin numbers: joined where they touch, bounded, and found again by a link's numbers."""

from __future__ import annotations

import random

import pytest

from zq.core.ranges import Ranges
from zq.core.spans import TRAIL, Spans, Trail, complement
from zq.info import Span
from zq.wire.batch import Run

ONE, TWO = b"1" * 16, b"2" * 16


def told(spans: Spans) -> list[tuple[bytes, int, int, str, bytes]]:
    return [(span.origin, span.first, span.last, span.state, span.peer) for span in spans.rows()]


def test_what_touches_is_joined_if_all_else_is_the_same() -> None:
    spans = Spans()
    for origin, first, last, state, peer in [
        (ONE, 1, 3, "waiting", b""),
        (ONE, 4, 4, "waiting", b""),
        (ONE, 5, 6, "in flight", b"a"),
        (ONE, 7, 7, "in flight", b"b"),
        (TWO, 8, 8, "in flight", b"b"),
        (TWO, 10, 10, "in flight", b"b"),
    ]:
        assert spans.add(origin, first, last, state, peer)
    assert told(spans) == [
        (ONE, 1, 4, "waiting", b""),
        (ONE, 5, 6, "in flight", b"a"),
        (ONE, 7, 7, "in flight", b"b"),
        (TWO, 8, 8, "in flight", b"b"),
        (TWO, 10, 10, "in flight", b"b"),
    ]


def test_there_are_never_more_than_wanted_the_first_or_the_newest() -> None:
    first, newest = Spans(3), Spans(3, newest=True)
    kept = [first.add(ONE, 2 * number, 2 * number, "waiting") for number in range(5)]
    assert kept == [True, True, True, False, False]
    assert first.more
    for number in range(5):
        assert newest.add(ONE, 2 * number, 2 * number, "rejected")
    assert [span.first for span in first.rows()] == [0, 2, 4]
    assert [span.first for span in newest.rows()] == [4, 6, 8]


def test_a_span_counts_its_messages() -> None:
    assert Span(origin=ONE, first=3, last=7, state="waiting").count == 5


def test_the_numbers_of_a_link_lead_back_to_their_origins() -> None:
    trail = Trail()
    trail.note(1, 5, [Run(ONE, 11, 2, 0.0), Run(TWO, 40, 3, 0.0)])
    trail.note(6, 6, [Run(ONE, 13, 1, 0.0)])
    assert list(trail.origins(2, 6)) == [(2, 1, ONE, 12), (3, 3, TWO, 40), (6, 1, ONE, 13)]
    assert list(trail.origins(4, 4)) == [(4, 1, TWO, 41)]
    trail.forget_below(6)
    assert list(trail.origins(1, 6)) == [(6, 1, ONE, 13)]


@pytest.mark.parametrize("seed", range(50))
def test_every_number_is_found_exactly_once(seed: int) -> None:
    draw = random.Random(seed)
    trail, origins, number = Trail(), dict[int, tuple[bytes, int]](), 1
    counters = {ONE: 1, TWO: 1}
    for _ in range(10):
        runs, first = [], number
        for _ in range(draw.randint(1, 4)):
            origin, length = draw.choice((ONE, TWO)), draw.randint(1, 5)
            runs.append(Run(origin, counters[origin], length, 0.0))
            for _ in range(length):
                origins[number] = origin, counters[origin]
                number, counters[origin] = number + 1, counters[origin] + 1
        trail.note(first, number - 1, runs)
    low, high = sorted((draw.randint(1, number), draw.randint(1, number)))
    found = {
        start + index: (origin, at + index)
        for start, count, origin, at in trail.origins(low, high)
        for index in range(count)
    }
    assert found == {each: whose for each, whose in origins.items() if low <= each <= high}


@pytest.mark.parametrize("seed", range(50))
def test_the_complement_is_everything_else(seed: int) -> None:
    draw = random.Random(seed)
    ranges = Ranges()
    for _ in range(draw.randint(0, 6)):
        first = draw.randint(1, 30)
        ranges.add(first, first + draw.randint(0, 5))
    rest = [number for low, high in complement(ranges, 3, 25) for number in range(low, high + 1)]
    assert rest == [number for number in range(3, 26) if number not in ranges]


def test_what_is_settled_behind_a_long_job_is_forgotten() -> None:
    trail, settled = Trail(), Ranges()
    for number in range(1, 10 * TRAIL):
        trail.note(number, number, [Run(ONE, number, 1, 0.0)])
        trail.tidy(settled)
        if number > 1:
            settled.add(number, number)
    assert len(trail) <= TRAIL + 1
    assert list(trail.origins(1, 1)) == [(1, 1, ONE, 1)]


def test_what_is_not_settled_is_never_forgotten() -> None:
    trail = Trail()
    for number in range(1, 3 * TRAIL):
        trail.note(number, number, [Run(ONE, number, 1, 0.0)])
        trail.tidy(Ranges())
    assert len(list(trail.origins(1, 3 * TRAIL))) == 3 * TRAIL - 1


def test_what_is_taken_out_again_splits_its_range() -> None:
    spans = Spans(3, newest=True)
    spans.add(ONE, 1, 9, "dead")
    spans.add(TWO, 5, 5, "rejected")
    for origin, number in [(ONE, 5), (TWO, 5), (TWO, 6), (ONE, 1), (ONE, 9)]:
        spans.remove(origin, number)
    assert told(spans) == [(ONE, 2, 4, "dead", b""), (ONE, 6, 8, "dead", b"")]
    assert not spans.more
    spans.add(TWO, 1, 1, "dead")
    spans.remove(ONE, 7)
    assert told(spans) == [(ONE, 6, 6, "dead", b""), (ONE, 8, 8, "dead", b""), (TWO, 1, 1, "dead", b"")]
    assert spans.more, "there were only three places, and the newest were kept"
