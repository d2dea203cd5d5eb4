"""Three lanes: turns of 8:4:1 for credit and in the inbox, and each lane in its own order."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from zq.core.inbox import Inbox
from zq.core.lanes import Overtaking, Turns, share_out_by_lane
from zq.wire.batch import Batch, Run
from zq.wire.plan import HIGH, LOW, NORMAL

ALL = (HIGH, NORMAL, LOW)


@dataclass
class Link:
    """A receiving link, as far as credit goes."""

    lane: int
    wanted: int = 0
    limit: int = 0
    sent: int = 0
    returned: int = 0
    keep: int = 0
    settled: int = 0

    @property
    def in_use(self) -> int:
        return self.limit - self.returned - self.settled


def test_of_thirteen_turns_the_high_lane_has_eight_the_normal_four_the_low_one() -> None:
    turns = Turns()
    assert Counter(turns.next(ALL) for _ in range(13)) == {HIGH: 8, NORMAL: 4, LOW: 1}
    assert Counter(turns.next(ALL) for _ in range(1_300)) == {HIGH: 800, NORMAL: 400, LOW: 100}
    assert Counter(turns.next((NORMAL, LOW)) for _ in range(500)) == {NORMAL: 400, LOW: 100}


def test_a_lane_that_was_idle_owes_nothing() -> None:
    turns = Turns()
    for _ in range(100):
        turns.next((NORMAL, LOW))
    assert HIGH in [turns.next(ALL) for _ in range(2)]


def test_what_there_is_is_split_by_turns_and_nobody_gets_more_than_he_needs() -> None:
    assert Turns().split(130, {HIGH: 500, NORMAL: 500, LOW: 500}) == {HIGH: 80, NORMAL: 40, LOW: 10}
    assert Turns().split(130, {HIGH: 1, NORMAL: 500, LOW: 500}) == {HIGH: 1, NORMAL: 104, LOW: 25}
    assert Turns().split(9, {HIGH: 1, NORMAL: 2, LOW: 3}) == {HIGH: 1, NORMAL: 2, LOW: 3}


@given(st.integers(0, 5_000), st.tuples(*[st.integers(0, 3_000)] * 3))
@settings(deadline=None)
def test_a_split_gives_away_all_that_somebody_needs(free: int, needs: tuple[int, int, int]) -> None:
    shares = Turns().split(free, dict(zip(ALL, needs, strict=True)))
    assert sum(shares.values()) == min(free, sum(needs))
    assert all(0 < share <= needs[ALL.index(lane)] or share == 0 for lane, share in shares.items())


def test_with_a_prefetch_of_one_the_lanes_take_turns() -> None:
    links, turns = [Link(lane, wanted=1_000) for lane in ALL], Turns()
    got: list[int] = []
    for turn in range(13 * 5):
        [link] = share_out_by_lane(1, links, turn % 3, turns)
        got.append(link.lane)
        link.sent += 1
        link.settled += 1
        link.wanted -= 1
    assert Counter(got) == {HIGH: 40, NORMAL: 20, LOW: 5}


@given(st.integers(1, 40), st.integers(0, 10_000))
@settings(deadline=None)
def test_all_lanes_together_never_exceed_the_prefetch(size: int, seed: int) -> None:
    chance, turns = random.Random(seed), Turns()
    links = [Link(chance.choice(ALL)) for _ in range(6)]
    for turn in range(60):
        link = chance.choice(links)
        link.wanted = chance.randint(0, 20)
        link.sent += chance.randint(0, link.limit - link.sent - link.returned)
        link.settled += chance.randint(0, link.sent - link.settled)
        before = sum(link.in_use for link in links)
        raised = share_out_by_lane(size, links, turn % len(links), turns)
        assert sum(link.in_use for link in links) <= max(size, before)
        assert {id(link) for link in raised} <= {id(link) for link in links}
        missing = [link for link in links if link.wanted > link.limit - link.sent - link.returned]
        assert not missing or sum(link.in_use for link in links) >= size, "credit is left although somebody waits"


# --- the inbox


class Arrivals:
    """An inbox in which batches arrive as at a puller."""

    def __init__(self, inbox: Inbox | None = None) -> None:
        self.inbox = inbox or Inbox(lambda: None)
        self._overtaking = Overtaking()
        self._links = {lane: Link(lane) for lane in ALL}
        self._count = 0

    def arrive(self, lane: int, count: int = 1) -> None:
        self._count += 1
        batch: Any = Batch(
            sender=bytes(16), first=self._count, count=count, runs=(Run(bytes(16), 1, count, 0.0),), body=b"x" * count
        )
        batch.link = self._links[lane]
        if lane == HIGH:
            self._overtaking.put(self.inbox, batch)
        else:
            self.inbox.put(batch)

    def order(self) -> list[tuple[str, int]]:
        names = {HIGH: "high", NORMAL: "normal", LOW: "low"}
        return [(names[batch.link.lane], batch.first) for batch in self.inbox.arrived if isinstance(batch, Batch)]


def test_the_high_lane_goes_before_what_came_earlier_in_the_others_in_its_own_order() -> None:
    arrivals = Arrivals()
    arrivals.arrive(NORMAL, 100)
    arrivals.arrive(LOW, 100)
    arrivals.arrive(HIGH)
    arrivals.arrive(HIGH)
    assert arrivals.order() == [("high", 3), ("high", 4), ("normal", 1), ("low", 2)]
    assert (arrivals.inbox.messages, arrivals.inbox.bytes) == (202, 202)


def test_the_others_have_their_turns_in_the_inbox_too() -> None:
    arrivals = Arrivals()
    arrivals.arrive(NORMAL)
    arrivals.arrive(LOW)
    for _ in range(14):
        arrivals.arrive(HIGH)
    lanes = [lane for lane, _ in arrivals.order()]
    assert lanes == ["high"] * 2 + ["normal"] + ["high"] * 8 + ["low"] + ["high"] * 4


@given(st.integers(0, 10_000))
@settings(deadline=None)
def test_whatever_arrives_each_lane_keeps_its_order_and_nobody_waits_for_ever(seed: int) -> None:
    chance, arrivals = random.Random(seed), Arrivals()
    passed: Counter[int] = Counter()
    newest = dict.fromkeys(("high", "normal", "low"), 0)
    for _ in range(200):
        if chance.random() < 0.6:
            arrivals.arrive(chance.choice((HIGH, HIGH, NORMAL, LOW)), chance.choice((1, 1, 5)))
        elif arrivals.inbox.arrived:
            lane, number = arrivals.order()[0]
            arrivals.inbox.arrived.popleft()
            assert number > newest[lane]
            newest[lane] = number
            if lane == "high":
                passed.update(number for other, number in arrivals.order()[:1] if other != "high")
    assert max(passed.values(), default=0) <= 8 * 5


class Hasty(Inbox):
    """Callers take the first batch right before one is put in."""

    def put_at(self, place: int, batch: Batch) -> None:
        self.arrived.popleft()
        super().put_at(place, batch)


def test_what_callers_take_meanwhile_does_no_harm() -> None:
    arrivals = Arrivals(Hasty(lambda: None))
    for lane in (NORMAL, NORMAL, NORMAL, HIGH, HIGH, HIGH):
        arrivals.arrive(lane)
    assert arrivals.order() == [("high", 5), ("normal", 3), ("high", 6)]
