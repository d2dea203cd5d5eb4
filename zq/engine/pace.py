"""How long the engine lets messages pile up: not at all, unless callers are so busy that more will follow at once.

When nothing piles up each message goes out at once, in a frame of its own. A caller in a loop would then ring for every
message, and every message would have a turn: so from some rate on callers need not ring for a while, and what they
have left by then goes out together.

That while is a multiple of what the last turn took. On a quiet machine a turn takes 60 us, and a message waits for a
quarter of a millisecond at most. Where turns take longer, since they are about hundreds of messages or since others
want the processor too, the engine comes less often, and its share of the time stays the same.
"""

from __future__ import annotations

BUSY = 8  # messages taken or settled in one turn from which callers are taken to be busy
STILL_BUSY = 2  # while messages pile up already
RINGS = 8  # so are they when they ring so often in a row, each time before the engine has rested from the last turn
REST = 4  # times what the last turn took: how long the engine then lets more pile up, and callers need not ring
PILE_LEAST, PILE_MOST = 0.00025, 0.001  # s; but so long


class Pace:
    """What the last turns were like. `piling_until` is when callers are looked after again."""

    __slots__ = ("_moved", "_piling", "_rings", "_turned", "heard", "piling_until")

    def __init__(self) -> None:
        self.heard = False  # frames came in since the last turn
        self.piling_until = 0.0
        self._piling = False
        self._moved = 0  # messages since callers were looked after
        self._rings = 0  # turns in a row for which somebody was in a hurry
        self._turned = 0.0  # when the last one ended

    def turned(self, moved: int, began: float, now: float) -> None:
        """A turn has ended in which so many messages were taken or settled."""
        self._moved += moved
        # Else it was in between: what callers have left waits, and no longer for what others had settled meanwhile.
        if began >= self.piling_until:
            rest = REST * (now - began)
            # A message a turn, in a hurry, and nothing came in that it could be an answer to: more will follow.
            hurried = moved and not self.heard and began - self._turned < rest
            self._rings = self._rings + 1 if hurried else 0
            self._piling = self._moved >= (STILL_BUSY if self._piling else BUSY) or self._rings >= RINGS
            self._moved = 0
            if self._piling:
                self.piling_until = now + min(max(rest, PILE_LEAST), PILE_MOST)
        self.heard = False
        self._turned = now
