"""The asking side of requests: who gets one, and that each ends exactly once."""

from __future__ import annotations

from typing import Any

import pytest

from zq.core.call import Call, Stage
from zq.core.requesting import INQUIRE, MISSED_FOR, STALLED, Requesting
from zq.core.timers import Timers
from zq.core.topics import Origin
from zq.errors import NoPeer, PeerLost, Refused, RemoteError, Timeout
from zq.wire.data import Malformed, Packed
from zq.wire.frames import Entry, Inquiry, Missing
from zq.wire.limits import BATCH_BYTES
from zq.wire.requests import (
    CLOSED,
    FAILED,
    OVERLOADED,
    REPLIED,
    TURNED_AWAY,
    RequestFrame,
    decode_reply,
    decode_request,
    encode_failure,
    encode_reply,
)

ME, A, B = b"m" * 16, b"a" * 16, b"b" * 16
WALL = 1e9


class Asking:
    """A requesting side whose frames are caught."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.sent: list[RequestFrame] = []
        self.deaf: set[bytes] = set()
        self.queues: set[str] = set()
        self.woken = 0
        self.inquiries: list[tuple[float, bytes, list[int]]] = []
        self.generation = 1
        self.now = 0.0
        self.requesting = Requesting(
            Origin(ME), self.timers, self._send, self._say, lambda peer: self.generation, self.queues.__contains__
        )
        self._versions = 0

    def _send(self, peer: bytes, parts: Any) -> bool:
        if peer in self.deaf:
            return False
        self.sent.append(decode_request(parts))
        return True

    def _say(self, peer: bytes, inquiry: Inquiry) -> None:
        self.inquiries.append((self.now, peer, inquiry.requests))

    def pass_time(self, until: float) -> None:
        while (when := self.timers.next()) is not None and when <= until:
            self.now = when
            for due in self.timers.due(when):
                due(when)

    def offer(self, peer: bytes, *rows: tuple[str, bytes]) -> None:
        self._versions += 1
        entry = Entry(self._versions, bytes(8), [], [], [], [], [list(row) for row in rows])
        self.requesting.on_entry(peer, entry, 0.0)

    def ask(self, service: str = "sum", *, size: int = 1, now: float = 0.0, **options: Any) -> Call:
        call = Call(service, b"x" * size, options.pop("deadline", None), self._wake, **options)
        self.requesting.pile.append(call)
        self.requesting.serve(now, WALL)
        return call

    def _wake(self) -> None:
        self.woken += 1

    def answer(self, frame: RequestFrame, outcome: int = REPLIED, item: bytes = b"\x01", now: float = 0.0) -> None:
        parts = encode_reply(ME, frame.addressee, request=frame.number, number=1, time=WALL, outcome=outcome, item=item)
        self.requesting.on_reply(frame.addressee, decode_reply(parts), now)

    def row(self) -> Any:
        (row,) = self.requesting.ledger()
        assert row.balanced
        return row


@pytest.fixture
def asking() -> Asking:
    return Asking()


def test_a_reply_ends_its_call_and_wakes_its_caller_once(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask(deadline=5.0, now=2.0)
    (frame,) = asking.sent
    assert (frame.addressee, frame.replier, frame.patience, frame.time) == (A, A, 3.0, WALL)
    assert (call.stage, asking.row().sent) == (Stage.SENT, 1)
    asking.answer(frame)
    asking.answer(frame)
    assert call.ended
    assert call.reply is not None
    assert call.reply.service == "sum"
    assert (asking.woken, asking.row().replied, asking.row().late) == (1, 1, 0)


def test_the_replier_with_the_fewest_unanswered_is_chosen_and_else_one_after_the_other(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    asking.offer(B, ("sum", B))
    for _ in range(4):
        asking.ask()
    assert [frame.addressee for frame in asking.sent] == [A, B, A, B]
    for frame in [asking.sent[1], asking.sent[3]]:
        asking.answer(frame)
    asking.ask()
    asking.ask()
    assert [frame.addressee for frame in asking.sent[4:]] == [B, B]


def test_numbers_rise_and_the_floor_is_the_lowest_that_has_not_ended(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    asking.offer(B, ("sub", B))
    asking.ask()
    asking.ask("sub")
    asking.ask()
    first, other, second = asking.sent
    assert [frame.floor for frame in asking.sent] == [first.number, other.number, first.number]
    asking.answer(first)
    asking.ask()
    assert asking.sent[-1].floor == second.number
    assert [frame.number for frame in asking.sent] == sorted({frame.number for frame in asking.sent})


def test_one_who_waits_gets_its_number_when_it_departs(asking: Asking) -> None:
    """Else it would arrive below the floor of one that was sent before it, and be taken for one that has ended."""
    asking.offer(A, ("sum", A), ("sub", B))
    asking.deaf.add(A)
    asking.ask()
    assert asking.requesting._sent == {}
    asking.deaf.clear()
    asking.ask("sub")
    for due in asking.timers.due(STALLED):
        due(STALLED)
    sub, sum = asking.sent
    assert (sub.replier, sum.replier) == (B, A)
    assert sum.number > sub.number
    assert sum.number >= sub.floor


def test_what_is_beyond_the_limits_of_a_replier_waits(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.call.MOST_REQUESTS", 2)
    asking.offer(A, ("sum", A))
    calls = [asking.ask() for _ in range(4)]
    assert [call.stage for call in calls] == [Stage.SENT, Stage.SENT, Stage.WAITING, Stage.WAITING]
    asking.answer(asking.sent[0])
    assert [call.stage for call in calls[1:]] == [Stage.SENT, Stage.SENT, Stage.WAITING]


def test_bytes_are_limited_and_one_above_the_limit_goes_alone(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.call.MOST_BYTES", 100)
    asking.offer(A, ("sum", A))
    calls = [asking.ask(size=60), asking.ask(size=60), asking.ask(size=1_000)]
    assert [call.stage for call in calls] == [Stage.SENT, Stage.WAITING, Stage.WAITING]
    asking.answer(asking.sent[0])
    assert [call.stage for call in calls[1:]] == [Stage.SENT, Stage.WAITING]
    asking.answer(asking.sent[1])
    assert calls[2].stage is Stage.SENT


def test_parts_count_as_bytes() -> None:
    assert Call("sum", Packed(b"xx", (b"yyy",)), None, lambda: None).size == 5


def test_nobody_is_there_once_the_realm_is_settled(asking: Asking) -> None:
    call = asking.ask()
    assert asking.requesting.undecided == {"sum"}
    assert not call.ended
    asking.requesting.on_settled(0.0)
    assert isinstance(call.error, NoPeer)
    assert (asking.row().nobody, asking.requesting.undecided) == (1, set())


def test_a_replier_that_is_found_in_time_gets_what_waited(asking: Asking) -> None:
    call = asking.ask()
    asking.offer(A, ("other", B), ("sum", A))
    assert call.stage is Stage.SENT
    assert not asking.requesting.undecided
    asking.requesting.on_settled(0.0)
    assert not call.ended


def test_a_replier_that_is_found_and_takes_nothing_yet_is_somebody(asking: Asking) -> None:
    call = asking.ask()
    asking.deaf.add(A)
    asking.offer(A, ("sum", A))
    asking.requesting.on_settled(0.0)
    assert not call.ended
    asking.deaf.clear()
    asking.requesting.on_proven(A, 0.0)
    assert call.stage is Stage.SENT


def test_a_queue_is_no_service(asking: Asking) -> None:
    asking.queues.add("jobs")
    call = asking.ask("jobs")
    asking.requesting.on_settled(0.0)
    assert isinstance(call.error, Refused)
    assert "push to it" in str(call.error)


def test_a_peer_that_is_gone_ends_what_it_had_and_gets_no_more(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask()
    asking.requesting.on_gone(A, 0.0)
    assert isinstance(call.error, PeerLost)
    again = asking.ask()
    assert (again.stage, asking.requesting.undecided) == (Stage.WAITING, {"sum"})
    assert len(asking.sent) == 1
    assert asking.row().lost == 1


def test_what_waits_for_the_only_replier_hears_that_it_is_gone(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.call.MOST_REQUESTS", 1)
    asking.offer(A, ("sum", A))
    calls = [asking.ask(), asking.ask()]
    asking.requesting.on_gone(A, 0.0)
    asking.requesting.on_settled(0.0)
    assert [type(call.error) for call in calls] == [PeerLost, NoPeer]
    assert len(asking.sent) == 1


def test_a_peer_that_had_declared_us_gone_has_dropped_what_it_had(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask()
    asking.requesting.on_lost(A, 0.0)
    assert isinstance(call.error, PeerLost)
    assert asking.ask().stage is Stage.SENT


def test_a_failure_says_type_and_text(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask()
    asking.answer(asking.sent[0], FAILED, encode_failure("ValueError", "no"))
    assert isinstance(call.error, RemoteError)
    assert (call.error.type, call.error.text, str(call.error)) == ("ValueError", "no", "ValueError: no")


def test_what_was_turned_away_goes_to_another_replier_under_a_new_number(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    asking.offer(B, ("sum", B))
    call = asking.ask()
    asking.answer(asking.sent[0], TURNED_AWAY, encode_failure(OVERLOADED, "full"))
    assert [frame.addressee for frame in asking.sent] == [A, B]
    assert asking.sent[1].number > asking.sent[0].number
    asking.answer(asking.sent[0])  # too late: it said that nobody would have it
    assert not call.ended
    asking.answer(asking.sent[1])
    assert call.reply is not None


@pytest.mark.parametrize(("kind", "error"), [(OVERLOADED, RemoteError), (CLOSED, NoPeer)])
def test_what_everybody_turns_away_ends(asking: Asking, kind: str, error: type[Exception]) -> None:
    asking.offer(A, ("sum", A), ("sum", B))
    call = asking.ask()
    for index in range(2):
        asking.answer(asking.sent[index], TURNED_AWAY, encode_failure(kind, ""))
    assert type(call.error) is error
    assert len(asking.sent) == 2
    assert asking.row().balanced


def test_a_failed_request_is_not_asked_again(asking: Asking) -> None:
    asking.offer(A, ("sum", A), ("sum", B))
    asking.ask()
    asking.answer(asking.sent[0], FAILED, encode_failure("Closed", ""))
    assert len(asking.sent) == 1


def test_a_reply_to_what_was_abandoned_is_counted_and_dropped(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask()
    assert asking.requesting.abandon(call, 1.0) is False
    asking.answer(asking.sent[0])
    assert call.reply is None
    assert asking.woken == 0
    row = asking.row()
    assert (row.abandoned, row.late, row.replied) == (1, 1, 0)
    assert not asking.requesting._missed


def test_whoever_abandons_what_has_ended_gets_it_nonetheless(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask()
    asking.answer(asking.sent[0])
    assert asking.requesting.abandon(call, 1.0) is True
    assert asking.row().abandoned == 0


def test_who_does_not_answer_is_chosen_last_for_a_while(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask()
    asking.requesting.abandon(call, 0.0)
    asking.offer(B, ("sum", B))
    asking.ask()
    asking.answer(asking.sent[-1])
    asking.ask()
    assert [frame.addressee for frame in asking.sent] == [A, B, B]
    asking.answer(asking.sent[-1])
    for due in asking.timers.due(MISSED_FOR):
        due(MISSED_FOR)
    asking.ask()
    assert asking.sent[-1].addressee == A


def test_an_abandoned_call_that_waits_is_never_sent(asking: Asking) -> None:
    calls = [asking.ask(), asking.ask()]
    asking.requesting.abandon(calls[0], 0.0)
    asking.offer(A, ("sum", A))
    assert [call.stage for call in calls] == [Stage.ENDED, Stage.SENT]
    assert len(asking.sent) == 1


def test_a_call_abandoned_before_it_was_taken_leaves_no_trace(asking: Asking) -> None:
    call = Call("sum", b"x", None, lambda: None)
    asking.requesting.pile.append(call)
    asking.requesting.abandon(call, 0.0)
    asking.requesting.serve(0.0, WALL)
    assert asking.requesting.ledger() == ()


def test_who_takes_nothing_now_is_passed_over_for_another(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    asking.offer(B, ("sum", B))
    asking.deaf.add(A)
    asking.ask()
    assert [frame.addressee for frame in asking.sent] == [B]


def test_one_who_is_reached_again_gets_what_waited_for_it(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    asking.deaf.add(A)
    call = asking.ask()
    asking.deaf.clear()
    asking.requesting.on_proven(A, 0.0)
    assert call.stage is Stage.SENT


def test_a_targeted_request_goes_there_or_nowhere(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zq.core.call.MOST_REQUESTS", 1)
    asking.offer(A, ("sum", A))
    asking.offer(B, ("sum", B))
    asking.ask(target=(B, B))
    waits = asking.ask(target=(B, B))
    free = asking.ask()
    assert [frame.addressee for frame in asking.sent] == [B, A]
    assert (waits.stage, free.stage) == (Stage.WAITING, Stage.SENT)
    asking.offer(B)
    assert isinstance(waits.error, NoPeer)


def test_a_reply_of_somebody_else_changes_nothing(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask()
    parts = encode_reply(ME, B, request=asking.sent[0].number, number=1, time=WALL, outcome=REPLIED, item=b"x")
    asking.requesting.on_reply(B, decode_reply(parts), 0.0)
    assert not call.ended


def test_who_has_had_it_for_long_is_asked_whether_it_still_does(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    asking.ask()
    asking.pass_time(3 * INQUIRE)
    number = asking.sent[0].number
    assert asking.inquiries == [(when * INQUIRE, A, [number]) for when in (1, 2, 3)]
    asking.answer(asking.sent[0])
    asking.pass_time(100.0)
    assert len(asking.inquiries) == 3
    assert asking.timers.next() is None


def test_who_is_reached_again_is_asked_at_once(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    asking.ask()
    asking.requesting.on_proven(A, 0.5)
    assert [numbers for _, _, numbers in asking.inquiries] == [[asking.sent[0].number]]


def test_what_the_replier_does_not_have_was_lost(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    calls = [asking.ask(), asking.ask()]
    number = asking.sent[0].number
    asking.requesting.on_missing(B, Missing([number], []), 0.0)
    assert not calls[0].ended
    asking.requesting.on_missing(A, Missing([number], [99]), 0.0)
    assert isinstance(calls[0].error, PeerLost)
    assert (calls[1].stage, asking.row().lost) == (Stage.SENT, 1)
    asking.answer(asking.sent[0])
    assert asking.row().replied == 0


def test_what_the_replier_let_go_when_its_time_was_over_was_not_lost(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask(deadline=1.0)
    asking.requesting.on_missing(A, Missing([], [asking.sent[0].number]), 1.0)
    assert isinstance(call.error, Timeout)
    assert (asking.row().lost, asking.row().abandoned) == (0, 1)
    assert asking.requesting.abandon(call, 1.1)
    assert asking.row().balanced


def test_what_is_on_its_way_over_work_is_not_lost_while_that_connection_stands(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask(size=BATCH_BYTES)
    asking.requesting.on_missing(A, Missing([asking.sent[0].number], []), 0.0)
    assert not call.ended
    asking.generation += 1
    asking.requesting.on_missing(A, Missing([asking.sent[0].number], []), 0.0)
    assert isinstance(call.error, PeerLost)


def test_what_was_answered_is_lost_whatever_it_was_sent_over(asking: Asking) -> None:
    asking.offer(A, ("sum", A))
    call = asking.ask(size=BATCH_BYTES)
    asking.requesting.on_missing(A, Missing([], [asking.sent[0].number]), 0.0)
    assert isinstance(call.error, PeerLost)


def test_an_illegal_step_raises_and_changes_nothing() -> None:
    call = Call("sum", b"x", None, lambda: None)
    call.step(Stage.ENDED)
    with pytest.raises(ValueError, match="a request that is ended cannot be sent"):
        call.step(Stage.SENT)
    assert call.ended


def test_a_failure_that_is_none_is_malformed() -> None:
    with pytest.raises(Malformed):
        decode_reply(encode_reply(ME, A, request=1, number=1, time=0.0, outcome=FAILED, item=b"\x01"))
