"""The log of one stream: numbered messages in append-only segments. Decides what is safe; its disk does the rest.

States of a message: *appended* (in memory, has a number), *written* (in the file, perhaps on the medium), *safe* (a
sync that came after it has returned; `commit` says so). Only safe messages are confirmed, read or counted as recovered.

What a crash costs, by where it comes:

    before the write          nothing was confirmed; the messages were only here
    during the write          a torn record at the end of the last segment; it does not verify, nothing behind it counts
    before the sync           any part of what was written; none of it was confirmed
    after it                  nothing
    while a segment is begun  nothing: it has its name only when its header, and what is written again, is safe
    while one is sealed       no footer: its records are read instead
    while a mark is written   the mark before it; a second look at some records
    while one is shrunk       nothing: the old segment or the new one, which has all that is not settled

What one finds after a crash may come from memory that a failed sync had given up and that never reached the medium. So
a log that was not closed never goes on in its last segment, nor believes what lies behind its mark: it begins a new
segment that takes over where the mark stands, and writes there again what it found. What does not verify there is
copied to *.bad first. Damage anywhere else is stepped over, record by record, and reported as the numbers that are
missing.

A sync or write that fails is not repeated on that file. What is not safe goes to a new segment; if that fails too, the
messages are refused, `commit` raises, and the log tries again with a new segment when it is next asked to.

It is longer than most: what writes, reads and trims shares one list of segments and one rule, what is safe.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from zq.core.origins import Origins
from zq.core.ranges import Ranges
from zq.spool.disk import Disk, File
from zq.spool.held import Segment, Waiting, footer_of, write_batches
from zq.spool.mark import MARK, Mark, read_mark, write_mark
from zq.spool.reading import READ_AHEAD, items, problems, records
from zq.spool.record import Record
from zq.spool.segment import HEADER, Header, encode_footer, encode_header, number_of
from zq.spool.shrink import Part, straggling, whole, without
from zq.spool.survey import Found, Missing, Survey
from zq.wire.batch import Run

SEGMENT = 64 << 20  # bytes; what recovery may have to read, and the unit in which room comes back
RECORDS = 1 << 16  # in a segment; what recovery goes through one by one, in a quarter of a second
ASIDE = "segment.new"  # a segment that is being begun


class Log:
    """One stream's messages on one disk. Not thread-safe: its thread is the disk's. `open` before anything else."""

    def __init__(self, disk: Disk, stream: bytes, *, wall: Callable[[], float], segment_bytes: int = SEGMENT) -> None:
        self._disk = disk
        self._stream = stream
        self._wall = wall
        self._segment_bytes = segment_bytes
        self._survey = Survey(disk, stream, wall)
        self._segments: list[Segment] = []
        self._file: File | None = None  # of the last segment; None: the next commit begins a new one
        self._waiting: list[Waiting] = []
        self._number = 0  # of the newest segment
        self._orphans: list[str] = []  # files of segments that could not be begun, and may have their names
        self._marked: Mark | None = None
        self.may_return = False  # what could not be made safe, and was not taken, may be there when it is next opened
        self.safe = 0  # number of the last message that is
        self.next = 1  # number of the next one
        self.known = self._survey.known  # whose numbers the messages carry that were here when it was opened
        self.found = self._survey.found
        self.lost = self._survey.lost

    # --- opening

    def open(self) -> None:
        """Finds what is there. Error: a format that this program does not know. OSError."""
        self._open()
        for segment in self._segments[-2:]:  # recovery may have begun one behind the one that it found
            self._survey.note_known(segment)

    def _open(self) -> None:
        mark = read_mark(self._disk)
        if mark is None and MARK in self._disk.names():
            self.found.append(Found(MARK, 0, 0, "it is damaged"))
        if mark is not None and mark.stream != self._stream:
            self.found.append(Found("mark", 0, 0, "it is of another stream"))
            mark = None
        self._marked = mark
        self._survey.look()
        self._segments = self._survey.segments
        last = self._segments[-1] if self._segments else None
        if last is not None and mark is not None and mark.clean and self._survey.ends_at(last, mark):
            self._survey.scan(last, HEADER, mark.end)
            self._survey.lose(last.last + 1, mark.last)
            last.end, last.last = mark.end, mark.last
            self.safe, self.next = mark.last, mark.last + 1
            self._file = self._disk.open(last.name)
            return
        again = [] if last is None else self._recover(last, mark)
        self._write_again(again, 0 if last is None else last.last)
        confirmed = 0 if mark is None else mark.last
        self._survey.lose(self.safe + 1, confirmed)
        self.safe = max(self.safe, confirmed)  # what is lost keeps its number
        self.next = self.safe + 1
        try:
            self.write_mark(clean=False)
        except OSError as error:
            self.found.append(Found("mark", 0, 0, f"it cannot be written: {error}"))

    def _recover(self, last: Segment, mark: Mark | None) -> list[Record]:
        """The log was not closed. Returns what lies behind the mark, which is to be written again."""
        here = mark is not None and mark.segment == last.header.segment
        size = self._survey.size(last.name)
        if here and mark is not None:
            self._survey.scan(last, HEADER, min(mark.end, size))
            self._survey.lose(last.last + 1, mark.last)
            last.end, last.last = min(mark.end, size), mark.last
        unproven = Segment(header=last.header, end=last.end, last=last.last)
        return self._survey.scan_tail(unproven, size)

    def _write_again(self, again: list[Record], last: int) -> None:
        """Makes safe what was found behind `last`: all of it in one segment, which is there as a whole or not at all.

        Otherwise a crash meanwhile would leave a segment that takes over from the last one, and has only a part of it.
        """
        self.safe, self.next = last, last + 1
        if not again:
            return
        for record in again:
            self._survey.lose(self.next, record.first - 1)
            self.next = record.last + 1
        try:
            self._begin_segment(again[0].first, again)
        except OSError as error:
            self._trust(again, error)
        self.safe = again[-1].last

    def _trust(self, again: list[Record], error: OSError) -> None:
        """What cannot be written again, on a full disk most likely, stays where it was found, since what is on a full
        disk is still to be read and trimmed. It is written once more in its place: a sync that failed there before
        would have lost it otherwise. Where even that fails it is trusted as it is."""
        segment, end = self._segments[-1], again[-1].end
        what = f"it cannot be written again: {error}"
        data = self._disk.read(segment.name, segment.end, end - segment.end)
        file = self._disk.open(segment.name)
        try:
            try:
                file.rewrite(segment.end, data)
            except OSError as worse:
                what += f", nor once more in its place: {worse}"
            file.sync()
        finally:
            file.close()
        self.found.append(Found(segment.name, segment.end, end, what))
        for record in again:
            segment.note(record)

    def expect(self, number: int) -> None:
        """Somebody tells of messages up to there, so they had been confirmed: those that are not here are lost, and no
        others ever get their numbers. Before anything is appended."""
        self._survey.lose(self.safe + 1, number)
        self.safe = max(self.safe, number)
        self.next = self.safe + 1

    # --- writing

    def append(self, length: int, runs: Sequence[Run], body: bytes, flags: int = 0) -> int:
        """Gives `length` messages their numbers and returns the first; they are safe after the next `commit`."""
        first = self.next
        self._waiting.append(Waiting(first, length, flags, runs, body))
        self.next = first + length
        return first

    def commit(self) -> int:
        """Makes all that was appended safe, and returns the number of the last message that is.

        OSError: what is behind `safe` has no number any more, and was not taken. The log can be read as before, and
        tries a new segment when it is asked again.
        """
        try:
            try:
                self._write_waiting()
            except OSError as error:
                self._give_up_segment(error)
                self._write_waiting()
        except OSError as error:
            self._give_up_segment(error)
            self._waiting.clear()
            self.next = self.safe + 1
            raise
        return self.safe

    def _give_up_segment(self, error: OSError) -> None:
        """Nothing is ever written to its file again: what a failed sync has lost would look as if it were there."""
        if self._file is not None:
            segment = self._segments[-1]
            self.found.append(Found(segment.name, segment.end, self._file.size, f"writing failed: {error}"))
            self._file.close()
            self._file = None
            self.may_return = True

    def _write_waiting(self) -> None:
        """Writes and syncs it, a segment at a time."""
        while self._waiting:
            if self._file is not None and self._is_full(self._segments[-1]):
                self._seal()
            if self._file is None:
                self._begin_segment(self._waiting[0].first)
            assert self._file is not None
            segment = self._segments[-1]
            room = self._segment_bytes - segment.end
            fits = 1 + sum(total < room for total in accumulate(len(batch.body) for batch in self._waiting[:-1]))
            write_batches(self._file, segment, self._waiting[:fits])
            self.safe = segment.last
            del self._waiting[:fits]

    def _is_full(self, segment: Segment) -> bool:
        return segment.end >= self._segment_bytes or segment.records >= RECORDS

    def _begin_segment(self, first: int, records: Sequence[Record] = ()) -> None:
        """Begins one, with these records in it if there are any, and goes on in it."""
        previous = self._segments[-1] if self._segments else None
        names = self._disk.names()
        taken = [number for name in names if (number := number_of(name.removesuffix(".bad"))) is not None]
        self._number = max([self._number, *taken]) + 1  # one that was tried before is never given again
        header = Header(
            stream=self._stream,
            segment=self._number,
            first=first,
            previous=previous.header.segment if previous is not None else 0,
            previous_end=previous.end if previous is not None else 0,
            created=self._wall(),
        )
        segment = Segment(header=header, end=HEADER, last=first - 1)
        if ASIDE in names:
            self._disk.remove(ASIDE)
        file = self._disk.open(ASIDE)
        try:
            file.write(encode_header(header))
            write_batches(file, segment, records)
            self._disk.rename(ASIDE, segment.name)
            self._disk.sync()
        except OSError:
            file.close()
            self._orphans.append(segment.name)
            with contextlib.suppress(OSError):  # it is tried again before anything is removed
                self._clear_aside()
                self._remove_orphans()
            raise
        self._segments.append(segment)
        self._file = file
        self.may_return = False  # it says where the one before it ends

    def _clear_aside(self) -> None:
        """On a full disk what could not be written takes room that others need. OSError."""
        if ASIDE in self._disk.names():
            self._disk.remove(ASIDE)

    def _remove_orphans(self) -> None:
        """Segments that have a name, and whose beginning has failed: nothing goes on in them. OSError."""
        while self._orphans:
            if self._orphans[-1] in self._disk.names():
                self._disk.remove(self._orphans[-1])
                self._disk.sync()
            self._orphans.pop()

    def _seal(self) -> None:
        segment, file = self._segments[-1], self._file
        assert file is not None
        file.write(encode_footer(footer_of(segment), file.size, segment.seed))
        file.sync()
        file.close()
        self._file = None
        segment.origins = Origins()

    def write_mark(self, *, clean: bool) -> None:
        """Notes how far the log is safe, if that has changed. OSError."""
        last = self._segments[-1] if self._segments else None
        mark = Mark(
            self._stream,
            last.header.segment if last else 0,
            last.end if last else 0,
            self.safe,
            clean and self._file is not None and self._file.size == (last.end if last else 0),
        )
        if mark != self._marked:
            write_mark(self._disk, mark)
            self._marked = mark

    @property
    def unmarked(self) -> int:
        """Bytes that recovery would write again after a crash now."""
        last, mark = (self._segments[-1] if self._segments else None), self._marked
        if last is None:
            return 0
        return last.end - mark.end if mark is not None and mark.segment == last.header.segment else last.end

    def close(self) -> None:
        """Commits, and notes that the log ends here. OSError: as `commit`; it is closed all the same."""
        try:
            self.commit()
            self.write_mark(clean=True)
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None

    # --- reading

    @property
    def first(self) -> int:
        """The number of the oldest message here, or of the next one if there is none."""
        return self._segments[0].header.first if self._segments else self.next

    @property
    def size(self) -> int:
        """Bytes of the segments."""
        return sum(segment.end for segment in self._segments)

    @property
    def segments(self) -> Sequence[Segment]:
        """In order."""
        return self._segments

    def read(self, first: int, most: int = READ_AHEAD) -> list[Record | Missing]:
        """The safe records from the one that holds `first` on: at least one, about `most` bytes of them.

        Missing: what should be there and is not; it has been reported. Empty if nothing from `first` on is safe.
        """
        found: list[Record | Missing] = []
        size = 0
        for item in items(self._disk, self._segments, self.safe, first):
            found.append(item)
            size += item.end - item.offset if isinstance(item, Record) else 0
            if size >= most:
                break
        return found

    def records(self, segment: Segment) -> Iterator[Record]:
        """All of one segment that verify, in order, a piece of the file at a time."""
        return records(self._disk, segment, 0)

    def verify(self) -> list[Missing | Found]:
        """Reads everything. What is missing, and where files are damaged."""
        return problems(self._disk, self._segments, self.safe)

    # --- trimming

    def below_to_fit(self, most: int) -> int:
        """The number below which all has to go so that at most so many bytes are left, but for the last segment."""
        size, at = self.size, 0
        while size > most and at < len(self._segments) - 1:
            size -= self._segments[at].end
            at += 1
        return self._segments[at].header.first if at else 0

    def holds_nothing_from(self, number: int) -> bool:
        """Whether the oldest segment would go with `drop_below(number)`."""
        return len(self._segments) > 1 and self._segments[0].last < number

    def shrink(self, settled: Ranges, part: Part) -> bool:
        """Writes one segment anew without what is settled, if that is worth it; whether it did. OSError.

        The messages keep their numbers: what stands for those that go is one short record for each range. A crash
        leaves the old segment or the new one. One that is damaged is left alone.
        """
        position = straggling(self._segments, settled, self._segment_bytes)
        if position is None:
            return False
        segment = self._segments[position]
        records = whole(segment, self._disk.read(segment.name, 0, segment.end))
        segment.worth = (
            segment.last - segment.header.first + 1 - settled.count_between(segment.header.first, segment.last)
        )
        if not records:
            segment.worth = 0
            return False
        left = Segment(header=segment.header, end=HEADER, last=segment.header.first - 1, worth=segment.worth)
        footer = self._survey.footer(segment, None)
        for origin, first, last in footer.origins if footer is not None else ():
            left.origins.add(origin, first, last)
        for run in (run for record in records for run in record.runs):
            left.origins.add(run.origin, run.first, run.first + run.length - 1)
        self._replace(left, list(without(records, settled, part)))
        self._segments[position] = left
        left.origins = Origins()
        return True

    def is_worth_shrinking(self, settled: Ranges) -> bool:
        return straggling(self._segments, settled, self._segment_bytes) is not None

    def _replace(self, segment: Segment, batches: list[Waiting]) -> None:
        """Writes a sealed segment in the place of the one with its number."""
        if ASIDE in self._disk.names():
            self._disk.remove(ASIDE)
        file = self._disk.open(ASIDE)
        try:
            file.write(encode_header(segment.header))
            write_batches(file, segment, batches)
            file.write(encode_footer(footer_of(segment), file.size, segment.seed))
            file.sync()
            self._disk.rename(ASIDE, segment.name)
            self._disk.sync()
        except OSError:
            with contextlib.suppress(OSError):  # it is removed when the next one is begun
                self._clear_aside()
            raise
        finally:
            file.close()

    def drop_below(self, number: int) -> int:
        """Removes the segments that hold nothing from `number` on, except the last; returns how many. OSError."""
        gone = 0
        self._remove_orphans()
        while len(self._segments) > 1 and self._segments[0].last < number:
            self._disk.remove(self._segments[0].name)
            del self._segments[0]
            gone += 1
            self._disk.sync()  # each before the next: one that came back behind a missing one would look like a loss
        return gone
