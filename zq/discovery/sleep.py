"""Whether the machine has been asleep: then connections are dead though no time has passed for them."""

from __future__ import annotations

import time
from collections.abc import Callable

NOTABLE = 2.0  # s of sleep from which others may have lost us; heartbeats take as long to notice
AT_ONCE = NOTABLE / 4  # s between two clocks that are read together


def asleep() -> float:
    """Seconds this machine has slept since it was started; 0.0 where the system does not say."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    if boottime is None:
        return 0.0
    while True:
        now = time.monotonic()
        slept = time.clock_gettime(boottime) - now
        if time.monotonic() - now < AT_ONCE:
            return slept  # else this thread was not run in between, which is no sleep of the machine


class Sleep:
    """Remembers how long the machine had slept at the last look."""

    def __init__(self, asleep: Callable[[], float] = asleep) -> None:
        self._asleep = asleep
        self._before = asleep()

    def has_been(self) -> float:
        """Seconds slept since the last look; 0.0 if that is not worth mentioning."""
        before, self._before = self._before, self._asleep()
        slept = self._before - before
        return slept if slept >= NOTABLE else 0.0
