"""The table of last numbers: how far a topic stream has each publisher's topic, in a file of its own.

    magic 8 | stream 16 | number of the stream up to which it holds 8 | rows of: publisher 16, last number 8, topic 0;
        sealed

A row whose publisher is all zeros tells of the topic's retained message: the number is its own in the stream. The table
is written every 16 MiB that are stored, and when the stream is closed. What is behind it is read from the log when the
stream is opened; where it is missing or damaged, all of the log is.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import NamedTuple

from zq.spool.disk import Disk
from zq.spool.sealed import read_sealed, seal, write_whole

HEADS = "heads"
SIZE_MOST = 128 << 20  # bytes that are read; the table has at most 262,144 rows, and one for each retained topic
MAGIC = b"zqhead\x00\x01"
_HEAD = struct.Struct(">8s16sQ")
_ROW = struct.Struct(">16sQ")


RETAINED = bytes(16)  # instead of a publisher: the number is that of the topic's retained message, in the stream


class Heads(NamedTuple):
    number: int
    rows: dict[tuple[bytes, str], int]  # publisher and topic: the last number stored
    retained: dict[str, int]  # topic: number in the stream


def write_heads(
    disk: Disk, stream: bytes, number: int, rows: Mapping[tuple[bytes, str], int], retained: Mapping[str, int]
) -> None:
    rows = {**rows, **{(RETAINED, topic): at for topic, at in retained.items()}}
    packed = b"".join(
        (
            _HEAD.pack(MAGIC, stream, number),
            *[_ROW.pack(publisher, last) + topic.encode() + b"\0" for (publisher, topic), last in rows.items()],
        )
    )
    write_whole(disk, HEADS, seal(packed))


def read_heads(disk: Disk, stream: bytes) -> Heads | None:
    """None if there is none, or one that is damaged or of another stream."""
    data = read_sealed(disk, HEADS, SIZE_MOST)
    if data is None or len(data) < _HEAD.size:
        return None
    magic, of, number = _HEAD.unpack_from(data)
    if magic != MAGIC or of != stream:
        return None
    rows: dict[tuple[bytes, str], int] = {}
    at = _HEAD.size
    while at < len(data):
        publisher, last = _ROW.unpack_from(data, at)
        stop = data.index(b"\0", at + _ROW.size)
        rows[publisher, data[at + _ROW.size : stop].decode()] = last
        at = stop + 1
    retained = {topic: at for (publisher, topic), at in rows.items() if publisher == RETAINED}
    return Heads(number, {key: last for key, last in rows.items() if key[0] != RETAINED}, retained)
