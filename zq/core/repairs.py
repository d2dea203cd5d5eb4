"""What is missing of topics: asked for, one repair at a time with each publisher.

    no hole -> asked, with the lowest hole of some topic -> answered: the next hole, or none
                 |   ^
                 +---+ nothing has come for a while, which is longer each time

The answer is frames of the publisher's ring (refills) and what could and could not be done (see `Refilled`). A refill
puts the next question off. An answer of which nothing comes leaves the question to the timer. Questions and answers
may be lost, repeated or late: each question has a number of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from zq.core.reception import REPAIR_AFTER, Asked, Reception, TopicIn
from zq.core.timers import Timers
from zq.wire.frames import Refilled, Repair

REPAIR_MOST = 2.0  # s until a repair is asked for again, at last
EVERYTHING = (1 << 62) - 1  # "up to the newest" in a Repair


class Repairs:
    """Those of all publishers."""

    def __init__(self, timers: Timers, send: Callable[[bytes, Repair], None]) -> None:
        self._timers = timers
        self._send = send
        self._requests = 0

    def look(self, reception: Reception, topic: TopicIn, now: float) -> bool:
        """After anything that may have opened or closed a hole: whether there is one, which is asked for then."""
        if _missing(topic) is None:
            reception.holes.pop(topic.name, None)
            return False
        reception.holes[topic.name] = topic
        if reception.asked is None:
            self._ask(reception, now)
        return True

    def _ask(self, reception: Reception, now: float) -> None:
        for topic in list(reception.holes.values()):
            hole = _missing(topic)
            if hole is None:
                del reception.holes[topic.name]
                continue
            first, last, clock = hole
            self._requests += 1
            reception.asked = Asked(self._requests, topic.name, clock, first)
            self._send(reception.publisher, Repair(self._requests, topic.name, first, last, clock or 0.0))
            self._wait(reception, now)
            return
        reception.asked = None
        self._timers.cancel((reception, "repair"))

    def _wait(self, reception: Reception, now: float) -> None:
        self._timers.set((reception, "repair"), now + reception.patience, lambda when: self._ask_again(reception, when))

    def _ask_again(self, reception: Reception, now: float) -> None:
        reception.patience = min(reception.patience * 2, REPAIR_MOST)
        self._ask(reception, now)

    def on_proven(self, reception: Reception, now: float) -> None:
        """It can be reached again: what was asked for meanwhile it may not have heard."""
        if reception.asked is not None:
            reception.patience = REPAIR_AFTER
            self._ask(reception, now)

    def on_refill(self, reception: Reception, request: int, now: float) -> None:
        if reception.asked is not None and reception.asked.request == request:
            self._wait(reception, now)  # it is coming: no need to ask again yet

    def on_refilled(self, reception: Reception, end: Refilled) -> bool:
        """The answer is complete: what lies below `oldest` nobody has any more. False if that is no answer to what was
        asked, or if nothing came of it: the timer asks again, later each time."""
        asked = reception.asked
        if asked is None or asked.request != end.request:
            return False  # an answer to a question that was asked again
        topic = reception.topics.get(end.topic)
        if topic is not None:
            for cursor in topic.cursors:
                if cursor.since is not None and cursor.since == asked.clock:
                    cursor.begin(end.start)
                if cursor.next is not None and cursor.next < end.oldest and cursor.next >= asked.first:
                    topic.give_up(cursor, end.oldest - 1)
            reception.release(topic)
            missing = _missing(topic)
            if missing is not None and (missing[0], missing[2]) == (asked.first, asked.clock):
                return False
        reception.patience = REPAIR_AFTER
        reception.asked = None
        return True

    def go_on(self, reception: Reception, now: float) -> None:
        """After an answer: with the next hole, if none is asked for yet."""
        if reception.asked is None:
            self._ask(reception, now)

    def forget(self, reception: Reception) -> None:
        self._timers.cancel((reception, "repair"))


def _missing(topic: TopicIn) -> tuple[int, int, float | None] | None:
    """The lowest hole any cursor has: first, last, or the clock it begins at."""
    first: int | None = None
    for cursor in topic.cursors:
        if cursor.since is not None:
            return 0, EVERYTHING, cursor.since
        if cursor.next is not None and not cursor.behind and cursor.next <= topic.head:
            first = cursor.next if first is None else min(first, cursor.next)
    if first is None:
        return None
    later = [number for number in topic.held if number > first]
    return first, min(later) - 1 if later else EVERYTHING, None
