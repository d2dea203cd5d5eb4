"""The sending end of a link: what is settled is settled once, and what a new connection resends is what it must."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from zq.core.link import STRIDE, SendingLink
from zq.core.outbox import Outbox
from zq.core.topics import Origin

FLIGHTS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=6)
RECEIPTS = st.lists(st.tuples(st.integers(-1, 30), st.integers(0, 12)), max_size=12)


def link_with(flights: list[list[int]]) -> SendingLink:
    """A link on which flights of pieces of these sizes have left; number n carries position n."""
    box = Outbox(queue="jobs", window=1_000, window_bytes=1 << 20)
    link = SendingLink(id=bytes(16), outbox=box, peer=b"peer", puller=b"puller", session=0)
    for sizes in flights:
        pieces = []
        for size in sizes:
            box.outgoing.items.extend([b"x"] * size)
            box.take(Origin(bytes(16)), 0.0, 0.0)
            pieces.extend(box.pick(size, 1_000))
        link.depart(pieces)
    return link


@given(FLIGHTS, RECEIPTS)
@settings(deadline=None)
def test_each_number_is_settled_once_and_is_the_message_it_was(
    flights: list[list[int]], receipts: list[tuple[int, int]]
) -> None:
    link = link_with(flights)
    sent = link.next - 1
    unsettled = set(range(1, sent + 1))
    for first, length in receipts:
        pieces = link.settle(first, first + length)
        news = [piece.position + offset for piece in pieces for offset in range(piece.count)]
        expected = unsettled & set(range(first, first + length + 1)) if first >= 1 else set()
        assert sorted(news) == sorted(expected)
        unsettled -= expected
        assert link.floor == min(unsettled, default=sent + 1)
        assert [number for number, piece in link.unsettled() if piece.position == number] == sorted(unsettled)
        flying = [piece.position + offset for piece in link.in_flight() for offset in range(piece.count)]
        assert sorted(flying) == sorted(unsettled)
        assert link.firsts == sorted(link.flights)
        for flight in link.flights.values():
            assert flight.open == len(unsettled & set(range(flight.first, flight.last + 1))) > 0


@given(FLIGHTS, st.integers(1, 40), st.integers(1, 30), st.integers(1, 30))
@settings(deadline=None)
def test_any_part_of_a_flight_can_be_cut_out(flights: list[list[int]], index: int, first: int, last: int) -> None:
    link = link_with(flights)
    flight = list(link.flights.values())[index % len(link.flights)]
    cut = [piece.position + offset for piece in flight.slices(first, last) for offset in range(piece.count)]
    assert cut == [n for n in range(flight.first, flight.last + 1) if first <= n <= last]


def test_only_what_an_older_connection_carried_and_was_not_expected_goes_again() -> None:
    link = link_with([[2], [2], [2]])
    old, half, new = link.flights.values()
    old.generation = half.generation = 1
    new.generation = 2
    link.expected = 3
    assert link.to_send_again(2) == [half]
    link.expected = 1
    assert link.to_send_again(2) == [old, half]
    assert link.to_send_again(1) == []


def test_credit_counts_what_was_sent_and_returned_and_one_large_message_passes_alone() -> None:
    link = link_with([[3]])
    link.limit, link.limit_bytes = 8, 5
    assert link.free == 5
    link.returned = 2
    assert link.free == 3
    assert link.may_send(2)
    assert not link.may_send(3)
    link.settle(1, 3)
    assert link.may_send(1_000)
    link.returned = 5
    assert not link.may_send(1)


def test_the_puller_has_heard_when_it_knows_what_was_sent_and_returned() -> None:
    link = link_with([[3]])
    link.returned = 2
    link.heard = 4
    assert not link.is_heard
    link.heard = 5
    assert link.is_heard


def test_runs_are_as_long_as_a_puller_is_fast_not_as_it_settles_at_once() -> None:
    link = link_with([])
    assert link.stride == 1
    link.paced(300, now=10.0)  # after ten seconds, all of a sudden
    assert link.stride == STRIDE
    link.paced(300, now=10.003)
    assert 499 <= link.stride <= 500, "what it settles in 5 ms"
    link.paced(10, now=10.004)
    assert link.stride == 20
