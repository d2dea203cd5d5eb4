"""Real files, and an operating system whose k-th call fails, is interrupted or does only a part, for every k."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zq.spool.disk
from zq.core.ranges import Ranges
from zq.spool.disk import DirectoryDisk
from zq.spool.journal import Journal
from zq.spool.log import Log
from zq.spool.survey import Missing
from zq.wire.batch import Run

STREAM = b"s" * 16
CHANGES = ("open", "write", "fdatasync", "fsync", "rename", "unlink")  # calls that fail; opening, only to write
KINDS = {
    "an I/O error": (errno.EIO, 1),
    "a full disk": (errno.ENOSPC, 1),
    "a full disk for a while": (errno.ENOSPC, 6),
    "an interruption": (errno.EINTR, 1),
    "short writes": (0, 1),
    "a read-only file system": (errno.EROFS, 1 << 30),
}  # what: error, or 0 for a write of a part, and how many calls in a row
MOST = 1_000  # calls, or it never ends


class System:
    """`os`, but for the calls from the k-th on."""

    def __init__(self, k: int, error: int, length: int) -> None:
        self._k, self._error, self._length = k, error, length
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)
        return self._watched(name, call) if name in CHANGES else call

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            if name == "open" and not arguments[1] & os.O_CREAT:
                return call(*arguments, **named)
            self.calls += 1
            if not self._k <= self.calls < self._k + self._length:
                return call(*arguments, **named)
            if self._error:
                raise OSError(self._error, os.strerror(self._error))
            if name == "write":
                return call(arguments[0], arguments[1][: max(len(arguments[1]) // 2, 1)])
            return call(*arguments, **named)

        return watched


class Story:
    """What happens each time: a log of some segments, its marks and its journal."""

    def __init__(self, directory: Path) -> None:
        self.disk = DirectoryDisk(directory)
        self.confirmed: dict[int, bytes] = {}
        self.settled = 0  # all up to here

    def play(self) -> None:
        log = Log(self.disk, STREAM, wall=lambda: 1.0, segment_bytes=700)
        log.open()
        journal = Journal(self.disk, STREAM)
        journal.open()
        for number in range(14):
            body = bytes([number]) * 100
            first = log.append(3, [Run(b"o" * 16, 3 * number + 1, 3, 1.0)], body)
            self._try(log.commit)
            if first + 2 <= log.safe:
                self.confirmed[first] = body
            if number % 4 == 3:
                self.settled = max(self.settled, log.safe - 6)
                journal.settle(1, self.settled)
                self._try(lambda: self._trim(log, journal))
                self._try(lambda: log.write_mark(clean=False))
        self._try(journal.close)
        self._try(log.close)

    @staticmethod
    def _try(step: Callable[[], object]) -> None:
        try:
            step()
        except OSError:
            pass  # as the keeper: it says so, and goes on

    def _trim(self, log: Log, journal: Journal) -> None:
        journal.write()
        if log.holds_nothing_from(self.settled + 1):
            journal.sync()
            log.drop_below(self.settled + 1)

    def check(self) -> None:
        log = Log(self.disk, STREAM, wall=lambda: 1.0, segment_bytes=700)
        log.open()
        journal = Journal(self.disk, STREAM)
        journal.open()
        assert log.lost == []
        assert _within(journal.settled, self.settled)
        found: dict[int, bytes] = {}
        at = log.first
        while items := log.read(at):
            for item in items:
                assert not isinstance(item, Missing)
                assert item.first == at
                found[item.first] = item.body
                at = item.last + 1
        assert log.first <= self.settled + 1
        for first, body in self.confirmed.items():
            assert first < log.first or found[first] == body, f"{first} was confirmed"
        journal.close()
        log.close()


def _within(settled: Ranges, last: int) -> bool:
    return all(high <= last for _, high in settled)


def every_call(what: str, directory: Path) -> int:
    """Plays the story once for each call that could go wrong, and looks at what is left; how many there were."""
    error, length = KINDS[what]
    for k in range(1, MOST):
        place = directory / "stream"
        place.mkdir(mode=0o700)
        story = Story(place)
        system = System(k, error, length)
        zq.spool.disk.os = system  # type: ignore[attr-defined]
        try:
            story.play()
        except OSError:
            pass  # it could not even be opened
        finally:
            zq.spool.disk.os = os  # type: ignore[attr-defined]
        try:
            story.check()
        except Exception as failure:
            failure.add_note(f"{what}, call {k}")
            raise
        finally:
            story.disk.close()
            shutil.rmtree(place)
        if system.calls < k:
            return k
    raise AssertionError("it did not end")
