"""How much this peer tells of itself in its roster entry, so that it always fits one frame of a mailbox.

A larger frame would end every connection it is sent on, again and again. So whoever opens one handle too many hears of
it at once, and the entry stays as it is. What comes without a handle (a spool's queues, its readers) cannot be
refused; where it does not fit, filters or the longest lists are cut, and that is said once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zq.errors import Refused
from zq.wire.budget import containers_in
from zq.wire.frames import ROWS, Entry
from zq.wire.limits import ANNOUNCED, MAILBOX_FRAME, SUBSCRIPTIONS
from zq.wire.names import Filter

ROW = 64  # bytes that a row takes beside its name at most: a tag, two ids, two numbers
SHORTER = 0.9  # of a list that is cut, again and again until all fits


class Announced:
    """What is announced now, and what will be with handles that were opened since."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._bytes = 0
        self._subscriptions = 0
        self._said = False

    def add(self, names: Iterable[str], filters: Iterable[Filter] = ()) -> None:
        """Something with these names and filters is about to be announced. Refused, and nothing changes, if it does not
        fit."""
        texts = [filter.text for filter in filters]
        size = sum(len(name) + ROW for name in (*names, *texts))
        if self._subscriptions + len(texts) > SUBSCRIPTIONS:
            raise Refused(
                f"this peer subscribes to {self._subscriptions:,} filters, and {SUBSCRIPTIONS:,} are the limit: close "
                "subscriptions that nobody reads, or let a wildcard stand for many topics"
            )
        if self._bytes + size > ANNOUNCED:
            raise Refused(
                f"this peer announces {self._bytes >> 10} KiB of topics, queues and services, and {ANNOUNCED >> 10} "
                "are the limit: close what is not used any more, or open another peer for a part of it"
            )
        self._bytes += size
        self._subscriptions += len(texts)

    def fit(self, entry: Entry) -> Entry:
        """The entry, measured, and cut if it must be."""
        if (excess := subscriptions(entry) - SUBSCRIPTIONS) > 0:
            entry = self._cut(entry, "filters", max(len(entry.filters) - excess, 0))
        size = self._measure(entry)
        self._bytes, self._subscriptions = size, subscriptions(entry)
        while size > MAILBOX_FRAME or (size > ROWS and containers_in(list(vars(entry).values())) > ROWS):
            lengths = {name: len(rows) for name, rows in vars(entry).items() if isinstance(rows, list)}
            longest = max(lengths, key=lambda name: lengths[name])
            entry = self._cut(entry, longest, int(lengths[longest] * SHORTER))
            size = self._measure(entry)
        return entry

    def _cut(self, entry: Entry, what: str, most: int) -> Entry:
        if not self._said:
            self._said = True
            self._tell(f"this peer announces more than others take: the last of its {what} are left out")
        return Entry(**(vars(entry) | {what: vars(entry)[what][:most]}))

    @staticmethod
    def _measure(entry: Entry) -> int:
        return len(entry.encode(bytes(16), bytes(16)))


def subscriptions(entry: Entry) -> int:
    """Filters in all that an entry announces."""
    bound = sum(len(filters) for _, _, filters in entry.binds)
    return len(entry.filters) + bound + sum(len(row[3]) for row in entry.cursors)
