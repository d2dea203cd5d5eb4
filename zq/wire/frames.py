"""The frames of zq/1 (docs/protocol.md has the byte pictures).

Small frames travel to a mailbox: `kind | addressee 16 | sender 16 | msgpack array`. Batches have a fixed header, so
that the hot path does no more than one `struct` call a frame. Every decoder raises `Malformed` and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import msgpack

from zq.errors import Refused
from zq.wire.data import Malformed
from zq.wire.limits import MAILBOX_FRAME, NAME
from zq.wire.names import check_filter, check_name

VERSION = 1  # the only protocol version there is
ID_BYTES = 16
NONCE_BYTES = 8
COUNT_MOST = 1 << 20  # messages in one batch that a receiver accepts; senders join 512

HELLO, WELCOME, GOODBYE = b"H", b"w", b"G"
ENTRY, NOTED = b"E", b"N"
SEEN, REPAIR = b"S", b"R"
PROBE, STATE, END = b"P", b"s", b"e"
ASK, LEDGER = b"A", b"L"
TOPIC, FENCE = b"T", b"\xff"
BATCH, REFILL, REFILLED = b"B", b"F", b"f"

ACKED, NACKED, REJECTED, RETURNED, STORED = range(5)  # outcomes of a settled number; STORED is a receipt of a spool

REPORT, PARTS, REDELIVERED = 1, 2, 4  # flags of a batch

Buffer = bytes | memoryview
Parts = Sequence[Buffer]

_ADDRESS = struct.Struct(">c16s16s")
_TOPIC = struct.Struct(">B16sQQIdd")  # flags, origin, origin number, topic number, count, wall clock, own clock
_BATCH = struct.Struct(">c16s16s16sBHBQIQQIH")
_RUN = struct.Struct(">16sQId")  # origin, first origin number, count, wall clock at take


class Run(NamedTuple):
    """Messages with consecutive origin numbers, taken at one time (seconds since 1970 of the sender's clock)."""

    origin: bytes
    first: int
    length: int
    time: float


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

    def identify(self, index: int) -> str:
        run, offset = self._run_of(index)
        return f"{run.origin.hex()}-{run.first + offset}"

    def sent_at(self, index: int) -> float:
        return self._run_of(index)[0].time

    @property
    def redelivered(self) -> bool:
        return bool(self.flags & REDELIVERED)


# --- batches


def topic_prefix(topic: str) -> bytes:
    return TOPIC + topic.encode() + b"\0"


def encode_topic(prefix: bytes, flags: int, run: Run, first: int, clock: float, items: Sequence[bytes]) -> bytes:
    """One frame of the feed. A frame without items is a *head*: `first` is the newest number there is."""
    header = _TOPIC.pack(flags, run.origin, run.first, first, run.length, run.time, clock)
    return b"".join((prefix, header, *items))


def decode_topic(parts: Parts) -> Batch:
    frame = bytes(parts[0]) if not isinstance(parts[0], bytes) else parts[0]
    end = frame.find(b"\0", 1, NAME + 2)
    if end < 0 or len(frame) < end + 1 + _TOPIC.size:
        raise Malformed("a topic frame is cut short")
    flags, origin, number, first, count, time, _clock = _TOPIC.unpack_from(frame, end + 1)
    if count > COUNT_MOST or (first == 0 and count) or (bool(flags & PARTS) != (len(parts) > 1)):
        raise Malformed("a topic frame has impossible numbers")
    try:
        topic = frame[1:end].decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("a topic name is not ASCII") from None
    body = memoryview(frame)[end + 1 + _TOPIC.size :]
    runs = (Run(origin, number, count, time),)
    return Batch(
        sender=origin, first=first, count=count, runs=runs, body=body, parts=parts[1:], topic=topic, flags=flags
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


def encode_batch(header: BatchHeader, runs: Sequence[Run], items: Sequence[bytes]) -> bytes:
    packed = _BATCH.pack(BATCH, *header, len(runs))
    return b"".join((packed, *[_RUN.pack(*run) for run in runs], *items))


def decode_batch(parts: Parts) -> tuple[BatchHeader, Batch]:
    frame = parts[0]
    if len(frame) < _BATCH.size:
        raise Malformed("a batch is cut short")
    _, *fields, run_count = _BATCH.unpack_from(frame)
    header = BatchHeader(*fields)
    start = _BATCH.size + run_count * _RUN.size
    if len(frame) < start or not 0 < header.length <= COUNT_MOST or header.first == 0:
        raise Malformed("a batch has impossible numbers")
    runs = [Run(*_RUN.unpack_from(frame, _BATCH.size + index * _RUN.size)) for index in range(run_count)]
    if sum(run.length for run in runs) != header.length or (bool(header.flags & PARTS) != (len(parts) > 1)):
        raise Malformed("a batch has runs that do not add up")
    body = memoryview(frame)[start:]
    batch = Batch(
        sender=header.sender,
        first=header.first,
        count=header.length,
        runs=runs,
        body=body,
        parts=parts[1:],
        attempt=header.attempt,
        flags=header.flags,
    )
    return header, batch


# --- addressed frames


def address(kind: bytes, addressee: bytes, sender: bytes) -> bytes:
    return _ADDRESS.pack(kind, addressee, sender)


class Addressed(NamedTuple):
    kind: bytes
    addressee: bytes
    sender: bytes
    body: Buffer


def decode_addressed(frame: Buffer) -> Addressed:
    if not _ADDRESS.size <= len(frame) <= MAILBOX_FRAME:
        raise Malformed("a mailbox frame is cut short or too large")
    kind, addressee, sender = _ADDRESS.unpack_from(frame)
    return Addressed(kind, addressee, sender, memoryview(frame)[_ADDRESS.size :])


def _sized(size: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is bytes and len(value) == size


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _seconds(value: Any) -> bool:
    return (type(value) is float or type(value) is int) and value == value  # NaN is no time


def _text(value: Any) -> bool:
    return type(value) is str and len(value) <= 1024


def _name(value: Any) -> bool:
    return _passes(check_name, value, "name")


def _filter(value: Any) -> bool:
    return _passes(check_filter, value)


def _passes(check: Callable[..., str], *arguments: Any) -> bool:
    try:
        check(*arguments)
    except Refused:
        return False
    return True


def _list_of(*checks: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A list of rows, each as long as `checks`; a single check means plain values."""
    if len(checks) == 1:
        return lambda value: type(value) is list and all(map(checks[0], value))
    width = len(checks)
    return lambda value: (
        type(value) is list
        and all(
            type(row) is list
            and len(row) == width
            and all(check(cell) for check, cell in zip(checks, row, strict=True))
            for row in value
        )
    )


def _map(value: Any) -> bool:
    return type(value) is dict


def _flag(value: Any) -> bool:
    return type(value) is bool


_id, _nonce = _sized(ID_BYTES), _sized(NONCE_BYTES)


class Body:
    """The msgpack array of an addressed frame; subclasses are frozen dataclasses with a check for each field."""

    KIND: bytes
    CHECKS: tuple[Callable[[Any], bool], ...]

    def encode(self, addressee: bytes, sender: bytes) -> bytes:
        fields = [getattr(self, name) for name in self.__slots__]  # type: ignore[attr-defined]
        return address(self.KIND, addressee, sender) + bytes(msgpack.packb(fields))

    @classmethod
    def decode(cls, body: Buffer) -> Self:
        return cls(*cls.checked(_unpacked(body, cls.__name__)))

    @classmethod
    def checked(cls, fields: list[Any]) -> list[Any]:
        """The fields this version knows; later ones may append more."""
        known = fields[: len(cls.CHECKS)]
        if len(known) < len(cls.CHECKS) or not all(
            check(value) for check, value in zip(cls.CHECKS, known, strict=True)
        ):
            raise Malformed(f"a {cls.__name__} has a field of the wrong kind or too few")
        return known


def _unpacked(body: Buffer, what: str) -> list[Any]:
    try:
        fields = msgpack.unpackb(body, strict_map_key=True)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"a {what} does not decode: {error}") from error
    if type(fields) is not list:
        raise Malformed(f"a {what} is not an array")
    return fields


_ENDPOINTS = _list_of(_text, _text, _text)  # mailbox, feed and work, one row an address


@dataclass(frozen=True, slots=True)
class Hello(Body):
    KIND = HELLO
    CHECKS = (_number, _number, _sized(8), _nonce, _number, _text, _text, _number, _ENDPOINTS)
    lowest: int  # protocol versions spoken; this field and the next stay first in every version
    highest: int
    tag: bytes  # realm and mode
    nonce: bytes  # unique to this connection
    session: int  # how often the sender has declared the addressee gone
    name: str
    host: str
    pid: int
    endpoints: list[list[str]]

    @classmethod
    def decode(cls, body: Buffer) -> Hello:
        """Of a version that this one does not know only the first two fields are read."""
        fields = _unpacked(body, cls.__name__)
        if len(fields) >= 2 and _number(fields[0]) and _number(fields[1]) and not fields[0] <= VERSION <= fields[1]:
            return cls(fields[0], fields[1], b"", b"", 0, "", "", 0, [])
        return cls(*cls.checked(fields))


@dataclass(frozen=True, slots=True)
class Welcome(Body):
    KIND = WELCOME
    CHECKS = (_nonce, _number, _text, _text, _number, _ENDPOINTS)
    nonce: bytes  # the one of the Hello
    session: int
    name: str
    host: str
    pid: int
    endpoints: list[list[str]]


@dataclass(frozen=True, slots=True)
class Goodbye(Body):
    """The sender ends in good order. `heads` are those of topics of which it has not heard that all has arrived."""

    KIND = GOODBYE
    CHECKS = (_list_of(_text, _number),)
    heads: list[list[Any]]  # topic, number of its last message


INHERIT_PATIENCE, NO_PATIENCE = -1.0, -2.0  # a filter's patience: the publisher's own; not a waiting subscription


@dataclass(frozen=True, slots=True)
class Entry(Body):
    """A peer's roster entry. The highest version wins."""

    KIND = ENTRY
    CHECKS = (
        _number,
        _nonce,
        _list_of(_filter, _seconds, _number),
        _list_of(_name, _number),
        _list_of(_name, _number, _seconds),
        _list_of(_name, _id),
    )
    version: int
    fence: bytes  # nonce of the fence that closes the filters below
    filters: list[list[Any]]  # filter, patience in seconds (infinite: inf; see INHERIT_PATIENCE), subscription number
    topics: list[list[Any]]  # topic, messages published
    pushes: list[list[Any]]  # queue, messages held, seconds the oldest has been held
    pulls: list[list[Any]]  # queue, puller id


@dataclass(frozen=True, slots=True)
class Noted(Body):
    KIND = NOTED
    CHECKS = (_number,)
    version: int


@dataclass(frozen=True, slots=True)
class Seen(Body):
    KIND = SEEN
    CHECKS = (_list_of(_text, _number, _number),)
    topics: list[list[Any]]  # topic, all up to here arrived, all up to here taken by the program


@dataclass(frozen=True, slots=True)
class Repair(Body):
    """Send again what the ring has of `topic`: numbers first..last, or (first = 0) all since `clock`."""

    KIND = REPAIR
    CHECKS = (_number, _text, _number, _number, _seconds)
    request: int
    topic: str
    first: int
    last: int
    clock: float


@dataclass(frozen=True, slots=True)
class Refilled(Body):
    """The end of an answer to Repair, on the same connection as its frames."""

    KIND = REFILLED
    CHECKS = (_number, _text, _number, _number, _number)
    request: int
    topic: str
    start: int  # what `first` turned out to be
    oldest: int  # nothing below this number is left in the ring
    last: int  # all from oldest (or start) to here was sent


@dataclass(frozen=True, slots=True)
class Probe(Body):
    """The pusher's side of a link, cumulative: opens it, asks for its state, says what it would send."""

    KIND = PROBE
    CHECKS = (_id, _number, _number, _text, _id, _number, _number, _number, _number, _number)
    link: bytes
    lane: int
    session: int
    queue: str
    puller: bytes
    floor: int  # all below is known to be settled
    sent: int  # highest number sent
    returned: int  # credit given back, messages
    wanted: int  # messages waiting beyond those sent
    first_bytes: int  # size of the first of them


@dataclass(frozen=True, slots=True)
class State(Body):
    """The puller's side of a link, cumulative; says nothing about what it omits."""

    KIND = STATE
    CHECKS = (
        _id,
        _number,
        _number,
        _list_of(_number, _number, _number),
        _list_of(_number, _number, _seconds, _text),
        _number,
        _number,
        _number,
        _number,
        _flag,
        _number,
    )
    link: bytes
    lane: int
    expected: int  # the next number; all below has arrived
    settled: list[list[int]]  # first, last, outcome ACKED, RETURNED or STORED
    refused: list[list[Any]]  # number, outcome NACKED or REJECTED, delay in seconds, reason
    limit: int  # messages that may be sent and returned in all
    limit_bytes: int  # bytes that may be sent in all
    keep: int  # unused credit that need not be returned
    handed: int  # highest number handed to the program
    closed: bool  # the puller is closing: nothing more will be taken
    heard: int  # sent + returned, by the newest probe or batch that has come


@dataclass(frozen=True, slots=True)
class End(Body):
    """The pusher has ended the link and forgotten it; so may the puller."""

    KIND = END
    CHECKS = (_id,)
    link: bytes


@dataclass(frozen=True, slots=True)
class Ask(Body):
    KIND = ASK
    CHECKS = (_number,)
    request: int


@dataclass(frozen=True, slots=True)
class LedgerReply(Body):
    KIND = LEDGER
    CHECKS = (_number, _map)
    request: int
    ledger: dict[str, Any]


def refill_frame(addressee: bytes, sender: bytes, request: int) -> bytes:
    """Stands before the parts of the topic frame that is sent again."""
    return address(REFILL, addressee, sender) + request.to_bytes(8, "big")


# --- fences


def fence_prefix(subscriber: bytes, nonce: bytes) -> bytes:
    return FENCE + subscriber + nonce


class Head(NamedTuple):
    """Where a topic stands at its publisher; clocks are the publisher's own, seconds."""

    topic: str
    number: int
    first_clock: float
    last_clock: float
    retained: bool


_HEADS = _list_of(_text, _number, _seconds, _seconds, _flag)


class Fence(NamedTuple):
    """A publisher's answer to a subscriber's fence. It says who answers: another process may have taken the port."""

    subscriber: bytes
    nonce: bytes
    publisher: bytes
    clock: float  # the publisher's own, seconds
    heads: list[Head]  # of all topics that match the subscriber's filters


def encode_fence(fence: Fence) -> bytes:
    fields = [fence.publisher, fence.clock, fence.heads]
    return fence_prefix(fence.subscriber, fence.nonce) + bytes(msgpack.packb(fields))


def decode_fence(frame: Buffer) -> Fence:
    start = 1 + ID_BYTES + NONCE_BYTES
    if len(frame) < start:
        raise Malformed("a fence is cut short")
    fields = _unpacked(memoryview(frame)[start:], "fence")
    if len(fields) < 3 or not (_id(fields[0]) and _seconds(fields[1]) and _HEADS(fields[2])):
        raise Malformed("a fence has a field of the wrong kind or too few")
    publisher, clock, heads = fields[:3]
    return Fence(bytes(frame[1:17]), bytes(frame[17:start]), publisher, float(clock), [Head(*row) for row in heads])
