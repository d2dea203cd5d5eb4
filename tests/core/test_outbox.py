"""The outbox: every message is in one place, windows hold, what is picked goes in order and comes back whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zq.core.outbox import Outbox, Piece
from zq.core.topics import Origin
from zq.wire.data import Packed
from zq.wire.limits import BATCH_BYTES


def outbox(*, window: int = 1_000, window_bytes: int = 1 << 20) -> Outbox:
    return Outbox(queue="jobs", window=window, window_bytes=window_bytes)


def put(box: Outbox, *items: bytes | Packed) -> int:
    box.outgoing.items.extend(items)
    return box.take(Origin(bytes(16)), 0.0, 0.0)


def positions(pieces: list[Piece]) -> list[int]:
    return [piece.position + offset for piece in pieces for offset in range(piece.count)]


def bodies(pieces: list[Piece]) -> list[bytes]:
    return [item for piece in pieces for item in piece.chunk.items[piece.start : piece.stop]]


def test_the_window_bounds_what_is_held_and_opens_as_it_is_settled() -> None:
    box = outbox(window=3)
    assert box.outgoing.limit == 3
    assert put(box, *[b"x"] * 5) == 3
    assert box.outgoing.limit == 0
    assert len(box.outgoing.items) == 2, "what has no room waits with the callers"
    [piece] = box.pick(2, 100)
    box.ack(piece)
    assert box.outgoing.limit == 2
    assert put(box) == 2


def test_the_window_in_bytes_lets_one_large_message_pass() -> None:
    box = outbox(window_bytes=10)
    assert put(box, b"x" * 50) == 1
    assert put(box, b"y") == 0
    assert box.outgoing.limit == 0
    box.ack(box.pick(1, 100)[0])
    assert box.held_bytes == 0
    assert put(box) == 1


def test_a_closed_pile_stays_closed() -> None:
    box = outbox()
    put(box, b"x")
    box.outgoing.limit = -1
    box.ack(box.pick(1, 100)[0])
    put(box)
    assert box.outgoing.limit == -1


def test_a_frame_takes_what_fits_and_at_least_one() -> None:
    box = outbox()
    put(box, *[b"12345678"] * 10)
    assert positions(box.pick(4, 1_000)) == [1, 2, 3, 4]
    assert positions(box.pick(100, 20)) == [5, 6]
    assert positions(box.pick(100, 1)) == [7]
    put(box, b"x" * (BATCH_BYTES + 1))
    assert positions(box.pick(100, 1 << 30)) == [8, 9, 10]
    assert positions(box.pick(100, 1 << 30)) == [11]


def test_a_message_with_parts_has_a_frame_to_itself() -> None:
    box = outbox()
    put(box, b"a", Packed(b"b", (b"part",)), b"c", b"d")
    assert [bodies(box.pick(100, 1_000)) for _ in range(3)] == [[b"a"], [b"b"], [b"c", b"d"]]


def test_redelivered_messages_go_first_and_do_not_share_a_frame_with_others() -> None:
    box = outbox()
    put(box, *[b"x"] * 6)
    first = box.pick(2, 100)
    second = box.pick(2, 100)
    box.retry(second)
    box.retry(first)
    picked = box.pick(100, 100)
    assert positions(picked) == [1, 2, 3, 4]
    assert all(piece.redelivered for piece in picked)
    assert positions(box.pick(100, 100)) == [5, 6]
    assert box.redelivered == 4


def test_attempts_do_not_share_a_frame_and_what_goes_alone_goes_alone() -> None:
    box = outbox()
    put(box, *[b"x"] * 3)
    pieces = [box.pick(1, 100)[0] for _ in range(3)]
    pieces[0].attempt = 2
    pieces[1].alone = True
    box.retry(pieces)
    assert [positions(box.pick(100, 100)) for _ in range(3)] == [[1], [2], [3]]


def test_delayed_messages_wait_for_their_time() -> None:
    box = outbox()
    put(box, *[b"x"] * 3)
    box.retry(box.pick(2, 100), due=5.0)
    assert (box.waiting, box.delayed, box.ready) == (3, 2, 1)
    assert positions(box.pick(100, 100)) == [3]
    assert box.first() is None
    assert box.wake_delayed(4.9) == 5.0
    assert box.first() is None
    assert box.wake_delayed(5.0) is None
    assert positions(box.pick(100, 100)) == [1, 2]
    assert (box.waiting, box.delayed) == (0, 0)


def test_what_could_not_be_sent_is_where_it_was() -> None:
    box = outbox()
    put(box, b"a", b"b", b"c")
    put(box, b"d")
    picked = box.pick(2, 100)
    box.unpick(picked)
    assert (box.waiting, box.in_flight) == (4, 0)
    assert bodies(box.pick(100, 100)) == [b"a", b"b", b"c", b"d"]
    again = box.pick(1, 1)
    assert again == []


def test_settled_positions_and_ids() -> None:
    box = outbox()
    put(box, *[b"x"] * 4)
    first, second = box.pick(1, 100), box.pick(1, 100)
    assert [id.rpartition("-")[2] for id in box.unsettled_ids(iter([*first, *second]))] == ["1", "2", "3", "4"]
    box.ack(second[0])
    assert not box.settled_through(1)
    box.drop(first[0], "rejected")
    assert box.settled_through(2)
    assert not box.settled_through(3)
    assert box.row().dropped == {"rejected": 1}


@given(st.integers(0, 10_000), st.integers(1, 20), st.sampled_from([5, 40, 1 << 20]))
@settings(deadline=None)
def test_every_message_is_in_one_place_at_every_step(seed: int, window: int, window_bytes: int) -> None:
    chance, box = random.Random(seed), outbox(window=window, window_bytes=window_bytes)
    flights: list[list[Piece]] = []
    sent, settled, now = 0, 0, 0.0
    for _ in range(60):
        now += 1.0
        step = chance.choice(["send", "pick", "pick", "ack", "retry", "delay", "unpick", "drop"])
        if step == "send":
            count = chance.randint(1, 4)
            box.outgoing.items.extend([b"%04d" % (sent + number) for number in range(1, count + 1)])
            sent += count
            put(box)
        elif step == "pick":
            box.wake_delayed(now)
            picked = box.pick(chance.randint(1, 5), chance.randint(1, 30))
            if picked and chance.random() < 0.2:
                box.unpick(picked)
            elif picked:
                assert bodies(picked) == [b"%04d" % position for position in positions(picked)]
                flights.append(picked)
        elif flights:
            pieces = flights.pop(chance.randrange(len(flights)))
            if step == "ack" or step == "drop":
                for piece in pieces:
                    box.ack(piece) if step == "ack" else box.drop(piece, "rejected")
                    settled += piece.count
            else:
                box.retry(pieces, due=now + chance.randint(1, 9) if step == "delay" else None)
        row = box.row()
        assert row.balanced
        assert row.in_flight == sum(piece.count for pieces in flights for piece in pieces)
        waiting = list(box.pieces())
        assert row.waiting == sum(piece.count for piece in waiting)
        held = waiting + [piece for pieces in flights for piece in pieces]
        assert sorted(positions(held)) == [n for n in range(1, box.taken + 1) if n not in box.done]
        assert box.held_bytes == 4 * row.waiting + 4 * row.in_flight
        assert row.waiting + row.in_flight <= window
        assert box.taken + len(box.outgoing.items) == sent


@pytest.mark.parametrize("reason", ["rejected", "dead"])
def test_dropped_messages_are_counted_by_reason(reason: str) -> None:
    box = outbox()
    put(box, b"a", b"b")
    for piece in box.pick(2, 100):
        box.drop(piece, reason)
    assert box.row().dropped == {reason: 2}
    assert box.row().balanced
