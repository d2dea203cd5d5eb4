"""Batches of messages: the unit of everything hot. One fixed header a frame, so that it costs one `struct` call.

    feed   T topic 0 | flags 1, origin 16, origin number 8, topic number 8, count 4, wall clock 8, own clock 8 |
               messages
    work   B | addressee 16, sender 16, link 16, lane 1, attempt 2, flags 1, number 8, count 4, floor 8, returned 8,
               wanted 4, runs 2 | runs of 36 each | messages; with NAMED, topic 0 before the messages

Numbers are big-endian. Messages are as data.py packs them, one behind the other; parts follow as frames of their own.
Decoders raise `Malformed` and nothing else.

It is longer than most: each encoder stands beside its decoder, and both beside the limits that they check.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, overload

import msgpack

from zq.wire.data import Malformed
from zq.wire.limits import NAME
from zq.wire.names import check_name

TOPIC, BATCH = b"T", b"B"  # kinds
REPORT, PARTS, REDELIVERED, EXTRA, NAMED = 1, 2, 4, 8, 16  # flags; NAMED: of a topic that the queue is bound to
GAP, RETAIN, CLEARED = 32, 64, 128  # see kept.py; a topic frame whose last message is retained; a head: none is
_NO_GAP = 0xFF ^ GAP
ATTEMPT_MOST = (1 << 16) - 1  # what the field has room for; higher attempts stay at it
COUNT_MOST = 1 << 12  # messages in one batch that a receiver accepts, and looks at at once; senders join 512

Buffer = bytes | memoryview
Parts = Sequence[Buffer]

_TOPIC = struct.Struct(">B16sQQIdd")
_TOPIC_BYTES, _NAME_END = _TOPIC.size, NAME + 2
_BATCH = struct.Struct(">c16s16s16sBHBQIQQIH")
_RUN = struct.Struct(">16sQId")  # origin, first origin number, count, wall clock at take


class Run(NamedTuple):
    """Messages with consecutive origin numbers, taken at one time (seconds since 1970 of the sender's clock)."""

    origin: bytes
    first: int
    length: int
    time: float


_new_run = tuple.__new__  # what `Run` calls in the end, for half of its price


class Batch:
    """Messages of one topic or link with consecutive numbers, as they arrived: the unit of everything hot."""

    __slots__ = (
        "attempt",
        "body",
        "count",
        "first",
        "flags",
        "link",
        "parts",
        "queue",
        "runs",
        "sender",
        "size",
        "skip",
        "stop",
        "topic",
    )

    def __init__(
        self,
        *,
        sender: bytes,
        first: int,
        count: int,
        runs: Sequence[Run],
        body: Buffer,
        parts: Parts = (),
        topic: str | None = None,
        queue: str | None = None,
        attempt: int = 1,
        flags: int = 0,
    ) -> None:
        self.sender = sender
        self.first = first
        self.count = count
        self.runs = runs
        self.body = body
        self.parts = parts
        self.topic = topic
        self.queue = queue
        self.attempt = attempt
        self.flags = flags
        self.skip = 0  # leading messages that this receiver has had already
        self.stop = count  # messages from here on are not for it
        self.link: Any = None  # the receiving link of a queue's batch
        self.size = len(body) + sum(map(len, parts)) if parts else len(body)

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    @property
    def live(self) -> int:
        """How many of its messages are for this receiver."""
        return self.stop - self.skip

    def view(self, skip: int, stop: int) -> Batch:
        """The same batch, of which only the messages skip..stop count."""
        part = Batch.__new__(Batch)
        for slot in Batch.__slots__:
            setattr(part, slot, getattr(self, slot))
        part.skip, part.stop = skip, stop
        return part

    def after(self, number: int) -> Batch:
        """The same batch for a receiver that has had everything below `number`."""
        return self if number <= self.first else self.view(number - self.first, self.stop)

    def _run_of(self, index: int) -> tuple[Run, int]:
        for run in self.runs:
            if index < run.length:
                return run, index
            index -= run.length
        raise IndexError(index)

    def run_of(self, index: int) -> Run:
        """Of that one message."""
        run, offset = self._run_of(index)
        return Run(run.origin, run.first + offset, 1, run.time)

    def identify(self, index: int) -> str:
        run, offset = self._run_of(index)
        return f"{run.origin.hex()}-{run.first + offset}"

    def sent_at(self, index: int) -> float:
        return self._run_of(index)[0].time

    @property
    def redelivered(self) -> bool:
        return bool(self.flags & REDELIVERED)

    @property
    def extended(self) -> bool:
        """Whether its messages have extra fields beside the data."""
        return bool(self.flags & EXTRA)


def topic_prefix(topic: str) -> bytes:
    return TOPIC + topic.encode() + b"\0"


def encode_topic(prefix: bytes, flags: int, run: Run, first: int, clock: float, items: Sequence[bytes]) -> bytes:
    """One frame of the feed. A frame without items is a *head*: `first` is the newest number there is."""
    header = _TOPIC.pack(flags, run.origin, run.first, first, run.length, run.time, clock)
    return b"".join((prefix, header, *items))


def decode_topic(parts: Parts) -> Batch:
    frame = parts[0] if isinstance(parts[0], bytes) else bytes(parts[0])
    end = frame.find(b"\0", 1, _NAME_END)
    start = end + 1 + _TOPIC_BYTES
    if end < 0 or len(frame) < start:
        raise Malformed("a topic frame is cut short")
    flags, origin, number, first, count, time, _ = _TOPIC.unpack_from(frame, end + 1)
    if count > COUNT_MOST or (count and not first) or (flags & PARTS == PARTS) is not (len(parts) > 1):
        raise Malformed("a topic frame has impossible numbers")
    if len(frame) - start < count:
        raise Malformed("a topic frame claims more messages than it has bytes for")
    try:
        topic = frame[1:end].decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("a topic name is not ASCII") from None
    return Batch(
        sender=origin,
        first=first,
        count=count,
        runs=(_new_run(Run, (origin, number, count, time)),),
        body=memoryview(frame)[start:],
        parts=parts[1:],
        topic=topic,
        flags=flags & _NO_GAP,  # which only spools say, and on links
    )


class BatchHeader(NamedTuple):
    """What a queue's batch says beside its messages. `returned` and `wanted` are the pusher's demand (see Probe)."""

    addressee: bytes
    sender: bytes
    link: bytes
    lane: int
    attempt: int
    flags: int
    first: int
    length: int
    floor: int
    returned: int
    wanted: int


def encode_batch(header: BatchHeader, runs: Sequence[Run], items: Iterable[Buffer], topic: str | None = None) -> bytes:
    """`topic` is what the messages were published on; the header's flags have NAMED if there is one."""
    packed = _BATCH.pack(BATCH, *header, len(runs))
    if topic is not None:
        items = (topic.encode() + b"\0", *items)
    return b"".join((packed, *[_RUN.pack(*run) for run in runs], *items))


def decode_batch(parts: Parts) -> tuple[BatchHeader, Batch]:
    frame = parts[0]
    if len(frame) < _BATCH.size:
        raise Malformed("a batch is cut short")
    _, *fields, run_count = _BATCH.unpack_from(frame)
    header = BatchHeader(*fields)
    start = _BATCH.size + run_count * _RUN.size
    if len(frame) < start or not run_count <= header.length <= COUNT_MOST or not header.length or header.first == 0:
        raise Malformed("a batch has impossible numbers")
    runs = [Run(*_RUN.unpack_from(frame, _BATCH.size + index * _RUN.size)) for index in range(run_count)]
    if sum(run.length for run in runs) != header.length or (bool(header.flags & PARTS) != (len(parts) > 1)):
        raise Malformed("a batch has runs that do not add up")
    topic = None
    if header.flags & NAMED:
        topic, start = _decode_name(frame, start)
    body = memoryview(frame)[start:]
    if len(body) < header.length:
        raise Malformed("a batch claims more messages than it has bytes for")
    batch = Batch(
        sender=header.sender,
        first=header.first,
        count=header.length,
        runs=runs,
        body=body,
        parts=parts[1:],
        topic=topic,
        attempt=header.attempt,
        flags=header.flags,
    )
    return header, batch


def _decode_name(frame: Buffer, start: int) -> tuple[str, int]:
    """The name of a topic at `start`, and where it ends."""
    name, end, _ = bytes(frame[start : start + NAME + 1]).partition(b"\0")
    if not end:
        raise Malformed("a batch is cut short within the name of its topic")
    try:
        return check_name(name.decode("ascii"), "topic"), start + len(name) + 1
    except ValueError as error:  # Refused is one
        raise Malformed(f"the topic of a batch is none: {error}") from None


class Joined:
    """The messages of a body, which `check` has found to be so many: split only when one of them is asked for."""

    __slots__ = ("_items", "body", "count")

    def __init__(self, body: Buffer, count: int) -> None:
        self.body = body
        self.count = count
        self._items: list[bytes] | None = None

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[bytes]:
        return iter(self[:])

    @overload
    def __getitem__(self, place: int) -> bytes: ...

    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...

    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        if self._items is None:
            self._items = split(self.body, self.count)
        return self._items[place]


Items = list[bytes] | Joined  # messages, one by one


def size_of(items: Items) -> int:
    """Bytes of them all."""
    return len(items.body) if isinstance(items, Joined) else sum(map(len, items))


def check(body: Buffer, count: int) -> None:
    """Raises Malformed when a body does not have exactly so many messages. As one msgpack array it is gone through in
    C, for a tenth of what splitting it takes."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(body) + 5)
    unpacker.feed(b"\xdd" + count.to_bytes(4, "big"))
    unpacker.feed(body)
    try:
        unpacker.skip()
    except (ValueError, msgpack.UnpackException) as error:
        raise Malformed(f"a body does not split into {count} messages: {error}") from error
    if unpacker.tell() != len(body) + 5:
        raise Malformed(f"a body has more than {count} messages")


def split(body: Buffer, count: int) -> list[bytes]:
    """The `count` messages of a body, one by one. Raises Malformed when there are not exactly so many."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(body))
    unpacker.feed(body)
    ends = [0]
    try:
        for _ in range(count):
            unpacker.skip()
            ends.append(unpacker.tell())
    except (ValueError, msgpack.UnpackException) as error:
        raise Malformed(f"a body does not split into {count} messages: {error}") from error
    if ends[-1] != len(body):
        raise Malformed(f"a body has more than {count} messages")
    return [bytes(body[start:end]) for start, end in pairwise(ends)]
