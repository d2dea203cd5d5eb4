"""Data on its way in: nothing is believed, and nothing large is allocated before its size and depth are checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgpack

from zq.wire.array import Array, numpy_if_installed
from zq.wire.limits import DEPTH, PAYLOAD
from zq.wire.outgoing import ARRAY, ARRAY_PART, BYTES_PART, INDEX_BYTES, MEMORY, MEMORY_PART, Buffer

_STACK = 1024  # non-empty containers inside each other that msgpack's C decoder follows, then it gives up
_SHORT = 512  # bytes; up to here counting bytes that may be containers costs less than a decoder
_NO_CONTAINERS = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF))


def _follows(levels: int) -> bool:
    unpacker = msgpack.Unpacker()
    unpacker.feed(b"\x91" * levels + b"\xc0")
    try:
        unpacker.skip()
    except msgpack.StackError:
        return False
    return True


# With arrays around it until only as many levels are left as a message may have, the decoder itself refuses deeper
# ones, at 0.03 us a message, and before it has allocated anything. msgpack's Python version has no such exact limit.
EXACT: Final[bool] = _follows(_STACK) and not _follows(_STACK + 1)
_WRAPPING = b"\x91" * (_STACK - 1)


class Malformed(ValueError):
    """Bytes from the network that are no message of zq/1. Nothing of them was used."""


def array_header(count: int) -> bytes:
    """What comes before `count` values to make them one array."""
    return b"\xdd" + count.to_bytes(4, "big")


def check_depth(body: Buffer, count: int, levels: int) -> None:
    """Malformed if anything in `body` is deeper than `levels`, or if it ends before `count` values do."""
    if len(body) <= levels:
        return
    if len(body) <= _SHORT and len(bytes(body).translate(None, _NO_CONTAINERS)) <= levels:
        return
    if not EXACT:
        return  # the values will be looked at instead
    wrapped = _WRAPPING[levels:] + array_header(count)
    unpacker = msgpack.Unpacker(max_buffer_size=len(wrapped) + len(body))
    unpacker.feed(wrapped)
    unpacker.feed(body)
    try:
        unpacker.skip()
    except msgpack.StackError:
        raise Malformed(f"more than {DEPTH} containers inside each other") from None


def check_whole(body: Buffer, count: int, levels: int) -> None:
    """Malformed if `body` is not exactly `count` values, or if anything in it is deeper than `levels`. Needs EXACT."""
    wrapped = _WRAPPING[levels:] + array_header(count)
    unpacker = msgpack.Unpacker(max_buffer_size=len(wrapped) + len(body))
    unpacker.feed(wrapped)
    unpacker.feed(body)
    try:
        unpacker.skip()
    except msgpack.StackError:
        raise Malformed(f"more than {DEPTH} containers inside each other") from None
    except (ValueError, msgpack.UnpackException) as error:
        raise Malformed(
            f"a body of {len(body)} bytes is not {count} messages: {error or type(error).__name__}"
        ) from error
    if unpacker.tell() != len(wrapped) + len(body):
        raise Malformed(f"a body of {len(body)} bytes is more than {count} messages")


def check_levels(values: list[Any], levels: int) -> None:
    """Malformed if lists and maps in `values` are deeper than `levels`."""
    level = [item for item in values if type(item) is list or type(item) is dict]
    for _ in range(levels):
        inner = (item for outer in level for item in (outer.values() if type(outer) is dict else outer))
        level = [item for item in inner if type(item) is list or type(item) is dict]
    if level:
        raise Malformed(f"more than {DEPTH} containers inside each other")


class Incoming:
    """The parts of one message on its way in, each to be referred to once: else a small body could ask for much."""

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts = list(parts)
        size = sum(memoryview(part).nbytes for part in parts)
        if size > PAYLOAD:
            raise Malformed(f"parts of {size:,} bytes; {PAYLOAD:,} are the limit")

    def hook(self, code: int, payload: bytes) -> Any:
        if code == BYTES_PART:
            part = self._take(_index(payload))
            return part if type(part) is bytes else bytes(memoryview(part))
        if code == MEMORY_PART:
            return _read_only(self._take(_index(payload)))
        if code == ARRAY_PART:
            index, *header = _fields(payload)
            return _array(header, _read_only(self._take(index)))
        return inline(code, payload)

    def check_all_used(self) -> None:
        if any(part is not None for part in self._parts):
            raise Malformed("a part that nothing refers to")

    def _take(self, index: Any) -> Any:
        if type(index) is not int or not 0 <= index < len(self._parts) or self._parts[index] is None:
            raise Malformed(f"part {index!r:.40} of {len(self._parts)} is missing or was used before")
        part, self._parts[index] = self._parts[index], None
        return part


def inline(code: int, payload: bytes) -> Any:
    """An ext value that is complete in itself."""
    if code == MEMORY:
        return memoryview(payload)
    if code == ARRAY:
        *header, items = _fields(payload)
        if type(items) is not bytes:
            raise Malformed("the items of an array are not bytes")
        return _array(header, memoryview(items))
    raise Malformed(f"ext type {code} is unknown, or refers to a part that did not come")


def _index(payload: bytes) -> int:
    if len(payload) != INDEX_BYTES:
        raise Malformed(f"the index of a part takes {INDEX_BYTES} bytes, not {len(payload)}")
    return int.from_bytes(payload, "big")


def _read_only(part: Any) -> memoryview:
    return memoryview(part).toreadonly().cast("B")


def _fields(payload: bytes) -> list[Any]:
    """The four fields of an array's ext value."""
    check_depth(payload, 1, DEPTH)
    fields = msgpack.unpackb(payload, strict_map_key=True)
    if type(fields) is not list or len(fields) != 4:
        raise Malformed("an array is described by four fields")
    return fields


def _array(header: list[Any], buffer: memoryview) -> Any:
    """A numpy array, or an Array where numpy is missing. Refused if the header does not fit the buffer."""
    dtype, shape, order = header
    if type(shape) is not list:
        raise Malformed("the shape of an array is a list")
    array = Array(dtype=_as_tuples(dtype), shape=tuple(shape), order=order, buffer=buffer)
    return array if numpy_if_installed() is None else array.to_numpy()


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if type(value) is list else value
