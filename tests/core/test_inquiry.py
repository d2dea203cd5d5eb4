"""Questions about dead letters, and answers: complete, in pieces, and done once however often they are asked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.test_dead import bury
from tests.core.test_pushing import QUEUE, Pullers
from zq.core import inquiry
from zq.core.inquiry import AGAIN, Answers, Inquiries
from zq.core.timers import Timers
from zq.wire.body import Body
from zq.wire.data import unpack
from zq.wire.dead import REASON
from zq.wire.frames import LIST, PURGE, RETRY, Inquire, Letters
from zq.wire.limits import MAILBOX_FRAME

ASKER, HOLDER = b"a" * 16, b"h" * 16


class Asking:
    """One who asks and one who holds; `lost` says which of the next frames are lost, questions and answers in turn."""

    def __init__(self) -> None:
        self.holder = Pullers()
        self.answers = Answers(self.holder.pushing, lambda queue, now: pytest.fail(f"{queue} was never bound"))
        self.timers = Timers()
        self.inquiries = Inquiries(self.timers, self._carry)
        self.under_way: list[Inquire] = []
        self.answered: list[Letters] = []
        self.lost: list[bool] = []

    def _carry(self, peer: bytes, question: Inquire) -> None:
        self.under_way.append(question)

    def _loses(self) -> bool:
        return self.lost.pop(0) if self.lost else False

    def ask(self, action: int, queue: str = QUEUE, *ids: str) -> Any:
        asked = self.inquiries.begin(action, queue, ids, [HOLDER], 0.0)
        now = 0.0
        while not asked.complete:
            while self.under_way:
                question = self.under_way.pop(0)
                if self._loses():
                    continue
                answer = self.answers.answer(ASKER, question, 0.0)
                assert len(answer.encode(ASKER, HOLDER)) <= MAILBOX_FRAME
                self.answered.append(answer)
                if not self._loses():
                    self.inquiries.on_letters(HOLDER, Letters.decode(answer.encode(ASKER, HOLDER)[33:]), now)
            if not asked.complete:
                now += AGAIN
                for due in self.timers.due(now):
                    due(now)
        assert self.timers.next() is None
        return asked


@pytest.fixture
def asking() -> Asking:
    return Asking()


def reasons(asked: Any) -> list[str]:
    told = []
    for _, row in asked.letters:
        [(_, extra)] = unpack(row[-1], 1, extended=True)
        told.append(extra[1][extra[1].index(REASON) + 1])
    return told


def test_a_list_comes_in_pieces_and_is_complete(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "ROWS", 2)
    bury(asking.holder, *[bytes([number]) for number in range(5)])
    asked = asking.ask(LIST)
    assert reasons(asked) == [f"reason {number}" for number in range(1, 6)]
    assert [len(answer.letters) for answer in asking.answered] == [2, 2, 1]


def test_large_letters_fit_into_frames(asking: Asking) -> None:
    large = b"\xc5\xfe\x00" + bytes(0xFE00)
    bury(asking.holder, *[large] * 1, *[b"\xc6\x00\x10\x00\x00" + bytes(1 << 20)], *[b"\1"])
    for _ in range(20):
        bury(asking.holder, large)
    asked = asking.ask(LIST)
    assert len(asked.letters) == 23
    assert [row[6] for _, row in asked.letters].count(False) == 1
    assert len(asking.answered) > 1


def test_of_several_queues_one_is_listed_or_all(asking: Asking) -> None:
    bury(asking.holder, b"\1")
    assert len(asking.ask(LIST, "").letters) == 1
    assert asking.ask(LIST, "other").letters == []


def test_only_those_with_the_ids_are_listed(asking: Asking) -> None:
    bury(asking.holder, b"\1", b"\2", b"\3")
    asked = asking.ask(LIST, QUEUE, f"{(b'm' * 16).hex()}-2", "unknown")
    assert reasons(asked) == ["reason 2"]


@pytest.mark.parametrize(
    "lost",
    [[], [True, True], [False, True], [False, True, False, True], [True, False, True]],
    ids=["nothing", "questions", "an answer", "answers", "a question and an answer"],
)
@pytest.mark.parametrize(("action", "reason"), [(RETRY, "retried"), (PURGE, "purged")])
def test_what_is_asked_is_done_once_and_counted_right(
    asking: Asking, action: int, reason: str, lost: list[bool]
) -> None:
    bury(asking.holder, b"\1", b"\2", b"\3")
    asking.lost = list(lost)
    asked = asking.ask(action)
    assert asked.count == 3
    letters = asking.holder.pushing.find("jobs.dead")
    assert letters is not None
    assert letters.row().dropped == {reason: 3}
    assert asking.holder.outbox.waiting == (3 if action == RETRY else 0)
    assert asking.ask(action).count == 0


def test_only_those_with_the_ids_are_purged(asking: Asking) -> None:
    bury(asking.holder, b"\1", b"\2", b"\3")
    assert asking.ask(PURGE, QUEUE, f"{(b'm' * 16).hex()}-2").count == 1
    assert reasons(asking.ask(LIST)) == ["reason 1", "reason 3"]


def test_who_does_not_push_there_any_more_says_so_and_keeps_them(asking: Asking) -> None:
    bury(asking.holder, b"\1")
    asking.holder.pushing.close(asking.holder.outbox)
    asked = asking.ask(RETRY)
    assert asked.count == 0
    assert asked.problems == [(HOLDER, "nobody there pushes to jobs any more")]
    assert len(asking.ask(LIST).letters) == 1


@pytest.mark.parametrize(("action", "queue"), [(7, QUEUE), (PURGE, ""), (RETRY, "")])
def test_what_cannot_be_done_is_said_and_changes_nothing(asking: Asking, action: int, queue: str) -> None:
    bury(asking.holder, b"\1")
    assert asking.ask(action, queue).problems
    assert len(asking.ask(LIST).letters) == 1


def test_one_who_has_gone_is_not_waited_for(asking: Asking) -> None:
    asked = asking.inquiries.begin(LIST, "", [], [HOLDER, ASKER], 0.0)
    asking.inquiries.on_gone(HOLDER)
    assert not asked.complete
    asking.inquiries.on_gone(ASKER)
    assert asked.complete
    assert asked.gone == [HOLDER, ASKER]
    assert asking.timers.next() is None


def test_an_answer_nobody_has_asked_for_is_ignored(asking: Asking) -> None:
    asked = asking.inquiries.begin(LIST, "", [], [HOLDER], 0.0)
    body: Body = Letters(99, 3, [], False, "")
    assert isinstance(body, Letters)
    asking.inquiries.on_letters(HOLDER, body, 0.0)
    asking.inquiries.on_letters(ASKER, Letters(1, 3, [], False, ""), 0.0)
    assert (asked.complete, asked.count) == (False, 0)
