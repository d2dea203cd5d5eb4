"""Dead letters: what ends there, what is kept, and how it becomes a message again. And messages that kill."""

from __future__ import annotations

import pytest

from tests.core.test_pushing import QUEUE, Pullers
from zq.core import dead
from zq.core.dead import dead_queue_of
from zq.core.inquiry import Answers
from zq.core.outbox import Outbox
from zq.wire.batch import EXTRA
from zq.wire.dead import QUEUE as DEAD_QUEUE
from zq.wire.dead import REASON, history_of, split
from zq.wire.frames import ACKED, NACKED, PURGE, REJECTED, RETRY, RETURNED, Inquire
from zq.wire.limits import NAME
from zq.wire.names import check_name


@pytest.fixture
def pullers() -> Pullers:
    return Pullers()


def letters_of(pullers: Pullers) -> Outbox:
    letters = pullers.pushing.find("jobs.dead")
    assert letters is not None
    return letters


def told(pullers: Pullers) -> list[dict[str, str]]:
    """The headers of every dead letter, oldest first."""
    flats = [split(dead.item_of(piece))[1][1] for piece in pullers.pushing.held(letters_of(pullers))]
    return [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in flats]


def fail(pullers: Pullers, peer: bytes, number: int, outcome: int, reason: str = "") -> None:
    """Message `number` of that link has failed; there is credit for one more."""
    pullers.state(peer, limit=number + 1, expected=number + 1, refused=[[number, outcome, 0.0, reason]], heard=number)


def test_a_rejected_message_is_dead_with_its_reason(pullers: Pullers) -> None:
    peer = pullers.arrive("a")
    pullers.state(peer, limit=1)
    pullers.send(b"\1")
    fail(pullers, peer, 1, REJECTED, "no such order")
    assert pullers.outbox.row().dropped == {"rejected": 1}
    [headers] = told(pullers)
    assert (headers[DEAD_QUEUE], headers[REASON]) == (QUEUE, "no such order")
    [failure] = history_of(headers)
    assert (failure.attempt, failure.outcome, failure.puller) == (1, "rejected", peer)
    assert letters_of(pullers).row().balanced


def test_a_message_is_dead_when_the_last_of_its_attempts_has_failed(pullers: Pullers) -> None:
    pullers.outbox.max_attempts = 3
    peer = pullers.arrive("a")
    pullers.state(peer, limit=1)
    pullers.send(b"\1")
    for number in (1, 2, 3):
        assert pullers.sent_to(peer) == [(b"\1", number)]
        fail(pullers, peer, number, NACKED, f"reason {number}")
    assert pullers.sent_to(peer) == []
    row = pullers.outbox.row()
    assert (row.dropped, row.waiting, row.in_flight) == ({"dead": 1}, 0, 0)
    [headers] = told(pullers)
    assert [failure.reason for failure in history_of(headers)] == ["reason 1", "reason 2", "reason 3"]
    assert headers[REASON] == "3 attempts failed; the last: nacked, reason 3"


def test_what_is_given_back_uses_up_no_attempt(pullers: Pullers) -> None:
    pullers.outbox.max_attempts = 1
    peer = pullers.arrive("a")
    pullers.state(peer, limit=1)
    pullers.send(b"\1")
    for number in range(1, 9):
        pullers.state(peer, limit=number + 1, expected=number + 1, settled=[[number, number, RETURNED]], heard=number)
    assert pullers.pushing.find("jobs.dead") is None
    assert pullers.outbox.held == 1


def test_a_message_whose_pullers_are_lost_is_dead_as_well(pullers: Pullers) -> None:
    pullers.outbox.max_attempts = 2
    pullers.send(b"\1", b"\2")
    for name in ("a", "b"):
        peer = pullers.arrive(name)
        pullers.state(peer, limit=2)
        pullers.state(peer, limit=2, expected=2, handed=1, heard=2)
        pullers.pushing.on_gone(peer, 1.0, crashed=True)
    assert pullers.outbox.row().dropped == {"dead": 1}
    [headers] = told(pullers)
    assert [failure.outcome for failure in history_of(headers)] == ["lost", "lost"]


def lose(pullers: Pullers, name: str, *, credit: int) -> list[bytes]:
    """A puller gets what it has credit for, and is lost before it says anything; returns what it had."""
    peer = pullers.arrive(name)
    pullers.state(peer, limit=credit)
    had = [body for body, _ in pullers.sent_to(peer)]
    pullers.pushing.on_gone(peer, 1.0, crashed=True)
    return had


@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_message_that_kills_before_anybody_hears_that_it_came_ends_all_the_same(pullers: Pullers, place: int) -> None:
    """Its pusher sees pullers that take eight messages and are gone; each does those before the poison, unheard."""
    items = [bytes([number]) for number in range(8)]
    poison = items[place]
    pullers.send(*items)
    lost = 0
    while pullers.outbox.held and lost < 50:
        peer = pullers.arrive(f"worker {lost}")
        pullers.state(peer, limit=100)
        number = 1
        while True:
            batch = next(iter(pullers.sent_to(peer)), None)
            if batch is None or poison in batch[0]:
                break
            last = number + len(batch[0]) - 1
            pullers.state(peer, limit=100, expected=last + 1, settled=[[number, last, ACKED]], heard=last)
            number = last + 1
        if batch is not None:
            pullers.pushing.on_gone(peer, 1.0, crashed=True)
            lost += 1
        else:
            break
    assert pullers.outbox.row().dropped == {"dead": 1}
    assert pullers.outbox.row().acked == 7
    assert lost <= pullers.outbox.max_attempts + 2


def test_pullers_lost_with_messages_that_may_never_have_come_charge_nobody_the_first_time(pullers: Pullers) -> None:
    pullers.send(b"\1", b"\2")
    assert lose(pullers, "a", credit=9) == [b"\1\2"]
    peer = pullers.arrive("b")
    pullers.state(peer, limit=9)
    assert pullers.sent_to(peer) == [(b"\1\2", 1)]


def test_the_second_time_all_of_them_go_alone_and_the_first_is_charged(pullers: Pullers) -> None:
    pullers.send(b"\1", b"\2")
    lose(pullers, "a", credit=9)
    lose(pullers, "b", credit=9)
    peer = pullers.arrive("c")
    pullers.state(peer, limit=9)
    assert pullers.sent_to(peer) == [(b"\1", 2)]
    pullers.state(peer, limit=9, expected=2, settled=[[1, 1, ACKED]], heard=1)
    assert pullers.sent_to(peer) == [(b"\2", 1)]


def bury(pullers: Pullers, *items: bytes) -> None:
    pullers.outbox.window_bytes = 1 << 40
    peer = pullers.arrive("burier")
    pullers.send(*items)
    count = len(items)
    pullers.state(peer, limit=count, limit_bytes=1 << 40)
    rows = [[number, REJECTED, 0.0, f"reason {number}"] for number in range(1, count + 1)]
    pullers.state(peer, limit=count, expected=count + 1, refused=rows, heard=count)
    pullers.pushing.on_gone(peer, 0.0, crashed=False)
    pullers.sent_to(peer)


def test_only_the_newest_are_kept_and_the_others_are_counted(pullers: Pullers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "KEPT", 3)
    bury(pullers, b"\1", b"\2", b"\3", b"\4", b"\5")
    assert [headers[REASON] for headers in told(pullers)] == ["reason 3", "reason 4", "reason 5"]
    row = letters_of(pullers).row()
    assert (row.taken, row.waiting, row.dropped) == (5, 3, {"forgotten": 2})
    assert row.balanced


def test_bytes_count_too_but_the_newest_is_always_kept(pullers: Pullers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead, "KEPT_BYTES", 1_000)
    bury(pullers, b"\1", b"\xc4\xff" + bytes(255), b"\xc5\x08\x00" + bytes(2_048))
    assert [headers[REASON] for headers in told(pullers)] == ["reason 3"]


def test_a_dead_letter_does_not_keep_the_messages_alive_that_came_with_it(pullers: Pullers) -> None:
    bury(pullers, b"\1", b"\2")
    assert [len(piece.chunk.items) for piece in pullers.pushing.held(letters_of(pullers))] == [1, 1]


def test_a_puller_of_the_dead_gets_them_like_any_other_messages(pullers: Pullers) -> None:
    bury(pullers, b"\1", b"\2")
    peer = pullers.arrive("reader", "jobs.dead")
    pullers.state(peer, queue="jobs.dead", limit=5)
    headers = [header for _, header, _ in pullers.batches]
    batches = [batch for _, _, batch in pullers.batches]
    assert all(header.flags & EXTRA for header in headers)
    assert [batch.identify(index) for batch in batches for index in range(batch.count)] == [
        f"{(b'm' * 16).hex()}-{number}" for number in (1, 2)
    ]
    pullers.state(peer, queue="jobs.dead", limit=5, expected=3, settled=[[1, 2, ACKED]], heard=2)
    assert letters_of(pullers).row().acked == 2


def test_a_dead_letter_becomes_a_message_again_with_its_old_id_and_no_attempt_behind_it(pullers: Pullers) -> None:
    bury(pullers, b"\1")
    [piece] = letters_of(pullers).waiting_again()
    letters_of(pullers).discard(piece, "retried")
    dead.revive(pullers.outbox, piece, 0.0)
    peer = pullers.arrive("a")
    pullers.state(peer, limit=5)
    [(_, header, batch)] = pullers.batches
    assert (bytes(batch.body), header.attempt, header.flags & EXTRA) == (b"\1", 1, 0)
    assert batch.identify(0) == f"{(b'm' * 16).hex()}-1"
    assert batch.redelivered
    row = pullers.outbox.row()
    assert (row.taken, row.in_flight, row.dropped) == (2, 1, {"rejected": 1})
    assert row.balanced


@pytest.mark.parametrize("length", [1, 250, 251, 255])
def test_the_dead_of_a_queue_with_a_long_name_have_a_name_as_well(length: int) -> None:
    name = dead_queue_of("q" * length)
    check_name(name, "queue")
    assert name.endswith(".dead")
    assert len(name) == min(length + 5, NAME)


def test_what_is_rejected_among_the_dead_is_gone(pullers: Pullers) -> None:
    bury(pullers, b"\1")
    peer = pullers.arrive("reader", "jobs.dead")
    pullers.state(peer, queue="jobs.dead", limit=5)
    pullers.state(peer, queue="jobs.dead", limit=5, expected=2, refused=[[1, REJECTED, 0.0, "useless"]], heard=1)
    assert letters_of(pullers).row().dropped == {"rejected": 1}
    assert pullers.pushing.find("jobs.dead.dead") is None


def test_a_dead_letter_that_is_retried_is_lost_no_more_and_one_that_is_purged_stays_so(pullers: Pullers) -> None:
    peer = pullers.arrive("a")
    pullers.state(peer, limit=3)
    pullers.send(b"\1", b"\2", b"\3")
    for number in (1, 2, 3):
        fail(pullers, peer, number, REJECTED)

    def lost(outbox: Outbox) -> list[tuple[int, int, str]]:
        return [(span.first, span.last, span.state) for span in outbox.row().lost]

    assert lost(pullers.outbox) == [(1, 3, "rejected")]
    answers = Answers(pullers.pushing, lambda queue, now: pytest.fail(f"{queue} was never bound"))
    ids = [dead.identify(piece) for piece in letters_of(pullers).waiting_again()]
    assert answers.answer(peer, Inquire(1, RETRY, QUEUE, [ids[1]], "", 0), 1.0).count == 1
    assert answers.answer(peer, Inquire(2, PURGE, QUEUE, [ids[2]], "", 0), 1.0).count == 1
    assert lost(pullers.outbox) == [(1, 1, "rejected"), (3, 3, "rejected")]
    assert lost(letters_of(pullers)) == [(3, 3, "purged")]
    [again] = [span for row in pullers.pushing.ledger() if row.queue == QUEUE for span in row.spans]
    assert (again.first, again.last) == (2, 2), "it is held again, under the number that it had"
    fail(pullers, peer, 4, REJECTED)
    assert lost(pullers.outbox) == [(1, 1, "rejected"), (3, 3, "rejected"), (2, 2, "rejected")]
    assert all(row.balanced for row in pullers.pushing.ledger())
