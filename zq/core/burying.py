"""Dead letters of spooled queues: each goes to a stream of its own, and only then its message is settled.

What the disk does not take is tried again; what died stays as it was until then. Of more letters than are to be kept
the oldest that wait are forgotten. What a crash costs is told in `spooling`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from zq.core.dead import item_of
from zq.core.outbox import Dead
from zq.core.spooled import LOOK, Spooled
from zq.core.timers import Timers
from zq.wire import dead as wire
from zq.wire.batch import EXTRA, REDELIVERED
from zq.wire.stored import KEPT, Stored


class Append(Protocol):
    """`Spooling.append`."""

    def __call__(
        self, spooled: Spooled, stored: Stored, is_safe: Callable[[int], None], has_failed: Callable[[], None]
    ) -> None: ...


class Burying:
    """Of all spooled queues of this peer."""

    def __init__(
        self,
        timers: Timers,
        append: Append,
        settled: Callable[[Spooled], None],
        tell: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """`settled` hears of a queue of which a letter is on the disk now."""
        self._timers = timers
        self._append = append
        self._settled = settled
        self._tell = tell
        self._clock = clock

    def bury(self, spooled: Spooled, death: Dead) -> None:
        """The message is settled once its letter is on the disk."""
        piece, letters = death.piece, spooled.letters
        assert letters is not None
        if not letters.taken and not spooled.dying:
            what = f"a message of {spooled.name} is dead: {death.reason[:200]!r}"
            self._tell(f"{what}; more are only counted, see {letters.name}")
        number, chunk = piece.position, piece.chunk
        item = wire.wrap(
            item_of(piece), bool(chunk.flags & EXTRA), spooled.name, death.reason, death.at, piece.history
        )  # fmt: skip
        again = number <= spooled.doubtful or number in spooled.came_doubtful
        flags = (chunk.flags & KEPT & ~REDELIVERED) | EXTRA | (REDELIVERED if again else 0)
        stored = Stored(
            letters.stamp(), 1, spooled.outbox.max_attempts, flags, (piece.run(),), chunk.topic, [item], chunk.parts
        )  # fmt: skip
        spooled.dying.add(number)

        def is_safe(first: int) -> None:
            spooled.dying.discard(number)
            spooled.settle(number, number)
            self._settled(spooled)

        def bury() -> None:
            self._append(letters, stored, is_safe, lambda: letters.unburied.append(bury))

        bury()

    def set_trouble(self, letters: Spooled, reason: str) -> None:
        """The disk takes no letters now. What died stays on it as it was, and counts as held, until it does."""
        if not letters.broken:
            letters.broken = reason
            self._tell(f"{letters.label} cannot store dead letters, and tries again: {reason}")
        self._timers.set_if_unset((letters, "bury"), self._clock() + LOOK, lambda when: self._bury_again(letters))

    def _bury_again(self, letters: Spooled) -> None:
        letters.broken = ""
        unburied, letters.unburied = letters.unburied, []
        for bury in unburied:
            bury()

    @staticmethod
    def forget_oldest(letters: Spooled) -> None:
        """Of more than are to be kept; those that are at a puller are its own."""
        most = letters.limits.max_messages
        if most is None or letters.unsettled <= most:
            return
        idle = letters.outbox.idle()
        number = letters.base
        while letters.unsettled > most and (number := letters.settled.first_missing(number)) <= letters.safe:
            letters.discard(number, None, "forgotten", idle)
            number += 1
