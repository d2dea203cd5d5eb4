"""How far a topic stream has what is published: the last number stored of each publisher's topic, and up to where
publishers have cleared what they had retained.

A stream that is opened asks each publisher for what is behind these numbers, and of a publisher's topic that it does
not know for what was published since `LATE` before the newest came. So a row may be forgotten without harm once what it
tells of came before that: nothing of it is asked for again. Beyond `MOST` rows those go; beyond `LIMIT` the ones that
were silent longest, and what they had published since may be stored twice. That is `doubled`, for the operator to know.

A publisher's word that a value is cleared may come before the value does. It is kept until all up to there is stored
and nothing of its topic is retained.
"""

from __future__ import annotations

from collections.abc import Mapping

from zq.record import dataclass

Key = tuple[bytes, str]  # publisher, topic

LATE = 600.0  # s that what one publisher sent may have been under way while what others sent was stored
MOST = 65_536  # rows; 20 MB
LIMIT = 262_144


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    came: float  # wall clock of the spool


class Heads:
    """Those of one stream; the rows that were noted last are the last."""

    def __init__(self, numbers: Mapping[Key, int], came: float) -> None:
        """As they were found; the newest of them came then, by the wall clock."""
        self._rows = {key: _Row(number, came) for key, number in numbers.items()}
        self._cleared: dict[Key, int] = {}
        self._newest = came
        self.doubled = 0  # rows that were forgotten too early

    def __len__(self) -> int:
        return len(self._rows)

    def numbers(self) -> dict[Key, int]:
        return {key: row.number for key, row in self._rows.items()}

    def note(self, key: Key, number: int, came: float) -> None:
        """All up to that number is stored, the last of it since `came`."""
        self._newest = max(self._newest, came)
        self._rows.pop(key, None)
        self._rows[key] = _Row(number, came)
        while len(self._rows) > MOST and self._may_forget():
            pass

    def _may_forget(self) -> bool:
        key, row = next(iter(self._rows.items()))
        if row.came >= self._newest - LATE:
            if len(self._rows) <= LIMIT:
                return False
            self.doubled += 1
        del self._rows[key]
        return True

    def expect(self, key: Key, number: int) -> None:
        """Nothing of it is stored, and what is behind that number is not to be lost."""
        if key not in self._rows:
            self._rows[key] = _Row(number, self._newest)

    # --- retained values

    def clear(self, key: Key, number: int) -> bool:
        """Nothing up to that number is retained any more. Whether that is news."""
        if self.is_cleared(key, number):
            return False
        self._cleared.pop(key, None)
        self._cleared[key] = number
        if len(self._cleared) > MOST:
            del self._cleared[next(iter(self._cleared))]
        return True

    def is_cleared(self, key: Key, number: int) -> bool:
        return number <= self._cleared.get(key, 0)

    def settle_clear(self, key: Key) -> None:
        """Nothing of its topic is retained here: what is cleared matters only to what is still to come."""
        row, cleared = self._rows.get(key), self._cleared.get(key)
        if row is not None and cleared is not None and row.number >= cleared:
            del self._cleared[key]

    @property
    def clears(self) -> int:
        """How many are remembered."""
        return len(self._cleared)
