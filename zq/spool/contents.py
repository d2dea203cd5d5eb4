"""The messages of a record, one by one: for whoever looks at a spool, and for the answer to a peer that asks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from zq.info import Gap, SpooledMessage
from zq.message import DELAY, HEADERS, ID, KEY, PRIORITY, TTL
from zq.spool.record import Record
from zq.spool.store import TOPIC, StreamName
from zq.wire import kept as kept_wire
from zq.wire.batch import EXTRA, GAP, REDELIVERED, Buffer
from zq.wire.body import is_bytes, is_flag, is_id, is_name, is_number, is_seconds, is_text
from zq.wire.data import Malformed, unpack
from zq.wire.extra import FIELDS
from zq.wire.plan import LANES, PRIORITIES
from zq.wire.stored import TRIMMED, Stamp, decode

_LANES = {PRIORITIES[lane]: name for name, lane in LANES.items()}
_NOTHING: list[Any] = [None] * FIELDS


class Row(NamedTuple):
    """One message as it was stored."""

    number: int
    item: bytes | None  # None: it follows in pieces
    parts: tuple[Buffer, ...]
    extended: bool
    origin: bytes
    origin_number: int
    sent: float  # wall clock of its sender
    came: float  # wall clock of the spool
    age: float  # s since then
    attempt: int
    redelivered: bool
    topic: str | None
    stream: str
    size: int
    queue: str | None  # None: it is of a topic stream


def rows_in(record: Record, stream: StreamName, start: int, attempts: Mapping[int, int], now: Stamp) -> Iterator[Row]:
    """Those from number `start` on. `attempts` are those that failed since they came. Malformed."""
    if stream.kind == TOPIC:
        yield from _published_in(record, stream, start, now)
        return
    if record.flags & TRIMMED:
        return
    stored = decode(record.body, record.length, record.flags, record.runs)
    numbers = [(run, run.first + place) for run in stored.runs for place in range(run.length)]
    size = sum(memoryview(part).nbytes for part in stored.parts)
    for place in range(max(start - record.first, 0), record.length):
        item = stored.items[place]
        run, number = numbers[place]
        attempt = attempts.get(record.first + place, stored.attempt)
        yield Row(
            number=record.first + place,
            item=bytes(item),
            parts=tuple(stored.parts),
            extended=bool(stored.flags & EXTRA),
            origin=run.origin,
            origin_number=number,
            sent=run.time,
            came=stored.came.wall,
            age=stored.came.until(now),
            attempt=attempt,
            redelivered=bool(stored.flags & REDELIVERED) or attempt > 1,
            topic=stored.topic,
            stream=stream.name,
            size=len(item) + size,
            queue=stream.name,
        )


def check_record(record: Record, stream: StreamName) -> None:
    """Malformed if it does not have the messages that it says it has."""
    if stream.kind == TOPIC:
        kept = kept_wire.decode(record.body, record.length, record.flags, record.runs)
        if isinstance(kept, kept_wire.Kept):
            kept.items()
    elif not record.flags & TRIMMED:
        decode(record.body, record.length, record.flags, record.runs)


def message_of(row: Row) -> SpooledMessage:
    """What does not decode is told without its data: its sender made it so, and a puller would drop it."""
    data, extra, complete = None, _NOTHING, False
    if row.item is not None:
        with contextlib.suppress(Malformed):
            [found] = unpack(row.item, 1, row.parts, extended=row.extended)
            data, extra = found if row.extended else (found, _NOTHING)
            complete = True
    flat = extra[HEADERS] or []
    return SpooledMessage(
        stream=row.stream,
        number=row.number,
        data=data,
        id=f"{row.origin.hex()}-{row.origin_number}" if extra[ID] is None else extra[ID],
        headers=MappingProxyType(dict(zip(flat[::2], flat[1::2], strict=True))),
        queue=row.queue,
        topic=row.topic,
        key=extra[KEY],
        lane=_LANES.get(extra[PRIORITY], "normal"),
        ttl=extra[TTL],
        delay=extra[DELAY] or 0.0,
        origin=row.origin,
        sent_at=moment(row.sent),
        stored_at=moment(row.came),
        stored_for=row.age,
        attempt=row.attempt,
        redelivered=row.redelivered,
        size=row.size,
        complete=complete,
    )


def to_wire(row: Row, most: int) -> Iterator[dict[str, Any]]:
    """For an answer: one row, or, of what has more bytes than `most`, one without the message and its pieces."""
    if row.size <= most:
        parts = tuple(map(bytes, row.parts))
        yield row._replace(parts=parts)._asdict() | {"parts": list(parts), "sizes": []}
        return
    whole = [memoryview(row.item or b""), *(memoryview(part).cast("B") for part in row.parts)]
    yield row._replace(item=None, parts=())._asdict() | {"parts": [], "sizes": [part.nbytes for part in whole]}
    for part in whole:
        for at in range(0, part.nbytes, most):
            yield {"piece": bytes(part[at : at + most])}


def gap_to_wire(number: int, gap: Gap) -> dict[str, Any]:
    return {
        "number": number, "publisher": gap.publisher, "topic": gap.topic, "first": gap.first, "last": gap.last
    }  # fmt: skip


def _is_queue(value: Any) -> bool:
    return value is None or is_name(value)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "number": is_number,
    "item": lambda value: value is None or is_bytes(value),
    "parts": lambda value: type(value) is list and all(map(is_bytes, value)),
    "extended": is_flag,
    "origin": is_id,
    "origin_number": is_number,
    "sent": is_seconds,
    "came": is_seconds,
    "age": is_seconds,
    "attempt": is_number,
    "redelivered": is_flag,
    "topic": lambda value: value is None or is_name(value),
    "stream": is_text,
    "size": is_number,
    "queue": _is_queue,
}
_GAP_CHECKS: dict[str, Callable[[Any], bool]] = {
    "publisher": is_id,
    "topic": is_name,
    "first": is_number,
    "last": lambda value: value is None or is_number(value),
}


def from_wire(told: dict[str, Any], rest: Iterator[dict[str, Any]]) -> Row:
    """Malformed if it is none. Of one that comes in pieces those are taken from `rest`."""
    if not all(name in told and check(told[name]) for name, check in _CHECKS.items()):
        raise Malformed("a message of a spool that lacks something")
    row = Row(**{name: told[name] for name in _CHECKS} | {"parts": tuple(told["parts"])})
    sizes = told.get("sizes", [])
    if not _are_sizes(sizes, row.size):
        raise Malformed("a message of a spool in pieces that cannot be")
    whole = [_joined(rest, size) for size in sizes]
    return row._replace(item=whole[0], parts=tuple(whole[1:])) if whole else row


def _are_sizes(sizes: Any, most: int) -> bool:
    return type(sizes) is list and all(map(is_number, sizes)) and sum(sizes) <= most


def _joined(rest: Iterator[dict[str, Any]], size: int) -> bytes:
    whole = bytearray()
    while len(whole) < size:
        piece = next(rest, {}).get("piece")
        if not (is_bytes(piece) and piece):
            raise Malformed("a message of a spool of which a piece is missing")
        whole += piece
    if len(whole) > size:
        raise Malformed("a message of a spool with a piece too many")
    return bytes(whole)


def gap_from_wire(told: dict[str, Any]) -> Gap:
    """Malformed if it is none."""
    if not all(name in told and check(told[name]) for name, check in _GAP_CHECKS.items()):
        raise Malformed("a gap that lacks something")
    return Gap(**{name: told[name] for name in _GAP_CHECKS})


def gap_in(record: Record, stream: StreamName) -> Gap | None:
    """What a record of a topic stream says is missing, if it is one that does. Malformed."""
    if stream.kind != TOPIC or not record.flags & GAP:
        return None
    kept = kept_wire.decode(record.body, record.length, record.flags, record.runs)
    return kept.gap if isinstance(kept, kept_wire.KeptGap) else None


def _published_in(record: Record, stream: StreamName, start: int, now: Stamp) -> Iterator[Row]:
    """Those of a record of a topic stream; none of one that tells of a gap."""
    kept = kept_wire.decode(record.body, record.length, record.flags, record.runs)
    if not isinstance(kept, kept_wire.Kept):
        return
    items = kept.items()
    size = sum(memoryview(part).nbytes for part in kept.parts)
    for place in range(max(start - record.first, 0), record.length):
        yield Row(
            number=record.first + place,
            item=bytes(items[place]),
            parts=tuple(kept.parts),
            extended=bool(kept.flags & EXTRA),
            origin=kept.run.origin,
            origin_number=kept.run.first + place,
            sent=kept.run.time,
            came=kept.came,
            age=max(now.wall - kept.came, 0.0),
            attempt=1,
            redelivered=False,
            topic=kept.topic,
            stream=stream.name,
            size=len(items[place]) + size,
            queue=None,
        )


def moment(seconds: float) -> datetime:
    """1970 for what is no time."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
