"""Reading a log's records, a piece of a file at a time; what should be there and is not is told as missing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from zq.spool.disk import Disk
from zq.spool.held import Segment
from zq.spool.record import Damage, Record, scan
from zq.spool.segment import HEADER
from zq.spool.survey import Found, Missing

READ_AHEAD = 1 << 20  # bytes read at once


def items(disk: Disk, segments: Sequence[Segment], safe: int, first: int) -> Iterator[Record | Missing]:
    """From the record that holds `first` on, or the oldest, up to the last that is safe."""
    wanted = max(first, segments[0].header.first) if segments else safe + 1
    index = max(bisect_right(segments, wanted, key=lambda segment: segment.header.first) - 1, 0)
    for position in range(index, len(segments)):
        segment = segments[position]
        for record in records(disk, segment, wanted):
            if record.last < wanted or record.first > segment.last:
                continue
            if record.first > wanted:
                yield Missing(wanted, record.first - 1)
            yield record
            wanted = record.last + 1
        behind = segments[position + 1].header.first if position + 1 < len(segments) else safe + 1
        if wanted < behind:
            yield Missing(wanted, behind - 1)
            wanted = behind


def records(disk: Disk, segment: Segment, first: int) -> Iterator[Record]:
    """Those of one segment, from the index entry before `first` on, a piece of the file at a time."""
    entry = bisect_right(segment.entries, first, key=lambda entry: entry.first) - 1
    offset = segment.entries[entry].offset if entry >= 0 else HEADER
    piece = READ_AHEAD
    while offset < segment.end:
        wanted = min(piece, segment.end - offset)
        data = disk.read(segment.name, offset, wanted)
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


def problems(disk: Disk, segments: Sequence[Segment], safe: int) -> list[Missing | Found]:
    """Reads everything. What is missing, and where files are damaged."""
    found: list[Missing | Found] = []
    for position, segment in enumerate(segments):
        data = disk.read(segment.name, 0, segment.end)
        at = segment.header.first
        for item in scan(data, HEADER, segment.seed):
            if isinstance(item, Damage):
                found.append(Found(segment.name, item.offset, item.end, "it is damaged"))
                continue
            if item.first > at:
                found.append(Missing(at, item.first - 1))
            at = item.last + 1
        behind = segments[position + 1].header.first if position + 1 < len(segments) else safe + 1
        if at < behind:
            found.append(Missing(at, behind - 1))
    return found
