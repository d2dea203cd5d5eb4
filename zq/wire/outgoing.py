"""Data on its way out: Python values as what msgpack takes without being asked, large buffers aside.

Only what is not plain comes here: arrays, memoryviews, times, large buffers, subclasses, and all that is refused.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgpack

from zq.errors import Refused
from zq.wire.array import Array, from_numpy
from zq.wire.limits import DEPTH, PART_MINIMUM, PAYLOAD

Buffer = bytes | memoryview

# Ext types of the wire (docs/protocol.md, "data").
MEMORY, ARRAY, BYTES_PART, MEMORY_PART, ARRAY_PART = 1, 2, 3, 4, 5
INDEX_BYTES = 2  # PAYLOAD / PART_MINIMUM parts are possible: 16,384

_LITTLE = 1_024  # bytes that a packer begins with; the 256 KiB it takes by itself cost more than packing a header
_INT_LEAST, _INT_MOST = -(1 << 63), (1 << 64) - 1  # what msgpack has room for

# What to use instead of common types that cannot be sent, by the type's name.
_INSTEAD = {
    "set": "use a list",
    "frozenset": "use a list",
    "complex": "use a list of two floats",
    "Decimal": "use a str",
    "UUID": "use a str",
    "PosixPath": "use a str",
    "date": "use its isoformat()",
    "time": "use its isoformat()",
    "timedelta": "use its total_seconds()",
    "array": "use numpy or its tobytes()",
}


class _Place(NamedTuple):
    """Where in the data a value is: under `key` of `container`, which is at `parent`."""

    parent: _Place | None
    container: object
    key: object

    def __str__(self) -> str:
        steps = []
        place: _Place | None = self
        while place is not None:
            steps.append(f"[{place.key!r:.40}]")
            place = place.parent
        return "data" + "".join(reversed(steps))


class Outgoing:
    """One message on its way out: its values as what msgpack takes without being asked, its large buffers aside."""

    def __init__(self, copy: bool) -> None:
        self.parts: list[Buffer] = []
        self.size = 0  # bytes of the parts
        self._copy = copy
        self._items_left = PAYLOAD

    def lower(self, value: Any, place: _Place | None, room: int) -> Any:
        """`value` made of exact built-in types, UTC datetimes and our ext types only."""
        if value is None or type(value) is bool:
            return value
        if isinstance(value, str):
            if not value.isascii() and (problem := unencodable(value)):
                raise _refused(place, problem)
            return value
        if isinstance(value, int):
            if not _INT_LEAST <= value <= _INT_MOST:
                raise _refused(place, "an int over 64 bit cannot be sent; use a str or a float")
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, (bytes, bytearray)):
            return self._lower_bytes(value)
        if isinstance(value, memoryview):
            return self._lower_memory(value, place)
        if isinstance(value, datetime):
            return _lower_datetime(value, place)
        if isinstance(value, (list, tuple)) and not isinstance(value, msgpack.ExtType):
            self._enter(value, place, room)
            return [self.lower(item, _Place(place, value, index), room - 1) for index, item in enumerate(value)]
        if isinstance(value, dict):
            self._enter(value, place, room)
            return {
                self._key(key, place): self.lower(item, _Place(place, value, key), room - 1)
                for key, item in value.items()
            }
        if isinstance(value, Array):
            return self._lower_array(value)
        return self._lower_numpy(value, place)

    def _enter(self, container: Any, place: _Place | None, room: int) -> None:
        if not room:
            above = place
            while above is not None:
                if above.container is container:
                    raise _refused(place, f"a {type(container).__name__} that contains itself cannot be sent")
                above = above.parent
            raise _refused(place, f"more than {DEPTH} containers inside each other; flatten the data")
        self._items_left -= len(container)
        if self._items_left < 0:
            raise _refused(None, f"more items than a message of {PAYLOAD:,} bytes can hold; send it in pieces")

    def _key(self, key: object, place: _Place | None) -> str:
        if not isinstance(key, str):
            raise _refused(place, f"a map's keys are str, not {key!r:.40} of type {type(key).__name__}; use str(key)")
        if problem := unencodable(key):
            raise _refused(place, f"key {key!r:.40}: {problem}")
        return key

    def _lower_bytes(self, value: bytes | bytearray) -> Any:
        if len(value) < PART_MINIMUM:
            return bytes(value)
        if isinstance(value, bytearray):
            return self._part(BYTES_PART, bytes(value) if self._copy else memoryview(value))
        return self._part(BYTES_PART, value)

    def _lower_memory(self, value: memoryview, place: _Place | None) -> Any:
        try:
            single_bytes = value.ndim == 1 and value.format in ("B", "b", "c")
        except ValueError:  # what every attribute of a released one raises
            raise _refused(place, "a memoryview that was released cannot be sent") from None
        if not single_bytes:
            raise _refused(place, f"a memoryview of {value.format!r} items cannot be sent; cast('B') or use numpy")
        if value.nbytes < PART_MINIMUM:
            return msgpack.ExtType(MEMORY, value.tobytes())
        if not value.contiguous or (self._copy and not value.readonly):
            value = memoryview(value.tobytes())
        return self._part(MEMORY_PART, value.cast("B"))

    def _lower_array(self, array: Array) -> Any:
        header = [array.dtype, array.shape, array.order]
        if array.buffer.nbytes < PART_MINIMUM:
            return msgpack.ExtType(ARRAY, fresh_pack([*header, array.buffer]))
        self._keep(array.buffer)
        return msgpack.ExtType(ARRAY_PART, fresh_pack([len(self.parts) - 1, *header]))

    def _lower_numpy(self, value: Any, place: _Place | None) -> Any:
        """numpy's arrays and numbers; refuses everything else. Who sends one has imported numpy already."""
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            try:
                array = from_numpy(value, numpy, copy=self._copy)
            except Refused as error:
                raise _refused(place, str(error)) from None
            return self._lower_array(array)
        if numpy is not None and isinstance(value, numpy.generic) and type(value.item()) in (bool, int, float):
            return value.item()
        name = type(value).__name__
        raise _refused(place, f"a {name} cannot be sent; {_INSTEAD.get(name, 'use a type that msgpack has, or bytes')}")

    def _part(self, code: int, buffer: Buffer) -> Any:
        self._keep(buffer)
        return msgpack.ExtType(code, (len(self.parts) - 1).to_bytes(INDEX_BYTES, "big"))

    def _keep(self, buffer: Buffer) -> None:
        self.parts.append(buffer)
        self.size += len(buffer)
        if self.size > PAYLOAD:
            raise _refused(None, f"more than {PAYLOAD:,} bytes, the limit of a message; send it in pieces")


def _lower_datetime(value: datetime, place: _Place | None) -> datetime:
    if value.utcoffset() is None:
        raise _refused(place, "a datetime without time zone cannot be sent; use datetime.now(UTC) or astimezone()")
    try:
        utc = value.astimezone(UTC)
    except OverflowError:
        raise _refused(place, f"{value} is no year of 1 to 9999 in UTC") from None
    return datetime.combine(utc.date(), utc.time(), UTC)  # a datetime even if it was of a subclass


def unencodable(value: Any) -> str:
    """Which str in `value`, a str or a list of them, is none that UTF-8 has; empty if all is well."""
    if isinstance(value, list):
        return next(filter(None, map(unencodable, value)), "")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"a str with a lone surrogate at position {error.start} cannot be sent; encode it to bytes"
    return ""


def fresh_pack(value: object) -> bytes:
    """`value`, which is small, by a packer of its own."""
    packed: bytes = msgpack.Packer(autoreset=True, datetime=True, buf_size=_LITTLE).pack(value)
    return packed


def new_packer() -> msgpack.Packer:
    return msgpack.Packer(autoreset=True, datetime=True)


def _refused(place: _Place | None, problem: str) -> Refused:
    return Refused(f"at {place or 'data'}: {problem}")
