"""The messages of a record as values, for whoever looks at a spool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from zq.info import SpooledMessage
from zq.message import DELAY, HEADERS, ID, KEY, PRIORITY, TTL
from zq.spool.record import Record
from zq.spool.store import StreamName
from zq.wire.batch import EXTRA, PARTS, REDELIVERED
from zq.wire.data import unpack
from zq.wire.extra import FIELDS
from zq.wire.plan import LANES, PRIORITIES
from zq.wire.stored import TRIMMED, Stamp, decode

_LANES = {PRIORITIES[lane]: name for name, lane in LANES.items()}
NOTHING: list[Any] = [None] * FIELDS


def messages_in(
    record: Record, stream: StreamName, start: int, attempts: Mapping[int, int], now: Stamp
) -> Iterator[SpooledMessage]:
    """Those from number `start` on. `attempts` are those that failed since they came. Malformed."""
    if record.flags & TRIMMED:
        return
    stored = decode(record.body, record.length, record.flags, record.runs)
    numbers = [(run, run.first + place) for run in stored.runs for place in range(run.length)]
    for place in range(max(start - record.first, 0), record.length):
        item = stored.items[place]
        [row] = unpack(item, 1, stored.parts, extended=bool(stored.flags & EXTRA))
        data, extra = row if stored.flags & EXTRA else (row, NOTHING)
        run, number = numbers[place]
        flat = extra[HEADERS] or []
        attempt = attempts.get(record.first + place, stored.attempt)
        yield SpooledMessage(
            stream=stream.name,
            number=record.first + place,
            data=data,
            id=f"{run.origin.hex()}-{number}" if extra[ID] is None else extra[ID],
            headers=MappingProxyType(dict(zip(flat[::2], flat[1::2], strict=True))),
            queue=stream.name,
            topic=stored.topic,
            key=extra[KEY],
            lane=_LANES.get(extra[PRIORITY], "normal"),
            ttl=extra[TTL],
            delay=extra[DELAY] or 0.0,
            origin=run.origin,
            sent_at=moment(run.time),
            stored_at=moment(stored.came.wall),
            stored_for=stored.came.until(now),
            attempt=attempt,
            redelivered=bool(stored.flags & REDELIVERED) or attempt > 1,
            size=len(item) + sum(memoryview(part).nbytes for part in stored.parts if stored.flags & PARTS),
        )


def moment(seconds: float) -> datetime:
    """1970 for what is no time."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)
