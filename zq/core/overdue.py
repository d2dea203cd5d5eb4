"""`work_timeout`: what a program has been handed and does not settle in time goes to somebody else.

A message is on loan for as long as its puller is connected; that lets a job take six hours, and lets a handler that
hangs keep its message for ever. With a work timeout the engine looks four times within it, once a second at most, how
far each link's messages were handed out, and when. Events of a look:

- a number was handed out at a look that is `seconds` ago, and is not settled: it is overdue, and nacked as if by the
  program: an attempt is charged, and the pusher gives it to anybody. Whatever the program says of it later is late.
- nothing was handed out for `seconds`, although there was something all the time, or something is overdue: the puller
  is *hung*. It gets no more credit, and what it has not handed out goes back, with no attempt charged. It ends as soon
  as somebody waits for a message there, which is found out by waking whoever does.

So a message is overdue after 1 to 1.25 times `seconds` (or 1 s more, for long ones). All of it lives in the memory of
the puller, as the loan itself does: when the process dies, its pushers notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zq.record import dataclass, field
from zq.wire.batch import Batch

if TYPE_CHECKING:
    from zq.core.receiving import ReceivingLink

LOOKS = 4  # within a work timeout
LOOK_LEAST, LOOK_MOST = 0.01, 1.0  # s between two looks
SWEEP = 64  # batches of a link until those that are settled are swept out, or twice what was left then


@dataclass(eq=False, slots=True)
class Loans:
    """Of one link: the batches that came, and when its messages were handed out."""

    batches: list[Batch] = field(default_factory=list)
    handed: list[tuple[int, float]] = field(default_factory=list)  # up to this number, at the latest then
    seen: int = 0  # handed out by the last look
    judged: int = 0  # up to here it was decided
    sweep_at: int = SWEEP


class Overdue:
    """The loans of one puller."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.moved: float | None = (
            None  # when something was handed out, or there was nothing to hand out, for the last time
        )
        self._loans: dict[ReceivingLink, Loans] = {}

    @property
    def until_look(self) -> float:
        return min(max(self.seconds / LOOKS, LOOK_LEAST), LOOK_MOST)

    def on_batch(self, link: ReceivingLink, batch: Batch) -> None:
        loans = self._loans.setdefault(link, Loans())
        loans.batches.append(batch)
        if len(loans.batches) >= loans.sweep_at:
            self._sweep(link, loans)

    @staticmethod
    def _sweep(link: ReceivingLink, loans: Loans) -> None:
        loans.batches = [
            batch for batch in loans.batches if link.settled.first_missing(batch.first + batch.skip) <= batch.last
        ]
        loans.sweep_at = max(2 * len(loans.batches), SWEEP)

    def look(self, queued: int, now: float) -> list[tuple[ReceivingLink, int, Batch]]:
        """Notes what was handed out since the last look; returns the numbers that are overdue, each with its batch."""
        overdue: list[tuple[ReceivingLink, int, Batch]] = []
        if not queued or self.moved is None:
            self.moved = now
        for link, loans in list(self._loans.items()):
            if link.ended:
                del self._loans[link]
                continue
            if link.handed > loans.seen:
                loans.seen, self.moved = link.handed, now
                loans.handed.append((link.handed, now))
            self._sweep(link, loans)
            while loans.handed and loans.handed[0][1] + self.seconds <= now:
                last, _ = loans.handed.pop(0)
                overdue += self._unsettled(link, loans, loans.judged + 1, last)
                loans.judged = last
            if not loans.batches:
                del self._loans[link]  # everything is settled
        return overdue

    @staticmethod
    def _unsettled(link: ReceivingLink, loans: Loans, first: int, last: int) -> list[tuple[ReceivingLink, int, Batch]]:
        return [
            (link, number, batch)
            for batch in loans.batches
            for number in range(max(first, batch.first + batch.skip), min(last, batch.last) + 1)
            if number not in link.settled and number not in link.delayed
        ]

    def is_stalled(self, now: float) -> bool:
        """Whether the program has let messages lie for the whole time."""
        return self.moved is not None and now - self.moved >= self.seconds

    @property
    def pending(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self._loans)
