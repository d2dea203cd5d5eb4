"""Stragglers: which segment is kept for little more than messages that its consumers have gone past, and what stays of
it when it is written anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from zq.core.ranges import Ranges
from zq.core.spans import complement
from zq.spool.held import Segment, Waiting
from zq.spool.record import Damage, Record, scan
from zq.spool.segment import HEADER
from zq.wire.batch import Run
from zq.wire.stored import TRIMMED

SHARE = 8  # a segment is written anew when no more than this part of its messages is left
FROM = 64  # and when it has more than this part of a segment's size


class Part(Protocol):
    """Takes some of a record's messages, from one place up to another, and returns them as a record of their own: its
    runs and its body. None: they cannot be taken apart."""

    def __call__(self, record: Record, start: int, stop: int, /) -> tuple[Sequence[Run], bytes] | None: ...


def straggling(segments: Sequence[Segment], settled: Ranges, segment_bytes: int) -> int | None:
    """The first segment that holds little more than what its consumers have gone past."""
    for position, segment in enumerate(segments[:-1]):
        count = segment.last - segment.header.first + 1
        if segment.end - HEADER < segment_bytes // FROM or segment.worth == 0:
            continue
        left = count - settled.count_between(segment.header.first, segment.last)
        behind = segments[position + 1]
        gone_by = settled.count_between(behind.header.first, behind.last)
        gone_past = 2 * gone_by >= behind.last - behind.header.first + 1
        if gone_past and left * SHARE <= (count if segment.worth is None else segment.worth):
            return position
    return None


def whole(segment: Segment, data: bytes) -> list[Record]:
    """All of its records; none if anything is missing among them."""
    records: list[Record] = []
    at = segment.header.first
    for item in scan(data, HEADER, segment.seed):
        if isinstance(item, Damage) or item.first != at:
            return []
        records.append(item)
        at = item.last + 1
    return records if at == segment.last + 1 else []


def without(records: Sequence[Record], settled: Ranges, part: Part) -> Iterator[Waiting]:
    """What stays of the records once the settled messages go, without holes."""
    gone = records[0].first  # from here on all that came so far goes
    for record in records:
        if record.flags & TRIMMED:
            continue
        kept = list(complement(settled.between(record.first, record.last), record.first, record.last))
        parts = [part(record, first - record.first, last - record.first + 1) for first, last in kept]
        if kept and (None in parts or kept == [(record.first, record.last)]):
            kept, parts = [(record.first, record.last)], [(record.runs, record.body)]
        for (first, last), found in zip(kept, parts, strict=True):
            assert found is not None
            if gone < first:
                yield Waiting(gone, first - gone, TRIMMED, (), b"")
            yield Waiting(first, last - first + 1, record.flags, *found)
            gone = last + 1
    if gone <= records[-1].last:
        yield Waiting(gone, records[-1].last + 1 - gone, TRIMMED, (), b"")
