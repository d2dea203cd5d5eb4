"""To the disk: what pushers have sent to a spool, or callers have left for an outbox, and what they are told of it.

What has come before, by its origin number, does not go there again: its pusher is told of it in its turn, once all that
came earlier is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zq.core.inbox import Inbox
from zq.core.pulling import Pulling
from zq.core.spooled import Coming, Spooled
from zq.wire.batch import EXTRA, Batch, Run
from zq.wire.data import Malformed
from zq.wire.stored import Stored, encode, from_batch, groups_of, part_of


def _part(batch: Batch, start: int, stop: int) -> Batch:
    """Some of the messages of a batch; of its bytes those have all that come first."""
    part = batch.view(batch.skip + start, batch.skip + stop)
    part.size = 0 if start else batch.size
    return part


class Entrance(Inbox):
    """Where a spool's puller puts what comes."""

    __slots__ = ("_store",)

    def __init__(self, store: Callable[[Batch], None]) -> None:
        super().__init__(lambda: None)
        self._store = store

    def put(self, batch: Batch) -> None:
        self._store(batch)

    def put_at(self, place: int, batch: Batch) -> None:
        self._store(batch)


class Storing:
    """Of all spooled queues of this peer."""

    def __init__(self, pulling: Pulling, clock: Callable[[], float]) -> None:
        self._pulling = pulling
        self._clock = clock

    def on_batch(self, spooled: Spooled, batch: Batch) -> None:
        try:
            came = spooled.stamp()
            stored = from_batch(batch, batch.link.max_attempts, came)
            if stored.flags & EXTRA:
                groups_of(stored)  # what it asks for makes sense
        except Malformed as error:
            self._pulling.reject(batch, str(error), self._clock())
            return
        runs, places = stored.runs, spooled.known.missing(stored.runs)
        fresh = sum(stop - start for start, stop in places)
        spooled.repeated += len(stored.items) - fresh
        if not fresh:
            spooled.storing.append(Coming(None, lambda first: self._answer(spooled, batch, runs), lambda: None))
            self.answer_repeats(spooled)
            return
        rest = stored if fresh == len(stored.items) else part_of(stored, places)
        for run in rest.runs:
            spooled.known.add(run.origin, run.first, run.first + run.length - 1)

        def is_safe(first: int) -> None:
            if not self._answer(spooled, batch, runs):
                spooled.came_doubtful.add(first, first + len(rest.items) - 1)

        def has_failed() -> None:
            for run in rest.runs:
                spooled.known.remove(run.origin, run.first, run.first + run.length - 1)
            self._answer(spooled, batch, runs)

        self.append(spooled, rest, is_safe, has_failed)

    def append(
        self, spooled: Spooled, stored: Stored, is_safe: Callable[[int], None], has_failed: Callable[[], None]
    ) -> None:
        """`is_safe` is told the number of the first of its messages, once they are synced."""
        spooled.storing.append(Coming(stored, is_safe, has_failed))
        spooled.disk.append(
            spooled.stream, len(stored.items), stored.runs, encode(stored), stored.flags
        )  # fmt: skip

    def hand_over(self, spooled: Spooled) -> None:
        intake = spooled.intake
        assert intake is not None
        stamp = spooled.stamp()
        batches = intake.next(stamp)
        spooled.storing.extend(
            Coming(stored, lambda first: self._deposited(spooled, first), intake.on_failed) for stored in batches
        )
        if batches:
            spooled.disk.append_all(spooled.stream, batches)

    @staticmethod
    def _deposited(spooled: Spooled, first: int) -> None:
        """What its sender has withdrawn meanwhile was never taken."""
        assert spooled.intake is not None
        for place in spooled.intake.on_stored():
            spooled.taken -= 1
            spooled.settle(first + place, first + place)

    @staticmethod
    def answer_repeats(spooled: Spooled) -> None:
        """Those that nothing stands before any more: now it is certain what became of what they repeat."""
        while spooled.storing and spooled.storing[0].stored is None:
            spooled.storing.popleft().safe(0)

    def _answer(self, spooled: Spooled, batch: Batch, runs: Sequence[Run]) -> bool:
        """Tells the pusher what is stored, and gives back what is not; whether all of it was still to be told."""
        missing = spooled.known.missing(runs)
        if not missing:
            return self._pulling.store(batch) == batch.live
        at = 0
        for start, stop in [*missing, (batch.live, batch.live)]:
            if at < start:
                self._pulling.store(_part(batch, at, start))
            if start < stop:
                self._pulling.give_back(_part(batch, start, stop))
            at = stop
        return False
