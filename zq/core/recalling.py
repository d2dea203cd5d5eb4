"""Retained values of publishers that are gone: new subscriptions ask the spools that keep the topic.

For each of its subscriptions and each stream that a spool tells of, a peer asks what is retained there, again until the
answer is complete. A value comes as a topic frame of the publisher that had sent it, numbers and all. It counts only if
that publisher is not here to answer for itself: while it is, the value waits, until its fence has told what is retained
(then it is dropped) or it is gone. A subscription that has had anything of that publisher's topic needs none.

Everything is harmless when lost, repeated or late. A crash loses questions that died with their subscriptions.
"""

from __future__ import annotations

from collections.abc import Callable

from zq.core.receptions import Receptions
from zq.core.subscription import Subscription
from zq.core.timers import Timers
from zq.record import dataclass, field
from zq.wire.batch import Batch
from zq.wire.frames import RECALLS, Entry, Recall

ASK_AGAIN, ASK_MOST = 0.5, 5.0  # s until a question is asked again, doubled up to
LOOK_AGAIN = 0.2  # s until it is looked whether a publisher has answered for itself, or has gone


@dataclass(eq=False, slots=True)
class Question:
    """What one subscription asks of one stream."""

    number: int
    subscription: Subscription
    spool: bytes
    stream: bytes
    patience: float = ASK_AGAIN
    answered: bool = False
    waiting: dict[tuple[bytes, str], Batch] = field(default_factory=dict)  # values of publishers that are here


class Recalling:
    """All such questions of this peer."""

    def __init__(
        self, timers: Timers, receptions: Receptions, send: Callable[[bytes, Recall], None], own: bytes
    ) -> None:
        self._timers = timers
        self._receptions = receptions
        self._send = send
        self._own = own
        self._asked: dict[tuple[int, bytes], Question] = {}  # by subscription and stream
        self._questions: dict[int, Question] = {}
        self._streams: dict[bytes, list[bytes]] = {}  # by spool
        self._numbers = RECALLS

    def on_entry(self, peer: bytes, entry: Entry, now: float) -> None:
        self._streams[peer] = [stream for _, stream, _, _ in entry.streams]
        for subscription in self._receptions:
            self._ask_all(subscription, peer, now)

    def on_gone(self, peer: bytes) -> None:
        for stream in self._streams.pop(peer, ()):
            for key in [key for key in self._asked if key[1] == stream]:
                question = self._asked[key]
                if not question.answered:
                    self._end(question)  # whoever comes back with the stream is asked
                    del self._asked[key]

    def on_subscription(self, subscription: Subscription, now: float) -> None:
        for peer in self._streams:
            self._ask_all(subscription, peer, now)

    def on_closed(self, subscription: Subscription) -> None:
        for key in [key for key in self._asked if key[0] == subscription.number]:
            self._end(self._asked.pop(key))

    def _ask_all(self, subscription: Subscription, peer: bytes, now: float) -> None:
        for stream in self._streams[peer] if not subscription.inbox.keeps else ():
            key = subscription.number, stream
            if key not in self._asked:
                self._numbers += 1
                question = Question(self._numbers, subscription, peer, stream)
                self._asked[key] = self._questions[question.number] = question
                self._ask(question, now)

    def _ask(self, question: Question, now: float) -> None:
        filters = [filter.text for filter in question.subscription.filters]
        self._send(question.spool, Recall(question.number, question.stream, filters))
        self._timers.set((question, "ask"), now + question.patience, lambda when: self._ask(question, when))
        question.patience = min(2 * question.patience, ASK_MOST)

    def _end(self, question: Question) -> None:
        self._questions.pop(question.number, None)
        for what in ("ask", "look"):
            self._timers.cancel((question, what))

    # --- answers

    def on_value(self, spool: bytes, number: int, batch: Batch, now: float) -> None:
        question = self._questions.get(number)
        if question is not None and question.spool == spool and batch.topic is not None and batch.count == 1:
            question.waiting[batch.sender, batch.topic] = batch
            self._look(question, now)

    def on_answered(self, spool: bytes, number: int, now: float) -> None:
        question = self._questions.get(number)
        if question is not None and question.spool == spool:
            question.answered = True
            self._timers.cancel((question, "ask"))
            self._look(question, now)

    def _look(self, question: Question, now: float) -> None:
        for (publisher, topic), batch in list(question.waiting.items()):
            here = publisher == self._own or self._receptions.has(publisher)
            if here and not self._receptions.is_fenced(publisher):
                continue
            if here or self._receptions.recall(question.subscription, batch):
                del question.waiting[publisher, topic]
        if question.waiting:
            self._timers.set((question, "look"), now + LOOK_AGAIN, lambda when: self._look(question, when))
        elif question.answered:
            self._end(question)
