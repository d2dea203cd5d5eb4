"""A keeper whose answers are waited for."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zq.core.spooled import Item, Recovered, Room
from zq.spool.keeper import Keeper
from zq.spool.store import QUEUE
from zq.wire.batch import Run
from zq.wire.stored import Stamp, Stored, decode, encode

PATIENCE = 20.0  # s for one answer
ORIGIN = b"o" * 16


class Answered:
    """One queue of one directory of a spool, or of outboxes, without peers."""

    def __init__(self, directory: Path, max_bytes: int | None = None, kind: str = QUEUE) -> None:
        self._answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.keeper = Keeper(directory, self, max_bytes, kind=kind)
        self.found: Recovered = self.keeper.open("jobs")
        self.stream = self.found.stream
        self.rooms = 0
        self.keeper.start()

    # --- answers, in the keeper's thread

    def stored(self, stream: bytes, firsts: Sequence[int], room: Room) -> None:
        self._answers.put(("stored", list(firsts)))

    def failed(self, stream: bytes, count: int, reason: str, full: bool, room: Room) -> None:
        self._answers.put(("full" if full else "failed", reason))

    def records(self, stream: bytes, items: Sequence[Item]) -> None:
        self._answers.put(("records", list(items)))

    def room(self, stream: bytes, room: Room) -> None:
        self._answers.put(("room", room))

    def ended(self) -> None:
        self._answers.put(("ended", None))

    # --- questions

    def wait(self, *kinds: str) -> tuple[str, Any]:
        """The next answer of one of these kinds."""
        while True:
            kind, value = self._answers.get(timeout=PATIENCE)
            if kind in kinds:
                return kind, value

    def append(self, number: int, data: Sequence[bytes]) -> tuple[str, Any]:
        """Messages whose origin numbers begin with `number`; what became of them."""
        runs = (Run(ORIGIN, number, len(data), 1.0),)
        stored = Stored(Stamp(1.0, b"thisboot", 1.0), 1, 5, 0, runs, None, list(data), ())
        self.keeper.append(self.stream, len(data), runs, encode(stored), 0)
        return self.wait("stored", "full", "failed")

    def read(self, first: int) -> list[tuple[int, bytes]]:
        """Number and bytes of each message from there on, of some of them."""
        self.keeper.read(self.stream, first)
        _, items = self.wait("records")
        return [
            (item.first + place, data)
            for item in items
            if item.body
            for place, data in enumerate(decode(item.body, item.last - item.first + 1, item.flags, item.runs).items)
        ]

    def settle(self, first: int, last: int) -> None:
        self.keeper.settle(self.stream, first, last)
        self.keeper.look(self.stream)
        self.wait("room")

    def close(self) -> None:
        self.keeper.end(self.stream, 0)
        assert self.keeper.close(PATIENCE)
