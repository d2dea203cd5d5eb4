"""The outbox and what senders ask for: keys one by one and in order, nothing before its delay or after its ttl."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zq.core import line
from zq.core.dead import bury, new_dead_outbox, revive
from zq.core.outbox import EXPIRING_KEPT, Outbox, Piece
from zq.core.topics import Origin
from zq.wire.data import Packed, pack, unpack
from zq.wire.plan import HIGH, LOW, NORMAL, Plan, Planned
from zq.wire.plan import planned as planned_for


def planned(body: bytes, **plan: Any) -> Planned:
    item = Planned(body + b"\xc0\xc0")
    item.plan = Plan(**plan)
    return item


def outbox(*, window: int = 1_000) -> Outbox:
    return Outbox(queue="jobs", window=window, window_bytes=1 << 20)


def put(box: Outbox, *items: bytes | Packed, now: float = 0.0) -> int:
    box.outgoing.items.extend(items)
    return box.take(Origin(bytes(16)), now, 0.0)


def bodies(pieces: list[Piece]) -> list[bytes]:
    return [item.removesuffix(b"\xc0\xc0") for piece in pieces for item in piece.chunk.items[piece.start : piece.stop]]


def pick(box: Outbox, *, lane: int = NORMAL, most: int = 100) -> list[Piece]:
    return box.pick(most, 1 << 20, lane)


def test_each_lane_has_a_line_and_messages_of_one_lane_share_frames() -> None:
    box = outbox()
    put(box, b"a", planned(b"b", lane=HIGH), planned(b"c", lane=HIGH), planned(b"d", lane=LOW), b"e")
    assert [bodies(pick(box, lane=lane)) for lane in (NORMAL, HIGH, LOW)] == [[b"a", b"e"], [b"b", b"c"], [b"d"]]
    assert box.lanes == [HIGH, LOW]
    assert (box.in_flight, box.waiting) == (5, 0)


def test_of_a_key_one_message_goes_and_the_next_when_it_is_settled() -> None:
    box = outbox()
    put(box, planned(b"1", key="k"), planned(b"2", key="k"), b"3", planned(b"4", key="k"))
    first, other = pick(box, most=1), pick(box)
    assert (bodies(first), bodies(other)) == ([b"1"], [b"3"])
    assert (box.ready, box.keyed, box.waiting) == (0, 2, 2)
    box.ack(first[0])
    [second] = pick(box)
    assert bodies([second]) == [b"2"]
    box.drop(second, "rejected")
    assert bodies(pick(box)) == [b"4"]


@pytest.mark.parametrize("due", [None, 5.0], ids=["at once", "later"])
def test_what_is_nacked_keeps_its_key(due: float | None) -> None:
    box = outbox()
    put(box, planned(b"1", key="k"), planned(b"2", key="k"))
    box.retry(pick(box), due=due)
    if due is not None:
        assert pick(box) == [], "the next one must not pass it"
        box.wake_delayed(due)
    [again] = pick(box)
    assert bodies([again]) == [b"1"]
    box.ack(again)
    assert bodies(pick(box)) == [b"2"]


def test_a_key_holds_across_lanes() -> None:
    box = outbox()
    put(box, planned(b"1", key="k"), planned(b"2", key="k", lane=HIGH))
    assert pick(box, lane=HIGH) == []
    box.ack(pick(box)[0])
    assert bodies(pick(box, lane=HIGH)) == [b"2"]


def test_who_waited_for_a_key_goes_before_what_was_sent_later() -> None:
    box = outbox()
    put(box, planned(b"1", key="k"), planned(b"2", key="k"), planned(b"3", key="l"), planned(b"4", key="l"))
    first = pick(box)
    put(box, *[b"%d" % number for number in range(5, 9)])
    for piece in reversed(first):
        box.ack(piece)
    assert bodies(pick(box)) == [b"2", b"4"], "not with messages without extra fields, in one frame"
    assert bodies(pick(box)) == [b"5", b"6", b"7", b"8"]


def test_a_delayed_message_goes_when_it_is_due_and_holds_nobody_of_its_key_up_before() -> None:
    box = outbox()
    put(box, planned(b"later", key="k", delay=5.0), planned(b"now", key="k"), now=10.0)
    assert (box.delayed, box.ready, box.held) == (1, 1, 2)
    [now] = pick(box)
    assert bodies([now]) == [b"now"]
    assert box.wake_delayed(14.9) == 15.0
    assert pick(box) == []
    box.wake_delayed(15.0)
    assert pick(box) == [], "its key is taken"
    box.ack(now)
    assert bodies(pick(box)) == [b"later"]


def test_what_expires_while_it_waits_is_counted_and_makes_room() -> None:
    box = outbox(window=3)
    put(box, planned(b"1", ttl=1.0), planned(b"2", ttl=9.0, delay=5.0), planned(b"3", ttl=2.0, key="k"))
    assert box.outgoing.limit == 0
    assert box.wake_delayed(0.9) == 1.0
    assert box.wake_delayed(1.0) == 2.0
    assert (box.expired, box.waiting, box.outgoing.limit) == (1, 2, 1)
    assert box.wake_delayed(2.0) == 5.0
    assert pick(box) == []
    assert box.wake_delayed(9.0) is None
    assert (box.expired, box.waiting, box.held_bytes, box.delayed, len(box.keys)) == (3, 0, 0, 0, 0)
    assert box.settled_through(3)
    assert box.row().balanced


def test_what_expires_behind_its_key_leaves_the_next_one_its_turn() -> None:
    box = outbox()
    put(box, planned(b"1", key="k", ttl=1.0), planned(b"2", key="k", ttl=2.0), planned(b"3", key="k"))
    first = pick(box)
    box.wake_delayed(2.0)
    assert (box.expired, box.keyed) == (1, 1), "the first is on its way, where it is not judged"
    box.retry(first)
    box.wake_delayed(2.0)
    assert box.expired == 2, "it came back too late"
    assert bodies(pick(box)) == [b"3"]


def test_on_a_link_nothing_expires() -> None:
    box = outbox()
    put(box, planned(b"1", ttl=1.0))
    [piece] = pick(box)
    box.wake_delayed(5.0)
    box.ack(piece)
    assert (box.expired, box.acked) == (0, 1)


def test_time_is_told_as_what_remains() -> None:
    box = outbox()
    item = Planned(b"x" + b"\xcb\x40\x14" + bytes(6) + b"\xcb\x3f\xf0" + bytes(6))  # 5.0 and 1.0
    item.plan = Plan(ttl=5.0, delay=1.0)
    put(box, item, now=10.0)
    box.wake_delayed(11.0)
    [piece] = pick(box)
    assert piece.items(12.0) == [b"x" + b"\xcb\x40\x08" + bytes(6) + b"\xc0"], "3.0 are left, and no delay"
    assert piece.items(99.0) == [b"x" + b"\xcb" + bytes(8) + b"\xc0"]


def test_what_has_been_settled_before_its_ttl_takes_no_memory() -> None:
    box = outbox()
    for _ in range(20):
        put(box, *[planned(b"x", ttl=1e6)] * 100)
        for piece in pick(box):
            box.ack(piece)
    assert len(box.expiring) <= 2 * 100 + EXPIRING_KEPT


def test_what_has_expired_takes_no_memory_behind_what_nobody_takes() -> None:
    box = outbox()
    put(box, b"nobody takes this")
    for second in range(20):
        put(box, *[planned(b"x", ttl=0.5)] * 100, now=second)
        box.wake_delayed(second + 0.5)
    assert box.expired == 2_000
    assert len(box.lines[NORMAL].fresh) <= 100 + line.COMPACT
    assert bodies(pick(box)) == [b"nobody takes this"]


def test_a_dead_letter_that_is_tried_again_has_its_lane_and_its_key_but_not_its_times() -> None:
    box, letters = outbox(), new_dead_outbox("jobs.dead")
    plan = Plan(HIGH, "k", 5.0, 1.0)
    put(box, planned_for(pack("x", [None, None, *plan.extra]), plan))
    box.wake_delayed(1.0)
    [piece] = pick(box, lane=HIGH)
    box.drop(piece, "rejected")
    bury(letters, piece, "jobs", "no such order", 2.0, 0.0)
    put(box, planned(b"first", key="k"))
    [letter] = letters.waiting_again()
    revive(box, letter, 100.0)
    [first] = pick(box)
    assert pick(box, lane=HIGH) == [], "its key is taken"
    box.ack(first)
    [again] = pick(box, lane=HIGH)
    assert unpack(again.items(200.0)[0], 1, extended=True) == [["x", [None, None, "k", 1, None, None]]]
    box.ack(again)
    assert (box.held, len(box.keys), box.row().balanced) == (0, 0, True)


STEPS = ("send", "send", "pick", "pick", "ack", "retry", "delay", "unpick", "drop", "time")


@given(st.integers(0, 10_000))
@settings(deadline=None)
def test_whatever_happens_every_message_is_in_one_place_and_every_key_is_on_its_way_once(seed: int) -> None:
    chance, box = random.Random(seed), outbox(window=30)
    flights: list[list[Piece]] = []
    now = 0.0
    for _ in range(120):
        step = chance.choice(STEPS)
        if step == "send":
            delay = chance.choice((0.0, 2.0))
            plan = {
                "lane": chance.choice((NORMAL, HIGH, LOW)),
                "key": chance.choice((None, "a", "b")),
                "ttl": chance.choice((None, delay + 1.0, delay + 4.0)),
                "delay": delay,
            }
            put(box, planned(b"x", **plan) if chance.random() < 0.8 else b"plain", now=now)
        elif step == "time":
            now += chance.choice((0.0, 0.5, 3.0))
        elif step == "pick":
            box.wake_delayed(now)
            picked = pick(box, lane=chance.choice((NORMAL, HIGH, LOW)), most=chance.randint(1, 4))
            for piece in picked:
                assert piece.chunk.expires is None or now < piece.chunk.expires
                assert piece.chunk.plan is None or now >= piece.chunk.taken_at + piece.chunk.plan.delay
            if picked and chance.random() < 0.2:
                box.unpick(picked)
            elif picked:
                flights.append(picked)
        elif flights:
            pieces = flights.pop(chance.randrange(len(flights)))
            if step in ("ack", "drop"):
                for piece in pieces:
                    box.ack(piece) if step == "ack" else box.drop(piece, "rejected")
            elif step == "unpick":
                box.retry([piece.slice(piece.start, piece.stop) for piece in pieces])
            else:
                box.retry(pieces, due=now + chance.randint(1, 3) if step == "delay" else None)
        row = box.row()
        assert row.balanced
        waiting, away = list(box.pieces()), [piece for pieces in flights for piece in pieces]
        assert row.waiting == sum(piece.count for piece in waiting)
        assert row.in_flight == sum(piece.count for piece in away)
        assert box.ready == sum(line.ready for line in box.lines)
        assert box.held_bytes == sum(piece.size for piece in [*waiting, *away])
        assert box.mortal == sum(piece.chunk.expires is not None for piece in [*waiting, *away])
        keys = [piece.chunk.plan.key for piece in away if piece.chunk.plan and piece.chunk.plan.key]
        assert len(keys) == len(set(keys))
    now += 100
    for _ in range(200):
        box.wake_delayed(now)
        flights.extend([pick(box, lane=lane) for lane in (NORMAL, HIGH, LOW)])
        for pieces in flights:
            for piece in pieces:
                box.ack(piece)
        flights.clear()
    assert (box.held, box.keyed, box.delayed, box.mortal, len(box.keys)) == (0, 0, 0, 0, 0)
    assert box.settled_through(box.taken)
