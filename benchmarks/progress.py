"""How far the benchmarks are: a bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

WIDTH = 24  # characters of the bar


class Progress:
    """`steps` is how many rounds of contenders there are; called as each of them begins, and with "" at the end."""

    def __init__(self, steps: int, to: TextIO | None = None) -> None:
        self._steps = steps
        self._to = sys.stderr if to is None else to
        self._begun = 0
        self._started = time.monotonic()

    def __call__(self, what: str) -> None:
        if not self._to.isatty():
            if what:
                print(what, file=self._to)
        elif what:
            print(f"\r\x1b[K{self._bar()} {what}", end="", file=self._to, flush=True)
            self._begun += 1
        else:
            print("\r\x1b[K", end="", file=self._to, flush=True)

    def _bar(self) -> str:
        """Of what is done. Steps are of different lengths, so that the time that is left is a guess."""
        done = self._begun
        full = WIDTH * done // max(self._steps, 1)
        bar = f"[{'#' * full}{'.' * (WIDTH - full)}] {done}/{self._steps}"
        if not done:
            return bar
        left = (time.monotonic() - self._started) / done * (self._steps - done)
        return f"{bar}, {left / 60:.0f} min left" if left >= 60 else f"{bar}, {left:.0f} s left"
