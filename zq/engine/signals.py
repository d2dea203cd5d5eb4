"""Python's signal handlers, kept waiting while the main thread does the engine's work.

CPython runs a signal's handler in the main thread between any two of its steps, and what the handler raises
(KeyboardInterrupt) comes out there: in the middle of a turn that would leave the node half changed. So the main
thread puts a stand-in before each handler that is written in Python, which only notes the signal and ends the sleep
in the poller. When the turn is over the handlers are put back and what was noted is raised again, so that each
handler runs as if the signal had come then. Handlers that are not Python's (the default ones, faulthandler's) never
interrupt a step and stay as they are.

An interrupt between any two steps here raises where it would have raised without us, and leaves every handler in
its place.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` looks each number up in an enumeration: fifty times slower
import signal
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any

_NUMBERS = tuple(sorted(map(int, signal.valid_signals())))


class Deferral:
    """For the main thread only. `begin`, then `end`; `noted` says that a signal has come in between."""

    __slots__ = ("_found", "_in_python", "_noted", "_on_signal", "_replaced")

    def __init__(self, on_signal: Callable[[], object]) -> None:
        self._on_signal = on_signal
        self._found: list[Any] = []  # the handlers of all signals as they were last
        self._in_python: list[tuple[int, Any]] = []  # those of them that could interrupt
        self._replaced: list[tuple[int, Any]] = []
        self._noted: deque[int] = deque()

    @property
    def noted(self) -> bool:
        return bool(self._noted)

    def begin(self) -> None:
        try:
            found = list(map(_signal.getsignal, _NUMBERS))
            if found != self._found:
                self._in_python = [
                    (number, what) for number, what in zip(_NUMBERS, found, strict=True) if callable(what)
                ]
                self._found = found
            for pair in self._in_python:
                self._replaced.append(pair)
                _signal.signal(pair[0], self._note)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Raises what the handlers of the signals noted raise."""
        try:
            while self._replaced:
                _signal.signal(*self._replaced[-1])
                self._replaced.pop()
            while self._noted:
                _signal.raise_signal(self._noted.popleft())
        finally:  # a handler that is back in its place has raised: the others come back, and are heard, all the same
            if self._replaced or self._noted:
                self.end()

    def abandon(self) -> None:
        """In a forked child, whose main thread is the one that forked: the handlers are back, nothing is heard."""
        self._noted.clear()
        self.end()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._noted.append(number)
        self._on_signal()
