"""How full a spooled queue is: at one of its limits it takes nothing more, until there is a tenth less.

Of a disk without the free space that is left to others, nothing tells when it comes back: it is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable

from zq.core.burying import Burying
from zq.core.spooled import CREDIT, CREDIT_BYTES, LOOK, ROOMY, Spooled
from zq.core.timers import Timers


class Filling:
    """Of all spooled queues of this peer."""

    def __init__(
        self, timers: Timers, tell: Callable[[str], None], changed: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        """`changed` hears when the roster entry is to be told again."""
        self._timers = timers
        self._tell = tell
        self._changed = changed
        self._clock = clock

    def judge(self, spooled: Spooled) -> None:
        if not spooled.is_queue:
            Burying.forget_oldest(spooled)
            return
        limits, room = spooled.limits, spooled.room
        share = ROOMY if spooled.is_full else 1.0
        reasons = []
        if limits.max_bytes is not None and room.used >= limits.max_bytes * share:
            reasons.append(f"{room.used:,} bytes of {limits.max_bytes:,}")
        if limits.max_messages is not None and spooled.unsettled >= limits.max_messages * share:
            reasons.append(f"{spooled.unsettled:,} messages of {limits.max_messages:,}")
        if room.free < limits.min_free / share:
            reasons.append(f"{room.free:,} bytes free, {limits.min_free:,} are left to others")
        full = bool(reasons or spooled.broken or spooled.closing)
        self._bound(spooled)
        self.set_full(spooled, full, f"{spooled.label} takes no more: {'; '.join(reasons)}")
        if room.free < limits.min_free / share:
            self.look_later(spooled, self._clock())

    @staticmethod
    def _bound(spooled: Spooled) -> None:
        """What is on its way does not go far beyond a limit: of messages not at all, of bytes by what files add."""
        puller, limits = spooled.puller, spooled.limits
        if puller is not None and limits.max_messages is not None:
            puller.prefetch.size = max(min(limits.max_messages - spooled.unsettled, CREDIT), 1)
        if puller is not None and limits.max_bytes is not None:
            puller.prefetch_bytes = max(min(limits.max_bytes - spooled.room.used, CREDIT_BYTES), 1)

    def set_full(self, spooled: Spooled, full: bool, why: str) -> None:
        if spooled.is_full is full:
            return
        if spooled.puller is not None:
            spooled.puller.full = full
            for link in spooled.puller.links.values():
                link.news = True
        if spooled.intake is not None:
            spooled.intake.set_full((why or "it is being closed") if full else "")
        if not spooled.closing:
            self._tell(why if full else f"{spooled.label} has room again")
        self._changed()

    def look_later(self, spooled: Spooled, now: float) -> None:
        self._timers.set_if_unset((spooled, "room"), now + LOOK, lambda when: self._look(spooled))

    @staticmethod
    def _look(spooled: Spooled) -> None:
        if spooled.open:
            spooled.disk.look(spooled.stream)
