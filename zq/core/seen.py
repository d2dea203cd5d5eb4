"""Which requests of one requester have been here."""

from __future__ import annotations

SEEN_MOST = 65_536  # numbers remembered of one requester above its floor; an honest one has few
BY_MAILBOX = -1  # instead of the number of a work connection


class Seen:
    """Numbers of one requester that have been here. Everything below `floor` counts as seen.

    Of those that were answered over work it is known by which of its connections. Below `ended`, which never is above
    `floor`, nobody waits for anything: the requester has said so.
    """

    __slots__ = ("_kept", "_numbers", "ended", "floor")

    def __init__(self, floor: int = 0) -> None:
        self.floor = floor
        self.ended = 0
        self._numbers: dict[int, int] = {}  # and the work connection
        self._kept = 64  # numbers up to which nobody looks what can be forgotten

    def add(self, number: int, floor: int) -> bool:
        """False when it was here, or is over."""
        if self.has(number):
            return False
        self.ended = max(self.ended, min(floor, number))
        self.floor = max(self.floor, self.ended)
        self._numbers[number] = BY_MAILBOX
        if len(self._numbers) > self._kept:
            self._forget()
            if len(self._numbers) > SEEN_MOST:
                self.floor = sorted(self._numbers)[-(SEEN_MOST // 2)]
                self._forget()
            self._kept = max(64, 2 * len(self._numbers))
        return True

    def _forget(self) -> None:
        self._numbers = {each: over for each, over in self._numbers.items() if each >= self.floor}

    def has(self, number: int) -> bool:
        return number < self.floor or number in self._numbers

    def numbers(self) -> list[int]:
        """Those that its sender may still wait for."""
        return [number for number in self._numbers if number >= self.floor]

    def answered_over(self, number: int) -> int:
        """The work connection, if it was one."""
        return self._numbers.get(number, BY_MAILBOX)

    def answer(self, number: int, generation: int) -> None:
        if number in self._numbers:
            self._numbers[number] = generation

    def close(self) -> None:
        """Whatever was sent up to now is over."""
        self.floor = max(self._numbers, default=self.floor - 1) + 1
        self._numbers.clear()
