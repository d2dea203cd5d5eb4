"""What publishers are told of their topics: how far all has arrived here, and how far the program has taken it.

Coalesced: at once when it is asked for or when much was taken, else REPORT_AFTER later. A report that is lost is told
again with the next, or when the publisher asks.
"""

from __future__ import annotations

from collections.abc import Callable

from zq.core.reception import Reception, TopicIn
from zq.core.timers import Timers
from zq.core.topics import WINDOW, WINDOW_BYTES
from zq.wire.frames import Seen

REPORT_MESSAGES, REPORT_BYTES = WINDOW // 4, WINDOW_BYTES // 4  # taken since the last report
REPORT_AFTER = 0.25  # s until anything taken is reported
SEEN_ROWS = 500  # topics in one report


class Reports:
    """To all publishers. `due` has those that get one at the end of this turn."""

    def __init__(self, timers: Timers, send: Callable[[bytes, Seen], None]) -> None:
        self._timers = timers
        self._send = send
        self.due: dict[Reception, None] = {}

    def soon(self, reception: Reception, topic: TopicIn) -> None:
        """In this turn."""
        reception.to_report[topic.name] = topic
        self.due[reception] = None

    def on_taken(self, reception: Reception, topic: TopicIn, now: float) -> None:
        """The program has taken some of it."""
        if topic.taken - topic.reported_taken >= REPORT_MESSAGES or topic.taken_bytes >= REPORT_BYTES:
            self.soon(reception, topic)
        else:
            self._timers.set_if_unset((reception, "seen"), now + REPORT_AFTER, lambda when: self._late(reception))

    def _late(self, reception: Reception) -> None:
        for topic in reception.topics.values():
            if topic.taken != topic.reported_taken:
                self.soon(reception, topic)

    def send(self) -> None:
        while self.due:
            reception, _ = self.due.popitem()
            rows: list[list[object]] = []
            for topic in reception.to_report.values():
                topic.reported_taken, topic.taken_bytes = topic.taken, 0
                rows.append([topic.name, topic.arrived, topic.taken])
                if topic.arrived >= topic.head:
                    topic.report_wanted = False
            reception.to_report.clear()
            for start in range(0, len(rows), SEEN_ROWS):
                self._send(reception.publisher, Seen(rows[start : start + SEEN_ROWS]))

    def forget(self, reception: Reception) -> None:
        self.due.pop(reception, None)
        self._timers.cancel((reception, "seen"))
