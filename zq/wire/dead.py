"""A dead letter as bytes: the message as it was sent, with headers that say why it is dead.

It is delivered and listed like any other message; made a message again it has the bytes that it had before, without a
ttl and a delay. The headers are added behind the message's own:

    dead-queue     the queue it was pushed to
    dead-reason    why nobody is to have it again
    dead-at        when it died: seconds since 1970, by the clock of its holder
    dead-history   JSON: one array a failed attempt, oldest first: [attempt, outcome, puller's name, puller's id in
                   hex, seconds since 1970, reason]; the newest of them, if not all fit

A message that has as many headers as it may have, or nearly, gets as many of these as there is room for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from zq.message import DELAY, HEADERS, ID, TTL
from zq.wire.budget import unpack_within
from zq.wire.data import Extended
from zq.wire.extra import FIELDS
from zq.wire.limits import HEADER
from zq.wire.limits import HEADERS as HEADERS_MOST

QUEUE, REASON, AT, HISTORY = "dead-queue", "dead-reason", "dead-at", "dead-history"
OURS = frozenset({QUEUE, REASON, AT, HISTORY})
REASON_MOST = 1_000  # characters of a reason; what a puller tells is cut at that as well
PAIR = b"\x92"  # msgpack's array of two: data and extra fields
CONTAINERS = 16  # of extra fields: themselves, headers, and what may come


class Failure(NamedTuple):
    """One attempt that failed: at which puller, when (seconds since 1970 by the holder's clock), and how."""

    attempt: int
    outcome: str  # "nacked", "rejected", or "lost": the puller was
    name: str  # of the puller's peer
    puller: bytes  # its id
    at: float
    reason: str


def wrap(item: bytes, extended: bool, queue: str, reason: str, at: float, history: Sequence[Failure]) -> Extended:
    """The message with headers that tell of its death."""
    data: bytes | memoryview = item
    extra: list[Any] = [None] * FIELDS
    if extended:
        data, extra = split(item)
    flat: list[str] = list(extra[HEADERS] or ())
    told = ((QUEUE, queue), (REASON, reason[:REASON_MOST]), (AT, repr(at)), (HISTORY, _as_json(history)))
    for name, text in told[: HEADERS_MOST - len(flat) // 2]:
        flat += (name, text)
    extra[HEADERS] = flat
    return Extended(b"".join((PAIR, data, msgpack.packb(extra))))


def unwrap(item: bytes) -> bytes:
    """The message as it was before it died, but for its ttl and delay, which are over; an `Extended` if it has extra
    fields."""
    data, extra = split(item)
    extra[TTL] = extra[DELAY] = None
    flat = extra[HEADERS] or []
    own = [text for pair in zip(flat[::2], flat[1::2], strict=True) if pair[0] not in OURS for text in pair]
    extra[HEADERS] = own or None
    if all(field is None for field in extra):
        return bytes(data)
    return Extended(b"".join((PAIR, data, msgpack.packb(extra))))


def split(item: bytes) -> tuple[memoryview, list[Any]]:
    """The bytes of a message's data, and its extra fields."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(item))
    body = memoryview(item)[len(PAIR) :]
    unpacker.feed(body)
    unpacker.skip()
    end = int(unpacker.tell())
    return body[:end], unpack_within(body[end:], CONTAINERS)


def without_data(item: bytes) -> Extended:
    """What is told of a message that is too large: its extra fields, of the headers only those about its death."""
    extra = split(item)[1]
    flat = extra[HEADERS] or []
    extra[HEADERS] = [text for pair in zip(flat[::2], flat[1::2], strict=True) if pair[0] in OURS for text in pair]
    return Extended(b"".join((PAIR, b"\xc0", msgpack.packb(extra))))


def id_of(item: bytes) -> str | None:
    """The id that its sender gave it."""
    given = split(item)[1][ID]
    return None if given is None else str(given)


def _as_json(history: Sequence[Failure]) -> str:
    rows = [
        [attempt, outcome, name, puller.hex(), at, reason] for attempt, outcome, name, puller, at, reason in history
    ]
    while len(text := json.dumps(rows, ensure_ascii=False, separators=(",", ":"))) > HEADER:
        del rows[0]
    return text


def history_of(headers: dict[str, str]) -> list[Failure]:
    """The failed attempts that a dead letter tells of; what is no such thing is passed over."""
    try:
        rows = json.loads(headers.get(HISTORY, "[]"))
        return [
            Failure(int(attempt), str(outcome), str(name), bytes.fromhex(puller), float(at), str(reason))
            for attempt, outcome, name, puller, at, reason in rows
        ]
    except (ValueError, TypeError, OverflowError, RecursionError):
        return []
