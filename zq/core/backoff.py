"""How long a message whose handler failed waits for its next attempt."""

from __future__ import annotations

FIRST, MOST = 0.1, 30.0  # s after the first attempt, doubled an attempt up to
JITTER = 0.5  # of that at most is added, so that what failed together does not come again together
DOUBLINGS = 60  # more change nothing, and would make an int that no float holds


def backoff(attempt: int, chance: float) -> float:
    """Seconds until a message comes again whose `attempt` has failed. `chance` is drawn from 0 to 1."""
    return float(min(FIRST * 2 ** min(attempt - 1, DOUBLINGS), MOST) * (1 + JITTER * chance))
