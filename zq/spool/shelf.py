"""A spool's directory as an operator looks at it: read, never locked and never changed, whoever has it open.

Each stream is recovered in memory (`overlay`), as it would be if it were opened now, and what is found then is told.
That is safe beside a process that has it open: segments are only appended to, journals and marks are renamed into
place, and what is removed or written anew meanwhile makes us look again (FileNotFoundError). Of such a stream only what
lies before its mark is looked at for damage: what is behind is being written.

It is longer than most: whatever is shown comes from the same recovered view.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

from zq.core.cursors import PASSING
from zq.core.ranges import Ranges
from zq.errors import AccessDenied, Error, SpoolDamaged
from zq.info import Gap, SpoolCursor, SpooledStream, SpoolProblem
from zq.record import dataclass
from zq.spool import clock
from zq.spool.contents import Row, check_record, gap_in, rows_in
from zq.spool.held import Segment
from zq.spool.journal import JOURNAL, Journal
from zq.spool.log import Log
from zq.spool.mark import read_mark
from zq.spool.overlay import Overlay
from zq.spool.record import Damage, Record
from zq.spool.segment import HEADER, number_of
from zq.spool.store import KINDS, LOCK, TOPIC, StreamName, check_spool, find_streams
from zq.wire.data import Malformed
from zq.wire.stored import Stamp

T = TypeVar("T")

AGAIN = 20  # times that a stream is looked at anew when files have gone meanwhile
PIECE = 256 << 10  # bytes that are read at once
PAGE_BYTES = 4 << 20  # bytes of messages in a page


class Shelf:
    """A spool's directory. Raises Refused, AccessDenied, SpoolDamaged. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        check_spool(directory)
        self.directory = directory
        self.holder = holder_of(directory)  # the process that has it open

    def streams(self) -> list[StreamName]:
        return find_streams(self.directory)[0]

    def strange(self) -> list[SpoolProblem]:
        """What looks like a stream and is not understood."""
        return [
            SpoolProblem(
                kind="", stream="", file=str(inner), offset=0, end=0, first=0, last=0,
                what="it is no stream that this version understands; nobody reads it",
            )
            for inner in find_streams(self.directory)[1]
        ]  # fmt: skip

    def open(self, stream: StreamName) -> View:
        """OSError, SpoolDamaged."""
        return self._again(lambda: View(self.directory, stream, self.holder))

    def each(self, look: Callable[[View], T]) -> list[T]:
        """What `look` says of each stream."""
        return [self._again(partial(self._look, stream, look)) for stream in self.streams()]

    def _look(self, stream: StreamName, look: Callable[[View], T]) -> T:
        view = View(self.directory, stream, self.holder)
        try:
            return look(view)
        finally:
            view.close()

    @staticmethod
    def _again(look: Callable[[], T]) -> T:
        for _ in range(AGAIN):
            try:
                return look()
            except FileNotFoundError:  # trimmed or written anew meanwhile
                continue
        return look()


def holder_of(directory: Path) -> int | None:
    """The process that has a spool open; 0 if it does not say which it is. A lock is held for a moment only."""
    try:
        lock = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise AccessDenied(f"{directory / LOCK} cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(lock, 20, 0).split()[:1]
        return int(pid[0]) if pid and pid[0].isdigit() else 0
    finally:
        os.close(lock)
    return None


class Page(NamedTuple):
    """Some messages of a stream, and where to go on; 0: that was all."""

    rows: list[Row]
    next: int
    damaged: list[tuple[int, int]]  # numbers of those that should be among them and are not there any more
    gaps: list[tuple[int, Gap]]  # what of topics never came, by the number in the stream that stands for it


@dataclass(slots=True)
class _Ends:
    """Where a stream that is open elsewhere is certain to be at rest."""

    segment: int
    end: int
    last: int


class View:
    """One stream as it was when it was opened here."""

    def __init__(self, directory: Path, stream: StreamName, holder: int | None) -> None:
        self.stream = stream
        self._path = directory / stream.uuid.hex()
        self._holder = holder
        self._disk = Overlay(self._path)
        try:
            mark = read_mark(self._disk)
            self._rest = None if holder is None or mark is None else _Ends(mark.segment, mark.end, mark.last)
            self._log = Log(self._disk, stream.uuid, wall=lambda: 0.0)
            self._log.open()
            self._journal = Journal(self._disk, stream.uuid)
            self._had_journal = JOURNAL in self._disk.names()
            self._journal.open()
            if holder is None:  # else it tells of what has come since the log was read here
                self._log.expect(self._journal.highest)
        except Error as error:
            self._disk.close()
            raise SpoolDamaged(f"{self._path}: {error}") from error
        except BaseException:
            self._disk.close()
            raise

    def close(self) -> None:
        self._disk.close()

    # --- what is there

    @property
    def _settled(self) -> Ranges:
        return self._journal.settled

    def _first_open(self, start: int) -> int:
        """The first message from there on that somebody is to have."""
        return self._settled.first_missing(max(start, self._log.first))  # of a topic what is trimmed is settled

    @property
    def depth(self) -> int:
        first, last = self._log.first, self._log.safe
        gone = sum(max(min(high, last) - max(low, first) + 1, 0) for low, high in self._settled)
        return max(last - first + 1 - gone, 0)

    def info(self) -> SpooledStream:
        first = self._first_open(1)
        here = first <= self._log.safe
        oldest = self.page(first, most=1).rows if here else []
        cursors = self.cursors()
        return SpooledStream(
            kind=KINDS[self.stream.kind],
            name=self.stream.name,
            stream=self.stream.uuid,
            depth=self.depth,
            bytes=self._log.size,
            oldest=oldest[0].age if oldest else None,
            lag=max((cursor.lag for cursor in cursors), default=0) if self.stream.kind == TOPIC else self.depth,
            first=first if here else 0,
            last=self._log.safe,
            damaged=tuple(self._losses()),
            problems=tuple(problem.text for problem in self._found()),
            cursors=len(cursors),
            open_in=self._holder,
        )

    def cursors(self) -> list[SpoolCursor]:
        found = []
        first = self._first_open(1)
        for name in sorted(self._journal.cursors):
            if not name or name.startswith(PASSING):
                continue  # how far a queue had got that was closed; somebody who only looks back
            number = self._journal.position_of(name)
            at = max(number, first)
            found.append(
                SpoolCursor(
                    kind=KINDS[self.stream.kind],
                    stream=self.stream.name,
                    cursor=name,
                    position=number,
                    lag=max(self._log.safe - at + 1, 0),
                    missed=max(first - number, 0),
                )
            )
        return found

    def page(self, first: int, most: int = 1_000, *, settled: bool = False, most_bytes: int = PAGE_BYTES) -> Page:
        """Messages from that one on, at least one; those that are settled too, if they are wanted."""
        found: list[Row] = []
        size = 0
        damaged: list[tuple[int, int]] = []
        gaps: list[tuple[int, Gap]] = []
        number = first if settled else self._first_open(first)
        now = clock.stamp()
        while number <= self._log.safe and len(found) < most:
            items = self._log.read(number, PIECE)
            if not items:
                break
            for item in items:
                start = max(number, item.first)
                if isinstance(item, Record):
                    rows, gap = self._rows(item, start, now)
                    if gap is not None:
                        gaps.append((start, gap))
                    for row in rows:
                        if settled or self.stream.kind == TOPIC or row.number not in self._settled:
                            if found and size + row.size > most_bytes:
                                return Page(found, row.number, damaged, gaps)
                            found.append(row)
                            size += row.size
                            if len(found) >= most:
                                return Page(found, row.number + 1, damaged, gaps)
                elif self._first_open(start) <= item.last:
                    damaged.append((start, item.last))
                number = item.last + 1
                if len(damaged) + len(gaps) >= most:
                    break
            number = number if settled else self._first_open(number)
            if len(damaged) + len(gaps) >= most:
                break
        return Page(found, 0 if number > self._log.safe else number, damaged, gaps)

    def _rows(self, record: Record, start: int, now: Stamp) -> tuple[list[Row], Gap | None]:
        try:
            rows = list(rows_in(record, self.stream, start, self._journal.attempts, now))
            return rows, gap_in(record, self.stream)
        except Malformed as error:
            raise SpoolDamaged(
                f"{self._path}: messages {record.first} to {record.last} verify and cannot be read: {error}"
            ) from error

    # --- what is wrong with it

    def _is_at_rest(self, file: str, offset: int) -> bool:
        """Whether nobody is writing there now."""
        number = number_of(file)
        if self._holder is None or number is None:
            return True
        return self._rest is not None and (number, offset) < (self._rest.segment, self._rest.end)

    def _losses(self) -> list[tuple[int, int]]:
        """What had been confirmed and is not here, of what nobody has settled."""
        known = self._log.safe if self._holder is None else 0 if self._rest is None else self._rest.last
        return [
            (lost.first, lost.last)
            for lost in self._log.lost
            if lost.first <= known and self._first_open(lost.first) <= lost.last
        ]

    def _found(self) -> list[SpoolProblem]:
        """What opening it has shown."""
        problems = [
            self._problem(found.file, found.offset, found.end, 0, 0, found.what)
            for found in self._log.found
            if self._is_at_rest(found.file, found.offset)
        ]
        if self._journal.damaged:
            what = "it is damaged: what it does not tell any more is delivered again"
            problems.append(self._problem(JOURNAL, 0, 0, 0, 0, what))
        return problems

    def _problem(self, file: str, offset: int, end: int, first: int, last: int, what: str) -> SpoolProblem:
        return SpoolProblem(
            kind=KINDS[self.stream.kind],
            stream=self.stream.name,
            file=str(self._path / file),
            offset=offset,
            end=end,
            first=first,
            last=last,
            what=what,
        )

    @property
    def size(self) -> int:
        """Bytes that `verify` reads."""
        return self._log.size

    def verify(self) -> Iterator[int | SpoolProblem]:
        """Reads everything: how many bytes it has read, as it goes on, and what is wrong."""
        told: list[SpoolProblem] = []
        segments = self._log.segments
        for index, segment in enumerate(segments):
            behind = segments[index + 1].header.first if index + 1 < len(segments) else self._log.safe + 1
            for problem in self._problems_in(segment, behind):
                told.append(problem)
                yield problem
            yield segment.end
        for found in self._found():
            if not any(one.file == found.file and one.offset < found.end and found.offset < one.end for one in told):
                yield found

    def _problems_in(self, segment: Segment, behind: int) -> Iterator[SpoolProblem]:
        number, end = segment.header.first, HEADER
        for item in chain(self._log.records(segment), (None,)):
            damage = Damage(end, segment.end if item is None else item.offset)
            following = behind if item is None else min(item.first, behind)
            lost = number < following and (
                self._holder is None or (self._rest is not None and number <= self._rest.last)
            )
            if (lost or damage.offset < damage.end) and self._is_at_rest(segment.name, damage.offset):
                first, last = (number, following - 1) if number < following else (0, 0)
                what = "it is damaged" if damage.offset < damage.end else "messages that were confirmed are not in it"
                yield self._problem(segment.name, damage.offset, damage.end, first, last, what)
            if item is None or item.first >= behind:
                return
            end = item.end
            number = max(number, item.last + 1)
            try:
                check_record(item, self.stream)
            except Malformed as error:
                what = f"it verifies and cannot be read: {error}"
                yield self._problem(segment.name, item.offset, item.end, item.first, item.last, what)
