"""Records: what a segment holds one behind the other, and how they are found again where bytes have been damaged.

    marker 4 | head's CRC 4 | CRC of what follows the head 4 | size of what follows the head 4 | first 8 | group 8 |
        length 4 | flags 2 | runs 2 | runs x 36 | body

A record is one batch: `length` messages of the stream, numbered from `first` on. `body` is the batch's messages as they
came; `runs` say whose numbers they carry, for de-duplication. `group` is the first number of all that was synced
together: a record behind a hole proves, by a group that begins behind it, that the hole was once safe. Numbers are
big-endian. Both CRCs are CRC-32 and begin with the segment's seed, so that bytes of another segment, stream or spool
never verify.

The head has a CRC of its own: one that verifies tells where the next record begins, whatever has happened to the body;
where it does not, the next record is looked for by its marker, and a marker inside a message is found out by 20 bytes
instead of by what it claims to be its size. Either way damage costs the records that it hits and no other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from zq.wire.batch import Run

MARKER = b"\xf5zqR"
_HEAD = struct.Struct(">4sIIIQQIHH")
_COVERED = struct.Struct(">IIQQIHH")  # of the head: what its CRC is about
_RUN = struct.Struct(">16sQId")
HEAD = _HEAD.size
RUNS_MOST = (1 << 16) - 1


class Record(NamedTuple):
    """One batch in a stream."""

    first: int
    group: int
    length: int
    flags: int
    runs: tuple[Run, ...]
    body: bytes
    offset: int  # in its segment
    end: int

    @property
    def last(self) -> int:
        return self.first + self.length - 1


class Damage(NamedTuple):
    """Bytes of a segment that are not records of it."""

    offset: int
    end: int


def encode(first: int, group: int, length: int, flags: int, runs: Sequence[Run], body: bytes, seed: int) -> bytes:
    return b"".join(encoded(first, group, length, flags, runs, body, seed))


def encoded(
    first: int, group: int, length: int, flags: int, runs: Sequence[Run], body: bytes, seed: int
) -> tuple[bytes, bytes]:
    """In two pieces, the second of which is the body: it may be large, and is not copied."""
    packed = b"".join([_RUN.pack(*run) for run in runs])
    crc = crc32(body, crc32(packed, seed))
    covered = _COVERED.pack(crc, len(packed) + len(body), first, group, length, flags, len(runs))
    return b"".join((MARKER, crc32(covered, seed).to_bytes(4, "big"), covered, packed)), body


class _Head(NamedTuple):
    crc: int
    first: int
    group: int
    length: int
    flags: int
    runs: int
    end: int


def _head(data: bytes, at: int, seed: int) -> _Head | None:
    if at + HEAD > len(data):
        return None
    marker, head_crc, crc, size, first, group, length, flags, runs = _HEAD.unpack_from(data, at)
    if marker != MARKER or head_crc != crc32(memoryview(data)[at + 8 : at + HEAD], seed):
        return None
    return _Head(crc, first, group, length, flags, runs, at + HEAD + size)


def _record(data: bytes, at: int, head: _Head, seed: int) -> Record | None:
    """None if what follows the head is cut short or damaged."""
    if head.end > len(data) or crc32(memoryview(data)[at + HEAD : head.end], seed) != head.crc:
        return None
    body = at + HEAD + head.runs * _RUN.size
    runs = tuple(Run(*_RUN.unpack_from(data, at + HEAD + index * _RUN.size)) for index in range(head.runs))
    return Record(head.first, head.group, head.length, head.flags, runs, data[body : head.end], at, head.end)


def scan(data: bytes, at: int, seed: int) -> Iterator[Record | Damage]:
    """All that is in `data`, the bytes of a segment, from `at` on. Only the last item can be damage up to the end."""
    damaged = -1  # since when
    while at < len(data):
        head = _head(data, at, seed)
        record = None if head is None else _record(data, at, head, seed)
        if record is not None:
            if damaged >= 0:
                yield Damage(damaged, at)
                damaged = -1
            yield record
            at = record.end
            continue
        damaged = at if damaged < 0 else damaged
        if head is not None and head.end <= len(data):
            at = head.end  # only the body is damaged
            continue
        at = data.find(MARKER, at + 1)
        if at < 0:
            break
    if damaged >= 0:
        yield Damage(damaged, len(data))
