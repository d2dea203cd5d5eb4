"""What is found of a log when it is opened: its segments, what is missing, and what is not as it should be.

Of every segment but the last its footer is read, or its records where it has none or that is damaged. What looks like a
segment and is none of ours is left alone, one whose beginning is gone is set aside. Nothing that is not understood is
removed: a tail that does not verify is copied first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from zq.core.origins import Origins
from zq.errors import Error
from zq.spool.disk import Disk
from zq.spool.held import Segment
from zq.spool.mark import Mark
from zq.spool.record import Damage, Record, scan
from zq.spool.segment import (
    HEADER,
    TRAILER,
    Footer,
    Header,
    decode_footer,
    decode_header,
    decode_trailer,
    is_newer,
    number_of,
    seed_of,
)


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


class Survey:
    """Of one stream's log on one disk."""

    def __init__(self, disk: Disk, stream: bytes, wall: Callable[[], float]) -> None:
        self._disk = disk
        self._stream = stream
        self._wall = wall
        self.segments: list[Segment] = []  # in order
        self.known = Origins()  # whose numbers the messages carry that are here
        self.found: list[Found] = []
        self.lost: list[Missing] = []  # confirmed once, and not here any more: damage and lost tails

    def look(self) -> None:
        """Finds the segments. Error: a format that this program does not know. OSError."""
        self.segments = [Segment(header=header, end=HEADER, last=header.first - 1) for header in self._headers()]
        self._drop_empty()
        self._note_holes()

    def note_known(self, segment: Segment) -> None:
        for origin, first, last in segment.origins:
            self.known.add(origin, first, last)

    def ends_at(self, segment: Segment, mark: Mark) -> bool:
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
        data = self._disk.read(name, 0, self.size(name))
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
        while len(self.segments) > 1:
            segment, behind = self.segments[0], self.segments[1].header
            used = behind.previous == segment.header.segment and behind.previous_end > HEADER
            if used or self.size(segment.name) > HEADER:
                return
            self._disk.remove(segment.name)
            self._disk.sync()
            del self.segments[0]

    def _note_holes(self) -> None:
        """Reads what is known of every segment but the last, and what is missing between them."""
        for segment, behind in zip(self.segments, self.segments[1:], strict=False):
            ends = behind.header.previous_end if behind.header.previous == segment.header.segment else None
            footer = self.footer(segment, ends)
            if footer is not None and footer.last < behind.header.first:
                segment.end, segment.last = footer.end, footer.last
                segment.entries = footer.entries
                for origin, first, last in footer.origins:
                    self.known.add(origin, first, last)
            else:
                self.scan(segment, HEADER, ends, below=behind.header.first)
                self.note_known(segment)
                segment.origins = Origins()
            self.lose(segment.last + 1, behind.header.first - 1)

    def footer(self, segment: Segment, ends: int | None) -> Footer | None:
        """None if it was never sealed, or if the footer is damaged."""
        size = self.size(segment.name)
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

    def size(self, name: str) -> int:
        file = self._disk.open(name)
        try:
            return file.size
        finally:
            file.close()

    def lose(self, first: int, last: int) -> None:
        if first <= last:
            self.lost.append(Missing(first, last))

    def scan(self, segment: Segment, start: int, end: int | None, *, below: int | None = None) -> None:
        """Notes the records between two offsets; what is damaged or missing between them is reported."""
        data = self._disk.read(segment.name, 0, self.size(segment.name) if end is None else end)
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
                self.lose(segment.last + 1, item.first - 1)
                segment.note(item)
                yield item

    @staticmethod
    def _is_footer(data: bytes, damage: Damage, segment: Segment) -> bool:
        """Whether what is not a record is the segment's end, as it should be."""
        return decode_trailer(data, segment.seed) == damage.offset

    def scan_tail(self, unproven: Segment, size: int) -> list[Record]:
        """What can be read from the segment's end on, up to a footer; what is behind the last of it is copied aside."""
        data = self._disk.read(unproven.name, 0, size)
        offset = decode_trailer(data, unproven.seed)
        footer = None if offset is None else decode_footer(data[offset:], unproven.seed)
        counts = data if footer is None else data[: footer.end]
        records = list(self._records_in(unproven, counts, unproven.end, len(counts), torn=footer is None))
        end = records[-1].end if records else unproven.end
        if footer is not None:
            self.lose(unproven.last + 1, footer.last)
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
