"""What tests of the engine share."""

from __future__ import annotations

import math
import time

import pytest

from zq.engine import engine as module
from zq.engine.engine import Engine

NEAR = 0.1  # s; sooner timers are part of what is tested


@pytest.fixture
def unhelped(monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine looks around once a second, nor wakes for a timer that is not near: whoever depends on that is stuck
    for good, and whoever does not may take as long as his machine needs."""
    monkeypatch.setattr(module, "SWEEP", math.inf)
    sleep = Engine.sleep

    def sleep_on(engine: Engine, until: float | None, *, awake: bool = False) -> None:
        timers = engine.node.timers
        soonest = timers.soonest
        if soonest > time.monotonic() + NEAR:
            timers.soonest = math.inf
        try:
            sleep(engine, until, awake=awake)
        finally:
            timers.soonest = soonest

    monkeypatch.setattr(Engine, "sleep", sleep_on)
