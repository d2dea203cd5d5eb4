"""Waiting in tests: for the event itself, with a deadline, never for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

PATIENCE = 10.0  # s a test waits for what should come at once


def eventually(test: Callable[[], Any], timeout: float = PATIENCE) -> Any:
    """Looks again and again until `test` is true; for what gives no other sign. Returns its value."""
    deadline = time.monotonic() + timeout
    while not (value := test()):
        assert time.monotonic() < deadline, "it has not happened in time"
        threading.Event().wait(0.002)
    return value


def disk_at_rest(keeper: Any) -> None:
    """Until the thread of that disk has written all that it had to write."""
    streams = keeper._streams
    eventually(lambda: not any(stream.unmarked or stream.untidied for stream in list(streams.values())))
    done = threading.Event()

    def act(stream: object) -> bool:
        done.set()  # so the turn in which it wrote the last has ended
        return False

    keeper.call(next(iter(streams)), act)
    assert done.wait(PATIENCE)
