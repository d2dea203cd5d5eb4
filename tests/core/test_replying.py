"""The answering side of requests: handed out at most once, answered at most once, and nobody left waiting."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from zq.core import replying
from zq.core.replier import Asked, Replier, RequestInbox
from zq.core.replying import STALLED, Replying
from zq.core.seen import Seen
from zq.core.timers import Timers
from zq.core.topics import Origin
from zq.wire.frames import Inquiry, Missing
from zq.wire.limits import BATCH_BYTES
from zq.wire.requests import (
    CLOSED,
    FAILED,
    OVERLOADED,
    REPLIED,
    TURNED_AWAY,
    UNANSWERED,
    ReplyFrame,
    decode_reply,
    decode_request,
    encode_request,
)

ME, A, B, REPLIER = b"m" * 16, b"a" * 16, b"b" * 16, b"r" * 16


class Answering:
    """A replying side whose frames are caught, with one replier."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.sent: list[ReplyFrame] = []
        self.deaf = False
        self.woken = 0
        self.missing: list[tuple[bytes, list[int], list[int]]] = []  # to whom, unseen, answered
        self.generation = 1
        self.replying = Replying(Origin(ME), self.timers, self._send, self._say, lambda peer: self.generation)
        self.inbox = RequestInbox(self._wake)
        self.replier: Replier = self.replying.open(REPLIER, "sum", self.inbox)

    def _wake(self) -> None:
        self.woken += 1

    def _send(self, peer: bytes, parts: Any) -> bool:
        if self.deaf:
            return False
        self.sent.append(decode_reply(parts))
        return True

    def _say(self, peer: bytes, missing: Missing) -> None:
        self.missing.append((peer, missing.unseen, missing.answered))

    def ask(self, number: int, *, sender: bytes = A, floor: int = 0, replier: bytes = REPLIER, **rest: Any) -> None:
        item = b"x" * rest.pop("size", 1)
        parts = encode_request(
            ME, sender, replier, number=number, floor=floor, patience=rest.get("patience", 5.0), time=1.0, item=item
        )
        self.replying.on_request(sender, decode_request(parts), rest.get("now", 0.0))

    def take(self) -> Asked:
        return self.inbox.arrived.popleft()

    def serve(self) -> None:
        self.replying.serve(self.replier, 0.0)

    def told(self) -> list[tuple[bytes, int, int, str]]:
        """Whom, which request, the outcome, and the failure's type."""
        return [
            (frame.addressee, frame.request, frame.outcome, "" if frame.outcome == REPLIED else frame.failure()[0])
            for frame in self.sent
        ]

    def row(self) -> Any:
        (row,) = self.replying.ledger()
        assert row.balanced
        return row


@pytest.fixture
def answering() -> Answering:
    return Answering()


def test_a_request_is_handed_out_and_answered_once(answering: Answering) -> None:
    answering.ask(7, now=1.0)
    assert (answering.woken, answering.inbox.queued, answering.row().held) == (1, 1, 1)
    asked = answering.take()
    assert (asked.frame.service, asked.expires) == ("sum", 6.0)
    asked.answer(REPLIED, b"\x02")
    asked.answer(REPLIED, b"\x03")
    answering.serve()
    assert answering.told() == [(A, 7, REPLIED, "")]
    assert bytes(answering.sent[0].body) == b"\x02"
    assert (answering.row().held, answering.row().replied, answering.replier.twice) == (0, 1, 1)


def test_a_frame_that_comes_twice_reaches_no_program_twice(answering: Answering) -> None:
    answering.ask(7)
    answering.ask(7)
    answering.take().answer(REPLIED, b"\x02")
    answering.serve()
    answering.ask(7)
    assert answering.inbox.queued == 0
    assert answering.row().received == 1


def test_a_frame_that_comes_after_its_requester_has_given_up_reaches_no_program(answering: Answering) -> None:
    answering.ask(9, floor=8)
    answering.ask(7, floor=5)
    assert [asked.frame.number for asked in answering.inbox.arrived] == [9]
    answering.ask(8, floor=8)  # overtaken, and still wanted
    assert [asked.frame.number for asked in answering.inbox.arrived] == [9, 8]


def test_what_its_requester_has_given_up_is_over(answering: Answering) -> None:
    for number in (1, 2):
        answering.ask(number, patience=5.0, now=1.0)
    first, second = answering.inbox.arrived
    assert not first.is_over(5.9)
    assert first.is_over(6.0)
    answering.ask(3, sender=B, floor=3)
    assert not first.is_over(5.9)
    answering.ask(3, floor=2)
    assert first.is_over(1.0)
    assert not second.is_over(5.9)


def test_what_is_forgotten_for_want_of_memory_is_not_over(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zq.core.seen.SEEN_MOST", 100)
    for number in range(1, 200):
        answering.ask(number)
    assert not answering.take().is_over(0.0)


def test_numbers_of_different_requesters_have_nothing_in_common(answering: Answering) -> None:
    answering.ask(7, floor=7)
    answering.ask(3, sender=B)
    assert answering.inbox.queued == 2


def test_one_for_a_replier_that_is_not_there_is_turned_away(answering: Answering) -> None:
    answering.ask(7, replier=bytes(16))
    assert answering.told() == [(A, 7, TURNED_AWAY, CLOSED)]


def test_what_was_turned_away_reaches_no_program_later(answering: Answering) -> None:
    answering.ask(7, replier=B)
    answering.replying.open(B, "sum", RequestInbox(lambda: None))
    answering.ask(7, replier=B)
    assert [row.received for row in answering.replying.ledger()] == [0, 0]


def test_what_is_too_much_is_turned_away(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.replier.MOST_HELD", 2)
    for number in (1, 2, 3):
        answering.ask(number)
    assert answering.told() == [(A, 3, TURNED_AWAY, OVERLOADED)]
    answering.take().answer(REPLIED, b"\x02")
    answering.serve()
    answering.ask(4)
    assert (answering.row().held, answering.row().turned_away) == (2, 1)


def test_bytes_are_limited_and_one_above_the_limit_is_taken_alone(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zq.core.replier.MOST_BYTES", 100)
    answering.ask(1, size=1_000)
    answering.ask(2, size=1)
    assert answering.told() == [(A, 2, TURNED_AWAY, OVERLOADED)]


def test_closing_turns_away_what_waits_and_fails_what_is_with_the_program(answering: Answering) -> None:
    answering.ask(1)
    answering.ask(2)
    asked = answering.take()
    answering.replying.close(answering.replier, 0.0)
    assert answering.told() == [(A, 1, FAILED, CLOSED), (A, 2, TURNED_AWAY, CLOSED)]
    assert list(answering.replying) == []
    asked.answer(REPLIED, b"\x02")
    answering.serve()
    assert len(answering.sent) == 2
    assert answering.replier.late == 1


def test_closing_sends_the_answers_that_were_left(answering: Answering) -> None:
    answering.ask(1)
    answering.take().answer(REPLIED, b"\x02")
    answering.replying.close(answering.replier, 0.0)
    assert answering.told() == [(A, 1, REPLIED, "")]


def test_one_that_a_program_lets_go_of_fails(answering: Answering) -> None:
    answering.ask(1)
    answering.take()
    gc.collect()
    answering.serve()
    assert answering.told() == [(A, 1, FAILED, UNANSWERED)]


def test_one_that_nobody_waits_for_any_more_is_not_answered(answering: Answering) -> None:
    answering.ask(1)
    answering.take().drop()
    answering.serve()
    assert answering.told() == []
    assert (answering.row().held, answering.row().dropped) == (0, 1)


def test_a_requester_that_is_gone_takes_its_requests_along(answering: Answering) -> None:
    for number in (1, 2, 3):
        answering.ask(number)
    answering.ask(1, sender=B)
    asked = answering.take()
    answering.replying.on_lost(A)
    asked.answer(REPLIED, b"\x02")
    answering.serve()
    assert [each.frame.sender for each in answering.inbox.arrived] == [B]
    assert answering.told() == []
    row = answering.row()
    assert (row.held, row.dropped, row.late) == (1, 3, 1)


def test_what_comes_late_from_before_it_was_gone_reaches_no_program(answering: Answering) -> None:
    answering.ask(5)
    answering.replying.on_lost(A)
    answering.ask(4)
    answering.ask(5)
    assert answering.inbox.queued == 0
    answering.ask(6)
    assert answering.inbox.queued == 1


def test_an_answer_that_is_not_taken_waits_and_keeps_its_place(answering: Answering) -> None:
    for number in (1, 2):
        answering.ask(number)
    answering.deaf = True
    answering.take().answer(REPLIED, b"\x02")
    answering.serve()
    assert not answering.replying.is_flushed()
    answering.deaf = False
    answering.take().answer(REPLIED, b"\x03")
    answering.serve()
    for due in answering.timers.due(STALLED):
        due(STALLED)
    assert [frame.request for frame in answering.sent] == [1, 2]
    assert answering.replying.is_flushed()
    assert answering.timers.next() is None


def test_an_answer_that_waits_goes_when_its_requester_is_reached_again(answering: Answering) -> None:
    answering.ask(1)
    answering.deaf = True
    answering.take().answer(REPLIED, b"\x02")
    answering.serve()
    answering.deaf = False
    answering.replying.on_proven(A, 0.0)
    assert [frame.request for frame in answering.sent] == [1]


def test_an_answer_to_one_who_is_gone_is_forgotten(answering: Answering) -> None:
    answering.ask(1)
    answering.deaf = True
    answering.take().answer(REPLIED, b"\x02")
    answering.serve()
    answering.replying.on_lost(A)
    assert answering.replying.is_flushed()
    assert answering.timers.next() is None


def test_what_never_came_and_what_was_answered_is_missing_and_what_is_held_is_not(answering: Answering) -> None:
    for number in (1, 2):
        answering.ask(number)
    answering.take().answer(REPLIED, b"\x02")
    answering.serve()
    answering.replying.on_inquiry(A, Inquiry([1, 2, 3]))
    answering.replying.on_inquiry(A, Inquiry([2]))
    answering.replying.on_inquiry(B, Inquiry([2]))
    assert answering.missing == [(A, [3], [1]), (B, [2], [])]


def test_an_answer_over_work_is_not_missing_while_that_connection_stands(answering: Answering) -> None:
    answering.ask(1)
    answering.take().answer(REPLIED, b"x" * BATCH_BYTES)
    answering.serve()
    answering.replying.on_inquiry(A, Inquiry([1]))
    assert answering.missing == []
    answering.generation += 1
    answering.replying.on_inquiry(A, Inquiry([1]))
    assert answering.missing == [(A, [], [1])]


def test_answers_that_may_be_lost_with_a_connection_are_named_when_it_is_made_anew(answering: Answering) -> None:
    for number in (1, 2, 3):
        answering.ask(number)
    answering.take().answer(REPLIED, b"x" * BATCH_BYTES)
    answering.take().answer(REPLIED, b"\x02")
    answering.serve()
    answering.replying.on_proven(A, 0.0)
    assert answering.missing == [(A, [], [2])]
    answering.generation += 1
    answering.replying.on_connection(A)
    assert answering.missing[1:] == [(A, [], [1, 2])]
    answering.ask(4, floor=4)
    answering.replying.on_connection(A)
    assert len(answering.missing) == 2


def test_an_answer_that_waits_is_not_missing(answering: Answering) -> None:
    answering.ask(1)
    answering.deaf = True
    answering.take().answer(REPLIED, b"\x02")
    answering.serve()
    answering.replying.on_inquiry(A, Inquiry([1]))
    assert answering.missing == []


def test_what_is_remembered_of_a_requester_is_bounded_by_its_floor() -> None:
    seen = Seen()
    for number in range(1, 10_000):
        assert seen.add(number, number)
    assert len(seen._numbers) <= 130


def test_a_requester_without_a_floor_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.seen.SEEN_MOST", 100)
    seen = Seen()
    for number in range(1, 10_000):
        assert seen.add(number, 0)
    assert len(seen._numbers) <= 201
    assert not seen.add(1, 0)


def test_requesters_that_come_and_go_do_not_fill_the_memory(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replying, "REMEMBERED", 10)
    for index in range(100):
        answering.ask(1, sender=index.to_bytes(16, "big"))
    assert len(answering.replying._seen) == 10
    answering.replying.on_departed((99).to_bytes(16, "big"))
    assert len(answering.replying._seen) == 9
