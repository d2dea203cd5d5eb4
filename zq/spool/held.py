"""A segment of an open log, as it is in memory: what is known of its file, and how batches get into that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zq.core.origins import Origins
from zq.record import dataclass, field
from zq.spool.disk import File
from zq.spool.record import Record, encoded
from zq.spool.segment import Entry, Footer, Header, Index, name_of, seed_of
from zq.wire.batch import Run

INDEX_EVERY = 64 << 10  # bytes of records between entries of the index; what a read may have to skip


@dataclass(slots=True, kw_only=True)
class Segment:
    """One file of the log."""

    header: Header
    end: int  # bytes that count
    last: int  # number of its last message; first - 1 if it has none
    entries: Index = field(default_factory=Index)
    records: int = 0  # that were noted since it was begun or read
    worth: int | None = None  # messages that were not settled when it was last written anew; None: it never was
    origins: Origins = field(default_factory=Origins)  # until it is sealed

    @property
    def name(self) -> str:
        return name_of(self.header.segment)

    @property
    def seed(self) -> int:
        return seed_of(self.header.stream, self.header.segment)

    def note(self, record: Record) -> None:
        """Takes a record into the index."""
        if not self.entries or record.offset - self.entries[-1].offset >= INDEX_EVERY:
            time = record.runs[0].time if record.runs else 0.0
            self.entries.append(Entry(record.first, record.offset, time))
        for run in record.runs:
            self.origins.add(run.origin, run.first, run.first + run.length - 1)
        self.last, self.end = record.last, record.end
        self.records += 1


class Waiting(NamedTuple):
    """A batch that is not safe yet."""

    first: int
    length: int
    flags: int
    runs: Sequence[Run]
    body: bytes


def write_batches(file: File, segment: Segment, batches: Sequence[Waiting | Record]) -> None:
    """Makes them safe, then part of the segment."""
    chunks: list[bytes] = []
    records: list[Record] = []
    end = segment.end
    for batch in batches:
        first, length, flags, runs = batch.first, batch.length, batch.flags, tuple(batch.runs)
        pieces = encoded(first, batches[0].first, length, flags, runs, batch.body, segment.seed)
        size = sum(map(len, pieces))
        records.append(Record(first, batches[0].first, length, flags, runs, b"", end, end + size))
        chunks += pieces
        end += size
    file.write(b"".join(chunks))
    file.sync()
    for record in records:
        segment.note(record)


def footer_of(segment: Segment) -> Footer:
    return Footer(
        end=segment.end, last=segment.last, entries=segment.entries, origins=tuple(segment.origins)
    )  # fmt: skip
