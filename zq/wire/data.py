"""The data of messages as bytes: what a program sends, and what its receivers get.

A message is a msgpack array, `[data]` or `[data, extra]`, extra being `[id, headers, key, priority, ttl, delay]`, each
nil if not given: str, flat array of str `[k1, v1, k2, v2, ...]`, str, int, seconds, seconds. A frame's body is one such
array after another. Beyond the types of msgpack, with its own timestamp (ext -1, UTC), there are five:

    ext  1  memoryview           the bytes
    ext  2  array                msgpack [dtype, shape, order, bin]
    ext  3  bytes in a part      index, 2 bytes, big-endian
    ext  4  memoryview in a part index, 2 bytes, big-endian
    ext  5  array in a part      msgpack [index, dtype, shape, order]

A part is a frame of its own behind the body; each is referred to exactly once, and a body with parts is one message.
Buffers of 16 KiB and more travel that way, so their bytes are copied neither into the body nor out of it. A dtype is
numpy's `dtype.str`, or `[item size, [name, dtype, offset, shape], ...]` for structured types; order is "C" or "F".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final, NamedTuple

import msgpack

from zq.errors import Refused
from zq.wire.extra import extra_problem
from zq.wire.incoming import EXACT, Incoming, Malformed, array_header, check_depth, check_levels, inline
from zq.wire.limits import DEPTH, PART_MINIMUM, PAYLOAD
from zq.wire.outgoing import Buffer, Outgoing, fresh_pack, new_packer, unencodable

__all__ = ["Buffer", "Extended", "Malformed", "Packed", "pack", "pack_plain", "unpack"]

# What msgpack takes as it is, with nothing to check. bytes are not among them: long ones become parts.
_SCALARS = frozenset({type(None), bool, int, float, str})
_FLAT, _MAP, _KEY = _SCALARS | {bytes}, {dict}, frozenset({str})
_KEEP = 1 << 20  # bytes; a packer never gives back what it once needed, so one that needed more is replaced


class Extended(bytes):
    """A message with extra fields beside its data. It shares no frame with messages that have none."""


class Packed(NamedTuple):
    """A message with large buffers: its body and, in the order of their indexes, the frames that follow it."""

    body: bytes  # Extended if it has extra fields
    parts: tuple[Buffer, ...]


# --- sending


# One packer for all threads: it is only given exact built-in types and UTC datetimes, so it runs no Python code and
# the GIL keeps others out. Without the GIL every message has its own.
_SHARED: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
_pack = new_packer().pack if _SHARED else fresh_pack


def pack_plain(data: Any) -> bytes | None:
    """`data` as a message, if msgpack makes of it exactly what we want, as it does of nearly everything; None if it has
    to be looked at, because it holds a large buffer, an array, or what cannot be sent: `pack` does, or says why not.

    Refused if it is too large. Thread-safe.
    """
    if type(data) is dict:
        # A flat map of scalars is what nearly every message is: 0.1 us of checks an item would be half of its cost.
        for key, value in data.items():
            if type(key) is not str or (
                type(value) not in _SCALARS and (type(value) is not bytes or len(value) >= PART_MINIMUM)
            ):
                break
        else:
            try:
                body = _pack(data)
            except (OverflowError, UnicodeEncodeError):
                return None  # an int or a str somewhere
            return body if len(body) < _KEEP else _sized(body)
    if _is_plain(data, DEPTH, [PAYLOAD]):
        try:
            return _sized(_pack(data))
        except (OverflowError, UnicodeEncodeError):
            return None
    return None


def pack_flat(values: Sequence[Any]) -> list[bytes] | None:
    """All of `values`, at least one, as messages, if each is a scalar, short bytes, or a flat map of those, as nearly
    every message is; None if some have to be looked at: `pack` does. To look at all of them together, in C, takes less
    than one by one. Thread-safe."""
    kinds = set(map(type, values))
    if kinds == _MAP:
        if not _KEY.issuperset(map(type, chain.from_iterable(values))):
            return None
        kinds = set(map(type, chain.from_iterable(map(dict.values, values))))
    if not kinds <= _FLAT:
        return None
    try:
        if len(_pack(values[0])) >= PART_MINIMUM:
            return None  # nor are the others small, most likely; and there may be a buffer in it
        bodies = list(map(_pack, values))
    except (OverflowError, UnicodeEncodeError):
        return None
    return bodies if max(map(len, bodies)) < PART_MINIMUM else None


def pack(data: Any, extra: list[Any] | None = None, *, copy: bool = True) -> bytes | Packed:
    """`data` as a message; `Packed` if it holds a buffer of 16 KiB or more, at any depth.

    Read-only buffers (bytes, read-only memoryviews, arrays that nobody can write to) are never copied; others once,
    unless `copy=False` promises that they stay as they are until the message is released. Refused says where in the
    data something cannot be sent. Thread-safe.
    """
    if extra is None:
        body = pack_plain(data)
        return _pack_checked(data, None, copy) if body is None else body
    if problem := extra_problem(extra):
        raise Refused(problem)
    if _is_plain(data, DEPTH, [PAYLOAD]):
        try:
            return _sized(_body(data, extra))
        except (OverflowError, UnicodeEncodeError):
            pass  # an int or a str somewhere; the next line finds out where
    return _pack_checked(data, extra, copy)


def _pack_checked(data: Any, extra: list[Any] | None, copy: bool) -> bytes | Packed:
    if problem := unencodable(extra):
        raise Refused(problem)
    outgoing = Outgoing(copy)
    lowered = outgoing.lower(data, None, DEPTH)
    body = _sized(_body(lowered, extra), outgoing.size)
    return Packed(body, tuple(outgoing.parts)) if outgoing.parts else body


def _body(data: Any, extra: list[Any] | None) -> bytes:
    return _pack(data) if extra is None else Extended(_pack((data, extra)))


def _sized(body: bytes, parts_size: int = 0) -> bytes:
    """`body` if the message is small enough; lets go of the memory a large one took."""
    global _pack
    if len(body) >= _KEEP and _SHARED:
        _pack = new_packer().pack
    if len(body) + parts_size > PAYLOAD:
        raise Refused(f"a message of {len(body) + parts_size:,} bytes; {PAYLOAD:,} are the limit, send it in pieces")
    return body


def _is_plain(value: Any, room: int, items_left: list[int]) -> bool:
    """Whether msgpack makes of `value` exactly what we want (False: perhaps not). Ints and strs may still fail.

    `room` is how many containers may still be inside each other. Every item takes a byte at least, so more than
    `items_left[0]` cannot be sent; counting them ends a walk through data that refers to its parts again and again.
    """
    kind = type(value)
    if kind in _SCALARS:
        return True
    if kind is bytes:
        return len(value) < PART_MINIMUM
    if kind is datetime:
        return value.tzinfo is UTC
    if (kind is not dict and kind is not list and kind is not tuple) or not room:
        return False
    items_left[0] -= len(value)
    if items_left[0] < 0:
        raise Refused(f"more items than a message of {PAYLOAD:,} bytes can hold; send it in pieces")
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or (type(item) not in _SCALARS and not _is_plain(item, room - 1, items_left)):
                return False
    else:
        for item in value:
            if type(item) not in _SCALARS and not _is_plain(item, room - 1, items_left):
                return False
    return True


# --- receiving


def unpack(body: Buffer, count: int, parts: Sequence[Any] = (), skip: int = 0, *, extended: bool = False) -> list[Any]:
    """The messages of `body`, which holds exactly `count`, without the first `skip`: the data of each, or, if they are
    `extended`, `[data, extra]`.

    `parts` are the buffers that came with it. Values that were memoryviews or arrays show them without a copy and
    cannot be written to. Malformed, and nothing else, if it is not what `pack` makes. One leniency: an empty container
    inside 32 others passes.
    """
    try:
        return _unpack(body, count, parts, skip, extended)
    except Malformed:
        raise
    except (ValueError, OverflowError, TypeError, msgpack.UnpackException) as error:
        raise Malformed(f"a body of {len(body)} bytes and {count} messages: {error or type(error).__name__}") from error


def _unpack(body: Buffer, count: int, parts: Sequence[Any], skip: int, extended: bool) -> list[Any]:
    if count == 1 and not (parts or skip or extended) and len(body) < PART_MINIMUM and EXACT:
        check_depth(body, 1, DEPTH)  # what nearly every body is when nothing piles up
        return [msgpack.unpackb(body, timestamp=3, strict_map_key=True, ext_hook=inline)]
    if count < 1 or (parts and count != 1):
        raise Malformed(f"{count} messages and {len(parts)} parts in a frame")
    if len(body) > PAYLOAD:
        raise Malformed(f"a body of {len(body):,} bytes; {PAYLOAD:,} are the limit")
    if skip:
        if skip >= count:
            return []
        body, count = memoryview(body)[_length_of(body, skip) :], count - skip
    levels = DEPTH + extended  # containers inside each other that a message may have
    check_depth(body, count, levels)
    incoming = Incoming(parts) if parts else None
    hook = inline if incoming is None else incoming.hook
    if count == 1:
        messages = [msgpack.unpackb(body, timestamp=3, strict_map_key=True, ext_hook=hook)]
    else:
        joined = b"".join((array_header(count), body))
        messages = msgpack.unpackb(joined, timestamp=3, strict_map_key=True, ext_hook=hook)
    for message in messages if extended else ():
        check_message(message)
    if incoming is not None:
        incoming.check_all_used()
    if not EXACT:
        check_levels(messages, levels)
    return messages


def _length_of(body: Buffer, count: int) -> int:
    """Bytes that the first `count` messages of `body` take."""
    header = array_header(count)
    unpacker = msgpack.Unpacker(max_buffer_size=len(header) + len(body))
    unpacker.feed(header)
    unpacker.feed(body)
    unpacker.skip()
    return int(unpacker.tell()) - len(header)


def check_message(message: Any) -> None:
    """Malformed if it is no message with extra fields."""
    if type(message) is not list or len(message) != 2:
        raise Malformed("a message with extra fields is an array of data and fields")
    if problem := extra_problem(message[1]):
        raise Malformed(problem)
