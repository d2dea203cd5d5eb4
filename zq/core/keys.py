"""Of the messages of one key at most one is on its way; the others wait behind it, in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from zq.core.piece import Piece


class Keys:
    """The keys that are in use at one outbox."""

    def __init__(self) -> None:
        self._behind: dict[str, deque[Piece] | None] = {}  # by key in use; None as long as nobody waits for it

    def __len__(self) -> int:
        return len(self._behind)

    def __iter__(self) -> Iterator[Piece]:
        """All who wait."""
        for line in self._behind.values():
            yield from line or ()

    def claim(self, key: str, piece: Piece) -> bool:
        """True when it may go; else it waits here until it is returned by `release`."""
        if key not in self._behind:
            self._behind[key] = None
            return True
        line = self._behind[key]
        if line is None:
            line = self._behind[key] = deque()
        line.append(piece)
        return False

    def release(self, key: str) -> Piece | None:
        """The message that had the key is settled: whose turn it is now."""
        line = self._behind[key]
        if line:
            return line.popleft()
        del self._behind[key]
        return None

    def expire(self, key: str, piece: Piece) -> None:
        """It waits no more."""
        line = self._behind[key]
        assert line is not None
        line.remove(piece)
