"""Readings of this machine, and what makes one of them an alarm."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import psutil

UNITS = {"cpu": "%", "memory": "%", "disk": "%", "network": "kB/s"}  # disk: how full the root file system is

HISTORY = 10  # readings that make the average: 2 s at the sensor's pace
ENOUGH = 5  # readings before the average means anything
STANDS_OUT = 1.05  # times the average; low on purpose: any machine raises some alarms within seconds


class Machine:
    """Takes all readings at once."""

    def __init__(self) -> None:
        psutil.cpu_percent()  # the first call only starts the measurement that the next one reports
        self._taken = time.monotonic()
        self._network = self._network_bytes()

    @staticmethod
    def _network_bytes() -> int:
        counters = psutil.net_io_counters()  # None on a machine without any interface
        return counters.bytes_sent + counters.bytes_recv if counters else 0

    def read(self) -> dict[str, float]:
        """One value a metric, in its unit; rates are since the last call."""
        now, network = time.monotonic(), self._network_bytes()
        rate = (network - self._network) / max(now - self._taken, 1e-3) / 1000
        self._taken, self._network = now, network
        return {
            "cpu": psutil.cpu_percent(),
            "memory": psutil.virtual_memory().percent,
            "disk": psutil.disk_usage("/").percent,
            "network": round(max(rate, 0.0), 1),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """A reading that stands out from those before it."""

    metric: str
    value: float
    average: float


class Threshold:
    """A reading 5 % above the average of the ten before it is an alarm: relative, so that it fits any machine."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._recent: deque[float] = deque(maxlen=HISTORY)

    def judge(self, value: float) -> Alarm | None:
        recent = self._recent
        average = sum(recent) / len(recent) if recent else 0.0
        stands_out = len(recent) >= ENOUGH and value > STANDS_OUT * average
        recent.append(value)
        return Alarm(metric=self._metric, value=value, average=round(average, 2)) if stands_out else None
