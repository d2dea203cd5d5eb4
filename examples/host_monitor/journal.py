"""What each process notes down about its own part, in files that survive a SIGKILL, and the comparison of these notes.

This is the demo's oracle. It uses nothing of zq: a message counts as lost if its sender wrote it down and no receiver
did, whatever any ledger says.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Journal:
    """One file that grows by a line per event. Each line is with the kernel when `add` returns."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def add(self, event: str, what: object = "") -> None:
        os.write(self._file, f"{event} {what}\n".encode())


def read(paths: Iterable[Path], event: str) -> list[str]:
    """What the journals say about `event`; a journal that was never begun says nothing."""
    entries = [line for path in paths if path.exists() for line in path.read_text().splitlines()]
    return [what for kind, _, what in (entry.partition(" ") for entry in entries) if kind == event]


def in_hand(path: Path) -> str | None:
    """What the worker with this journal has begun and not done; None if there is nothing."""
    began, done = read([path], "began"), read([path], "done")
    return began[-1] if len(began) > len(done) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One kind of message from end to end. `delivered` counts every delivery, so it may exceed `sent`."""

    sent: int
    delivered: int
    again: int  # deliveries beyond the first
    lost: int

    @classmethod
    def of(cls, sent: Iterable[str], delivered: Iterable[str], processed: Iterable[str]) -> Account:
        """Lost is what was sent and never processed; beginning alone does not count."""
        wanted = set(sent)
        times = Counter(delivered)
        return cls(
            sent=len(wanted),
            delivered=times.total(),
            again=times.total() - len(times),
            lost=len(wanted - set(processed)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounts:
    """Everything that the journals of one run say."""

    readings: Account
    alarms: Account

    @classmethod
    def of(cls, directory: Path) -> Accounts:
        sensor = [directory / "sensor.journal"]
        workers = sorted(directory.glob("worker-*.journal"))
        shown = read([directory / "dashboard.journal"], "received")
        return cls(
            readings=Account.of(read(sensor, "published"), shown, shown),
            alarms=Account.of(read(sensor, "pushed"), read(workers, "began"), read(workers, "done")),
        )

    @property
    def lost(self) -> int:
        return self.readings.lost + self.alarms.lost


def write_counters(directory: Path, name: str, counters: dict[str, Any]) -> None:
    """Leaves a process's own zq counters for the launcher to show."""
    (directory / f"{name}.counters").write_text(json.dumps(counters))


def read_counters(directory: Path, name: str) -> dict[str, Any] | None:
    """The counters that process left; None if it did not come to it."""
    path = directory / f"{name}.counters"
    return json.loads(path.read_text()) if path.exists() else None
