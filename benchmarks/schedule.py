"""Sending at a fixed rate, whatever becomes of what was sent."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from typing import Any

RATES = {"1k": 1_000, "10k": 10_000, "100k": 100_000}
WARM_UP = 0.2  # s not counted
PR_SET_TIMERSLACK = 29


def on_schedule(count: int, rate: int, send: Callable[[Any], object]) -> None:
    """Sends `count` messages, each when it is due. Their `t` is that time, of the clock all processes share."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1_000)
    start = time.monotonic() + 0.05
    for number in range(count):
        due = start + number / rate
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        send({"id": number, "t": due, "name": "sensor-kitchen", "payload": b"x" * 50})
