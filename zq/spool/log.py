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
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from zq.core.origins import Origins
from zq.core.ranges import Ranges
from zq.errors import Error
from zq.spool.disk import Disk, File
from zq.spool.held import Segment, Waiting, footer_of, write_batches
from zq.spool.mark import MARK, Mark, read_mark, write_mark
from zq.spool.record import Damage, Record, scan
from zq.spool.segment import (
    HEADER,
    TRAILER,
    Footer,
    Header,
    decode_footer,
    decode_header,
    decode_trailer,
    encode_footer,
    encode_header,
    is_newer,
    number_of,
    seed_of,
)
from zq.spool.shrink import Part, straggling, whole, without
from zq.wire.batch import Run

SEGMENT = 64 << 20  # bytes; what recovery may have to read, and the unit in which room comes back
RECORDS = 1 << 16  # in a segment; what recovery goes through one by one, in a quarter of a second
READ_AHEAD = 1 << 20  # bytes read at once
ASIDE = "segment.new"  # a segment that is being begun


class Missing(NamedTuple):
    """Messages that the log had numbered and does not have any more."""

    first: int
    last: int


class Found(NamedTuple):
    """Something that was not as it should be, for the operator."""

    file: str
    offset: int
    end: int
    what: str


class Log:
    """One stream's messages on one disk. Not thread-safe: its thread is the disk's. `open` before anything else."""

    def __init__(self, disk: Disk, stream: bytes, *, wall: Callable[[], float], segment_bytes: int = SEGMENT) -> None:
        self._disk = disk
        self._stream = stream
        self._wall = wall
        self._segment_bytes = segment_bytes
        self._segments: list[Segment] = []
        self._file: File | None = None  # of the last segment; None: the next commit begins a new one
        self._waiting: list[Waiting] = []
        self._number = 0  # of the newest segment
        self._orphans: list[str] = []  # files of segments that could not be begun, and may have their names
        self._marked: Mark | None = None
        self.may_return = False  # what could not be made safe, and was not taken, may be there when it is next opened
        self.safe = 0  # number of the last message that is
        self.next = 1  # number of the next one
        self.known = Origins()  # whose numbers the messages carry that were here when it was opened
        self.found: list[Found] = []
        self.lost: list[Missing] = []  # confirmed once, and not here any more: damage and lost tails

    # --- opening

    def open(self) -> None:
        """Finds what is there. Error: a format that this program does not know. OSError."""
        self._open()
        for segment in self._segments[-2:]:  # recovery may have begun one behind the one that it found
            self._note_known(segment)

    def _note_known(self, segment: Segment) -> None:
        for origin, first, last in segment.origins:
            self.known.add(origin, first, last)

    def _open(self) -> None:
        mark = read_mark(self._disk)
        if mark is None and MARK in self._disk.names():
            self.found.append(Found(MARK, 0, 0, "it is damaged"))
        if mark is not None and mark.stream != self._stream:
            self.found.append(Found("mark", 0, 0, "it is of another stream"))
            mark = None
        self._marked = mark
        self._segments = [Segment(header=header, end=HEADER, last=header.first - 1) for header in self._headers()]
        self._drop_empty()
        self._note_holes()
        last = self._segments[-1] if self._segments else None
        if last is not None and mark is not None and mark.clean and self._ends_at(last, mark):
            self._scan(last, HEADER, mark.end)
            self._lose(last.last + 1, mark.last)
            last.end, last.last = mark.end, mark.last
            self.safe, self.next = mark.last, mark.last + 1
            self._file = self._disk.open(last.name)
            return
        again = [] if last is None else self._recover(last, mark)
        self._write_again(again, 0 if last is None else last.last)
        confirmed = 0 if mark is None else mark.last
        self._lose(self.safe + 1, confirmed)
        self.safe = max(self.safe, confirmed)  # what is lost keeps its number
        self.next = self.safe + 1
        try:
            self.write_mark(clean=False)
        except OSError as error:
            self.found.append(Found("mark", 0, 0, f"it cannot be written: {error}"))

    def _ends_at(self, segment: Segment, mark: Mark) -> bool:
        """Whether the segment is as it was when the log was closed, as far as its size tells."""
        return (
            mark.segment == segment.header.segment
            and len(self._disk.read(segment.name, mark.end - 1 if mark.end else 0, 2)) == 1
        )

    def _headers(self) -> list[Header]:
        """Of the segments that are ours, in order."""
        headers: list[Header] = []
        for name in self._disk.names():
            number = number_of(name)
            if number is None:
                continue
            data = self._disk.read(name, 0, HEADER)
            header = decode_header(data)
            if header is None and is_newer(data):
                raise Error(f"{name} has a format that this version does not know; nothing was changed")
            if header is None:
                header = self._header_from_records(name, number)
            if header is None:
                self._set_aside(name, "it does not begin as a segment does")
            elif header.stream != self._stream:
                self.found.append(Found(name, 0, HEADER, "it is a segment of another stream; left alone"))
            elif header.segment != number:
                self.found.append(Found(name, 0, HEADER, f"it is a copy of segment {header.segment}; left alone"))
            else:
                headers.append(header)
        return sorted(headers, key=lambda header: header.segment)

    def _header_from_records(self, name: str, number: int) -> Header | None:
        """A damaged header costs nothing where a record tells which segment this is."""
        data = self._disk.read(name, 0, self._size(name))
        seed = seed_of(self._stream, number)
        for item in scan(data, min(HEADER, len(data)), seed):
            if isinstance(item, Record):
                self.found.append(Found(name, 0, HEADER, "its header is damaged"))
                offset = decode_trailer(data, seed)
                footer = None if offset is None else decode_footer(data[offset:], seed)
                indexed = footer.entries[0].first if footer is not None and footer.entries else item.first
                first = 1 if number == 1 else indexed
                return Header(self._stream, number, first, previous=0, previous_end=0, created=self._wall())
        return None

    def _set_aside(self, name: str, why: str) -> None:
        self.found.append(Found(name, 0, 0, f"{why}; it is {name}.bad now"))
        self._disk.rename(name, f"{name}.bad")
        self._disk.sync()

    def _drop_empty(self) -> None:
        """Removes, in front of the others, what was begun and never used: what is missing behind it was trimmed."""
        while len(self._segments) > 1:
            segment, behind = self._segments[0], self._segments[1].header
            used = behind.previous == segment.header.segment and behind.previous_end > HEADER
            if used or self._size(segment.name) > HEADER:
                return
            self._disk.remove(segment.name)
            self._disk.sync()
            del self._segments[0]

    def _note_holes(self) -> None:
        """Reads what is known of every segment but the last, and what is missing between them."""
        for segment, behind in zip(self._segments, self._segments[1:], strict=False):
            ends = behind.header.previous_end if behind.header.previous == segment.header.segment else None
            footer = self._footer(segment, ends)
            if footer is not None and footer.last < behind.header.first:
                segment.end, segment.last = footer.end, footer.last
                segment.entries = footer.entries
                for origin, first, last in footer.origins:
                    self.known.add(origin, first, last)
            else:
                self._scan(segment, HEADER, ends, below=behind.header.first)
                self._note_known(segment)
                segment.origins = Origins()
            self._lose(segment.last + 1, behind.header.first - 1)

    def _footer(self, segment: Segment, ends: int | None) -> Footer | None:
        """None if it was never sealed, or if the footer is damaged."""
        size = self._size(segment.name)
        offset = decode_trailer(self._disk.read(segment.name, max(size - TRAILER, 0), TRAILER), segment.seed)
        footer = None
        if offset is not None:
            footer = decode_footer(self._disk.read(segment.name, offset, max(size - offset, 0)), segment.seed)
        if (
            footer is None
            and ends is not None
            and size > ends
            and f"{segment.name}.{ends:x}.bad" not in self._disk.names()
            and not self._was_written_again(segment, ends, size)
        ):
            self.found.append(Found(segment.name, ends, size, "it ends neither with a footer nor with its records"))
        return footer

    def _was_written_again(self, segment: Segment, ends: int, size: int) -> bool:
        """Whether there are records behind its end: those of a log that was not closed, which the next segment has."""
        items = scan(self._disk.read(segment.name, ends, size - ends), 0, segment.seed)
        return isinstance(next(items, None), Record)

    def _size(self, name: str) -> int:
        file = self._disk.open(name)
        try:
            return file.size
        finally:
            file.close()

    def _lose(self, first: int, last: int) -> None:
        if first <= last:
            self.lost.append(Missing(first, last))

    def _scan(self, segment: Segment, start: int, end: int | None, *, below: int | None = None) -> None:
        """Notes the records between two offsets; what is damaged or missing between them is reported."""
        data = self._disk.read(segment.name, 0, self._size(segment.name) if end is None else end)
        for _ in self._records_in(segment, data, start, end, below=below):
            pass

    def _records_in(
        self,
        segment: Segment,
        data: bytes,
        start: int,
        end: int | None,
        *,
        torn: bool = False,
        below: int | None = None,
    ) -> Iterator[Record]:
        """The same, for whoever needs them.

        Those numbered `below` or higher are in a later segment, which has taken over.
        Where the end may be `torn`, a hole was never safe if what is behind it was to be synced with it: there it ends.
        """
        for item in scan(data, start, segment.seed):
            if isinstance(item, Damage):
                if end is not None or item.end < len(data) or not self._is_footer(data, item, segment):
                    self.found.append(Found(segment.name, item.offset, item.end, "it is damaged"))
            elif below is not None and item.first >= below:
                break
            elif item.first <= segment.last:
                self.found.append(Found(segment.name, item.offset, item.end, "it is a copy of an earlier record"))
            elif torn and item.first > segment.last + 1 >= item.group:
                self.found.append(Found(segment.name, item.offset, len(data), "it was being written"))
                break
            else:
                self._lose(segment.last + 1, item.first - 1)
                segment.note(item)
                yield item

    @staticmethod
    def _is_footer(data: bytes, damage: Damage, segment: Segment) -> bool:
        """Whether what is not a record is the segment's end, as it should be."""
        return decode_trailer(data, segment.seed) == damage.offset

    def _recover(self, last: Segment, mark: Mark | None) -> list[Record]:
        """The log was not closed. Returns what lies behind the mark, which is to be written again."""
        here = mark is not None and mark.segment == last.header.segment
        size = self._size(last.name)
        if here and mark is not None:
            self._scan(last, HEADER, min(mark.end, size))
            self._lose(last.last + 1, mark.last)
            last.end, last.last = min(mark.end, size), mark.last
        unproven = Segment(header=last.header, end=last.end, last=last.last)
        return self._scan_tail(unproven, size)

    def _scan_tail(self, unproven: Segment, size: int) -> list[Record]:
        """What can be read from the segment's end on, up to a footer; what is behind the last of it is copied aside."""
        data = self._disk.read(unproven.name, 0, size)
        offset = decode_trailer(data, unproven.seed)
        footer = None if offset is None else decode_footer(data[offset:], unproven.seed)
        counts = data if footer is None else data[: footer.end]
        records = list(self._records_in(unproven, counts, unproven.end, len(counts), torn=footer is None))
        end = records[-1].end if records else unproven.end
        if footer is not None:
            self._lose(unproven.last + 1, footer.last)
        elif any(data[end:]):
            self._keep_bad(unproven.name, end, data[end:])
        return records

    def _keep_bad(self, name: str, offset: int, data: bytes) -> None:
        """A tail is never just cut. Where there is no room for a copy it stays where it is."""
        aside = f"{name}.{offset:x}.bad"
        if aside in self._disk.names():
            return
        try:
            file = self._disk.open(aside)
            try:
                file.write(data)
                file.sync()
            finally:
                file.close()
            self._disk.sync()
        except OSError as error:
            self.found.append(Found(name, offset, offset + len(data), f"it cannot be copied to {aside}: {error}"))

    def _write_again(self, again: list[Record], last: int) -> None:
        """Makes safe what was found behind `last`: all of it in one segment, which is there as a whole or not at all.

        Otherwise a crash meanwhile would leave a segment that takes over from the last one, and has only a part of it.
        """
        self.safe, self.next = last, last + 1
        if not again:
            return
        for record in again:
            self._lose(self.next, record.first - 1)
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
        self._lose(self.safe + 1, number)
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
        items: list[Record | Missing] = []
        size = 0
        for item in self._items(first):
            items.append(item)
            size += item.end - item.offset if isinstance(item, Record) else 0
            if size >= most:
                break
        return items

    def _items(self, first: int) -> Iterator[Record | Missing]:
        wanted = max(first, self.first)
        index = max(bisect_right(self._segments, wanted, key=lambda segment: segment.header.first) - 1, 0)
        for position in range(index, len(self._segments)):
            segment = self._segments[position]
            for record in self._records(segment, wanted):
                if record.last < wanted or record.first > segment.last:
                    continue
                if record.first > wanted:
                    yield Missing(wanted, record.first - 1)
                yield record
                wanted = record.last + 1
            behind = self._segments[position + 1].header.first if position + 1 < len(self._segments) else self.safe + 1
            if wanted < behind:
                yield Missing(wanted, behind - 1)
                wanted = behind

    def _records(self, segment: Segment, first: int) -> Iterator[Record]:
        """Those of one segment, from the index entry before `first` on, a piece of the file at a time."""
        entry = bisect_right(segment.entries, first, key=lambda entry: entry.first) - 1
        offset = segment.entries[entry].offset if entry >= 0 else HEADER
        piece = READ_AHEAD
        while offset < segment.end:
            wanted = min(piece, segment.end - offset)
            data = self._disk.read(segment.name, offset, wanted)
            whole = offset + wanted >= segment.end or len(data) < wanted  # the file may have been cut short
            after = 0
            for item in scan(data, 0, segment.seed):
                if isinstance(item, Damage):
                    if item.end < len(data) or whole:
                        after = item.end
                    continue
                after = item.end
                yield item._replace(offset=offset + item.offset, end=offset + item.end)
            if whole:
                return
            if after == 0:
                piece *= 4  # a record larger than the piece, or damage as large
            else:
                offset += after
                piece = READ_AHEAD

    def records(self, segment: Segment) -> Iterator[Record]:
        """All of one segment that verify, in order, a piece of the file at a time."""
        return self._records(segment, 0)

    def verify(self) -> list[Missing | Found]:
        """Reads everything. What is missing, and where files are damaged."""
        problems: list[Missing | Found] = []
        for position, segment in enumerate(self._segments):
            data = self._disk.read(segment.name, 0, segment.end)
            at = segment.header.first
            for item in scan(data, HEADER, segment.seed):
                if isinstance(item, Damage):
                    problems.append(Found(segment.name, item.offset, item.end, "it is damaged"))
                    continue
                if item.first > at:
                    problems.append(Missing(at, item.first - 1))
                at = item.last + 1
            behind = self._segments[position + 1].header.first if position + 1 < len(self._segments) else self.safe + 1
            if at < behind:
                problems.append(Missing(at, behind - 1))
        return problems

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
        footer = self._footer(segment, None)
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
