"""Tokens: one is taken for what is not to happen too often, and another is there some time later."""

from __future__ import annotations

FINED = 60.0  # s after which there are some again at the latest
DEBT = 1  # times the tokens that there are at most that may be owed


class Tokens:
    """So many, and one more in each `pace` seconds."""

    __slots__ = ("_at", "_left", "_most", "pace")

    def __init__(self, most: int, pace: float, now: float) -> None:
        self._most = most
        self.pace = pace
        self._left = float(most)
        self._at = now

    def there_are(self, now: float, share: float = 0.0) -> bool:
        """At least one, and that share of those that there are at most."""
        self._left = min(self._left + (now - self._at) / self.pace, self._most)
        self._at = now
        return self._left > max(1, share * self._most) - 0.001  # what adding fractions loses

    def take(self) -> None:
        """Whether there is one or not: then the next are owed, but never so many that it takes long."""
        self._left = max(self._left - 1, min(self._left, -DEBT * self._most))

    def fine(self, count: int) -> None:
        """So many are owed beside those that are already, but none of more than FINED seconds."""
        self._left = max(self._left - count, min(self._left, -FINED / self.pace))

    def give_back(self) -> None:
        self._left = min(self._left + 1, self._most)

    def used(self, now: float) -> float:
        """The share of them all that is not there; more than 1 if the next are owed."""
        self.there_are(now)
        return 1 - self._left / self._most

    def seconds(self) -> float:
        """From the last look until there is one."""
        return max(1.0 - self._left, 0.0) * self.pace
