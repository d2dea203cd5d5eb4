"""From the disk to pullers: what of a spooled queue's backlog is in memory.

A window of it is loaded, and more when half of that is empty. What is settled is not loaded, though it is read. What
the disk has not got any more is settled, counted as `damaged`, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zq.core.spooled import LOOK, WINDOW, WINDOW_BYTES, Item, Reader, Spooled
from zq.core.timers import Timers
from zq.wire.batch import EXTRA, NAMED, PARTS, REDELIVERED, Run
from zq.wire.data import Malformed
from zq.wire.stored import TRIMMED, Group, Stored, decode, groups_of

UNDUE = 8  # windows of messages that are not due yet, or behind their key, beside those that could be sent


class Loading:
    """Of all spooled queues of this peer."""

    def __init__(self, timers: Timers, tell: Callable[[str], None]) -> None:
        self._timers = timers
        self._tell = tell

    @staticmethod
    def _has_room(spooled: Spooled, messages: int) -> bool:
        outbox = spooled.outbox
        blocked = outbox.delayed + outbox.keyed
        held = outbox.held - blocked + len(spooled.dying)
        few = spooled.sent is None and held < messages and blocked < UNDUE * WINDOW
        return few and (outbox.held_bytes < WINDOW_BYTES or not outbox.held)

    def on_stored(self, spooled: Spooled, first: int, stored: Stored, now: float) -> None:
        """It is on the disk: if nothing older waits there it need not be read again."""
        if spooled.next_load == first and not spooled.reading and self._has_room(spooled, WINDOW):
            self._load(spooled, first, stored, now)
            spooled.next_load = first + len(stored.items)

    def go_on(self, spooled: Spooled) -> None:
        if spooled.reading or spooled.next_load > spooled.safe or not self._has_room(spooled, WINDOW // 2):
            return
        spooled.next_load = spooled.settled.first_missing(max(spooled.next_load, spooled.base))
        if spooled.next_load > spooled.safe:
            return
        spooled.reading = True
        self.read(spooled, spooled.next_load, lambda items, now: self._load_items(spooled, items, now))

    @staticmethod
    def read(spooled: Spooled, first: int, reader: Reader) -> None:
        spooled.readers.append(reader)
        spooled.disk.read(spooled.stream, first)

    def _load_items(self, spooled: Spooled, items: Sequence[Item], now: float) -> None:
        spooled.reading = False
        if spooled.sent is not None:
            return
        for item in items:
            if item.last < spooled.next_load:
                continue
            if item.flags & TRIMMED:
                spooled.settle(max(item.first, spooled.next_load), item.last)  # whatever the journal says
            elif item.body is None:
                self._lose(spooled, max(item.first, spooled.next_load), item.last)
            else:
                try:
                    stored = decode(item.body, item.last - item.first + 1, item.flags, item.runs)
                    self._load(spooled, item.first, stored, now)
                except Malformed:
                    self._lose(spooled, max(item.first, spooled.next_load), item.last)
            spooled.next_load = item.last + 1
        spooled.holder.dispatch(spooled.outbox, now)
        if not items:
            self._timers.set_if_unset((spooled, "read"), now + LOOK, lambda when: self.go_on(spooled))

    def _lose(self, spooled: Spooled, first: int, last: int) -> None:
        """What the disk has not got any more."""
        count = sum(high - low + 1 for low, high in spooled.settle(first, last))
        if count:
            spooled.damaged += count
            self._tell(f"{spooled.label}: {count} messages, {first} to {last}, are damaged and lost")

    def _load(self, spooled: Spooled, number: int, stored: Stored, now: float) -> None:
        outbox = spooled.outbox
        if spooled.is_queue:
            outbox.max_attempts = stored.max_attempts
        since = now - stored.came.until(spooled.stamp())
        for start, items, run, plan in groups_of(stored) if spooled.is_queue else as_letters(stored):
            first = number + start
            for low, high in self._unsettled(spooled, max(first, spooled.next_load), first + len(items) - 1):
                attempts = spooled.attempts.get(low, stored.attempt)
                redelivered = bool(stored.flags & REDELIVERED) or attempts > 1 or low <= spooled.doubtful
                redelivered = redelivered or low in spooled.came_doubtful
                part = Run(run.origin, run.first + low - first, high - low + 1, run.time)
                flags = stored.flags & (EXTRA | PARTS | NAMED)
                these = items if high - low + 1 == len(items) else items[low - first : high - first + 1]
                outbox.load(
                    low, these, stored.parts, flags, part, stored.topic, plan, now,
                    attempt=attempts, redelivered=redelivered, since=since,
                )  # fmt: skip

    @staticmethod
    def _unsettled(spooled: Spooled, first: int, last: int) -> list[tuple[int, int]]:
        """The parts of first..last that are not settled; those with attempts of their own are alone."""
        parts: list[tuple[int, int]] = []
        first = max(first, spooled.base)
        while (first := spooled.settled.first_missing(first)) <= last:
            end = first
            if first not in spooled.attempts:
                stop = spooled.settled.next_start(first)
                end = last if stop is None else min(last, stop - 1)
                charged = [number for number in spooled.attempts if first < number <= end] if spooled.attempts else []
                doubtful = [at for at in (spooled.doubtful + 1,) if first < at <= end]
                end = min([end + 1, *charged, *doubtful]) - 1
            parts.append((first, end))
            first = end + 1
        return parts


def as_letters(stored: Stored) -> list[Group]:
    """What is held together of dead letters: nothing, and nobody has asked for anything."""
    groups: list[Group] = []
    for run in stored.runs:
        for index in range(run.length):
            at = len(groups)
            groups.append(Group(at, stored.items[at : at + 1], Run(run.origin, run.first + index, 1, run.time), None))
    return groups
