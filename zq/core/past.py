"""What outboxes of bound queues have counted before they were closed, so that the ledger's rows only ever grow."""

from __future__ import annotations

from collections.abc import Iterable

from zq.core.spans import SPANS
from zq.info import HeldQueue
from zq.record import replace

REMEMBERED = 4_096  # queues; then the oldest are forgotten
UNBOUND = "unbound"  # why messages are dropped, in the ledger


class Past:
    """A row a queue."""

    def __init__(self) -> None:
        self._rows: dict[str, HeldQueue] = {}

    def count(self, row: HeldQueue) -> None:
        """Of an outbox that is closed: what it still held is unbound."""
        left = row.waiting + row.in_flight
        dropped = dict(row.dropped)
        if left:
            dropped[UNBOUND] = dropped.get(UNBOUND, 0) + left
        lost = (*row.lost, *(replace(span, state=UNBOUND, peer=b"") for span in row.spans))[-SPANS:]
        ended = replace(row, waiting=0, in_flight=0, dropped=dropped, spans=(), lost=lost)
        past = self._rows.get(row.queue)
        self._rows[row.queue] = ended if past is None else _sum(past, ended)
        if len(self._rows) > REMEMBERED:
            del self._rows[next(iter(self._rows))]

    def rows(self) -> Iterable[HeldQueue]:
        return self._rows.values()

    def with_present(self, rows: Iterable[HeldQueue]) -> tuple[HeldQueue, ...]:
        """`rows` of the outboxes that there are, and what closed ones of their queues have counted; then the rest."""
        past = dict(self._rows)
        present = [row if (ended := past.pop(row.queue, None)) is None else _sum(ended, row) for row in rows]
        return (*present, *past.values())


def _sum(one: HeldQueue, other: HeldQueue) -> HeldQueue:
    reasons = {*one.dropped, *other.dropped}
    return HeldQueue(
        queue=one.queue,
        taken=one.taken + other.taken,
        waiting=one.waiting + other.waiting,
        in_flight=one.in_flight + other.in_flight,
        acked=one.acked + other.acked,
        expired=one.expired + other.expired,
        dropped={reason: one.dropped.get(reason, 0) + other.dropped.get(reason, 0) for reason in reasons},
        redelivered=one.redelivered + other.redelivered,
        spans=(*one.spans, *other.spans)[:SPANS],
        lost=(*one.lost, *other.lost)[-SPANS:],
        gaps=(*one.gaps, *other.gaps)[-SPANS:],
    )
