"""What a spool keeps of topics, one record of a stream each: batches as they were published, and gaps.

    batch   when it came 8 (f64, wall clock) | number in its topic 8 | count of parts 2 | sizes of the parts, 4 each |
                topic 0 | messages | parts
    gap     when it was noticed 8 | first number missing 8 | last one 8, 0 if nobody knows | topic 0

The one run of a record names the publisher. A gap is one message of its stream, with the flag `GAP`; to durable
subscribers it travels as a message whose data is `[publisher, topic, first, last]`. Decoders raise `Malformed` and
nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgpack

from zq.info import Gap
from zq.wire.batch import EXTRA, GAP, PARTS, RETAIN, Batch, Buffer, Parts, Run, split
from zq.wire.body import is_id, is_number
from zq.wire.data import Malformed
from zq.wire.names import check_name

FROM_END, FROM_BEGINNING, FROM_COUNT, FROM_TIME, FROM_AGO = range(5)  # where a cursor begins; with a number beside it

CURSOR_NAME = 200  # characters of a cursor's name; beside numbers it fits in the 255 bytes of a journal's entry

KEPT = PARTS | EXTRA | RETAIN  # flags of a topic frame that are its messages'
_BATCH = struct.Struct(">dQH")
_GAP = struct.Struct(">dQQ")
_SIZE = struct.Struct(">I")
_GAP_BYTES = 512  # of a gap that travels as a message, at most: an id, a name, two numbers


class Kept(NamedTuple):
    """A batch of one publisher's topic."""

    came: float  # wall clock of the spool, s
    first: int  # number in its topic
    length: int
    flags: int
    run: Run
    topic: str
    body: Buffer
    parts: Parts

    @property
    def last(self) -> int:
        return self.first + self.length - 1

    def items(self) -> list[bytes]:
        """Its messages one by one. Malformed if there are not exactly so many."""
        return split(self.body, self.length)


class KeptGap(NamedTuple):
    """A hole in one publisher's topic."""

    came: float
    gap: Gap


def keep(batch: Batch, wall: float) -> Kept:
    """What this receiver is to have of it. Malformed if its body is not what it says."""
    assert batch.topic is not None
    items = split(batch.body, batch.count)
    body = batch.body if batch.live == batch.count else b"".join(items[batch.skip : batch.stop])
    run = batch.runs[0]
    return Kept(
        came=wall,
        first=batch.first + batch.skip,
        length=batch.live,
        flags=batch.flags & KEPT,
        run=Run(run.origin, run.first + batch.skip, batch.live, run.time),
        topic=batch.topic,
        body=body,
        parts=tuple(batch.parts),
    )


def encode(kept: Kept) -> bytes:
    sizes = [memoryview(part).nbytes for part in kept.parts]
    head = _BATCH.pack(kept.came, kept.first, len(sizes))
    return b"".join((head, *map(_SIZE.pack, sizes), kept.topic.encode(), b"\0", kept.body, *kept.parts))


def encode_gap(kept: KeptGap) -> bytes:
    gap = kept.gap
    return _GAP.pack(kept.came, gap.first, gap.last or 0) + gap.topic.encode() + b"\0"


def run_of_gap(kept: KeptGap) -> Run:
    return Run(kept.gap.publisher, 0, 1, kept.came)


def decode(body: bytes, length: int, flags: int, runs: Sequence[Run]) -> Kept | KeptGap:
    if len(runs) != 1:
        raise Malformed("a record of a topic has one publisher")
    if flags & GAP:
        return _decode_gap(body, runs[0])
    if len(body) < _BATCH.size:
        raise Malformed("a kept batch is cut short")
    came, first, count = _BATCH.unpack_from(body)
    start = _BATCH.size + count * _SIZE.size
    if len(body) < start:
        raise Malformed("a kept batch is cut short")
    sizes = [_SIZE.unpack_from(body, _BATCH.size + index * _SIZE.size)[0] for index in range(count)]
    topic, start = _topic_at(body, start)
    end = len(body) - sum(sizes)
    if end < start:
        raise Malformed("a kept batch is cut short")
    messages, parts = memoryview(body)[start:end], []
    for size in sizes:
        parts.append(body[end : end + size])
        end += size
    return Kept(came, first, length, flags & KEPT, runs[0], topic, messages, tuple(parts))


def _decode_gap(body: bytes, run: Run) -> KeptGap:
    if len(body) < _GAP.size:
        raise Malformed("a kept gap is cut short")
    came, first, last = _GAP.unpack_from(body)
    topic, _ = _topic_at(body, _GAP.size)
    return KeptGap(came, Gap(publisher=run.origin, topic=topic, first=first, last=last or None))


def _topic_at(body: bytes, start: int) -> tuple[str, int]:
    end = body.find(b"\0", start, start + 256)
    if end < 0:
        raise Malformed("a record of a topic does not name it")
    try:
        return check_name(body[start:end].decode("ascii"), "topic"), end + 1
    except ValueError as error:  # Refused is one
        raise Malformed(f"the topic of a record is none: {error}") from None


def queue_of(cursor: str, stream: bytes) -> str:
    """What a cursor is called on the links to those who read by it: no queue can have that name."""
    return f"{cursor}@{stream.hex()}"


def came_of(body: bytes) -> float:
    """When what the record holds has come."""
    return float(struct.unpack_from(">d", body)[0]) if len(body) >= 8 else 0.0


def pack_gap(gap: Gap) -> bytes:
    """As a durable subscriber gets it."""
    return bytes(msgpack.packb([gap.publisher, gap.topic, gap.first, gap.last or 0]))


def gaps_in(batch: Batch) -> list[Gap]:
    """Those of a batch with the flag `GAP` that are for this receiver."""
    return [_unpack_gap(item) for item in split(batch.body, batch.count)[batch.skip : batch.stop]]


def _unpack_gap(body: Buffer) -> Gap:
    if len(body) > _GAP_BYTES:
        raise Malformed(f"a gap of {len(body):,} bytes")
    try:
        fields = msgpack.unpackb(body)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"a gap does not decode: {error}") from error
    if not (type(fields) is list and len(fields) >= 4 and is_id(fields[0]) and type(fields[1]) is str):
        raise Malformed("a gap without a publisher and a topic")
    if not (is_number(fields[2]) and is_number(fields[3])):
        raise Malformed("a gap without numbers")
    return Gap(publisher=fields[0], topic=fields[1], first=fields[2], last=fields[3] or None)
