"""A realm's ledgers added up: a message in several ledgers is one message; what is gone is unknown, not lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from zq.core.account import add_up
from zq.info import Departed, Gap, HeldQueue, Ledger, Missing, PulledQueue, QueueAccount, Span, SubscribedTopic

A, B, C, GONE = (name * 16 for name in (b"a", b"b", b"c", b"g"))
MINE = Ledger(peer=C, name="c")


def held(peer: bytes, *, in_flight: tuple[Span, ...] = (), waiting: tuple[Span, ...] = (), **counts: int) -> Ledger:
    flying, still = sum(span.count for span in in_flight), sum(span.count for span in waiting)
    acked = counts.pop("acked", 0)
    row = HeldQueue(
        queue="jobs",
        taken=flying + still + acked + sum(counts.values()),
        waiting=still,
        in_flight=flying,
        acked=acked,
        dropped=counts,
        spans=(*in_flight, *waiting),
        lost=tuple(Span(origin=peer, first=900, last=899 + count, state=why) for why, count in counts.items()),
    )
    return Ledger(peer=peer, name=chr(peer[0]), held=(row,))


def pulled(peer: bytes, *spans: Span, departed: tuple[Departed, ...] = ()) -> Ledger:
    count = sum(span.count for span in spans)
    row = PulledQueue(
        queue="jobs",
        received=count,
        queued=count,
        handed_out=0,
        acked=0,
        nacked=0,
        rejected=0,
        returned=0,
        spans=spans,
    )
    return Ledger(peer=peer, name=chr(peer[0]), pulled=(row,), departed=departed)


def flight(origin: bytes, first: int, last: int, to: bytes) -> Span:
    return Span(origin=origin, first=first, last=last, state="in flight", peer=to)


def queued(origin: bytes, first: int, last: int) -> Span:
    return Span(origin=origin, first=first, last=last, state="queued", peer=origin)


def test_a_message_in_two_ledgers_is_one_message() -> None:
    account = add_up(
        MINE, [held(A, in_flight=(flight(A, 1, 10, B),), acked=5), pulled(B, queued(A, 1, 10))], unanswered=[]
    )
    assert account.queues == (
        QueueAccount(queue="jobs", taken=15, acked=5, dropped={}, waiting=0, in_flight=10, orphaned=0, holders=("a",)),
    )
    assert account.missing == ()
    assert [other.name for other in account.others] == ["a", "b"]


def test_what_its_pusher_has_seen_settled_meanwhile_is_no_orphan() -> None:
    account = add_up(MINE, [held(A, acked=10), pulled(B, queued(A, 1, 10))], unanswered=[])
    assert account.queues[0].orphaned == 0


def test_what_only_pullers_have_of_a_pusher_that_is_gone_is_counted_once_and_named() -> None:
    departed = Departed(peer=GONE, name="gone", ago=3.0, goodbye=False, held={"jobs": 12})
    account = add_up(
        MINE,
        [pulled(A, queued(GONE, 1, 3), departed=(departed,)), pulled(B, queued(GONE, 3, 5), departed=(departed,))],
        unanswered=[],
    )
    assert (account.queues[0].orphaned, account.queues[0].holders) == (5, ("a", "b"))
    (missing,) = account.missing
    assert (missing.queue, missing.origin, missing.first, missing.last) == ("jobs", GONE, 6, None)
    assert (missing.count, missing.why, missing.holder) == (7, "unknown", "gone")
    assert account.unknown == ()


def test_who_has_not_answered_is_unknown_with_what_it_held_last() -> None:
    silent = Departed(peer=A, name="a", ago=0.0, goodbye=False, held={"jobs": 4})
    account = add_up(MINE, [pulled(B, queued(A, 7, 8), queued(A, 11, 11))], unanswered=[silent])
    assert account.unknown == ("a",)
    assert account.queues[0].orphaned == 3
    assert [(row.count, row.first, row.why) for row in account.missing] == [(1, 9, "unknown")]


def test_a_peer_that_is_here_again_or_left_in_order_is_not_missed() -> None:
    back = Departed(peer=B, name="b", ago=9.0, goodbye=False, held={"jobs": 4})
    orderly = Departed(peer=GONE, name="gone", ago=9.0, goodbye=True)
    account = add_up(Ledger(peer=C, name="c", departed=(back, orderly)), [Ledger(peer=B, name="b")], unanswered=[])
    assert account.missing == ()


def test_the_last_words_are_those_of_whoever_saw_it_last() -> None:
    early = Departed(peer=GONE, name="gone", ago=100.0, goodbye=False, held={"jobs": 9})
    late = Departed(peer=GONE, name="gone", ago=2.0, goodbye=False, held={"jobs": 1})
    account = add_up(
        Ledger(peer=C, name="c", departed=(early,)), [Ledger(peer=A, name="a", departed=(late,))], unanswered=[]
    )
    assert [row.count for row in account.missing] == [1]


def test_what_was_dropped_is_named_with_its_reason() -> None:
    account = add_up(MINE, [held(A, rejected=2)], unanswered=[])
    assert account.queues[0].dropped == {"rejected": 2}
    assert account.missing == (
        Missing(
            queue="jobs",
            topic=None,
            origin=A,
            first=900,
            last=901,
            count=2,
            why="rejected",
            at="a",
            holder="a",
        ),
    )


def test_what_a_queue_was_bound_too_late_for_is_named_with_its_topic() -> None:
    gap = Gap(publisher=A, topic="orders/new", first=3, last=7)
    ledger = held(A)
    ledger = replace(ledger, held=tuple(replace(row, gaps=(gap,)) for row in ledger.held))
    (missing,) = add_up(MINE, [ledger], unanswered=[]).missing
    assert (missing.queue, missing.topic, missing.first, missing.last, missing.count) == ("jobs", "orders/new", 3, 7, 5)
    assert (missing.why, missing.origin, missing.at) == ("left the ring", A, "a")


def test_a_gap_is_named_once_a_peer_with_its_publisher() -> None:
    def row(number: int, *gaps: Gap) -> SubscribedTopic:
        return SubscribedTopic(
            topic="news",
            publisher=A,
            expected=0,
            delivered=0,
            queued=0,
            repairing=0,
            dropped=0,
            gap=0,
            subscription=number,
            gaps=gaps,
        )

    hole, longer = (Gap(publisher=A, topic="news", first=3, last=last) for last in (4, 6))
    end = Gap(publisher=GONE, topic="news", first=9, last=None)
    reader = Ledger(peer=B, name="b", subscribed=(row(1, hole, end), row(2, longer, end)))
    account = add_up(MINE, [reader, Ledger(peer=A, name="a")], unanswered=[])
    assert [(row.first, row.last, row.count, row.why, row.holder) for row in account.missing] == [
        (3, 4, 2, "gap", "a"),
        (9, None, None, "unknown", GONE.hex()[:8]),
        (5, 6, 2, "gap", "a"),
    ]


def test_two_hundred_peers_with_a_thousand_queues_are_added_up_in_one_pass() -> None:
    """Row by row and not queue by queue: the looks at rows are counted, as time depends on the machine."""
    looks = 0

    class Rows(tuple[Any, ...]):
        __slots__ = ()

        def __iter__(self) -> Iterator[Any]:
            nonlocal looks
            looks += 1
            return super().__iter__()

    def ledger(number: int) -> Ledger:
        peer = number.to_bytes(16, "big")
        rows = Rows(
            HeldQueue(queue=f"q/{queue}", taken=3, waiting=1, in_flight=0, acked=2)
            for queue in range(number * 5, number * 5 + 20)
        )
        return Ledger(peer=peer, name=f"p{number}", held=rows)

    account = add_up(MINE, [ledger(number) for number in range(200)], unanswered=[])
    assert len(account.queues) == 1_015
    assert sum(queue.taken for queue in account.queues) == 200 * 20 * 3
    assert looks <= 2 * 200


def test_what_has_expired_is_counted_and_named() -> None:
    span = Span(origin=A, first=4, last=5, state="expired")
    row = HeldQueue(queue="jobs", taken=5, waiting=0, in_flight=0, acked=3, expired=2, lost=(span,))
    account = add_up(MINE, [Ledger(peer=A, name="a", held=(row,))], unanswered=[])
    [queue], [missing] = account.queues, account.missing
    assert (queue.taken, queue.acked, queue.expired) == (5, 3, 2)
    assert (missing.queue, missing.origin, missing.first, missing.last, missing.why) == ("jobs", A, 4, 5, "expired")
