"""Segments: the files of a log, each begun once, only appended to, and ended with a footer.

    header  magic 8 | stream 16 | segment 8 | first number 8 | segment before 8 | its end 8 | created 8 | CRC 4
    records
    footer  marker 4 | CRC 4 | size 4 | end of the records 8 | last number 8 | count of entries 4 | origins 4 |
                entries of 24: first number 8, offset 8, wall clock 8 | origins of 32: origin 16, first 8, last 8
    trailer offset of the footer 8 | marker 4 | CRC 4

`its end` says how many bytes of the segment before count, which is what makes a log whole again after a bad tail: the
segment behind it simply begins with the number that is missing. A footer is a help, not the truth: where it is damaged
or missing the records are read. Header, size and CRC of a header stay as they are in every version.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import NamedTuple, overload
from zlib import crc32

MAGIC = b"zqlog\x00\x00\x01"  # the last byte is the format's version
_HEADER = struct.Struct(">8s16sQQQQd")
HEADER = _HEADER.size + 4
_FOOTER = struct.Struct(">QQII")
_ENTRY = struct.Struct(">QQd")
_ORIGIN = struct.Struct(">16sQQ")
_TRAILER = struct.Struct(">Q4sI")
TRAILER = _TRAILER.size
FOOTER_MARKER, TRAILER_MARKER = b"\xf5zqF", b"\xf5zqE"
_NAME = re.compile(r"[0-9a-f]{16}\.log")


class Header(NamedTuple):
    """How a segment begins."""

    stream: bytes
    segment: int
    first: int  # number of its first message
    previous: int  # the segment before it; 0 for the first one
    previous_end: int  # bytes of that which count
    created: float  # wall clock, s


class Entry(NamedTuple):
    """Where a record is: the sparse index."""

    first: int
    offset: int
    time: float  # wall clock of its first message, s


class Index(Sequence[Entry]):
    """The entries of a segment, as they are in its footer: 24 bytes each, so that those of a terabyte fit in memory."""

    __slots__ = ("packed",)

    def __init__(self, packed: bytes = b"") -> None:
        self.packed = bytearray(packed)

    def __len__(self) -> int:
        return len(self.packed) // _ENTRY.size

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...

    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        if isinstance(place, slice):
            return [self[at] for at in range(*place.indices(len(self)))]
        at = range(len(self))[place]  # IndexError
        return Entry(*_ENTRY.unpack_from(self.packed, at * _ENTRY.size))

    def append(self, entry: Entry) -> None:
        self.packed += _ENTRY.pack(*entry)


class Footer(NamedTuple):
    """What a sealed segment holds."""

    end: int  # of its records
    last: int  # number of its last message; first - 1 if it has none
    entries: Index
    origins: tuple[tuple[bytes, int, int], ...]  # origin, first and last origin number: ranges, for de-duplication


def name_of(segment: int) -> str:
    return f"{segment:016x}.log"


def number_of(name: str) -> int | None:
    """None if it is not the name of a segment."""
    return int(name[:16], 16) if _NAME.fullmatch(name) else None


def seed_of(stream: bytes, segment: int) -> int:
    """What its CRCs begin with."""
    return crc32(segment.to_bytes(8, "big"), crc32(stream))


def encode_header(header: Header) -> bytes:
    packed = _HEADER.pack(MAGIC, *header)
    return packed + crc32(packed).to_bytes(4, "big")


def decode_header(data: bytes) -> Header | None:
    """None if it is cut short, damaged or of another format."""
    if not _verifies(data):
        return None
    magic, *fields = _HEADER.unpack_from(data)
    return Header(*fields) if magic == MAGIC else None


def is_newer(data: bytes) -> bool:
    """Whether it is a whole header of a format that this program does not know: its size and CRC are those of all."""
    return data[:7] == MAGIC[:7] and data[7:8] > MAGIC[7:] and _verifies(data)


def _verifies(data: bytes) -> bool:
    return len(data) >= HEADER and crc32(data[: _HEADER.size]).to_bytes(4, "big") == data[_HEADER.size : HEADER]


def encode_footer(footer: Footer, offset: int, seed: int) -> bytes:
    """Footer and trailer, to be written at `offset`."""
    rest = b"".join(
        (
            _FOOTER.pack(footer.end, footer.last, len(footer.entries), len(footer.origins)),
            footer.entries.packed,
            *[_ORIGIN.pack(*origin) for origin in footer.origins],
        )
    )
    crc = crc32(rest, seed).to_bytes(4, "big")
    where = offset.to_bytes(8, "big")
    trailer = _TRAILER.pack(offset, TRAILER_MARKER, crc32(where, seed))
    return b"".join((FOOTER_MARKER, crc, len(rest).to_bytes(4, "big"), rest, trailer))


def decode_trailer(data: bytes, seed: int) -> int | None:
    """The footer's offset, from the last bytes of a segment; None if it has not been sealed, or is damaged."""
    if len(data) < TRAILER:
        return None
    offset, marker, crc = _TRAILER.unpack_from(data, len(data) - TRAILER)
    good = marker == TRAILER_MARKER and crc == crc32(offset.to_bytes(8, "big"), seed)
    return int(offset) if good else None


def decode_footer(data: bytes, seed: int) -> Footer | None:
    """`data` begins with the footer; None if it is damaged."""
    if len(data) < 12 + _FOOTER.size or data[:4] != FOOTER_MARKER:
        return None
    size = int.from_bytes(data[8:12], "big")
    rest = data[12 : 12 + size]
    if len(rest) != size or crc32(rest, seed) != int.from_bytes(data[4:8], "big"):
        return None
    end, last, entry_count, origin_count = _FOOTER.unpack_from(rest)
    at = _FOOTER.size
    if size != at + entry_count * _ENTRY.size + origin_count * _ORIGIN.size:
        return None
    entries = Index(rest[at : at + entry_count * _ENTRY.size])
    at += entry_count * _ENTRY.size
    origins: Sequence[tuple[bytes, int, int]] = [
        _ORIGIN.unpack_from(rest, at + index * _ORIGIN.size) for index in range(origin_count)
    ]
    return Footer(end, last, entries, tuple(origins))
