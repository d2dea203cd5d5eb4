"""Where a subscription begins in each publisher's topics: what is subscribed, and the fence behind it.

Each change of this peer's filters draws a nonce. Every publisher's feed gets the new prefixes, then the fence with
that nonce, then the end of what is no longer wanted. The publisher answers the fence in-band, behind everything that
it published before our subscription took effect, with the heads of the matching topics and its clock. That clock less
a subscription's age is the moment it began, one transit early at the most; topics that appear behind the fence start
at 1. A fence whose answer is lost is subscribed again, later each time; an answer to an older one says nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zq.core.reception import Reception
from zq.core.subscription import Cursor, Subscription
from zq.core.timers import Timers
from zq.wire.frames import Head

FENCE_AFTER, FENCE_MOST = 1.0, 5.0  # s until a fence that was not answered is subscribed again, doubled up to


class Fences:
    """Of this peer's filters as they are, at each publisher."""

    def __init__(
        self, timers: Timers, subscribe: Callable[[int, bytes, bool], None], fence: Callable[[bytes], bytes]
    ) -> None:
        self._timers = timers
        self._subscribe = subscribe
        self._prefix = fence  # nonce to prefix
        self._prefixes: set[bytes] = set()
        self.on_unanswered: Callable[[bytes, float], None] = lambda publisher, now: None  # it may connect anew
        self.generation = 0
        self.nonce = b""

    def renew(
        self, nonce: bytes, subscriptions: Iterable[Subscription], receptions: Iterable[Reception], now: float
    ) -> None:
        """New filters: the prefixes first, then a new fence behind them, then what is no longer wanted."""
        old_nonce, old_prefixes = self.nonce, self._prefixes
        self.nonce = nonce
        self.generation += 1
        self._prefixes = {
            b"T" + prefix
            for subscription in subscriptions
            for filter in subscription.filters
            for prefix in filter.prefixes()
        }
        for reception in receptions:
            if reception.feed is not None:
                for prefix in self._prefixes - old_prefixes:
                    self._subscribe(reception.feed, prefix, True)
                self._subscribe(reception.feed, self._prefix(nonce), True)
                if old_nonce:
                    self._subscribe(reception.feed, self._prefix(old_nonce), False)
                for prefix in old_prefixes - self._prefixes:
                    self._subscribe(reception.feed, prefix, False)
                reception.fence_patience = 0.0
                self._expect(reception, now)

    def connect(self, reception: Reception, now: float) -> None:
        """It has a new connection."""
        if reception.feed is not None:
            for prefix in self._prefixes:
                self._subscribe(reception.feed, prefix, True)
            if self.nonce:
                self._subscribe(reception.feed, self._prefix(self.nonce), True)
                self._expect(reception, now)

    def _expect(self, reception: Reception, now: float) -> None:
        patience = reception.fence_patience = min(max(reception.fence_patience * 2, FENCE_AFTER), FENCE_MOST)
        self._timers.set((reception, "fence"), now + patience, lambda when: self._fence_again(reception, when))

    def _fence_again(self, reception: Reception, now: float) -> None:
        """The answer was lost: a feed drops what a slow connection has no room for."""
        if reception.feed is not None and not self.is_answered(reception):
            self.on_unanswered(reception.publisher, now)
            self._subscribe(reception.feed, self._prefix(self.nonce), False)
            self._subscribe(reception.feed, self._prefix(self.nonce), True)
            self._expect(reception, now)

    def is_answered(self, reception: Reception) -> bool:
        return reception.fenced == self.generation

    def answered(self, reception: Reception) -> None:
        reception.fenced = self.generation
        self._timers.cancel((reception, "fence"))

    def forget(self, reception: Reception) -> None:
        self._timers.cancel((reception, "fence"))


def place(cursor: Cursor, head: Head, began: float) -> None:
    """Where the cursor starts, if its subscription began at that time of the publisher's clock."""
    if head.first_clock >= began:
        cursor.begin(1)
    elif head.last_clock < began:
        cursor.begin(head.number if head.retained else head.number + 1)
    else:
        cursor.since = began
