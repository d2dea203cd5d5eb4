"""How long the engine lets messages pile up: not at all, unless callers are so busy that more will follow at once.

When nothing piles up each message goes out at once, in a frame of its own. A caller in a loop would then ring for every
message, and every message would have a turn: so from some rate on callers need not ring for a while, and what they
have left by then goes out together.
"""

from __future__ import annotations

BUSY = 8  # messages taken or settled in one turn from which callers are taken to be busy
RINGS, RINGS_WITHIN = 8, 60e-6  # so are they when they ring so often in a row, each so soon (s) after the last turn
PILE_UP = 0.001  # s that the engine then lets more pile up, and callers need not ring; epoll counts in ms


class Pace:
    """What the last turns were like. `piling_until` is when callers are looked after again."""

    __slots__ = ("_rings", "_turned", "heard", "piling_until", "rang")

    def __init__(self) -> None:
        self.heard = False  # frames came in since the last turn
        self.rang = False  # somebody ended the last sleep by ringing
        self.piling_until = 0.0
        self._rings = 0  # turns in a row that were rung for in a hurry
        self._turned = 0.0  # when the last one ended

    def turned(self, moved: int, now: float) -> None:
        """A turn has ended in which so many messages were taken or settled."""
        # A message a turn, in a hurry, and nothing came in that it could be an answer to: more will follow.
        hurried = self.rang and moved and not self.heard and now - self._turned < RINGS_WITHIN
        self._rings = self._rings + 1 if hurried else 0
        if moved >= BUSY or self._rings >= RINGS:
            self.piling_until = now + PILE_UP
        self.heard = self.rang = False
        self._turned = now
