"""Where the dashboard shows things: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from types import TracebackType
from typing import Self

from rich import box
from rich.live import Live
from rich.table import Table

BARS = "▁▂▃▄▅▆▇█"
KEPT = 40  # readings in the little chart: 8 s
LINE_EVERY = 1.0  # s between plain lines


class Series:
    """The readings of one topic."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.count = 0
        self.recent: deque[float] = deque(maxlen=KEPT)

    def add(self, value: float) -> None:
        self.count += 1
        self.recent.append(value)

    @property
    def chart(self) -> str:
        low, high = min(self.recent), max(self.recent)
        scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
        return "".join(BARS[round((value - low) * scale)] for value in self.recent)


class Screen(ABC):
    """Shows the newest readings, and lines between them."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {}
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def reading(self, topic: str, value: float, unit: str) -> None:
        self._series.setdefault(topic, Series(unit)).add(value)

    def say(self, text: str, ago: float = 0.0) -> None:
        """Shows what happened `ago` seconds ago, and when that was, at once and for good."""
        self.print(f"{time.monotonic() - self._began - ago:6.2f} s  {text}")

    @abstractmethod
    def print(self, line: str) -> None: ...

    @abstractmethod
    def draw(self) -> None:
        """Shows the readings as they are now; may be called at any rate."""


class LiveTable(Screen):
    """A terminal: one row a topic."""

    def __enter__(self) -> Self:
        self._live = Live(auto_refresh=False)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def print(self, line: str) -> None:
        self._live.console.print(line, highlight=False, markup=False)

    def draw(self) -> None:
        table = Table("topic", box=box.SIMPLE_HEAD)
        table.add_column("now", justify="right")
        table.add_column("")
        table.add_column("last 8 s", width=KEPT, no_wrap=True)
        table.add_column("readings", justify="right")
        for topic, series in sorted(self._series.items()):
            table.add_row(topic, f"{series.recent[-1]:.1f}", series.unit, series.chart, str(series.count))
        self._live.update(table, refresh=True)


class PlainLines(Screen):
    """A file or a pipe: one line a second."""

    def __init__(self) -> None:
        super().__init__()
        self._due = self._began + LINE_EVERY

    def print(self, line: str) -> None:
        print(line, flush=True)

    def draw(self) -> None:
        now = time.monotonic()
        if now < self._due or not self._series:
            return
        self._due = now + LINE_EVERY
        cells = (
            f"{topic.rpartition('/')[2]} {series.recent[-1]:.1f} {series.unit}"
            for topic, series in sorted(self._series.items())
        )
        self.say(", ".join(cells))


def screen_for_this_terminal() -> Screen:
    return LiveTable() if sys.stdout.isatty() else PlainLines()
