"""`zq push --outbox`: what is read is on disk, and goes on its way while somebody is there."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import zq
from zq.cli.notes import Complaints, note

SLICE = 0.2  # s between looks at what has gone on its way
MEETING = 2.0  # s for those who are there to be found


class Depositing:
    """A pusher with an outbox. `timeout`: s without progress until it does not wait for others any longer."""

    def __init__(self, pusher: zq.Pusher, directory: Path, timeout: float | None, options: dict[str, Any]) -> None:
        self._pusher = pusher
        self._directory = directory
        self._timeout = timeout
        self._options = options
        self._where = ""  # the line that was read last
        self._sent = 0

    def send_all(self, lines: Iterator[tuple[str, Any]], complaints: Complaints) -> None:
        """Returns when all of them are on disk. Raises SpoolFull, after the timeout if there is one."""
        if self._timeout is not None:
            for where, data in lines:
                try:
                    self._pusher.send(data, timeout=self._timeout, **self._options)
                    self._sent += 1
                except zq.Refused as error:
                    complaints.add(f"{where}: {error}")
            return
        while True:
            try:
                self._pusher.send_many(self._data(lines), **self._options)
                return
            except zq.Refused as error:
                self._sent -= 1
                complaints.add(f"{self._where}: {error}")

    def _data(self, lines: Iterable[tuple[str, Any]]) -> Iterator[Any]:
        for where, data in lines:
            self._where = where
            self._sent += 1
            yield data

    def finish(self, peer: zq.Peer, *, at_once: bool = False) -> None:
        """Waits while somebody takes them, or for the timeout. What is left the pusher says when it is closed."""
        if self._sent:
            note(f"{self._sent} stored in {self._directory}")
        if not at_once:
            with suppress(zq.Timeout):  # whoever does not answer is not there
                peer.settle(timeout=MEETING)
        left, moved = self._left(0.0 if at_once else SLICE), time.monotonic()
        while left and not at_once and self._goes_on(moved):
            before, left = left, self._left(SLICE)
            moved = time.monotonic() if left < before else moved

    def _left(self, timeout: float) -> int:
        try:
            self._pusher.flush(until="processed", timeout=timeout)
        except zq.Undelivered as error:
            return error.count
        except zq.Refused:
            pass  # a spool has some of it, and the rest is done
        return 0

    def _goes_on(self, moved: float) -> bool:
        if self._timeout is not None:
            return time.monotonic() - moved < self._timeout
        try:
            self._pusher.wait_for_pullers(timeout=0.0)
        except zq.Timeout:
            return False
        return True
